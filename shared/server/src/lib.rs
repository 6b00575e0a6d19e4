//! The HTTP server of every role: connections within bounds, bodies within bounds, and refusals that are JSON with a code.
//!
//! [`Server`] serves any router. It accepts within a limit, gives headers their time, and ends a connection so that the client reads the
//! answer; with [`Tls`] it speaks TLS. [`request`] reads a JSON body within its limits, [`bearer`] what a request is authorized by, [`refuse`]
//! writes answers. This crate must not know jobs, workers or tenants.

pub mod bearer;
mod connection;
pub mod refuse;
pub mod request;
mod serve;
mod tls;
mod watch;

pub use connection::Delivered;
pub use serve::{ConnectionLimits, Server};
pub use tls::{Tls, TlsError, TlsFiles};
pub use watch::WatchedFile;
