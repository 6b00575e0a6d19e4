//! The one-job runtime over real TCP: what clients see, what is left behind, and that it ends.
#![expect(
    clippy::unwrap_used,
    reason = "clippy does not see that the helpers here are only for tests"
)]

#[path = "runtime/cancelling.rs"]
mod cancelling;
#[path = "runtime/following.rs"]
mod following;
#[path = "runtime/harness.rs"]
mod harness;
#[path = "runtime/keeping.rs"]
mod keeping;
#[path = "runtime/lifecycle.rs"]
mod lifecycle;
#[path = "runtime/outcomes.rs"]
mod outcomes;
#[path = "runtime/readers.rs"]
mod readers;
#[path = "runtime/refusals.rs"]
mod refusals;
