//! A store in the memory of this process: for tests, and for a fleet that may forget everything when it ends.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use mayfly_telemetry::task;

use crate::digest::ContentHash;
use crate::download::download_file;
use crate::error::Subject;
use crate::folder;
use crate::store::check_replacement;
use crate::{
    Body, FolderPage, Key, Object, ObjectMeta, ObjectStore, Operation, Precondition, StorageError,
    Unfinished, Upload, Version,
};

/// A store in memory, with the semantics of the others: a version is the hash of the content, as S3's ETag is.
#[derive(Default)]
pub struct MemoryStore {
    objects: Arc<Mutex<BTreeMap<Key, Stored>>>,
}

#[derive(Clone)]
struct Stored {
    bytes: Bytes,
    version: Version,
    modified: SystemTime,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<Key, Stored>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, subject: &Subject, key: &Key) -> Result<Stored, StorageError> {
        self.objects()
            .get(key)
            .cloned()
            .ok_or_else(|| subject.not_found())
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

#[async_trait]
impl ObjectStore for MemoryStore {
    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Object, StorageError> {
        let subject = Subject::new(Operation::Get, key);
        let stored = self.find(&subject, key)?;
        if stored.bytes.len() as u64 > max_bytes {
            return Err(subject.too_large(max_bytes));
        }
        Ok(Object {
            bytes: stored.bytes,
            version: stored.version,
        })
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StorageError> {
        let stored = self.find(&Subject::new(Operation::GetRange, key), key)?;
        let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(stored.bytes.len());
        let start = clamp(range.start);
        Ok(stored.bytes.slice(start..clamp(range.end).max(start)))
    }

    async fn download(&self, key: &Key, to: &Path, max_bytes: u64) -> Result<u64, StorageError> {
        let subject = Subject::new(Operation::Download, key);
        let bytes = self.find(&subject, key)?.bytes;
        if bytes.len() as u64 > max_bytes {
            return Err(subject.too_large(max_bytes));
        }
        let to = to.to_owned();
        task::blocking(move || download_file(&subject, bytes.as_ref(), &to, max_bytes)).await
    }

    async fn head(&self, key: &Key) -> Result<Option<u64>, StorageError> {
        Ok(self.objects().get(key).map(|stored| stored.bytes.len() as u64))
    }

    async fn put(&self, key: &Key, body: Body, precondition: Precondition) -> Result<Version, StorageError> {
        let subject = Subject::new(Operation::Put, key);
        let stored = {
            let (subject, precondition) = (subject.clone(), precondition.clone());
            task::blocking(move || load(&subject, &body, &precondition)).await?
        };
        let mut objects = self.objects();
        let current = objects.get(key).map(|stored| &stored.version);
        if !precondition.holds(current) {
            return Err(subject.precondition_failed());
        }
        let version = stored.version.clone();
        objects.insert(key.clone(), stored);
        Ok(version)
    }

    async fn delete(&self, key: &Key) -> Result<(), StorageError> {
        self.objects().remove(key);
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StorageError> {
        let objects = self.objects();
        let matching = objects.iter().filter(|(key, _)| key.as_str().starts_with(prefix));
        Ok(matching
            .map(|(key, stored)| ObjectMeta {
                key: key.clone(),
                bytes: stored.bytes.len() as u64,
                modified: stored.modified,
            })
            .collect())
    }

    async fn list_folder(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: NonZeroUsize,
    ) -> Result<FolderPage, StorageError> {
        let all = self.list(prefix).await?;
        Ok(folder::page(prefix, all, after, limit))
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>, StorageError> {
        Ok(Box::new(MemoryUpload {
            objects: Arc::clone(&self.objects),
            key: key.clone(),
            content: Vec::new(),
        }))
    }

    /// None: an upload dies with the process, and so does the store.
    async fn unfinished(&self) -> Result<Vec<Unfinished>, StorageError> {
        Ok(Vec::new())
    }

    async fn discard(&self, _unfinished: &Unfinished) -> Result<(), StorageError> {
        Ok(())
    }

    async fn settle(&self) {}
}

struct MemoryUpload {
    objects: Arc<Mutex<BTreeMap<Key, Stored>>>,
    key: Key,
    content: Vec<u8>,
}

impl std::fmt::Debug for MemoryUpload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryUpload")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Upload for MemoryUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        self.content.extend_from_slice(&bytes);
        Ok(())
    }

    async fn complete(self: Box<Self>) -> Result<u64, StorageError> {
        let bytes = Bytes::from(self.content);
        let size = bytes.len() as u64;
        let stored = Stored {
            version: Version::new(ContentHash::of(&bytes).to_string()),
            bytes,
            modified: SystemTime::now(),
        };
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.insert(self.key, stored);
        Ok(size)
    }

    async fn abort(self: Box<Self>) {}
}

fn load(subject: &Subject, body: &Body, precondition: &Precondition) -> Result<Stored, StorageError> {
    let size = body.size_for(subject)?;
    check_replacement(subject, size, precondition)?;
    let bytes = body.read().map_err(|error| body.failed(subject, error))?;
    let version = Version::new(ContentHash::of(&bytes).to_string());
    Ok(Stored {
        bytes,
        version,
        modified: SystemTime::now(),
    })
}
