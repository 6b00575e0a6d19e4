//! The contents that Git LFS keeps for a session: stored by their SHA-256, shared by the tenant's sessions of the repository.
//!
//! A session reads a content only if one of its lists names it. A list is an immutable object, named by its own SHA-256, that pairs blobs of pointers
//! with contents: what a clone fetched is one list, and what a job made is another, so a job writes as much as it changed.
//!
//! Lists and contents lie in the week in which they were stored. A job takes up what others stored in its own week, and makes a copy of what is older
//! and not its session's: so what no manifest names, and whose week has been over for longer than a job may take, can never be needed again.

use std::collections::HashMap;
use std::io::Read as _;
use std::num::ParseIntError;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytes::Bytes;
use mayfly_protocol::ObjectId;
use mayfly_protocol::lfs::{LfsId, LfsPointer};
use mayfly_storage::{Body, Key, ObjectStore, Precondition, StorageError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::key;
use crate::manifest::Manifest;
use crate::packs::damaged;
use crate::store::{LoadError, SaveError, SessionStore};

/// Bytes of the largest list that is read.
const MAX_LIST_BYTES: u64 = 64 * 1024 * 1024;
/// Lists of one kind at which they are made into one.
const MAX_LISTS: usize = 16;

/// What a session has of Git LFS. That it is there makes the session one that has contents fetched and pointers made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lfs {
    /// The lists that together name every content of the session.
    pub lists: Vec<LfsList>,
}

/// One list of contents in object storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LfsList {
    /// The SHA-256 of the list.
    pub hash: LfsId,
    /// The week in which it was stored.
    pub week: LfsWeek,
    /// Where its contents came from.
    pub origin: LfsOrigin,
    /// Contents that it names.
    pub objects: u32,
    /// Bytes of these contents together.
    pub bytes: u64,
}

/// Where contents came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LfsOrigin {
    /// The remote has them.
    Remote,
    /// A job of the session made them.
    Job,
}

/// One line of a list: the blob of a pointer in the repository, and the content that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LfsEntry {
    /// The blob.
    pub blob: ObjectId,
    /// The content.
    pub oid: LfsId,
    /// Its bytes.
    pub size: u64,
    /// The week in which it was stored.
    pub week: LfsWeek,
}

/// Weeks since the beginning of 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LfsWeek(u32);

impl LfsWeek {
    const SECONDS: i64 = 7 * 24 * 3600;

    /// The week of a time.
    pub fn of(time: OffsetDateTime) -> Self {
        Self(u32::try_from(time.unix_timestamp() / Self::SECONDS).unwrap_or_default())
    }

    /// The moment at which it is over; far away where it is beyond all times.
    pub(crate) fn end(self) -> OffsetDateTime {
        let seconds = (i64::from(self.0) + 1).saturating_mul(Self::SECONDS);
        OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(datetime!(9999-12-31 23:59:59 UTC))
    }

