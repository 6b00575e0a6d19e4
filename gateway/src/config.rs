//! The settings of a gateway: each bound and each wait has its name here.

use std::sync::Arc;
use std::time::Duration;

use mayfly_coordination::Coordination;
use mayfly_protocol::limits;
use mayfly_queue::{ComeBack, QueueSettings};
use mayfly_server::TlsFiles;
use mayfly_server::bearer::FleetTokens;
use mayfly_storage::ObjectStore;
use mayfly_telemetry::trace::Tracer;

use crate::access::KeysConfig;
use crate::collect::CollectConfig;
use crate::exchange::WaitingJobsKeys;
use crate::fleet::address::WorkerSource;
use crate::fleet::{PerKind, WorkerKind};
use crate::retry::Pauses;
use crate::sessions::SessionsConfig;
use crate::webhook::WebhookConfig;

/// The settings of a gateway.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Where the git workers are.
    pub git_workers: WorkerSource,
    /// Where the code workers are.
    pub code_workers: WorkerSource,
    /// The tokens that workers want; the first is sent to every worker.
    pub worker_tokens: Option<FleetTokens>,
    /// Certificate authorities, in PEM form, that workers are trusted by beside the system's.
    pub worker_ca_pem: Option<Vec<u8>>,
    /// Who may use the gateway; without keys it serves loopback addresses only.
    pub keys: Option<KeysConfig>,
    /// The certificate to speak TLS with; plain HTTP without.
    pub tls: Option<TlsFiles>,
    /// How often the files of the certificate are looked at for a change.
    pub tls_look_interval: Duration,
    /// Where workers keep sessions and outcomes; without one, jobs of before a restart are unknown.
    pub storage: Option<Arc<dyn ObjectStore>>,
    /// What several gateways tell one another while jobs run; without it they have the storage in common, and nothing else. It needs a storage.
    pub coordination: Option<Arc<dyn Coordination>>,
    /// What bodies of jobs that are not over are sealed with, to be kept beside what gateways tell one another; without it they are in memory alone.
    pub waiting_jobs_keys: Option<WaitingJobsKeys>,
    /// Where sessions are read from, and how; without it `/sessions` is refused.
    pub sessions: Option<SessionsConfig>,
    /// What is collected in the storage, and how often; without it nothing is.
    pub collect: Option<CollectConfig>,

    /// Jobs that may wait for each kind of worker; with more, a job is refused with `queue_full`, unless its tenant has less than its
    /// share of them. Never more than twice as many wait.
    pub queue_capacity: usize,
    /// How long a job may wait for a worker; then it ends as `queue_timeout`.
    pub queue_timeout: Duration,
    /// A tenant that was given no worker for so long, though it has a job to run, goes before the others in one choice of four.
    pub queue_aging: Duration,
    /// What `Retry-After` says where nothing is known of how fast jobs leave the queue.
    pub queue_retry_after: Duration,
    /// What `Retry-After` says with `queue_full` at most; it is estimated from how fast jobs leave the queue.
    pub queue_retry_after_longest: Duration,
    /// The least time between two `queued` or `retrying` events of a job.
    pub position_interval: Duration,

    /// Bytes of a job's body.
    pub max_body_bytes: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// Bytes of all bodies that arrive, or belong to jobs that are not over; with more, a job is refused with `queue_full`. With keys, one tenant may hold
    /// as many as it leaves free: half, where it is alone.
    pub held_body_bytes: usize,

    /// How long a connection to a worker may take to be made.
    pub connect_timeout: Duration,
    /// How long a worker may take from the connection to the head of its answer.
    pub response_timeout: Duration,
    /// How long a worker's stream may say nothing, heartbeats counted; then the worker is lost. Workers send a heartbeat each second.
    pub silence_timeout: Duration,
    /// How often a job is attempted at most; it is attempted again only where its worker was lost, and no outcome of it is found.
    pub job_attempts: u32,
    /// How long a job may run at most, whatever its worker says; then it ends as `deadline_exceeded`. Workers have a shorter bound of their own.
    pub job_timeout: Duration,
    /// How long the worker of a cancelled job has to end it; then the gateway ends it, and leaves the worker alone for a while.
    pub cancel_timeout: Duration,
    /// How long the storage may take to say how a job ended.
    pub outcome_timeout: Duration,
    /// How often the gateway says that it lives, looks who does not any more, and tells other gateways again what it has told them.
    pub beat_interval: Duration,
    /// How long another gateway may say nothing; then its jobs are taken over.
    pub gateway_lease: Duration,
    /// How often the storage is asked about a job that runs for another gateway.
    pub watch_interval: Duration,
    /// How long a job of a gateway that is gone is waited for where its worker is not among the known ones.
    pub orphan_timeout: Duration,
    /// How long a request with an idempotency key waits for another one with the same key to become a job.
    pub key_patience: Duration,
    /// Bytes of one event of a worker.
    pub max_event_bytes: usize,
    /// How long the gateway waits, after the terminal event, for the worker to end its stream.
    pub linger: Duration,
    /// How long a worker is left alone after a refusal.
    pub pauses: Pauses,

    /// The silence after which a client's stream says that it is alive.
    pub heartbeat: Duration,
    /// Progress events that a job's log keeps; later ones are dropped, the terminal event never.
    pub job_log_max_events: usize,
    /// Bytes of progress events that a job's log keeps; later ones are dropped, the terminal event never.
    pub job_log_max_bytes: usize,
    /// Finished jobs that are kept for `GET /jobs`; the oldest go first.
    pub finished_jobs_kept: usize,
    /// Bytes of the logs of finished jobs that are kept; the oldest go first.
    pub finished_bytes_kept: usize,
    /// Readers of one job's stream at the same time.
    pub streams_per_job: usize,
    /// Where the spans of jobs begin.
    pub tracer: Tracer,
    /// How receivers of webhooks are told; without it, no job may have a `callbackUrl`.
    pub webhooks: Option<WebhookConfig>,
    /// Tenants that have labels of their own in the metrics; the others are counted as `other`.
    pub metrics_tenants: usize,

    /// How often the names of `dns://` sources are looked up.
    pub dns_refresh: Duration,
    /// How long one lookup may take.
    pub dns_timeout: Duration,

    /// How long the headers of a request may take to arrive; also how long a connection may be idle.
    pub header_timeout: Duration,
    /// How long a client may take no byte of an answer that waits for it; then its connection is closed.
    pub write_timeout: Duration,
    /// Connections of clients at the same time; further ones wait to be accepted.
    pub max_connections: usize,
    /// Bytes that one connection buffers, of a request's headers and of its answer.
    pub connection_buffer_bytes: usize,
    /// The pause after a connection could not be accepted.
    pub accept_pause: Duration,
    /// How long a closed connection is still read from, so that the client sees the answer and not a reset.
    pub close_linger: Duration,
    /// How long running jobs are followed after the request to end; then their streams end without a terminal event, to be read on at another gateway, and
    /// without a storage as `shutting_down`.
    pub drain_grace: Duration,
    /// How long answers may take to end once all jobs have.
    pub close_grace: Duration,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            git_workers: WorkerSource::default(),
            code_workers: WorkerSource::default(),
            worker_tokens: None,
            worker_ca_pem: None,
            keys: None,
            tls: None,
            tls_look_interval: Duration::from_secs(1),
            storage: None,
            coordination: None,
            waiting_jobs_keys: None,
            outcome_timeout: Duration::from_millis(900),
            sessions: None,
            collect: None,
            queue_capacity: 1000,
            queue_timeout: Duration::from_secs(60),
            queue_aging: Duration::from_secs(20),
            queue_retry_after: Duration::from_secs(5),
            queue_retry_after_longest: Duration::from_secs(300),
            position_interval: Duration::from_secs(1),
            max_body_bytes: limits::MAX_BODY_BYTES,
            body_timeout: Duration::from_secs(60),
            held_body_bytes: 256 * 1024 * 1024,
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(5),
            silence_timeout: Duration::from_secs(4),
            job_attempts: 3,
            job_timeout: Duration::from_secs(2 * 60 * 60),
            cancel_timeout: Duration::from_millis(1900),
            beat_interval: Duration::from_secs(2),
            gateway_lease: Duration::from_secs(10),
            watch_interval: Duration::from_millis(500),
            orphan_timeout: Duration::from_secs(60),
            key_patience: Duration::from_secs(3),
            max_event_bytes: 1024 * 1024,
            linger: Duration::from_millis(500),
            pauses: Pauses::default(),
            heartbeat: Duration::from_secs(3),
            job_log_max_events: 10_000,
            job_log_max_bytes: 1024 * 1024,
            finished_jobs_kept: 1000,
            finished_bytes_kept: 128 * 1024 * 1024,
            streams_per_job: 32,
            tracer: Tracer::default(),
            webhooks: None,
            metrics_tenants: 50,
            dns_refresh: Duration::from_secs(1),
            dns_timeout: Duration::from_secs(2),
            header_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(60),
            max_connections: 20_000,
            connection_buffer_bytes: 64 * 1024,
            accept_pause: Duration::from_millis(100),
            close_linger: Duration::from_secs(1),
            drain_grace: Duration::from_secs(30),
            close_grace: Duration::from_secs(2),
        }
    }
}

