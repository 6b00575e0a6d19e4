//! What can go wrong. Each text names the operation and the key; none can hold a credential, because none is given one.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::Key;

/// The operations of the port, for messages, counters and faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`crate::ObjectStore::get`]
    Get,
    /// [`crate::ObjectStore::get_range`]
    GetRange,
    /// [`crate::ObjectStore::download`]
    Download,
    /// [`crate::ObjectStore::head`]
    Head,
    /// [`crate::ObjectStore::put`]
    Put,
    /// [`crate::ObjectStore::delete`]
    Delete,
    /// [`crate::ObjectStore::list`]
    List,
    /// [`crate::ObjectStore::list_folder`]
    ListFolder,
    /// [`crate::ObjectStore::upload`]
    Upload,
    /// [`crate::Upload::write`]
    UploadWrite,
    /// [`crate::Upload::complete`]
    UploadComplete,
    /// [`crate::ObjectStore::unfinished`]
    Unfinished,
    /// [`crate::ObjectStore::discard`]
    Discard,
}

impl Operation {
    /// How many there are.
    pub(crate) const COUNT: usize = Self::Discard as usize + 1;
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "read",
            Self::GetRange => "read of a range",
            Self::Download => "download",
            Self::Head => "look",
            Self::Put => "write",
            Self::Delete => "removal",
            Self::List | Self::ListFolder => "listing",
            Self::Upload | Self::UploadWrite => "upload",
            Self::UploadComplete => "end of an upload",
            Self::Unfinished => "listing of unfinished uploads",
            Self::Discard => "removal of an unfinished upload",
        })
    }
}

type Cause = Box<dyn Error + Send + Sync>;

