//! Why a checkout fails, and which code a client gets for it.

use std::io;
use std::path::PathBuf;

use bstr::BStr;
use mayfly_protocol::ErrorCode;

use crate::local_packs::OpenPackError;
use crate::scratch::{ScratchError, disk_code};
use crate::tree::shown;
use crate::tree_check::TreeCheckError;

/// Why a link cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkFault {
    /// It points to nothing at all.
    #[error("its target is empty")]
    Empty,
    /// Programs would stop reading at the NUL.
    #[error("its target has a NUL character")]
    Nul,
    /// No system call takes it.
    #[error("its target has more than {max} bytes")]
    TooLong {
        /// The bound.
        max: u64,
    },
}

/// A tree could not be checked out.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// The folder cannot be used.
    #[error("the folder `{}` is not empty; check out into one that is", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A pack or an index is no such file.
    #[error(transparent)]
    Pack(#[from] OpenPackError),
    /// The tree is dangerous, or there is too much of it.
    #[error("the tree cannot be checked out")]
    Tree(#[source] TreeCheckError),
    /// A link is dangerous.
    #[error("the link `{path}` is unsafe: {fault}; remove it from the repository")]
    Link {
        /// Where it stands, with odd characters escaped.
        path: String,
        /// What is wrong with it.
        fault: LinkFault,
    },
    /// All files together are too large.
    #[error("the files have more than {max} bytes together; check out less")]
    TooManyBytes {
        /// `CheckoutLimits::max_bytes`.
        max: u64,
    },
    /// An object is missing, damaged or too large.
    #[error("`{path}` cannot be read from the packs")]
    Object {
        /// The file or folder, with odd characters escaped; empty for the root.
        path: String,
        /// What is wrong with the object.
        #[source]
        source: ScratchError,
    },
    /// The disk failed, or is full.
    #[error("the checkout could not {doing} `{path}`")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file, with odd characters escaped.
        path: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The token was cancelled.
    #[error("the checkout was cancelled")]
    Cancelled,
    /// The checkout failed, and then the folder could not be emptied.
    #[error("the checkout failed ({failure}), and the folder `{}` could not be emptied; remove it", path.display())]
    Leftover {
        /// The folder.
        path: PathBuf,
        /// The first failure.
        failure: Box<CheckoutError>,
        /// Why it could not be emptied.
        #[source]
        source: io::Error,
    },
}

impl CheckoutError {
    /// The code for clients.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotEmpty { .. } => ErrorCode::Internal,
            Self::Pack(_) => ErrorCode::SessionDamaged,
            Self::Tree(error) => error.code(),
            Self::Link { .. } => ErrorCode::UnsafeTree,
            Self::TooManyBytes { .. } => ErrorCode::TreeTooLarge,
            Self::Object { source, .. } => source.code(),
            Self::Io { source, .. } => disk_code(source),
            Self::Cancelled => ErrorCode::Cancelled,
            Self::Leftover { failure, .. } => failure.code(),
        }
    }

    /// An object at a path could not be read. What is missing was in the session once: this is no remote's fault.
    pub(super) fn from_object(path: &BStr, source: ScratchError) -> Self {
        Self::object(shown(path), source)
    }

    pub(super) fn from_check(error: TreeCheckError) -> Self {
        match error {
            TreeCheckError::Missing { path, id } => Self::object(path, ScratchError::Missing { id }),
            TreeCheckError::Damaged { path, source } => Self::object(path, source),
            error @ (TreeCheckError::Unsafe { .. } | TreeCheckError::TooLarge { .. }) => Self::Tree(error),
        }
    }

    fn object(path: String, source: ScratchError) -> Self {
        match source {
            ScratchError::Cancelled => Self::Cancelled,
            source => Self::Object { path, source },
        }
    }

    pub(super) fn io(doing: &'static str, path: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Io {
            doing,
            path: shown(path),
            source: source.into(),
        }
    }
}
