//! Why contents could not be fetched or sent. The texts name the host, and neither the path, the query nor a header of an address.

use mayfly_http::HttpError;
use mayfly_protocol::lfs::LfsId;
use mayfly_protocol::{ErrorCode, RepoUrl};

/// Why contents could not be fetched or sent.
#[derive(Debug, thiserror::Error)]
pub enum LfsError {
    /// A request was not sent, or its answer did not arrive.
    #[error("Git LFS of {url}")]
    Http {
        /// The repository.
        url: Box<RepoUrl>,
        /// What went wrong.
        #[source]
        source: HttpError,
    },
    /// A status other than success.
    #[error("the Git LFS server of {url} answered {what} with the status {status}{}", hint(*status))]
    Status {
        /// The repository.
        url: Box<RepoUrl>,
        /// What it was asked for.
        what: &'static str,
        /// The status.
        status: u16,
        /// In how many seconds to come back, if it says so.
        retry_after: Option<u64>,
    },
    /// The server says that it does not have a content.
    #[error(
        "the Git LFS server of {url} does not have object {id}: it was never uploaded there, or was removed ({words})"
    )]
    Missing {
        /// The repository.
        url: Box<RepoUrl>,
        /// The content.
        id: LfsId,
        /// The server's words, in one line.
        words: String,
    },
    /// The server refuses one content.
    #[error("the Git LFS server of {url} refuses object {id} with the status {status} ({words})")]
    Refused {
        /// The repository.
        url: Box<RepoUrl>,
        /// The content.
        id: LfsId,
        /// The status that the answer has for it.
        status: u16,
        /// The server's words, in one line.
        words: String,
    },
    /// The answer breaks the rules.
    #[error("the Git LFS server of {url} answers wrongly: {what}")]
    Protocol {
        /// The repository.
        url: Box<RepoUrl>,
        /// Which rule is broken.
        what: &'static str,
    },
    /// What arrived is not the content.
    #[error("object {id} of the Git LFS server of {url} is not what its pointer says: {what}")]
    Corrupt {
        /// The repository.
        url: Box<RepoUrl>,
        /// The content.
        id: LfsId,
        /// What is wrong with it.
        what: &'static str,
    },
    /// There is more to fetch than may be.
    #[error("the Git LFS {what} to fetch from {url} are {found}, and {max} are allowed in one job")]
    TooLarge {
        /// The repository.
        url: Box<RepoUrl>,
        /// What is counted: `bytes` or `objects`.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// A file cannot be written or read here.
    #[error("a scratch file for Git LFS failed")]
    Io(#[from] std::io::Error),
}

impl LfsError {
    /// The code of the wire contract for this error.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Http { source, .. } => source.code(),
            Self::Status { status, .. } => code_of(*status),
            Self::Missing { .. } => ErrorCode::LfsObjectMissing,
            Self::Refused {
                status: 401 | 403, ..
            } => ErrorCode::AccessDenied,
            Self::Refused { .. } => ErrorCode::LfsRefused,
            Self::Protocol { .. } | Self::Corrupt { .. } => ErrorCode::LfsProtocol,
            Self::TooLarge { .. } => ErrorCode::LfsTooLarge,
            Self::Io(error) => match error.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorCode::DiskFull,
                _ => ErrorCode::Internal,
            },
        }
    }

    /// In how many seconds the server asks to come back, if it does.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

fn code_of(status: u16) -> ErrorCode {
    match status {
        401 => ErrorCode::AuthenticationFailed,
        403 => ErrorCode::AccessDenied,
        404 | 410 => ErrorCode::LfsRefused,
        429 => ErrorCode::RemoteRateLimited,
        501 | 507 | 509 => ErrorCode::LfsRefused,
        500..=599 => ErrorCode::RemoteUnavailable,
        _ => ErrorCode::LfsRefused,
    }
}

fn hint(status: u16) -> &'static str {
    match status {
        401 => "; send a token that may use the repository",
        403 => "; the token lacks a permission for this repository, or its quota of Git LFS is used up",
        404 | 410 | 501 => "; this host has no Git LFS for the repository",
        507 | 509 => "; its space or bandwidth for Git LFS is used up",
        _ => "",
    }
}
