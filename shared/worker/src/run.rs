//! The life of a one-job process: listen, take one job or be asked to end, and return.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mayfly_server::{ConnectionLimits, Server, Tls, TlsError};
use mayfly_telemetry::task;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::WorkerConfig;
use crate::place::{self, PlaceError};
use crate::routes;
use crate::runner::JobRunner;
use crate::slot::Slot;

/// Why the process may exit, with code 0 in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The worker took its job, and the stream had its terminal event, whichever it was.
    JobDone,
    /// The worker was asked to end before it took a job.
    Drained,
}

/// The worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The scratch folders have no place.
    #[error(transparent)]
    TmpDir(#[from] PlaceError),
    /// Whoever reaches the port could take the worker.
    #[error(
        "the worker would listen on {0}, beyond this machine, and ask nobody for a token; set WORKER_TOKEN, or listen on 127.0.0.1"
    )]
    NoToken(SocketAddr),
    /// The listener has no address.
    #[error("the worker cannot tell where it listens")]
    Listener(#[source] io::Error),
    /// The certificate cannot be used.
    #[error("TLS cannot be spoken with TLS_CERT_FILE and TLS_KEY_FILE")]
    Tls(#[from] TlsError),
}

/// What the parts of a worker share.
pub(crate) struct Worker {
    pub(crate) config: Arc<WorkerConfig>,
    pub(crate) runner: Arc<dyn JobRunner>,
    pub(crate) slot: Arc<Slot>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) open_bodies: Semaphore,
    pub(crate) jobs: TaskTracker,
    pub(crate) started: Instant,
}

/// Serves `listener` until the one job is over, or until `shutdown` fires and its graces are over.
///
/// It returns once the client has read the terminal event, or had [`WorkerConfig::flush_grace`] to do so. A runner that did not stop when it was
/// cancelled is left behind: the process must then not wait for its threads (`Runtime::shutdown_timeout` or `shutdown_background`).
pub async fn run<R: JobRunner>(
    config: WorkerConfig,
    listener: TcpListener,
    runner: R,
    shutdown: CancellationToken,
) -> Result<Ended, RunError> {
    check_exposure(&config, listener.local_addr().map_err(RunError::Listener)?)?;
    let tmp_dir = config.tmp_dir.clone();
    task::blocking(move || place::check(&tmp_dir)).await?;
    let tls = match config.tls.clone() {
        Some(files) => Some(Tls::load(files, config.tls_look_interval).await?),
        None => None,
    };
    let config = Arc::new(config);
    let worker = Arc::new(Worker {
        open_bodies: Semaphore::new(config.max_open_bodies),
        config: Arc::clone(&config),
        runner: Arc::new(runner),
        slot: Arc::default(),
        shutdown,
        jobs: TaskTracker::new(),
        started: Instant::now(),
    });
    let server = Server::new(connection_limits(&config), routes::router(&worker), tls);
    let ended = tokio::select! {
        biased;
        ended = worker.ended() => ended,
        never = server.accept(&listener) => match never {},
    };
    server.close(listener).await;
    tracing::info!(?ended, "the worker ends");
    Ok(ended)
}

/// Without a token nobody but this machine's users may reach the worker.
fn check_exposure(config: &WorkerConfig, address: SocketAddr) -> Result<(), RunError> {
    match config.tokens {
        None if !address.ip().to_canonical().is_loopback() => Err(RunError::NoToken(address)),
        _ => Ok(()),
    }
}

fn connection_limits(config: &WorkerConfig) -> ConnectionLimits {
    ConnectionLimits {
        connections: config.max_connections,
        header_timeout: config.header_timeout,
        write_timeout: config.write_timeout,
        buffer_bytes: config.connection_buffer_bytes,
        accept_pause: config.accept_pause,
        linger: config.linger,
        close_grace: config.close_grace,
    }
}

impl Worker {
    async fn ended(&self) -> Ended {
        tokio::select! {
            biased;
            () = self.slot.over() => return Ended::JobDone,
            () = self.shutdown.cancelled() => {}
        }
        if self.slot.drain() {
            tracing::info!("asked to end; the running job has its grace");
            self.slot.over().await;
            return Ended::JobDone;
        }
        Ended::Drained
    }
}
