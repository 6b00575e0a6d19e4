//! The gateway over real HTTP, with scripted workers and real processes.

#![expect(clippy::unwrap_used, reason = "tests and what only they use")]

mod cancelling;
mod client;
mod coordinated;
mod dispatching;
mod gateway;
mod idempotency;
mod jobs;
mod keys;
mod leaving;
mod lines;
mod metrics;
mod outcomes;
mod real_worker;
mod receiver;
mod refusals;
mod relaying;
mod repeating;
mod sessions;
mod shutdown;
mod stub_worker;
mod supervisor;
mod tenants;
mod until;
mod webhooks;
