//! Accepts connections within a bound, and ends them when the server does.

use std::convert::Infallible;
use std::io::{self, ErrorKind::WouldBlock};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use mayfly_telemetry::task;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::Connection;
use crate::tls::Tls;

/// The bounds of connections.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Connections at the same time; further ones wait to be accepted.
    pub connections: usize,
    /// How long the headers of a request may take to arrive; also how long a connection may be idle.
    pub header_timeout: Duration,
    /// How long a client may take no byte of an answer that waits for it; then the connection is closed.
    pub write_timeout: Duration,
    /// Bytes that one connection buffers, of a request's headers and of its answer.
    pub buffer_bytes: usize,
    /// The pause after a connection could not be accepted.
    pub accept_pause: Duration,
    /// How long a closed connection is still read from, so that the client sees the answer and not a reset.
    pub linger: Duration,
    /// How long answers may take to end when the server does.
    pub close_grace: Duration,
}

/// Serves connections until it is closed.
#[derive(Debug)]
pub struct Server {
    limits: ConnectionLimits,
    app: Router,
    tls: Option<Tls>,
    places: Arc<Semaphore>,
    connections: TaskTracker,
    closing: CancellationToken,
    giving_up: CancellationToken,
}

impl Server {
    /// A server of these routes, which has accepted nothing yet. Without `tls` it speaks plain HTTP.
    pub fn new(limits: ConnectionLimits, app: Router, tls: Option<Tls>) -> Self {
        Self {
            tls,
            places: Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS))),
            limits,
            app,
            connections: TaskTracker::new(),
            closing: CancellationToken::new(),
            giving_up: CancellationToken::new(),
        }
    }

    /// Accepts connections for as long as the future is polled.
    pub async fn accept(&self, listener: &TcpListener) -> Infallible {
        match &self.tls {
            None => self.accept_all(listener).await,
            Some(tls) => tokio::select! {
                never = self.accept_all(listener) => never,
                never = tls.follow() => never,
            },
        }
    }

    async fn accept_all(&self, listener: &TcpListener) -> Infallible {
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

    /// Listens no longer, lets answers that are under way end, within the grace, and says on every other connection that the process ends.
    ///
    /// So whoever sends a request at this moment knows whether it was read. Only a connection that is made between the last look at the listener and its end
    /// is reset.
    pub async fn close(&self, listener: TcpListener) {
        if let Err(error) = self.accept_waiting(listener) {
            tracing::debug!(%error, "connections that waited could not be accepted");
        }
        self.closing.cancel();
        self.connections.close();
        let closed = timeout(self.limits.close_grace, self.connections.wait()).await;
        if closed.is_err() {
            self.giving_up.cancel();
            self.connections.wait().await;
        }
    }

    /// Accepts what the kernel has accepted already: a client that has connected, and may have sent its request, would see a reset.
    fn accept_waiting(&self, listener: TcpListener) -> io::Result<()> {
        let listener = listener.into_std()?;
        while let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            match listener.accept() {
                Ok((socket, _peer)) => {
                    socket.set_nonblocking(true)?;
                    self.serve(TcpStream::from_std(socket)?, place);
                }
                Err(error) if error.kind() == WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn serve(&self, socket: TcpStream, place: OwnedSemaphorePermit) {
        let connection = Connection::new(self.limits, self.app.clone(), self.closing.clone(), place);
        let acceptor = self.tls.as_ref().map(Tls::acceptor);
        let giving_up = self.giving_up.clone();
        task::spawn(&self.connections, async move {
            // Not by `run_until_cancelled`: a function that takes a future and waits for it has room for it twice.
            let served = tokio::select! {
                served = connection.run(socket, acceptor) => served,
                () = giving_up.cancelled() => return,
            };
            if let Err(error) = served {
                let error = &error as &(dyn std::error::Error + 'static);
                tracing::debug!(error, "a connection ended early");
            }
        });
    }
}
