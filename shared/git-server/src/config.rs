//! What the server is told at its start. It must not know HTTP.

use std::path::PathBuf;
use std::time::Duration;

use mayfly_protocol::SecretString;

/// The folder that is served, and who may do what with it.
#[derive(Debug, Clone)]
pub struct GitServerConfig {
    /// The folder below which the bare repositories lie, as `<name>.git`.
    pub root: PathBuf,
    /// The tokens that are known.
    pub tokens: Vec<Access>,
    /// What a request without credentials may do; with less than it needs it is asked for credentials (401).
    pub anonymous: Permission,
}

/// A token and what it opens.
#[derive(Debug, Clone)]
pub struct Access {
    /// The token: the password of `Basic`, under any user name, or the value of `Bearer`.
    pub token: SecretString,
    /// The name that hooks see in `REMOTE_USER`.
    pub user: String,
    /// What the token opens.
    pub permission: Permission,
}

/// What may be done with the repositories. Each contains the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    /// Nothing: a known token is answered 403.
    None,
    /// Fetch.
    Read,
    /// Fetch and push.
    Write,
}

/// The bounds of the server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at one time; more wait to be accepted.
    pub connections: usize,
    /// How long a connection may last, whether its client reads or not.
    pub connection_timeout: Duration,
    /// How long a client may take to send the head of a request.
    pub request_head_timeout: Duration,
    /// How long a request may take in all, the transfer included.
    pub request_timeout: Duration,
    /// How long the head of git's answer may be.
    pub answer_head_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            connection_timeout: Duration::from_secs(2 * 3600),
            request_head_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(3600),
            answer_head_bytes: 16 * 1024,
        }
    }
}
