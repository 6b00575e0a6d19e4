//! Logging, traces, and the doors through which tasks and blocking work are started.
//!
//! This crate must not know what the tasks do.

pub mod logging;
pub mod task;
pub mod trace;
