//! Real parts for tests: git repositories, a git host with faults, TLS, streams, processes, packs that are made to harm, and the hunt for leaked tokens.
//!
//! A dev-dependency only. What fails here panics, because a test is waiting. It must not know the crates that it tests beyond
//! their wire format.

pub mod canary;
pub mod chaos_proxy;
mod child_server;
pub mod git;
pub mod git_host;
pub mod https;
pub mod lfs;
pub mod moto;
pub mod pack;
pub mod port;
pub mod process;
pub mod redis;
pub mod repo;
pub mod s3;
pub mod server;
pub mod sse;
pub mod tools;
pub mod wait;
