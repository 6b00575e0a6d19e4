//! The workers that a gateway knows: where they are, and what they are thought to be doing.
//!
//! Addresses come from settings ([`address`]), are kept fresh by sources (a fixed list, DNS, the processes of [`local`]), and their standing
//! is kept by a pure [`roster`]. This module must not know jobs beyond their ids.

pub mod address;
pub(crate) mod asking;
pub(crate) mod dns;
pub mod local;
pub mod roster;
pub(crate) mod sources;

pub use mayfly_queue::{PerKind, WorkerKind};
