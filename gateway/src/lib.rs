//! The gateway: it takes jobs from clients, finds each a free one-job worker, and keeps what the worker says.
//!
//! A job goes one way: the routes parse it, the queue orders it, dispatch finds a worker, the relay follows the worker's stream into the
//! job's log, and any number of readers follow the log. What to do next is decided by pure modules ([`mayfly_queue`], [`retry`] and the roster of
//! [`fleet`]); the others act. What sessions hold is
//! read through `mayfly-session`. This crate must not know git, or what a job does.
//!
//! # What is deliberately not here yet
//!
//! Jobs that wait do not survive the process; of those that had begun, workers keep the outcomes in the storage. A request with `Idempotency-Key` is refused with `invalid_request` rather than run
//! without the promise that the key stands for.

mod access;
mod cancel;
mod chance;
mod collect;
mod config;
mod dispatch;
mod error_text;
mod event_stream;
pub mod fleet;
mod intake;
mod job_log;
mod job_run;
mod jobs;
mod outcome;
mod relay;
pub mod retry;
mod routes;
mod run;
mod sessions;
mod state;
mod worker_client;

pub use access::{
    Caller, CallerLimits, InvalidKeyId, InvalidKeyLine, KeyFileError, KeyId, KeyLine, KeysConfig, NewKey,
    Scope, Scopes,
};
pub use collect::CollectConfig;
pub use config::{GatewayConfig, InvalidConfig};
pub use fleet::address::{InvalidWorkerSource, WorkerSource, WorkerUrl};
pub use fleet::local::{LocalFleet, Supervisor, SupervisorConfig};
pub use fleet::{PerKind, WorkerKind};
pub use mayfly_queue::Weight;
pub use run::{RunError, run};
pub use sessions::SessionsConfig;
