//! The settings of a one-job worker: each bound and each wait has its name here.

use std::path::PathBuf;
use std::time::Duration;

use mayfly_protocol::limits;
use mayfly_sandbox::Report;
use mayfly_server::TlsFiles;
use mayfly_server::bearer::FleetTokens;
use mayfly_telemetry::trace::Tracer;

/// The settings of a one-job worker.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The folder in which a job's scratch folder is made.
    pub tmp_dir: PathBuf,
    /// The tokens of which every request but `GET /health` must carry one; without any, no request needs one, and jobs are the default tenant's.
    pub tokens: Option<FleetTokens>,
    /// The certificate to speak TLS with; plain HTTP without.
    pub tls: Option<TlsFiles>,
    /// How often the files of the certificate are looked at for a change.
    pub tls_look_interval: Duration,
    /// How long a job may take; then it ends as `deadline_exceeded`.
    pub job_timeout: Duration,
    /// How long a running job may go on once the process is asked to end; then it ends as `shutting_down`.
    pub drain_grace: Duration,
    /// How long a runner may take to return once it is cancelled; then it is left behind.
    pub cancel_grace: Duration,
    /// The same where a client cancelled the job, who waits for the end.
    pub asked_cancel_grace: Duration,
    /// How long the removal of the scratch folder may hold up the terminal event.
    pub cleanup_grace: Duration,
    /// How long the keeping of the outcome may hold up the terminal event.
    pub outcome_grace: Duration,
    /// How long the process waits for the client to read the terminal event.
    pub flush_grace: Duration,
    /// How long other connections may take to end when the process does.
    pub close_grace: Duration,
    /// How long a closed connection is still read from, so that the client sees the answer and not a reset.
    pub linger: Duration,
    /// The silence after which a stream says that it is alive.
    pub heartbeat: Duration,
    /// How long the headers of a request may take to arrive; also how long a connection may be idle.
    pub header_timeout: Duration,
    /// How long a client may take no byte of an answer that waits for it; then its connection is closed.
    pub write_timeout: Duration,
    /// How long the body of a request may take to arrive.
    pub body_timeout: Duration,
    /// Bytes of a request's body.
    pub max_body_bytes: usize,
    /// Bodies that are read at the same time; with more, a request is answered 429.
    pub max_open_bodies: usize,
    /// Connections at the same time; further ones wait to be accepted.
    pub max_connections: usize,
    /// Bytes that one connection buffers, of a request's headers and of its answer.
    pub connection_buffer_bytes: usize,
    /// Events that wait for a slow reader before repeated progress is dropped.
    pub event_buffer: usize,
    /// The least time between two progress figures of one stage.
    pub progress_interval: Duration,
    /// Where the spans of the job begin.
    pub tracer: Tracer,
    /// The pause after a connection could not be accepted.
    pub accept_pause: Duration,
    /// What the process has given up, for `GET /status`.
    pub sandbox: Report,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            tmp_dir: PathBuf::from("/tmp"),
            tokens: None,
            tls: None,
            tls_look_interval: Duration::from_secs(1),
            job_timeout: Duration::from_secs(30 * 60),
            drain_grace: Duration::from_secs(30),
            cancel_grace: Duration::from_secs(10),
            asked_cancel_grace: Duration::from_millis(1500),
            cleanup_grace: Duration::from_secs(10),
            outcome_grace: Duration::from_secs(2),
            flush_grace: Duration::from_secs(5),
            close_grace: Duration::from_millis(250),
            linger: Duration::from_secs(1),
            heartbeat: Duration::from_secs(1),
            header_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            max_body_bytes: limits::MAX_BODY_BYTES,
            max_open_bodies: 4,
            max_connections: 128,
            connection_buffer_bytes: 64 * 1024,
            event_buffer: 64,
            progress_interval: Duration::from_millis(250),
            tracer: Tracer::default(),
            accept_pause: Duration::from_millis(100),
            sandbox: Report::default(),
        }
    }
}

impl WorkerConfig {
    /// The longest time from the request to end until [`run`](crate::run) returns: the least stop grace period of whatever runs the process.
    pub fn longest_drain(&self) -> Duration {
        // The scratch folder is removed twice: before the terminal event, and after it, where a runner was left behind.
        self.drain_grace
            + self.cancel_grace
            + 2 * self.cleanup_grace
            + self.outcome_grace
            + self.flush_grace
            + self.close_grace
    }
}
