//! Streamed writes: into an unfinished file as the bytes come, and renamed at the end. Also what is left of those that nobody ended.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use mayfly_telemetry::task;
use tempfile::{Builder, NamedTempFile};

use super::layout::Layout;
use super::{DirectoryStore, write};
use crate::error::Subject;
use crate::{Key, Operation, Precondition, StorageError, Unfinished, UnfinishedId, Upload};

/// What unfinished files of writes are called, before their random part.
pub(super) const PUT: &str = "put-";
const UPLOAD: &str = "upload-";
/// Bytes that are collected before the file system is troubled.
const WRITE_BYTES: usize = 1024 * 1024;

/// A streamed write that has begun; dropping it removes its file.
#[derive(Debug)]
pub(super) struct FileUpload {
    store: DirectoryStore,
    key: Key,
    /// `None` once it has failed.
    staged: Option<NamedTempFile>,
    buffer: BytesMut,
    size: u64,
}

impl FileUpload {
    pub(super) async fn begin(store: &DirectoryStore, key: &Key) -> Result<Self, StorageError> {
        let work = |store: &DirectoryStore, subject: &Subject, _: &Key| stage(&store.layout, subject);
        Ok(Self {
            staged: Some(store.run(Operation::Upload, key, work).await?),
            store: store.clone(),
            key: key.clone(),
            buffer: BytesMut::new(),
            size: 0,
        })
    }

    fn subject(&self, operation: Operation) -> Subject {
        Subject::new(operation, &self.key)
    }

    fn take(&mut self, operation: Operation) -> Result<NamedTempFile, StorageError> {
        let staged = self.staged.take();
        staged.ok_or_else(|| {
            self.subject(operation)
                .unavailable("an earlier part of it failed")
        })
    }

    async fn write_buffer(&mut self) -> Result<(), StorageError> {
        let mut staged = self.take(Operation::UploadWrite)?;
        let (subject, content) = (self.subject(Operation::UploadWrite), self.buffer.split().freeze());
        let work = move || match staged.write_all(&content) {
            Ok(()) => Ok(staged),
            Err(error) => Err(write::failed_to_stage(&subject, error)),
        };
        self.staged = Some(task::blocking(work).await?);
        Ok(())
    }
}

#[async_trait]
impl Upload for FileUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        self.size += bytes.len() as u64;
        self.buffer.extend_from_slice(&bytes);
        match self.buffer.len() >= WRITE_BYTES {
            true => self.write_buffer().await,
            false => Ok(()),
        }
    }

    async fn complete(mut self: Box<Self>) -> Result<u64, StorageError> {
        let (mut staged, content) = (self.take(Operation::UploadComplete)?, self.buffer.split());
        let work = move |store: &DirectoryStore, subject: &Subject, key: &Key| {
            staged
                .write_all(&content)
                .and_then(|()| staged.as_file().sync_all())
                .map_err(|error| write::failed_to_stage(subject, error))?;
            write::put_staged(
                &store.layout,
                &store.locks,
                subject,
                key,
                staged,
                &Precondition::None,
            )
        };
        self.store.run(Operation::UploadComplete, &self.key, work).await?;
        Ok(self.size)
    }

    async fn abort(mut self: Box<Self>) {
        let staged = self.staged.take();
        task::blocking(move || drop(staged)).await;
    }
}

fn stage(layout: &Layout, subject: &Subject) -> Result<NamedTempFile, StorageError> {
    let staged = Builder::new().prefix(UPLOAD).tempfile_in(layout.unfinished());
    staged.map_err(|error| write::failed_to_stage(subject, error))
}

/// The unfinished files of this process and of others, the living and the dead.
pub(super) fn unfinished(layout: &Layout) -> io::Result<Vec<Unfinished>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(layout.unfinished())? {
        let Ok(name) = entry?.file_name().into_string() else {
            continue;
        };
        if let (true, Some((bytes, alive_at))) = (is_ours(&name), look(&layout.unfinished().join(&name))) {
            found.push(Unfinished {
                key: None,
                id: UnfinishedId::new(name),
                bytes: Some(bytes),
                alive_at,
            });
        }
    }
    found.sort_unstable_by_key(|unfinished| unfinished.alive_at);
    Ok(found)
}

pub(super) fn discard(layout: &Layout, id: &UnfinishedId) -> io::Result<()> {
    if !is_ours(id.as_str()) {
        return Ok(());
    }
    match fs::remove_file(layout.unfinished().join(id.as_str())) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn is_ours(name: &str) -> bool {
    [PUT, UPLOAD].iter().any(|prefix| name.starts_with(prefix)) && !name.contains('/')
}

/// Size and last write of a regular file.
fn look(path: &Path) -> Option<(u64, SystemTime)> {
    let meta = fs::symlink_metadata(path).ok()?;
    Some((meta.len(), meta.modified().ok()?)).filter(|_| meta.is_file())
}
