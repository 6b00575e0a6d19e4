//! What a write sends: bytes in memory, or a file that is streamed.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use bytes::Bytes;

use crate::StorageError;
use crate::error::Subject;

/// The content of a write.
#[derive(Debug, Clone)]
pub enum Body {
    /// Content in memory.
    Bytes(Bytes),
    /// A file of the caller, copied and left in place; it must not change before the write ends.
    File(PathBuf),
}

impl Body {
    /// The size in bytes. Blocks on the file system where the content is a file.
    pub(crate) fn size(&self) -> io::Result<u64> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
            Self::File(path) => {
                let meta = std::fs::metadata(path)?;
                if meta.is_file() {
                    Ok(meta.len())
                } else {
                    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
                }
            }
        }
    }

    /// [`Body::size`], with its failure as an error of the operation.
    pub(crate) fn size_for(&self, subject: &Subject) -> Result<u64, StorageError> {
        self.size().map_err(|error| self.failed(subject, error))
    }

    /// The error of an operation that could not read this content.
    pub(crate) fn failed(&self, subject: &Subject, error: io::Error) -> StorageError {
        match self {
            Self::Bytes(_) => subject.of_io(error),
            Self::File(path) => subject.local_file(path, error),
        }
    }

    /// A reader of the content. Blocks on the file system where the content is a file.
    pub(crate) fn reader(&self) -> io::Result<Box<dyn Read + Send>> {
        match self {
            Self::Bytes(bytes) => Ok(Box::new(io::Cursor::new(bytes.clone()))),
            Self::File(path) => Ok(Box::new(File::open(path)?)),
        }
    }

    /// The whole content in memory. Blocks on the file system where the content is a file.
    pub(crate) fn read(&self) -> io::Result<Bytes> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::File(path) => std::fs::read(path).map(Bytes::from),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Self::Bytes(Bytes::from_static(bytes))
    }
}

impl From<PathBuf> for Body {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}