    /// The week before.
    #[must_use]
    pub fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl std::fmt::Display for LfsWeek {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for LfsWeek {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl LfsEntry {
    /// The pointer that the blob holds.
    pub fn pointer(&self) -> LfsPointer {
        LfsPointer {
            id: self.oid,
            bytes: self.size,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StoredList {
    objects: Vec<LfsEntry>,
}

impl SessionStore {
    /// All contents that the session's lists name, by the blobs of their pointers; those of one origin only, where one is asked for.
    pub async fn lfs_entries(
        &self,
        manifest: &Manifest,
        origin: Option<LfsOrigin>,
    ) -> Result<HashMap<ObjectId, LfsEntry>, LoadError> {
        let lists = manifest.lfs.iter().flat_map(|lfs| &lfs.lists);
        let mut entries = HashMap::new();
        for list in lists.filter(|list| origin.is_none_or(|origin| list.origin == origin)) {
            let found = self.lfs_list(manifest, list).await?;
            entries.extend(found.into_iter().map(|entry| (entry.blob, entry)));
        }
        Ok(entries)
    }

    async fn lfs_list(&self, manifest: &Manifest, list: &LfsList) -> Result<Vec<LfsEntry>, LoadError> {
        let key = key::lfs_list(&self.tenant, manifest, list.week, &list.hash);
        let key = key.map_err(|source| self.no_key(manifest, source))?;
        let entries = read_list(&*self.storage, &key, &list.hash).await;
        entries.map_err(|error| match error {
            ListError::Storage(error) => lost(manifest, "a list of Git LFS contents", error),
            error => damaged(manifest, None, error.to_string()),
        })
    }

    /// Stores a list of contents, each of which is stored already, and names it in the manifest.
    pub async fn add_lfs_entries(
        &self,
        manifest: &mut Manifest,
        mut entries: Vec<LfsEntry>,
        (origin, week): (LfsOrigin, LfsWeek),
    ) -> Result<(), LfsStoreError> {
        let lfs = manifest.lfs.clone().unwrap_or_default();
        let (same, mut lists): (Vec<_>, Vec<_>) =
            lfs.lists.into_iter().partition(|list| list.origin == origin);
        if same.len() + 1 >= MAX_LISTS {
            for list in &same {
                entries.extend(self.lfs_list(manifest, list).await?);
            }
        } else {
            lists.extend(same);
        }
        entries.sort_unstable();
        entries.dedup();
        if !entries.is_empty() {
            let list = self.put_lfs_list(manifest, entries, (origin, week)).await?;
            if !lists.contains(&list) {
                lists.push(list);
            }
        }
        manifest.lfs = Some(Lfs { lists });
        Ok(())
    }

    async fn put_lfs_list(
        &self,
        manifest: &Manifest,
        objects: Vec<LfsEntry>,
        (origin, week): (LfsOrigin, LfsWeek),
    ) -> Result<LfsList, LfsStoreError> {
        let session = || manifest.session_id.clone();
        let count = u32::try_from(objects.len()).unwrap_or(u32::MAX);
        let bytes = objects
            .iter()
            .map(|entry| entry.size)
            .fold(0, u64::saturating_add);
        let body = serde_json::to_vec(&StoredList { objects });
        let body = body.map_err(|source| SaveError::Encode {
            session: session(),
            source,
        })?;
        let hash = sha256(&body);
        let key = key::lfs_list(&self.tenant, manifest, week, &hash);
        let key = key.map_err(|source| SaveError::Key {
            session: session(),
            source,
        })?;
        let put = self.storage.put(&key, body.into(), Precondition::None).await;
        put.map_err(|source| SaveError::Storage {
            session: session(),
            source,
        })?;
        Ok(LfsList {
            hash,
            week,
            origin,
            objects: count,
            bytes,
        })
    }

    /// Whether the content is stored whole.
    pub async fn has_lfs_content(
        &self,
        manifest: &Manifest,
        (pointer, week): (&LfsPointer, LfsWeek),
    ) -> Result<bool, LoadError> {
        let key = key::lfs_content(&self.tenant, manifest, week, &pointer.id);
        let key = key.map_err(|source| self.no_key(manifest, source))?;
        let found = self.storage.head(&key).await;
        let found = found.map_err(|source| LoadError::Storage {
            session: manifest.session_id.clone(),
            source,
        })?;
        Ok(found == Some(pointer.bytes))
    }

    /// Stores a content that was held against its pointer. It never changes, so writing it again changes nothing.
    pub async fn put_lfs_content(
        &self,
        manifest: &Manifest,
        (id, week): (&LfsId, LfsWeek),
        content: impl Into<Body> + Send,
    ) -> Result<(), SaveError> {
        let session = || manifest.session_id.clone();
        let key = key::lfs_content(&self.tenant, manifest, week, id);
        let key = key.map_err(|source| SaveError::Key {
            session: session(),
            source,
        })?;
        let put = self.storage.put(&key, content.into(), Precondition::None).await;
        put.map(drop).map_err(|source| SaveError::Storage {
            session: session(),
            source,
        })
    }

    /// Stores a file that was held against its pointer and is not needed afterwards.
    pub async fn put_lfs_file(
        &self,
        manifest: &Manifest,
        place: (&LfsId, LfsWeek),
        file: PathBuf,
    ) -> Result<(), SaveError> {
        self.put_lfs_content(manifest, place, file.clone()).await?;
        // The folder goes with the job; a file that cannot be removed now goes then.
        let _goes_later = mayfly_telemetry::task::blocking(move || std::fs::remove_file(file)).await;
        Ok(())
    }

    /// Whether the content is stored in this week, also by a copy from the week before, which goes through a file in the folder.
    ///
    /// This is the only way in which a job may come to name a content that it did not store and that its session does not name already.
    pub async fn take_up_lfs_content(
        &self,
        manifest: &Manifest,
        (pointer, week): (&LfsPointer, LfsWeek),
        folder: &Path,
    ) -> Result<bool, LfsStoreError> {
        if self.has_lfs_content(manifest, (pointer, week)).await? {
            return Ok(true);
        }
        let older = (pointer, week.before());
        if !self.has_lfs_content(manifest, older).await? {
            return Ok(false);
        }
        let file = folder.join(pointer.id.to_string());
        let copied = self.download_lfs_content(manifest, older, &file).await;
        if copied.is_err() {
            // It was removed just now, or is damaged: the remote has it.
            return Ok(false);
        }
        self.put_lfs_file(manifest, (&pointer.id, week), file).await?;
        Ok(true)
    }

    /// Reads a content, and holds it against its pointer.
    pub async fn lfs_content(&self, manifest: &Manifest, entry: &LfsEntry) -> Result<Bytes, LoadError> {
        let pointer = entry.pointer();
        let key = key::lfs_content(&self.tenant, manifest, entry.week, &pointer.id);
        let key = key.map_err(|source| self.no_key(manifest, source))?;
        let object = self.storage.get(&key, pointer.bytes).await;
        let bytes = object
            .map_err(|error| lost(manifest, "a Git LFS content", error))?
            .bytes;
        if bytes.len() as u64 != pointer.bytes || sha256(&bytes) != pointer.id {
            return Err(damaged(
                manifest,
                None,
                format!("the Git LFS content {} is not what it was", pointer.id),
            ));
        }
        Ok(bytes)
    }

    /// Downloads a content into a file, and holds it against its pointer.
    pub async fn download_lfs_content(
        &self,
        manifest: &Manifest,
        (pointer, week): (&LfsPointer, LfsWeek),
        to: &Path,
    ) -> Result<(), LoadError> {
        let key = key::lfs_content(&self.tenant, manifest, week, &pointer.id);
        let key = key.map_err(|source| self.no_key(manifest, source))?;
        let downloaded = self.storage.download(&key, to, pointer.bytes).await;
        let bytes = downloaded.map_err(|error| lost(manifest, "a Git LFS content", error))?;
        let file = to.to_owned();
        let digest = mayfly_telemetry::task::blocking(move || sha256_of_file(&file))
            .await
            .ok();
        if bytes != pointer.bytes || digest != Some(pointer.id) {
            return Err(damaged(
                manifest,
                None,
                format!("the Git LFS content {} is not what it was", pointer.id),
            ));
        }
        Ok(())
    }

    fn no_key(&self, manifest: &Manifest, source: mayfly_storage::InvalidKey) -> LoadError {
        LoadError::Key {
            session: manifest.session_id.clone(),
            source,
        }
    }
}

/// Why a list cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    #[error("a list of Git LFS contents cannot be read from the storage")]
    Storage(#[source] StorageError),
    #[error("the list {0} of Git LFS contents is not what it was")]
    Changed(LfsId),
    #[error("a list of Git LFS contents is none ({0})")]
    NoList(serde_json::Error),
}

/// Reads the list with this hash.
pub(crate) async fn read_list(
    storage: &dyn ObjectStore,
    key: &Key,
    hash: &LfsId,
) -> Result<Vec<LfsEntry>, ListError> {
    let object = storage.get(key, MAX_LIST_BYTES).await;
    let object = object.map_err(ListError::Storage)?;
    if sha256(&object.bytes) != *hash {
        return Err(ListError::Changed(*hash));
    }
    let stored: StoredList = serde_json::from_slice(&object.bytes).map_err(ListError::NoList)?;
    Ok(stored.objects)
}

/// Why a list could not be stored, or those that it takes the place of not be read.
#[derive(Debug, thiserror::Error)]
pub enum LfsStoreError {
    /// An older list.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The new one.
    #[error(transparent)]
    Save(#[from] SaveError),
}

/// What a list names must be there, whole.
fn lost(manifest: &Manifest, what: &str, error: StorageError) -> LoadError {
    match error {
        StorageError::NotFound { .. } | StorageError::TooLarge { .. } => damaged(
            manifest,
            None,
            format!("{what} is missing or too large ({error})"),
        ),
        source => LoadError::Storage {
            session: manifest.session_id.clone(),
            source,
        },
    }
}

fn sha256_of_file(path: &Path) -> std::io::Result<LfsId> {
    let mut file = std::fs::File::open(path)?;
    let (mut hasher, mut piece) = (Sha256::new(), vec![0; 128 * 1024]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(LfsId::from_bytes(hasher.finalize().into())),
            read => hasher.update(&piece[..read]),
        }
    }
}

fn sha256(bytes: &[u8]) -> LfsId {
    LfsId::from_bytes(Sha256::digest(bytes).into())
}