/// Why an operation of a store failed. `key` is the prefix where the operation is a listing.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// There is no object under the key.
    #[error("storage {operation} of `{key}`: there is no such object")]
    NotFound {
        /// What was tried.
        operation: Operation,
        /// On which object.
        key: String,
    },
    /// The condition of a write does not hold: the write was not done, see [`crate::ObjectStore::put`].
    #[error("storage write of `{key}`: another writer was there first")]
    PreconditionFailed {
        /// On which object.
        key: String,
    },
    /// The object, or the body, is larger than the caller or the store allows.
    #[error("storage {operation} of `{key}`: it is larger than the limit of {limit} bytes")]
    TooLarge {
        /// What was tried.
        operation: Operation,
        /// On which object.
        key: String,
        /// The limit that it exceeds, in bytes.
        limit: u64,
    },
    /// The store refuses; to repeat does not help before someone changes credentials, permissions or settings.
    #[error("storage {operation} of `{key}` is refused: {reason}")]
    Denied {
        /// What was tried.
        operation: Operation,
        /// On which object.
        key: String,
        /// The store's own words.
        reason: String,
    },
    /// The store cannot be reached, fails, or does not answer in time; to repeat later may help.
    #[error("storage {operation} of `{key}`: the store is not available")]
    Unavailable {
        /// What was tried.
        operation: Operation,
        /// On which object.
        key: String,
        /// What the store or the network said.
        #[source]
        source: Cause,
    },
    /// The disk is full, or a quota is used up.
    #[error("storage {operation} of `{key}`: no space is left on the disk")]
    DiskFull {
        /// What was tried.
        operation: Operation,
        /// On which object.
        key: String,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// The key is a folder of other keys, or lies under an object, which a directory cannot hold (S3 can).
    #[error("storage {operation} of `{key}`: in a directory no object can be a folder of others as well")]
    Occupied {
        /// What was tried.
        operation: Operation,
        /// On which object.
        key: String,
    },
    /// What the store gave cannot be right.
    #[error("storage {operation} of `{key}`: the answer is damaged: {reason}")]
    Damaged {
        /// What was tried.
        operation: Operation,
        /// On which object.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The caller's own file (of an upload, of a download) cannot be read or written.
    #[error("storage {operation} of `{key}`: the local file `{}` cannot be used", path.display())]
    LocalFile {
        /// What was tried.
        operation: Operation,
        /// On which object.
        key: String,
        /// The caller's file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
}

impl StorageError {
    /// Whether the same operation may succeed later without anyone's doing.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// The operation and the key that errors name.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) operation: Operation,
    pub(crate) key: String,
}

impl Subject {
    pub(crate) fn new(operation: Operation, key: &Key) -> Self {
        Self::of_prefix(operation, key.as_str())
    }

    pub(crate) fn of_prefix(operation: Operation, prefix: &str) -> Self {
        Self {
            operation,
            key: prefix.to_owned(),
        }
    }

    pub(crate) fn not_found(&self) -> StorageError {
        let Self { operation, key } = self.clone();
        StorageError::NotFound { operation, key }
    }

    pub(crate) fn precondition_failed(&self) -> StorageError {
        StorageError::PreconditionFailed {
            key: self.key.clone(),
        }
    }

    pub(crate) fn too_large(&self, limit: u64) -> StorageError {
        let Self { operation, key } = self.clone();
        StorageError::TooLarge {
            operation,
            key,
            limit,
        }
    }

    pub(crate) fn denied(&self, reason: impl Into<String>) -> StorageError {
        let Self { operation, key } = self.clone();
        StorageError::Denied {
            operation,
            key,
            reason: reason.into(),
        }
    }

    pub(crate) fn unavailable(&self, source: impl Into<Cause>) -> StorageError {
        let Self { operation, key } = self.clone();
        StorageError::Unavailable {
            operation,
            key,
            source: source.into(),
        }
    }

    pub(crate) fn damaged(&self, reason: impl Into<String>) -> StorageError {
        let Self { operation, key } = self.clone();
        StorageError::Damaged {
            operation,
            key,
            reason: reason.into(),
        }
    }

    pub(crate) fn local_file(&self, path: impl Into<PathBuf>, source: io::Error) -> StorageError {
        if is_disk_full(&source) {
            return self.disk_full(source);
        }
        let Self { operation, key } = self.clone();
        StorageError::LocalFile {
            operation,
            key,
            path: path.into(),
            source,
        }
    }

    pub(crate) fn disk_full(&self, source: io::Error) -> StorageError {
        let Self { operation, key } = self.clone();
        StorageError::DiskFull {
            operation,
            key,
            source,
        }
    }

    /// What an error of a file of the store itself means.
    pub(crate) fn of_io(&self, source: io::Error) -> StorageError {
        let Self { operation, key } = self.clone();
        match source.kind() {
            io::ErrorKind::NotFound => self.not_found(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                self.denied(source.to_string())
            }
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                StorageError::Occupied { operation, key }
            }
            _ if is_disk_full(&source) => self.disk_full(source),
            _ => self.unavailable(source),
        }
    }
}

fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be made or used.
    #[error("the storage folder `{}` cannot be used: make it, and let this user write there", path.display())]
    Folder {
        /// The folder that the storage URL names.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// Nobody says which region of AWS the bucket is in.
    #[error(
        "the region of the S3 bucket is not known: set AWS_REGION, or AWS_ENDPOINT_URL for a server that is not AWS"
    )]
    NoRegion,
    /// The file of certificate authorities cannot be used.
    #[error("the CA file `{}` cannot be used: it must hold certificates in PEM form", path.display())]
    CaBundle {
        /// The file that the settings name.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Cause,
    },
    /// TLS could not be set up.
    #[error("TLS for the S3 client could not be set up")]
    Tls {
        /// What the library said.
        #[source]
        source: Cause,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_file_system_are_told_apart() {
        let subject = Subject::new(Operation::Put, &Key::new("a/b").unwrap());
        let of = |code| subject.of_io(io::Error::from_raw_os_error(code));
        const EACCES: i32 = 13;
        const EROFS: i32 = 30;
        const ENOSPC: i32 = 28;
        const EDQUOT: i32 = 122;
        const EIO: i32 = 5;
        const ENOTDIR: i32 = 20;
        assert!(matches!(of(EACCES), StorageError::Denied { .. }));
        assert!(matches!(of(EROFS), StorageError::Denied { .. }));
        assert!(matches!(of(ENOSPC), StorageError::DiskFull { .. }));
        assert!(matches!(of(EDQUOT), StorageError::DiskFull { .. }));
        assert!(matches!(of(ENOTDIR), StorageError::Occupied { .. }));
        assert!(of(EIO).is_transient());
        assert_eq!(
            of(ENOSPC).to_string(),
            "storage write of `a/b`: no space is left on the disk"
        );
    }
}
