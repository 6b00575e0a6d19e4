//! The life of a gateway: follow the fleet, serve, drain, and return.

use std::sync::Arc;

use mayfly_server::{ConnectionLimits, Server};
use mayfly_telemetry::task;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{GatewayConfig, InvalidConfig};
use crate::fleet::WorkerKind;
use crate::fleet::dns::DnsSettings;
use crate::fleet::sources::Sources;
use crate::routes;
use crate::state::Gateway;

/// The gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A setting makes no sense.
    #[error("the gateway cannot start with these settings")]
    Config(#[from] InvalidConfig),
}

/// Serves `listener` until `shutdown` fires and the graces are over.
///
/// After that, new jobs are refused, waiting ones end as `shutting_down`, and running ones are followed for [`GatewayConfig::drain_grace`]; jobs and figures
/// can be read meanwhile. When this returns, every stream has had its terminal event.
pub async fn run(
    config: GatewayConfig,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    config.check()?;
    let gateway = Arc::new(Gateway::new(config, shutdown));
    sweep(&gateway.config);
    let tasks = TaskTracker::new();
    let ended = CancellationToken::new();
    follow_fleet(&gateway, &tasks, &ended);
    let server = Server::new(connection_limits(&gateway.config), routes::router(&gateway));
    tokio::select! {
        biased;
        () = gateway.drained() => {}
        never = server.accept(listener) => match never {},
    }
    server.close().await;
    if let Some(sessions) = &gateway.sessions {
        sessions.ended().await;
    }
    ended.cancel();
    tasks.close();
    tasks.wait().await;
    gateway.client.connections.close();
    gateway.client.connections.wait().await;
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
    let (gateway, ended) = (Arc::clone(gateway), ended.clone());
    task::spawn(tasks, async move {
        // The waker runs until the gateway ends.
        let _ended = ended
            .run_until_cancelled(gateway.dispatcher.wake_when_due())
            .await;
    });
}

fn connection_limits(config: &GatewayConfig) -> ConnectionLimits {
    ConnectionLimits {
        connections: config.max_connections,
        header_timeout: config.header_timeout,
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
