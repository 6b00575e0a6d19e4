//! What is done with the bytes that a fuzzer makes up: a module for each target, whose `check` panics where a promise is broken.
//!
//! Beside "no panic" every target has a promise of its own: the same result however the bytes are cut, what is written is read back, limits
//! hold. This crate must not know how the bytes are made.

pub mod addresses;
pub mod answers;
pub mod changes;
pub mod events;
pub mod headers;
pub mod indexes;
pub mod keys;
pub mod lfs;
pub mod packs;
pub mod patches;
pub mod requests;
pub mod rules;
pub mod stored;
pub mod streams;

mod forged;
mod input;
mod trees;

pub use input::Input;

use std::future::Future;

use tokio::runtime::Runtime;

/// Runs what waits for nothing but memory.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime of one thread");
    }
    RUNTIME.with(|runtime| runtime.block_on(work))
}
