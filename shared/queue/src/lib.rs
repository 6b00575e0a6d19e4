//! The order in which jobs are given to workers: pure, without clock, lock or I/O. Time comes in as an argument.
//!
//! Of each session one job runs, and its later jobs wait behind it in the order in which they came. Among tenants the choice is fair by weight:
//! each pays for the time that its jobs hold workers, and the one that has paid least is next (start-time fair queueing). Among the jobs of
//! one tenant the oldest that can run is next. This crate must not know workers, only whether one of a kind is free.

mod departures;
mod kind;
mod queue;
mod tenant;

pub use departures::{ComeBack, come_back_after};
pub use kind::{PerKind, WorkerKind};
pub use queue::{FullOf, Lane, Position, Queue, QueueFull, QueueSettings, TenantWaiting, Ticket, WaitReason};
pub use tenant::{InvalidWeight, Terms, Weight};
