//! The one HTTP client of the fleet: it decides where a connection may go, and bounds every wait.
//!
//! Each hop is checked twice: the name against the allowed hosts before anything is sent, and the resolved address when the
//! connection is made, so that a name that changes its answer in between gains nothing. Nothing is taken from the environment:
//! no proxy, no cookies. Nothing is decompressed, and no redirect leaves the origin that the request was meant for.
//!
//! This crate must not know git, language models or any other use that is made of it.

mod address;
mod client;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod policy;
mod request;
mod resolve;
mod response;
mod tls;
mod traffic;

pub use address::is_public;
pub use client::{BuildError, GuardedClient};
pub use error::{HostRefusal, HttpError};
pub use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
pub use policy::{HostPattern, HttpPolicy, InvalidHostPattern};
pub use request::{Body, Request};
pub use response::Response;
pub use tls::client_config;
pub use traffic::Traffic;
pub use url::Url;
