//! What makes a process a one-job worker: it takes one job, refuses all others, streams events, and ends.
//!
//! [`run`] is given a listener and a [`JobRunner`], and returns when the process shall exit. The runner knows its jobs and nothing of HTTP;
//! this crate knows HTTP, time and scratch folders, and must not know what a job does, nor the gateway, nor any storage.
//!
//! A request is refused in this order, and nothing is claimed before its last check: 401 (everywhere but `/health`), 404 and 405; then for a
//! job 429 where the worker has its job or drains (so that a busy answer costs no reading of the body), 415, 413, 400, and 429 once more
//! where another request was first.

mod config;
mod delivery;
mod events;
mod job;
mod outcome;
mod place;
mod request;
mod routes;
mod run;
mod runner;
mod scratch;
mod slot;
mod stages;

pub use config::WorkerConfig;
pub use events::ProgressSink;
pub use place::{Place, PlaceError};
pub use run::{Ended, RunError, run};
pub use runner::{JobContext, JobRunner, OutcomeNotKept, OutcomeStore};
