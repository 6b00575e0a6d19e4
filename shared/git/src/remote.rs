//! A repository on a git host: its address, the credential for it, the bounds of a transfer, and what can go wrong with any exchange.
//!
//! This module must not know what a fetch or a push is: it carries packet lines over HTTP (gitprotocol-http(5)).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use mayfly_http::{HeaderValue, HttpError};
use mayfly_protocol::{ErrorCode, ExposeSecret, RepoUrl, SecretString};

pub(crate) mod capability;
pub(crate) mod exchange;
mod pace;
pub(crate) mod packet;
mod status;
pub(crate) mod words;

/// What we call ourselves in the git protocol.
pub(crate) const AGENT: &str = concat!("agent=mayfly/", env!("CARGO_PKG_VERSION"));

/// The user name that goes with a bare token; GitHub, GitLab, Gitea and others take it.
const TOKEN_USER: &str = "x-access-token";

/// Shorter secrets are not looked for in words: they are parts of innocent ones.
const MIN_HIDDEN_BYTES: usize = 4;

/// How a request proves who it is from. It is held in memory only, and sent in the `Authorization` header only.
#[derive(Debug, Clone)]
pub enum Credential {
    /// HTTP basic authentication (RFC 7617).
    Basic {
        /// The user name.
        user: String,
        /// The password or token.
        password: SecretString,
    },
    /// A bearer token (RFC 6750).
    Bearer(SecretString),
}

impl Credential {
    /// Reads a token as callers send it: `Bearer xyz` is a bearer token, `user:password` both parts of basic authentication, and
    /// anything else the password of the user `x-access-token`.
    pub fn from_token(token: &SecretString) -> Self {
        let text = token.expose_secret();
        if let Some((scheme, bearer)) = text.split_once(' ')
            && scheme.eq_ignore_ascii_case("bearer")
        {
            return Self::Bearer(bearer.trim().into());
        }
        let (user, password) = text.split_once(':').unwrap_or((TOKEN_USER, text));
        Self::Basic {
            user: user.to_owned(),
            password: password.into(),
        }
    }

    /// The text without the credential, in case a remote repeats it in words that are going to be shown.
    pub fn hide_in(&self, text: &str) -> String {
        let (secret, encoded) = match self {
            Self::Basic { user, password } => (password.expose_secret(), basic(user, password)),
            Self::Bearer(token) => (token.expose_secret(), String::new()),
        };
        [encoded.as_str(), secret]
            .iter()
            .filter(|secret| secret.len() >= MIN_HIDDEN_BYTES)
            .fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }

    /// The value of the `Authorization` header; `None` if it has characters that no header can carry.
    pub fn header(&self) -> Option<HeaderValue> {
        let text = match self {
            Self::Basic { user, password } => format!("Basic {}", basic(user, password)),
            Self::Bearer(token) => format!("Bearer {}", token.expose_secret()),
        };
        HeaderValue::try_from(text).ok()
    }
}

fn basic(user: &str, password: &SecretString) -> String {
    BASE64.encode(format!("{user}:{}", password.expose_secret()))
}

/// A repository on a git host, and the credential for it.
#[derive(Debug, Clone)]
pub struct Remote {
    /// The address.
    pub url: RepoUrl,
    /// The credential; it goes to the origin of the address only.
    pub credential: Option<Credential>,
}

/// The bounds of what one exchange with a remote may bring. They hold while bytes arrive.
#[derive(Debug, Clone)]
pub struct TransferLimits {
    /// Bytes of a pack.
    pub max_pack_bytes: u64,
    /// Objects in a pack.
    pub max_objects: u32,
    /// Bytes of one object, after its deltas.
    pub max_object_bytes: u64,
    /// Bytes of all objects of a pack together, after their deltas.
    pub max_unpacked_bytes: u64,
    /// Deltas that one object may stand on.
    pub max_delta_depth: u32,
    /// Bytes of a list of refs, and of the answer of a fetch before its pack.
    pub max_ref_bytes: u64,
    /// Branches and tags.
    pub max_refs: usize,
    /// Bytes of progress and messages beside a pack.
    pub max_message_bytes: u64,
    /// The slowest that bytes may arrive, while they do: a trickle ends the transfer.
    pub min_bytes_per_second: u64,
    /// The time over which that rate is measured; only the time spent waiting counts.
    pub rate_window: Duration,
    /// The longest that a remote may prepare a pack, with signs of life, before the first byte of it.
    pub prepare_timeout: Duration,
}

impl Default for TransferLimits {
    fn default() -> Self {
        Self {
            max_pack_bytes: 4 << 30,
            max_objects: 10_000_000,
            max_object_bytes: 512 << 20,
            max_unpacked_bytes: 1 << 40,
            max_delta_depth: 4095,
            max_ref_bytes: 64 << 20,
            max_refs: 500_000,
            max_message_bytes: 1 << 20,
            min_bytes_per_second: 1024,
            rate_window: Duration::from_secs(30),
            prepare_timeout: Duration::from_secs(300),
        }
    }
}

