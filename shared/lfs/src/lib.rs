//! A client of the Git LFS batch API: it fetches and sends the contents that pointers in a repository stand for.
//!
//! Source: <https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md> and `basic-transfers.md` beside it. Only the transfer `basic` is spoken;
//! there are no locks, no custom transfers, and no `.lfsconfig`: the server is the one of the repository's own address.
//! What a server answers is hostile: an address in it gets the token only at the repository's own origin, and headers only those that came with it.
//! This crate must not know sessions, jobs or storage.

mod answer;
mod client;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod limits;

pub use client::{Download, LfsClient, Upload};
pub use error::LfsError;
pub use limits::LfsLimits;