/// A setting with which the gateway cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the setting `{name}` is 0; it needs a value above")]
pub struct InvalidConfig {
    name: &'static str,
}

impl GatewayConfig {
    /// Checks what would make the gateway useless from its start.
    pub(crate) fn check(&self) -> Result<(), InvalidConfig> {
        let numbers = [
            ("queue_capacity", self.queue_capacity),
            ("max_body_bytes", self.max_body_bytes),
            ("held_body_bytes", self.held_body_bytes),
            ("max_event_bytes", self.max_event_bytes),
            ("streams_per_job", self.streams_per_job),
            ("job_attempts", self.job_attempts as usize),
            ("max_connections", self.max_connections),
        ];
        let times = [
            ("queue_timeout", self.queue_timeout),
            ("position_interval", self.position_interval),
            ("connect_timeout", self.connect_timeout),
            ("response_timeout", self.response_timeout),
            ("silence_timeout", self.silence_timeout),
            ("job_timeout", self.job_timeout),
            ("heartbeat", self.heartbeat),
            ("beat_interval", self.beat_interval),
            ("watch_interval", self.watch_interval),
            ("write_timeout", self.write_timeout),
            ("tls_look_interval", self.tls_look_interval),
            ("dns_refresh", self.dns_refresh),
            ("dns_timeout", self.dns_timeout),
            ("pauses.first", self.pauses.first),
        ];
        let zero_number = numbers
            .iter()
            .find(|(_, value)| *value == 0)
            .map(|(name, _)| *name);
        let zero_time = times
            .iter()
            .find(|(_, value)| value.is_zero())
            .map(|(name, _)| *name);
        let collect = self.collect.as_ref().filter(|it| it.interval.is_zero());
        let zero_time = zero_time.or(collect.map(|_| "collect.interval"));
        let sessions = self.sessions.as_ref().and_then(SessionsConfig::zero);
        zero_number
            .or(zero_time)
            .or(sessions)
            .map_or(Ok(()), |name| Err(InvalidConfig { name }))
    }

    /// Whether any worker is asked over TLS.
    pub(crate) fn asks_over_tls(&self) -> bool {
        self.git_workers.asks_over_tls() || self.code_workers.asks_over_tls()
    }

    pub(crate) fn queue(&self) -> QueueSettings {
        QueueSettings {
            capacity: self.queue_capacity,
            aging: self.queue_aging,
            come_back: ComeBack {
                unknown: self.queue_retry_after,
                longest: self.queue_retry_after_longest,
            },
        }
    }

    pub(crate) fn sources(&self) -> PerKind<&WorkerSource> {
        PerKind::new(|kind| match kind {
            WorkerKind::Git => &self.git_workers,
            WorkerKind::Code => &self.code_workers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold_and_a_zero_is_named() {
        assert_eq!(GatewayConfig::default().check(), Ok(()));
        let config = GatewayConfig {
            heartbeat: Duration::ZERO,
            ..GatewayConfig::default()
        };
        assert_eq!(config.check(), Err(InvalidConfig { name: "heartbeat" }));
    }
}
