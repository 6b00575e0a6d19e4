//! The life of a gateway: follow the fleet, serve, drain, and return.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mayfly_http::BuildError;
use mayfly_server::{ConnectionLimits, Server, Tls, TlsError};
use mayfly_telemetry::task;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{Access, KeyFileError};
use crate::config::{GatewayConfig, InvalidConfig};
use crate::fleet::WorkerKind;
use crate::fleet::asking;
use crate::fleet::dns::DnsSettings;
use crate::fleet::sources::Sources;
use crate::peers::Peers;
use crate::routes;
use crate::state::Gateway;

/// Below all timeouts of a job, and rarely enough to cost nothing.
const BEAT: Duration = Duration::from_millis(200);

/// The gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A setting makes no sense.
    #[error("the gateway cannot start with these settings")]
    Config(#[from] InvalidConfig),
    /// The listener has no address.
    #[error("the gateway cannot tell where it listens")]
    Listener(#[from] io::Error),
    /// Whoever reaches the port could use the fleet.
    #[error(
        "the gateway would listen on {0}, beyond this machine, and ask nobody for a key; make one with `mayfly keys new` and name its file in GATEWAY_API_KEYS_FILE, or listen on 127.0.0.1"
    )]
    NoKeys(SocketAddr),
    /// Workers would not believe the gateway.
    #[error(
        "keys stand for tenants, and workers believe a tenant only from a gateway with their token; set WORKER_TOKEN here and at the workers"
    )]
    NoWorkerToken,
    /// Gateways that have nothing durable in common.
    #[error(
        "gateways that share a Redis share a storage, too, where jobs' outcomes and idempotency keys are; set STORAGE_URL beside REDIS_URL"
    )]
    NoStorage,
    /// The keys cannot be read.
    #[error("the keys cannot be read")]
    Keys(#[from] KeyFileError),
    /// The certificate cannot be used.
    #[error("TLS cannot be spoken with TLS_CERT_FILE and TLS_KEY_FILE")]
    Tls(#[from] TlsError),
    /// Workers cannot be asked over TLS.
    #[error("workers cannot be asked over TLS")]
    WorkerTls(#[from] BuildError),
}

/// Serves `listener` until `shutdown` fires and the graces are over.
///
/// After that, new jobs are refused, waiting ones end as `shutting_down`, and running ones are followed for [`GatewayConfig::drain_grace`]; jobs and figures
/// can be read meanwhile. With a storage, jobs that still run then are left to their workers and to the next gateway, and their streams end without a
/// terminal event; without one every stream has had its terminal event when this returns.
pub async fn run(
    config: GatewayConfig,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    config.check()?;
    check_exposure(&config, listener.local_addr()?)?;
    if config.coordination.is_some() && config.storage.is_none() {
        return Err(RunError::NoStorage);
    }
    let access = Access::open(config.keys.as_ref()).await?;
    let tls = match config.tls.clone() {
        Some(files) => Some(Tls::load(files, config.tls_look_interval).await?),
        None => None,
    };
    let worker_tls = worker_tls(&config)?;
    let gateway = Arc::new(Gateway::new(config, access, worker_tls, shutdown));
    sweep(&gateway.config);
    let tasks = TaskTracker::new();
    let ended = CancellationToken::new();
    follow_fleet(&gateway, &tasks, &ended);
    follow_keys(&gateway, &tasks, &ended);
    follow_exchange(&gateway, &tasks, &ended);
    beat(&tasks, &ended);
    let peers = follow_peers(&gateway, &tasks, &ended).await;
    let server = Server::new(connection_limits(&gateway.config), routes::router(&gateway), tls);
    tokio::select! {
        biased;
        () = gateway.drained() => {}
        never = server.accept(&listener) => match never {},
    }
    tokio::join!(server.close(listener), gateway.webhooks.close());
    if let Some(sessions) = &gateway.sessions {
        sessions.ended().await;
    }
    ended.cancel();
    tasks.close();
    tasks.wait().await;
    if let Some(peers) = peers {
        peers.lock().await.depart().await;
    }
    tracing::info!("the gateway ends");
    Ok(())
}

/// Removes what killed processes have left in the folder for scratch files; nobody waits for it.
fn sweep(config: &GatewayConfig) {
    let Some(tmp_dir) = config.sessions.as_ref().map(|it| it.tmp_dir.clone()) else {
        return;
    };
    let folder = tmp_dir.clone();
    let sweeping = task::blocking(move || mayfly_tmp_folder::sweep(&folder));
    task::spawn(&TaskTracker::new(), async move {
        match sweeping.await {
            Ok(0) => {}
            Ok(folders) => tracing::info!(folders, "removed what killed processes had left in TMP_DIR"),
            Err(error) => tracing::warn!(path = %tmp_dir.display(), %error, "TMP_DIR could not be swept"),
        }
    });
}

/// Without keys nobody but this machine's users may reach the gateway; with keys, workers have to believe whose job it is.
fn check_exposure(config: &GatewayConfig, address: SocketAddr) -> Result<(), RunError> {
    match &config.keys {
        None if !address.ip().to_canonical().is_loopback() => Err(RunError::NoKeys(address)),
        Some(_) if config.worker_tokens.is_none() => Err(RunError::NoWorkerToken),
        _ => Ok(()),
    }
}

fn worker_tls(config: &GatewayConfig) -> Result<Option<TlsConnector>, BuildError> {
    if !config.asks_over_tls() {
        return Ok(None);
    }
    let settings = mayfly_http::client_config(config.worker_ca_pem.as_deref())?;
    Ok(Some(TlsConnector::from(Arc::new(settings))))
}

/// Says that this gateway lives, and looks after the others that share its storage, until it ends.
async fn follow_peers(
    gateway: &Arc<Gateway>,
    tasks: &TaskTracker,
    ended: &CancellationToken,
) -> Option<Arc<Mutex<Peers>>> {
    let mut peers = Peers::of(gateway)?;
    peers.enter().await;
    let peers = Arc::new(Mutex::new(peers));
    let (followed, ended) = (Arc::clone(&peers), ended.clone());
    task::spawn(tasks, async move {
        let mut peers = followed.lock().await;
        // What is cut short is begun again by whoever takes over.
        let _ended = ended.run_until_cancelled(peers.run()).await;
    });
    Some(peers)
}

/// Keeps the runtime's next timer near. Each timer that is due before all others wakes the thread that waits for sockets, so that it waits for less; most
/// of a job's timers never fire, and with this one none of them is the next.
fn beat(tasks: &TaskTracker, ended: &CancellationToken) {
    let ended = ended.clone();
    task::spawn(tasks, async move {
        let mut beats = tokio::time::interval(BEAT);
        // There is nothing to do but to have been waited for.
        while ended.run_until_cancelled(beats.tick()).await.is_some() {}
    });
}

fn follow_exchange(gateway: &Arc<Gateway>, tasks: &TaskTracker, ended: &CancellationToken) {
    let Some(exchange) = gateway.exchange.clone() else {
        return;
    };
    let ended = ended.clone();
    task::spawn(tasks, async move {
        // What is cut short is found out by the other gateways.
        let _ended = ended.run_until_cancelled(exchange.run()).await;
    });
}

fn follow_keys(gateway: &Arc<Gateway>, tasks: &TaskTracker, ended: &CancellationToken) {
    let (gateway, ended) = (Arc::clone(gateway), ended.clone());
    task::spawn(tasks, async move {
        // The file is followed until the gateway ends.
        let _ended = ended.run_until_cancelled(gateway.access.follow()).await;
    });
}

fn follow_fleet(gateway: &Arc<Gateway>, tasks: &TaskTracker, ended: &CancellationToken) {
    let sources = Sources {
        dispatcher: Arc::clone(&gateway.dispatcher),
        dns: DnsSettings {
            refresh: gateway.config.dns_refresh,
            timeout: gateway.config.dns_timeout,
        },
        tasks: tasks.clone(),
        stopping: ended.clone(),
    };
    let configured = gateway.config.sources();
    for kind in WorkerKind::ALL {
        sources.follow(*kind, configured[*kind]);
    }
    if let Some(collect) = gateway.config.collect.clone() {
        let ended = ended.clone();
        task::spawn(tasks, async move {
            // A collection may be dropped anywhere.
            let _ended = ended.run_until_cancelled(collect.run()).await;
        });
    }
    task::spawn(
        tasks,
        asking::ask_when_due(Arc::clone(gateway), tasks.clone(), ended.clone()),
    );
}

fn connection_limits(config: &GatewayConfig) -> ConnectionLimits {
    ConnectionLimits {
        connections: config.max_connections,
        header_timeout: config.header_timeout,
        write_timeout: config.write_timeout,
        buffer_bytes: config.connection_buffer_bytes,
        accept_pause: config.accept_pause,
        linger: config.close_linger,
        close_grace: config.close_grace,
    }
}

impl Gateway {
    /// Waits for the request to end, and then until every job has ended or is followed no longer.
    async fn drained(&self) {
        self.draining.cancelled().await;
        self.dispatcher.close();
        self.running.close();
        tracing::info!(
            jobs = self.running.len(),
            "asked to end; running jobs have their grace"
        );
        let drained = timeout(self.config.drain_grace, self.running.wait()).await;
        if drained.is_err() {
            self.stopping.cancel();
            self.running.wait().await;
        }
    }
}
