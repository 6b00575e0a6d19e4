//! Why something of a session cannot be shown.

use bstr::BString;
use mayfly_git::scratch::ScratchError;
use mayfly_protocol::{ErrorCode, ObjectId, SessionId};

use crate::store::LoadError;

/// Why something of a session cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The storage failed, or what it holds is damaged.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// What was read cannot be made use of.
    #[error("what session `{session}` holds could not be read")]
    Repository {
        /// The session.
        session: SessionId,
        /// How.
        #[source]
        source: ScratchError,
    },
    /// There is nothing at the path.
    #[error("the worktree of session `{session}` has no file `{path}`; links in a path are not followed")]
    NoSuchFile {
        /// The session.
        session: SessionId,
        /// The path.
        path: BString,
    },
    /// There is something else at the path.
    #[error("`{path}` in the worktree of session `{session}` is a {what}, not a file")]
    NotAFile {
        /// The session.
        session: SessionId,
        /// The path.
        path: BString,
        /// What it is.
        what: &'static str,
    },
    /// One object is larger than what is shown.
    #[error("object {id} of session `{session}` has more than the {max} bytes that are read at once")]
    ObjectTooLarge {
        /// The session.
        session: SessionId,
        /// The object.
        id: ObjectId,
        /// The bound.
        max: u64,
    },
    /// The worktree has more files than an archive may.
    #[error("the worktree of session `{session}` has more than {max} files and folders")]
    TooManyFiles {
        /// The session.
        session: SessionId,
        /// The bound.
        max: usize,
    },
    /// There is more to read than may be.
    #[error("the {what} of session `{session}` have {bytes} bytes, and {max} may be read for this")]
    TooLarge {
        /// The session.
        session: SessionId,
        /// What is too large.
        what: &'static str,
        /// Its size, as far as it was counted.
        bytes: u64,
        /// The bound.
        max: u64,
    },
}

impl ViewError {
    /// The code for clients.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Load(error) => error.code(),
            Self::Repository { source, .. } => source.code(),
            Self::NoSuchFile { .. } | Self::NotAFile { .. } => ErrorCode::NotFound,
            Self::ObjectTooLarge { .. } => ErrorCode::ObjectTooLarge,
            Self::TooManyFiles { .. } => ErrorCode::TreeTooLarge,
            Self::TooLarge { .. } => ErrorCode::RepositoryTooLarge,
        }
    }
}
