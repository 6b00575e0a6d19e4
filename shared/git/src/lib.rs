//! Git: fetch and push over smart HTTP, and work on repositories. The only crate that imports a git library.
//!
//! Two halves that do not know each other: the transport ([`remote`], [`fetch`], [`push`], [`refs`]) moves packs between a
//! git host and this machine; the repository half reads and writes the objects in them.
//! This crate must not know sessions, jobs, events or storage.

pub mod apply;
pub mod checkout;
mod delta;
pub mod diff;
pub mod fetch;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod identity;
mod inflate;
mod local_packs;
pub mod merge;
pub mod object;
pub mod pack;
pub mod pack_reader;
pub mod push;
pub mod refs;
pub mod remote;
pub mod rules;
pub mod scratch;
pub mod tree;
pub mod tree_check;
mod tree_edit;
