//! Objects of a session that are read out of its packs in the storage, by range.
//!
//! Each is held against its id, so that a damaged pack or index is an error and never another object. Nothing here downloads a pack.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use mayfly_git::pack_reader::{Found, PackReadError, PackReader, RangeError, RangeSource};
use mayfly_protocol::ObjectId;
use mayfly_storage::{Key, ObjectStore, StorageError};

use crate::manifest::{Manifest, PackEntry};
use crate::packs::{damaged, read_error};
use crate::store::{LoadError, SessionStore};

/// The packs of a session that objects are read from. What is read of an index, and the last blocks of each pack, are kept for the
/// next read, so one of these belongs to a job and not to a call.
pub struct PackedObjects {
    sessions: SessionStore,
    open: Mutex<HashMap<Key, Arc<StoredPack>>>,
}

impl PackedObjects {
    /// Nothing is read yet.
    pub fn new(sessions: SessionStore) -> Self {
        Self {
            sessions,
            open: Mutex::default(),
        }
    }

    /// Reads objects from whichever pack of the manifest has them, those that stand near each other together. One that is larger than
    /// `max_bytes` is neither among the objects nor absent.
    pub async fn read(
        &self,
        manifest: &Manifest,
        ids: &[ObjectId],
        max_bytes: u64,
    ) -> Result<Found, LoadError> {
        let mut found = Found {
            objects: Vec::with_capacity(ids.len()),
            absent: ids.to_vec(),
        };
        for entry in &manifest.packs {
            if found.absent.is_empty() {
                break;
            }
            let pack = self.pack(manifest, entry)?;
            let read = pack.read_objects(&found.absent, max_bytes).await;
            let read = read.map_err(|error| pack_error(manifest, entry, error))?;
            found.objects.extend(read.objects);
            found.absent = read.absent;
        }
        Ok(found)
    }

    /// The first of these objects that no pack of the manifest has. Only indexes are read.
    pub async fn first_absent(
        &self,
        manifest: &Manifest,
        ids: Vec<ObjectId>,
    ) -> Result<Option<ObjectId>, LoadError> {
        let mut wanted = ids;
        for entry in &manifest.packs {
            if wanted.is_empty() {
                break;
            }
            let pack = self.pack(manifest, entry)?;
            let absent = pack.absent(&wanted).await;
            wanted = absent.map_err(|error| pack_error(manifest, entry, error))?;
        }
        Ok(wanted.first().copied())
    }

    fn pack(&self, manifest: &Manifest, entry: &PackEntry) -> Result<Arc<StoredPack>, LoadError> {
        let keys = self.sessions.pack_keys(manifest, entry)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let pack = open.entry(keys.pack.clone()).or_insert_with(|| {
            let source = |key| StoredRange {
                storage: Arc::clone(&self.sessions.storage),
                key,
            };
            Arc::new(PackReader::new(
                source(keys.index),
                entry.index_bytes,
                source(keys.pack),
                entry.pack_bytes,
            ))
        });
        Ok(Arc::clone(pack))
    }
}

fn pack_error(manifest: &Manifest, entry: &PackEntry, error: PackReadError) -> LoadError {
    match error {
        PackReadError::Source(source) => match source.0.downcast::<StorageError>() {
            Ok(storage) => read_error(manifest, entry, *storage),
            Err(other) => damaged(manifest, Some(entry), other.to_string()),
        },
        other => damaged(manifest, Some(entry), format!("pack {}: {other}", entry.hash)),
    }
}

/// A pack in storage, read object by object.
type StoredPack = PackReader<StoredRange>;

/// One object in storage, read by ranges.
struct StoredRange {
    storage: Arc<dyn ObjectStore>,
    key: Key,
}

#[async_trait::async_trait]
impl RangeSource for StoredRange {
    async fn read(&self, range: Range<u64>) -> Result<Bytes, RangeError> {
        self.storage
            .get_range(&self.key, range)
            .await
            .map_err(|error| RangeError(Box::new(error)))
    }
}
