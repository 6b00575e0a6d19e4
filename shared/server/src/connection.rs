//! One connection: served with timeouts, and ended so that the client reads the answer.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use futures::FutureExt as _;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use mayfly_protocol::{ErrorCode, Refusal};
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

/// How a connection ended for HTTP.
enum Spoken {
    /// Every request that was read has had its answer.
    AllRead,
    /// The server ends, and no request was under way; one that comes now is not read.
    Unread,
}

/// What is said on a connection that the server leaves while no request is under way on it. One that crosses with it is answered by it; to a client that has
/// sent none it says that the connection is over (RFC 9112, section 9.5).
fn unread() -> Vec<u8> {
    let text = "the process is ending, and has not read the request; send it again";
    let refusal = Refusal::new(ErrorCode::ShuttingDown, text);
    let body = serde_json::to_string(&refusal).expect("a refusal has text keys only");
    let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncache-control: no-store\r\nconnection: close";
    format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
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
        let (mut socket, spoken) = self.speak(socket).await;
        let spoken = match spoken {
            Ok(Spoken::AllRead) => Ok(()),
            Ok(Spoken::Unread) => {
                socket.write_all(&unread()).await?;
                Ok(())
            }
            Err(error) => Err(error),
        };
        // What is no HTTP has had its answer, too: that is read no less than any other.
        let lingered = self.linger(socket).await;
        spoken?;
        lingered?;
        Ok(())
    }

    /// Answers requests until the connection is done, and gives the socket back.
    async fn speak<S>(&self, socket: S) -> (S, Result<Spoken, hyper::Error>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let requests = AtomicU64::new(0);
        let service = service_fn(|request: Request<Incoming>| {
            requests.fetch_add(1, Ordering::Relaxed);
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
            biased;
            done = poll_fn(|context| connection.poll_without_shutdown(context)) => Some(done),
            () = self.closing.cancelled() => None,
        };
        let spoken = match done {
            Some(done) => done.map(|()| Spoken::AllRead),
            None => {
                let before = requests.load(Ordering::Relaxed);
                let mut connection = Pin::new(&mut connection);
                connection.as_mut().graceful_shutdown();
                let mut rest = poll_fn(|context| connection.poll_without_shutdown(context));
                // Everything that could be done was done just before. What is over now had no request under way.
                match (&mut rest).now_or_never() {
                    Some(over) if requests.load(Ordering::Relaxed) == before => over.map(|()| Spoken::Unread),
                    Some(over) => over.map(|()| Spoken::AllRead),
                    None => rest.await.map(|()| Spoken::AllRead),
                }
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
