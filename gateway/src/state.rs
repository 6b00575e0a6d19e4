//! What the parts of a gateway share.

use std::sync::Arc;
use std::time::Instant;

use mayfly_queue::Lane;
use mayfly_session::{GatewayId, KeyArchive, OpenJobs, OutcomeArchive};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::Access;
use crate::config::GatewayConfig;
use crate::dispatch::Dispatcher;
use crate::exchange::Exchange;
use crate::held::HeldBytes;
use crate::idempotency::KeyMemory;
use crate::job_log::LogLimits;
use crate::jobs::{JobLimits, Jobs};
use crate::metrics::Metrics;
use crate::open_record::OwnJobs;
use crate::sessions::Sessions;
use crate::webhook::Webhooks;
use crate::worker_client::{Lines, WorkerClient};

/// What the parts of a gateway share.
pub(crate) struct Gateway {
    pub(crate) config: GatewayConfig,
    /// Who may ask for what.
    pub(crate) access: Access,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) client: WorkerClient,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) webhooks: Arc<Webhooks>,
    /// Where workers keep how their jobs ended.
    pub(crate) outcomes: Option<OutcomeArchive>,
    /// What the storage is told of jobs that are not over.
    pub(crate) own_jobs: Option<OwnJobs>,
    /// What gateways have in common beside the storage; `None` for one that is alone with it.
    pub(crate) exchange: Option<Arc<Exchange>>,
    /// What idempotency keys stand for, in the storage.
    pub(crate) keys: Option<KeyArchive>,
    /// The same where there is no storage.
    pub(crate) key_memory: KeyMemory,
    /// What sessions hold; `None` where no storage is configured.
    pub(crate) sessions: Option<Sessions>,
    /// The bytes of bodies that are held.
    pub(crate) held_bytes: Arc<HeldBytes>,
    /// The tasks of jobs.
    pub(crate) running: TaskTracker,
    /// Fires when the gateway is asked to end: no new job, and no waiting one, goes on.
    pub(crate) draining: CancellationToken,
    /// Fires when the grace is over: running jobs are no longer followed.
    pub(crate) stopping: CancellationToken,
    pub(crate) started: Instant,
}

impl Gateway {
    pub(crate) fn new(
        config: GatewayConfig,
        access: Access,
        worker_tls: Option<TlsConnector>,
        draining: CancellationToken,
    ) -> Self {
        let limits = JobLimits {
            log: LogLimits {
                events: config.job_log_max_events,
                bytes: config.job_log_max_bytes,
            },
            readers: config.streams_per_job,
            finished_kept: config.finished_jobs_kept,
            finished_bytes: config.finished_bytes_kept,
        };
        let metrics = Arc::new(Metrics::new(config.metrics_tenants));
        let outcomes = config.storage.clone().map(OutcomeArchive::new);
        let own_jobs = config.storage.clone().map(|storage| OwnJobs {
            archive: OpenJobs::new(storage),
            gateway: GatewayId::new_now(),
            patience: config.outcome_timeout,
        });
        let exchange = config.coordination.clone().zip(own_jobs.as_ref());
        let exchange = exchange.map(|(coordination, own)| {
            let interval = config.beat_interval;
            let keys = config.waiting_jobs_keys.clone();
            Arc::new(Exchange::new(coordination, &own.gateway, interval, keys))
        });
        let webhooks = Webhooks::new(
            config.webhooks.clone(),
            outcomes.clone(),
            own_jobs.clone(),
            Arc::clone(&metrics),
        );
        Self {
            jobs: Arc::new(Jobs::new(limits, Arc::clone(&metrics))),
            webhooks: Arc::new(webhooks),
            metrics,
            dispatcher: Arc::new(Dispatcher::new(config.queue(), config.pauses)),
            client: WorkerClient {
                token: config.worker_tokens.as_ref().map(|tokens| tokens.sent().clone()),
                tls: worker_tls,
                connect_timeout: config.connect_timeout,
                response_timeout: config.response_timeout,
                lines: Lines::default(),
            },
            outcomes,
            own_jobs,
            exchange,
            keys: config.storage.clone().map(KeyArchive::new),
            key_memory: KeyMemory::default(),
            sessions: config.sessions.clone().map(Sessions::new),
            held_bytes: Arc::new(HeldBytes::new(config.held_body_bytes, config.keys.is_some())),
            running: TaskTracker::new(),
            draining,
            stopping: CancellationToken::new(),
            started: Instant::now(),
            access,
            config,
        }
    }

    /// Whether a job of the session runs or waits, here or at another gateway.
    pub(crate) async fn is_busy(&self, lane: &Lane) -> bool {
        if self.dispatcher.is_busy(lane) {
            return true;
        }
        match &self.exchange {
            Some(exchange) => exchange.is_busy(lane).await,
            None => false,
        }
    }
}
