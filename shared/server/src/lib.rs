//! The HTTP server of every role: connections within bounds, bodies within bounds, and refusals that are JSON with a code.
//!
//! [`Server`] serves any router. It accepts within a limit, gives headers their time, and ends a connection so that the client reads the
//! answer. [`request`] reads a JSON body within its limits, [`refuse`] writes answers. This crate must not know jobs, workers or tenants.

mod connection;
pub mod refuse;
pub mod request;
mod serve;

pub use connection::Delivered;
pub use serve::{ConnectionLimits, Server};
