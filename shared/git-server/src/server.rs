//! The listening side: binds loopback, serves the router, and stops at once when it is told to or dropped.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use mayfly_telemetry::task;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::config::{GitServerConfig, Limits};
use crate::router::router_with;
use crate::traffic::{Counted, Counters, Traffic, timed};

/// Between two tries to accept while the process is short of something, such as file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No port on loopback.
    #[error("the git host cannot listen on 127.0.0.1")]
    Listen(#[source] io::Error),
}

/// A running git host on a free port of 127.0.0.1. It ends, with every git that it runs, when it is dropped.
#[derive(Debug)]
pub struct GitServer {
    addr: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
    traffic: Arc<Counters>,
}

impl GitServer {
    /// Starts to serve the folder.
    pub async fn start(config: GitServerConfig) -> Result<Self, StartError> {
        Self::start_with(config, Limits::default()).await
    }

    /// Starts with bounds of one's own.
    pub async fn start_with(config: GitServerConfig, limits: Limits) -> Result<Self, StartError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(StartError::Listen)?;
        let addr = listener.local_addr().map_err(StartError::Listen)?;
        let server = Self {
            addr,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            traffic: Arc::default(),
        };
        let serving = Serving {
            router: router_with(config, limits)
                .layer(middleware::from_fn_with_state(server.traffic.clone(), timed)),
            limits,
            stop: server.stop.clone(),
            traffic: server.traffic.clone(),
        };
        let accepting = accept(listener, serving, server.tasks.clone());
        task::spawn(&server.tasks, accepting);
        Ok(server)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL of a repository, as in `http://127.0.0.1:40123/team/app.git`.
    pub fn url(&self, name: &str) -> String {
        let name = name.strip_suffix(".git").unwrap_or(name);
        format!("http://{}/{name}.git", self.addr)
    }

    /// The bytes of all connections so far, counted where they are read and written, and the time of all requests.
    pub fn traffic(&self) -> Traffic {
        self.traffic.now()
    }

    /// Closes all connections, ends every git that runs, and waits until that is done.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What every connection is served with.
#[derive(Clone)]
struct Serving {
    router: Router,
    limits: Limits,
    stop: CancellationToken,
    traffic: Arc<Counters>,
}

async fn accept(listener: TcpListener, serving: Serving, tasks: TaskTracker) {
    let seats = Arc::new(Semaphore::new(serving.limits.connections));
    let next = async || {
        let seat = seats.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (stream, _peer) = listener.accept().await?;
        Ok::<_, io::Error>((stream, seat))
    };
    while let Some(accepted) = serving.stop.run_until_cancelled(next()).await {
        match accepted {
            Ok((stream, seat)) => {
                task::spawn(&tasks, serve(stream, serving.clone(), seat));
            }
            Err(error) => {
                warn!(error = %error, "a connection could not be accepted");
                let pause = tokio::time::sleep(ACCEPT_PAUSE);
                serving.stop.run_until_cancelled(pause).await;
            }
        }
    }
}

/// Serves one connection; dropping it half-way drops the answer, and with that the git behind it.
async fn serve(stream: TcpStream, serving: Serving, _seat: OwnedSemaphorePermit) {
    // Without it the end of a small answer waits for the peer's delayed acknowledgement, 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(error = %error, "a connection ended before it was served");
        return;
    }
    let stream = TokioIo::new(Counted::new(stream, serving.traffic));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(serving.limits.request_head_timeout)
        .serve_connection(stream, TowerToHyperService::new(serving.router));
    let bounded = timeout(serving.limits.connection_timeout, connection);
    match serving.stop.run_until_cancelled(bounded).await {
        Some(Ok(Err(error))) => debug!(error = %error, "a connection ended early"),
        Some(Err(_)) => warn!("a connection lasted too long and was closed"),
        Some(Ok(Ok(()))) | None => {}
    }
}
