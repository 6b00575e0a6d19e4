//! A file of the caller that appears whole or not at all. Must not know where the bytes come from.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::StorageError;
use crate::error::Subject;

/// A file beside the wanted one, which takes its place at [`PartialFile::commit`], and goes away when it is dropped before.
pub(crate) struct PartialFile {
    file: NamedTempFile,
    to: PathBuf,
}

impl PartialFile {
    pub(crate) fn create(subject: &Subject, to: &Path) -> Result<Self, StorageError> {
        let folder = match to.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let file = Builder::new()
            .prefix(".mayfly-download-")
            .tempfile_in(folder)
            .map_err(|error| subject.local_file(to, error))?;
        Ok(Self {
            file,
            to: to.to_owned(),
        })
    }

    /// A second handle of the file, for one who writes it in another way.
    pub(crate) fn handle(&self, subject: &Subject) -> Result<File, StorageError> {
        self.file.reopen().map_err(|error| self.failed(subject, error))
    }

    pub(crate) fn failed(&self, subject: &Subject, error: io::Error) -> StorageError {
        subject.local_file(&self.to, error)
    }

    pub(crate) fn commit(self, subject: &Subject) -> Result<(), StorageError> {
        let Self { file, to } = self;
        match file.persist(&to) {
            Ok(_) => Ok(()),
            Err(error) => Err(subject.local_file(to, error.error)),
        }
    }
}

/// Copies at most `max_bytes` of a reader into the file `to`; blocks.
pub(crate) fn download_file(
    subject: &Subject,
    from: impl Read,
    to: &Path,
    max_bytes: u64,
) -> Result<u64, StorageError> {
    let mut partial = PartialFile::create(subject, to)?;
    let mut limited = from.take(max_bytes.saturating_add(1));
    let bytes =
        io::copy(&mut limited, partial.file.as_file_mut()).map_err(|error| partial.failed(subject, error))?;
    if bytes > max_bytes {
        return Err(subject.too_large(max_bytes));
    }
    partial.commit(subject)?;
    Ok(bytes)
}