/// What can go wrong in any exchange with a remote, whatever it is about.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The request was not sent, or its answer did not arrive.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// 401, or a credential that no header can carry.
    #[error("{url} wants a credential, or does not take this one; send a token that may use the repository")]
    AuthenticationFailed {
        /// The repository.
        url: RepoUrl,
    },
    /// 403.
    #[error("{url} knows the credential and refuses it; the token lacks a permission for this repository")]
    AccessDenied {
        /// The repository.
        url: RepoUrl,
    },
    /// 404 or 410.
    #[error("{url} does not exist, or is hidden from this credential")]
    RepositoryNotFound {
        /// The repository.
        url: RepoUrl,
    },
    /// 429.
    #[error("{url} asks to come back later")]
    RateLimited {
        /// The repository.
        url: RepoUrl,
        /// In how many seconds, if it says so.
        retry_after: Option<u64>,
    },
    /// 5xx.
    #[error("{url} answered with the server error {status}")]
    Unavailable {
        /// The repository.
        url: RepoUrl,
        /// The status.
        status: u16,
        /// In how many seconds to come back, if it says so.
        retry_after: Option<u64>,
    },
    /// Another status, or another content type than git's.
    #[error("{url} does not speak git over HTTP: {what}")]
    NotGit {
        /// The repository.
        url: RepoUrl,
        /// What came instead.
        what: String,
    },
    /// The answer breaks the rules of the git protocol.
    #[error("{url} speaks git wrongly: {what}")]
    Protocol {
        /// The repository.
        url: RepoUrl,
        /// Which rule is broken.
        what: &'static str,
    },
    /// The remote says that it cannot do what is asked.
    #[error("{url} refuses: {words}")]
    Said {
        /// The repository.
        url: RepoUrl,
        /// Its words, in one line.
        words: String,
    },
    /// The repository needs something that is not supported.
    #[error("{url} {what}, which is not supported")]
    Unsupported {
        /// The repository.
        url: RepoUrl,
        /// What it needs.
        what: &'static str,
    },
    /// The list of refs, or what comes before a pack, is too long.
    #[error("{url} lists more refs than the limit of {limit} {unit}")]
    RefsTooLarge {
        /// The repository.
        url: RepoUrl,
        /// The limit.
        limit: u64,
        /// Of what.
        unit: &'static str,
    },
    /// Bytes arrive, but too slowly.
    #[error("{url} sends fewer than {min_bytes_per_second} bytes a second")]
    TooSlow {
        /// The repository.
        url: RepoUrl,
        /// The bound.
        min_bytes_per_second: u64,
    },
    /// Signs of life, but no pack.
    #[error("{url} prepared a pack for longer than {}s", limit.as_secs_f32())]
    NeverReady {
        /// The repository.
        url: RepoUrl,
        /// The bound.
        limit: Duration,
    },
}

impl RemoteError {
    /// The code of the wire contract for this error.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Http(error) => error.code(),
            Self::AuthenticationFailed { .. } => ErrorCode::AuthenticationFailed,
            Self::AccessDenied { .. } => ErrorCode::AccessDenied,
            Self::RepositoryNotFound { .. } => ErrorCode::RepositoryNotFound,
            Self::RateLimited { .. } => ErrorCode::RemoteRateLimited,
            Self::Unavailable { .. } => ErrorCode::RemoteUnavailable,
            Self::NotGit { .. } => ErrorCode::NotGit,
            Self::Protocol { .. } | Self::Said { .. } => ErrorCode::RemoteProtocol,
            Self::Unsupported { .. } => ErrorCode::UnsupportedRepository,
            Self::RefsTooLarge { .. } => ErrorCode::RepositoryTooLarge,
            Self::TooSlow { .. } | Self::NeverReady { .. } => ErrorCode::RemoteTimeout,
        }
    }

    /// In how many seconds the remote asks to come back, if it does.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_repeat_a_credential_are_shown_without_it() {
        for (token, words, shown) in [
            ("ghp_x1", "ghp_x1, ghp_x1!", "***, ***!"),
            ("user:pass:word", "user pass:word", "user ***"),
            ("user:pass:word", "Basic dXNlcjpwYXNzOndvcmQ=", "Basic ***"),
            ("Bearer abcd", "Bearer abcd", "Bearer ***"),
            ("ab", "about", "about"),
        ] {
            let credential = Credential::from_token(&token.into());
            assert_eq!(credential.hide_in(words), shown);
        }
    }

    #[test]
    fn tokens_are_read_as_callers_send_them() {
        for (token, header) in [
            ("ghp_x", "Basic eC1hY2Nlc3MtdG9rZW46Z2hwX3g="),
            ("user:pass:word", "Basic dXNlcjpwYXNzOndvcmQ="),
            ("Bearer abc", "Bearer abc"),
            ("bearer  abc ", "Bearer abc"),
            ("with space", "Basic eC1hY2Nlc3MtdG9rZW46d2l0aCBzcGFjZQ=="),
        ] {
            let credential = Credential::from_token(&token.into());
            assert_eq!(credential.header().unwrap(), header, "{token}");
            assert!(!format!("{credential:?}").contains(token));
        }
        assert!(Credential::Bearer("a\nb".into()).header().is_none());
    }
}
