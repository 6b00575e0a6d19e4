//! The gateway: it takes jobs from clients, finds each a free one-job worker, and keeps what the worker says.
//!
//! A job goes one way: the routes parse it, the queue orders it, dispatch finds a worker, the relay follows the worker's stream into the
//! job's log, and any number of readers follow the log. What to do next is decided by pure modules ([`mayfly_queue`], [`retry`] and the roster of
//! [`fleet`]); the others act. What sessions hold is
//! read through `mayfly-session`. This crate must not know git, or what a job does.
//!
//! A job's body is held in memory only, since it has credentials. So a job that waits when its gateway is gone is not begun by the next one, unless its body was
//! kept sealed (`docs/adr/0025-bodies-of-waiting-jobs-are-sealed.md`): it ends as `gateway_lost`, and whoever has the body sends it again. A job that runs goes on, and the next gateway follows it: `docs/adr/0021-jobs-outlive-their-gateway.md`.

mod access;
mod begin_again;
mod cancel;
mod chance;
mod collect;
mod config;
mod dispatch;
mod error_text;
mod event_stream;
mod exchange;
pub mod fleet;
#[cfg(fuzzing)]
pub mod fuzzing;
mod held;
mod idempotency;
mod intake;
mod job_log;
mod job_run;
mod job_trace;
mod jobs;
mod metrics;
mod open_record;
mod outcome;
mod peers;
mod relay;
pub mod retry;
mod routes;
mod run;
mod sealing;
mod sessions;
mod state;
mod watch;
mod webhook;
mod worker_client;

pub use access::{
    Caller, CallerLimits, InvalidKeyId, InvalidKeyLine, KeyFileError, KeyId, KeyLine, KeysConfig, NewKey,
    Scope, Scopes,
};
pub use collect::CollectConfig;
pub use config::{GatewayConfig, InvalidConfig};
pub use exchange::{InvalidWaitingJobsKeys, WaitingJobsKeys};
pub use fleet::address::{InvalidWorkerSource, WorkerSource, WorkerUrl};
pub use fleet::local::{LocalFleet, Supervisor, SupervisorConfig};
pub use fleet::{PerKind, WorkerKind};
pub use mayfly_queue::Weight;
pub use run::{RunError, run};
pub use sessions::SessionsConfig;
pub use webhook::{InvalidWebhookSecret, WebhookConfig, WebhookPauses, WebhookSecrets};
