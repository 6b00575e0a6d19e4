//! Connections of clients: accepted within a bound, served with timeouts, and ended so that the client reads the answer.
//!
//! This module must not know jobs or routes; it serves any router.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use mayfly_telemetry::task;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

const DISCARD_BYTES: usize = 16 * 1024;

/// The bounds of connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    pub(crate) connections: usize,
    pub(crate) header_timeout: Duration,
    pub(crate) buffer_bytes: usize,
    pub(crate) accept_pause: Duration,
    pub(crate) linger: Duration,
    pub(crate) close_grace: Duration,
}

/// Serves connections until it is closed.
pub(crate) struct Server {
    limits: ConnectionLimits,
    app: Router,
    places: Arc<Semaphore>,
    connections: TaskTracker,
    closing: CancellationToken,
    giving_up: CancellationToken,
}

impl Server {
    pub(crate) fn new(limits: ConnectionLimits, app: Router) -> Self {
        Self {
            places: Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS))),
            limits,
            app,
            connections: TaskTracker::new(),
            closing: CancellationToken::new(),
            giving_up: CancellationToken::new(),
        }
    }

    /// Accepts connections for as long as the future is polled.
    pub(crate) async fn accept(&self, listener: &TcpListener) -> Infallible {
        loop {
            let place = Arc::clone(&self.places).acquire_owned().await;
            let place = place.expect("the semaphore is never closed");
            match listener.accept().await {
                Ok((socket, _peer)) => self.serve(socket, place),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(self.limits.accept_pause).await;
                }
            }
        }
    }

    /// Lets answers that are under way end, within the grace, and drops the rest.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.connections.close();
        let closed = timeout(self.limits.close_grace, self.connections.wait()).await;
        if closed.is_err() {
            self.giving_up.cancel();
            self.connections.wait().await;
        }
    }

    fn serve(&self, socket: TcpStream, place: OwnedSemaphorePermit) {
        let connection = Connection {
            limits: self.limits,
            app: self.app.clone(),
            closing: self.closing.clone(),
            _place: place,
        };
        let giving_up = self.giving_up.clone();
        task::spawn(&self.connections, async move {
            if let Some(Err(error)) = giving_up.run_until_cancelled(connection.run(socket)).await {
                let error = &error as &(dyn std::error::Error + 'static);
                tracing::debug!(error, "a connection ended early");
            }
        });
    }
}

#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("the connection broke, or did not speak HTTP in time")]
    Http(#[from] hyper::Error),
    #[error("the socket failed")]
    Socket(#[from] io::Error),
}

struct Connection {
    limits: ConnectionLimits,
    app: Router,
    closing: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, socket: TcpStream) -> Result<(), ConnectionError> {
        socket.set_nodelay(true)?;
        let socket = self.speak(socket).await?;
        self.linger(socket).await?;
        Ok(())
    }

    /// Answers requests until the connection is done, and gives the socket back.
    async fn speak(&self, socket: TcpStream) -> Result<TcpStream, hyper::Error> {
        let service = service_fn(|request: Request<Incoming>| {
            Box::pin(self.app.clone().oneshot(request.map(Body::new)))
        });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_timeout)
            .max_buf_size(self.limits.buffer_bytes)
            .serve_connection(TokioIo::new(socket), service);
        let done = tokio::select! {
            done = poll_fn(|context| connection.poll_without_shutdown(context)) => Some(done),
            () = self.closing.cancelled() => None,
        };
        match done {
            Some(done) => done?,
            None => {
                Pin::new(&mut connection).graceful_shutdown();
                poll_fn(|context| connection.poll_without_shutdown(context)).await?;
            }
        }
        Ok(connection.into_parts().io.into_inner())
    }

    /// Says that all is sent, and reads what the client still sends: a socket that is closed with unread data resets the connection, and
    /// the client may then lose the answer.
    async fn linger(&self, mut socket: TcpStream) -> io::Result<()> {
        socket.shutdown().await?;
        let mut discarded = vec![0; DISCARD_BYTES];
        let drained = async { while socket.read(&mut discarded).await.is_ok_and(|bytes| bytes > 0) {} };
        // Whether the client closed its side or not: it had its time.
        let _in_time = timeout(self.limits.linger, drained).await;
        Ok(())
    }
}
