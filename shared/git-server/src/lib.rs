//! A git host in one process: serves a folder of bare repositories over smart HTTP by running `git http-backend`.
//!
//! `mayfly demo` and the tests use it, so that git on the other side is always the real one. It must not know jobs, sessions or
//! any git library, and it is no host for the open internet: it listens on loopback only.

mod access;
mod cgi;
mod cgi_head;
mod config;
mod name;
mod repository;
mod route;
mod router;
mod server;
mod traffic;

pub use config::{Access, GitServerConfig, Limits, Permission};
pub use name::{InvalidRepositoryName, RepositoryName};
pub use repository::{InitError, init_bare};
pub use router::{router, router_with};
pub use server::{GitServer, StartError};
pub use traffic::Traffic;
