//! Why a fetch failed.

use std::io;

use mayfly_protocol::{BranchName, CommitId, ErrorCode};

use super::SinkError;
use crate::remote::RemoteError;

/// Why refs could not be listed, or a branch not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The exchange with the remote failed.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The remote has no such branch.
    #[error("the branch `{branch}` does not exist on the remote")]
    BranchNotFound {
        /// The branch.
        branch: BranchName,
    },
    /// No branch was asked for, and the remote's HEAD names none.
    #[error("the remote's HEAD names no branch; name the branch to fetch")]
    NoDefaultBranch,
    /// The remote does not have the commit, or does not give it away.
    #[error("the commit {commit} does not exist on the remote, or is not given away")]
    CommitNotFound {
        /// The commit.
        commit: CommitId,
    },
    /// The pack is too large.
    #[error("the repository is larger than the limit of {limit} bytes{what}")]
    RepositoryTooLarge {
        /// The limit.
        limit: u64,
        /// Of what, if not of the pack itself.
        what: &'static str,
    },
    /// The pack announces too many objects.
    #[error("the pack has {objects} objects, more than the limit of {limit}")]
    TooManyObjects {
        /// How many.
        objects: u32,
        /// The limit.
        limit: u32,
    },
    /// An object is too large.
    #[error("an object has {bytes} bytes, more than the limit of {limit}")]
    ObjectTooLarge {
        /// How large.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The pack is damaged, or made to harm.
    #[error("the remote sent a bad pack: {what}")]
    BadPack {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The pack cannot be indexed: a delta without its base, a damaged object.
    #[error("the remote sent a pack that cannot be indexed")]
    Unindexable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is no room for the pack.
    #[error("the disk is full: there is no room for the pack")]
    DiskFull(#[source] io::Error),
    /// The pack cannot be written.
    #[error("the pack cannot be written to the scratch folder")]
    Disk(#[source] io::Error),
    /// The copy of the pack cannot be written.
    #[error("the copy of the pack cannot be written while it arrives")]
    Copy(#[source] SinkError),
    /// The caller cancelled the fetch.
    #[error("the fetch was cancelled")]
    Cancelled,
}

impl FetchError {
    /// The code of the wire contract for this error.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Remote(error) => error.code(),
            Self::BranchNotFound { .. } | Self::NoDefaultBranch => ErrorCode::BranchNotFound,
            Self::CommitNotFound { .. } => ErrorCode::CommitNotFound,
            Self::RepositoryTooLarge { .. } => ErrorCode::RepositoryTooLarge,
            Self::TooManyObjects { .. } => ErrorCode::TooManyObjects,
            Self::ObjectTooLarge { .. } => ErrorCode::ObjectTooLarge,
            Self::BadPack { .. } | Self::Unindexable(_) => ErrorCode::RemoteProtocol,
            Self::DiskFull(_) => ErrorCode::DiskFull,
            Self::Disk(_) => ErrorCode::Internal,
            Self::Copy(_) => ErrorCode::StorageUnavailable,
            Self::Cancelled => ErrorCode::Cancelled,
        }
    }

    /// In how many seconds the remote asks to come back, if it does.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Remote(error) => error.retry_after(),
            _ => None,
        }
    }

    /// Sorts a failure of the scratch folder.
    pub(crate) fn from_disk(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::DiskFull(error)
            }
            _ => Self::Disk(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart() {
        for (kind, code) in [
            (io::ErrorKind::StorageFull, ErrorCode::DiskFull),
            (io::ErrorKind::QuotaExceeded, ErrorCode::DiskFull),
            (io::ErrorKind::PermissionDenied, ErrorCode::Internal),
        ] {
            assert_eq!(FetchError::from_disk(kind.into()).code(), code);
        }
    }
}
