//! Objects of a session that are read out of its packs in the storage, by range.
//!
//! Each is held against its id, so that a damaged pack or index is an error and never another object. Nothing here downloads a pack.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use mayfly_git::pack_reader::{Found, PackReadError, PackReader, RangeError, RangeSource};
use mayfly_protocol::ObjectId;
use mayfly_storage::{Key, ObjectStore, StorageError};

use crate::manifest::{Manifest, PackEntry, PackKind};
use crate::packs::{damaged, read_error};
use crate::store::{LoadError, SessionStore};

/// The packs of a session that objects are read from. What is read of an index, and the last blocks of each pack, are kept for the
/// next read, so one of these belongs to a job and not to a call.
pub struct PackedObjects {
    sessions: SessionStore,
    open: Mutex<HashMap<Key, Arc<StoredPack>>>,
    /// Packs, by their checksums, all objects of which the caller has.
    left_out: Mutex<HashSet<ObjectId>>,
}

impl PackedObjects {
    /// Nothing is read yet.
    pub fn new(sessions: SessionStore) -> Self {
        Self {
            sessions,
            open: Mutex::default(),
            left_out: Mutex::default(),
        }
    }

    /// Asks this pack for nothing any more: the caller has all of it.
    pub fn leave_out(&self, pack: ObjectId) {
        let mut left_out = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        left_out.insert(pack);
    }

    /// The packs that are asked, in the order in which they are: those of trees are small beside what came with them.
    fn asked<'a>(&self, manifest: &'a Manifest) -> Vec<&'a PackEntry> {
        let left_out = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        let packs = manifest.packs.iter();
        let mut asked: Vec<_> = packs.filter(|entry| !left_out.contains(&entry.hash)).collect();
        asked.sort_by_key(|entry| entry.kind != PackKind::Trees);
        asked
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
        for entry in self.asked(manifest) {
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
        for entry in self.asked(manifest) {
            if wanted.is_empty() {
                break;
            }
            wanted = self.absent(manifest, entry, &wanted).await?;
        }
        Ok(wanted.first().copied())
    }

    /// Those of the objects that a pack does not have. Only its index is read.
    pub async fn absent(
        &self,
        manifest: &Manifest,
        entry: &PackEntry,
        ids: &[ObjectId],
    ) -> Result<Vec<ObjectId>, LoadError> {
        let absent = self.pack(manifest, entry)?.absent(ids).await;
        absent.map_err(|error| pack_error(manifest, entry, error))
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
