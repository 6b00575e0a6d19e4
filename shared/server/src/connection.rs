//! One connection: served with timeouts, and ended so that the client reads the answer.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_io_timeout::TimeoutWriter;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt as _;

use crate::serve::ConnectionLimits;

/// A socket whose writes fail where the client takes nothing for too long.
type Socket = Pin<Box<TimeoutWriter<TcpStream>>>;

const DISCARD_BYTES: usize = 16 * 1024;

/// Put into each request: fires when its connection has ended, and with it the answer.
#[derive(Debug, Clone, Default)]
pub struct Delivered(CancellationToken);

impl Delivered {
    /// What fires.
    pub fn token(&self) -> CancellationToken {
        self.0.clone()
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("the connection broke, or did not speak HTTP in time")]
    Http(#[from] hyper::Error),
    #[error("the socket failed")]
    Socket(#[from] io::Error),
    #[error("TLS was not agreed on in time")]
    LateHandshake,
    #[error("TLS was not agreed on")]
    Handshake(#[source] io::Error),
}

pub(crate) struct Connection {
    limits: ConnectionLimits,
    app: Router,
    closing: CancellationToken,
    delivered: Delivered,
    _ended: DropGuard,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    pub(crate) fn new(
        limits: ConnectionLimits,
        app: Router,
        closing: CancellationToken,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let delivered = Delivered::default();
        Self {
            limits,
            app,
            closing,
            _ended: delivered.token().drop_guard(),
            delivered,
            _place: place,
        }
    }

    pub(crate) async fn run(
        self,
        socket: TcpStream,
        tls: Option<TlsAcceptor>,
    ) -> Result<(), ConnectionError> {
        socket.set_nodelay(true)?;
        let mut socket = TimeoutWriter::new(socket);
        socket.set_timeout(Some(self.limits.write_timeout));
        let socket = Box::pin(socket);
        match tls {
            None => self.serve(socket).await,
            // On the heap, so that plain connections do not pay for its size.
            Some(tls) => Box::pin(self.serve_encrypted(socket, &tls)).await,
        }
    }

    async fn serve_encrypted(&self, socket: Socket, tls: &TlsAcceptor) -> Result<(), ConnectionError> {
        let accepted = timeout(self.limits.header_timeout, tls.accept(socket)).await;
        let socket = accepted.map_err(|_| ConnectionError::LateHandshake)?;
        self.serve(socket.map_err(ConnectionError::Handshake)?).await
    }

    async fn serve<S>(&self, socket: S) -> Result<(), ConnectionError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (socket, spoken) = self.speak(socket).await;
        // What is no HTTP has had its answer, too: that is read no less than any other.
        let lingered = self.linger(socket).await;
        spoken?;
        lingered?;
        Ok(())
    }

    /// Answers requests until the connection is done, and gives the socket back.
    async fn speak<S>(&self, socket: S) -> (S, Result<(), hyper::Error>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(self.delivered.clone());
            Box::pin(self.app.clone().oneshot(request))
        });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_timeout)
            .max_buf_size(self.limits.buffer_bytes)
            // A client that has sent all it wants may close its side and wait for the answer (RFC 9112, section 9.6).
            .half_close(true)
            .serve_connection(TokioIo::new(socket), service);
        let done = tokio::select! {
            done = poll_fn(|context| connection.poll_without_shutdown(context)) => Some(done),
            () = self.closing.cancelled() => None,
        };
        let spoken = match done {
            Some(done) => done,
            None => {
                Pin::new(&mut connection).graceful_shutdown();
                poll_fn(|context| connection.poll_without_shutdown(context)).await
            }
        };
        (connection.into_parts().io.into_inner(), spoken)
    }

    /// Says that all is sent, and reads what the client still sends: a socket that is closed with unread data resets the connection, and
    /// the client may then lose the answer.
    async fn linger(&self, mut socket: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        socket.shutdown().await?;
        let mut discarded = vec![0; DISCARD_BYTES];
        let drained = async { while socket.read(&mut discarded).await.is_ok_and(|bytes| bytes > 0) {} };
        // Whether the client closed its side or not: it had its time.
        let _in_time = timeout(self.limits.linger, drained).await;
        Ok(())
    }
}
