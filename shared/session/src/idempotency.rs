//! Which job an idempotency key stands for: one small object for each key, made once, by whoever is first.
//!
//! Neither the key nor the body is in it, only digests; what the body's digest leaves out is said where it is made.

use std::sync::Arc;

use mayfly_protocol::event::timestamp;
use mayfly_protocol::{JobId, TenantId};
use mayfly_storage::{InvalidKey, Key, ObjectStore, Precondition, StorageError, Version};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

const FORMAT_VERSION: u32 = 1;
/// The largest object of this kind, in bytes.
const MAX_BYTES: u64 = 4096;

/// The SHA-256 of something, in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HexDigest(String);

impl HexDigest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::{Digest as _, Sha256};
        use std::fmt::Write as _;
        let mut text = String::with_capacity(64);
        for byte in Sha256::digest(bytes) {
            write!(text, "{byte:02x}").expect("a string takes every write");
        }
        Self(text)
    }
}

/// What a key stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRecord {
    format_version: u32,
    /// The job.
    pub job_id: JobId,
    /// The digest of its request.
    pub request: HexDigest,
    /// When the key was first seen, or was given to a new job.
    #[serde(with = "timestamp")]
    pub created_at: OffsetDateTime,
}

impl KeyRecord {
    /// A key that stands for this job from now on.
    pub fn new(job_id: JobId, request: HexDigest) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            job_id,
            request,
            created_at: OffsetDateTime::now_utc(),
        }
    }
}

/// What became of an attempt to give a key to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// It stands for our job.
    Ours,
    /// It stands for another one; the version is for [`KeyArchive::give`].
    Theirs(KeyRecord, Version),
}

/// What a key stands for could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyArchiveError {
    /// The storage failed.
    #[error("what the idempotency key stands for could not be kept or read")]
    Storage(#[from] StorageError),
    /// What is stored cannot be what was kept.
    #[error(
        "what is stored for the idempotency key at `{key}` is damaged, or of a format that this build does not know"
    )]
    Damaged {
        /// The object.
        key: Key,
    },
    /// Others made and removed it again and again at the same moment.
    #[error("the idempotency key is used by several at once")]
    Contended,
    /// The ids make no storage key.
    #[error("the idempotency key has no place in object storage")]
    Key(#[from] InvalidKey),
}

/// The idempotency keys in a storage.
#[derive(Debug, Clone)]
pub struct KeyArchive {
    storage: Arc<dyn ObjectStore>,
}

impl KeyArchive {
    /// The keys in this storage.
    pub fn new(storage: Arc<dyn ObjectStore>) -> Self {
        Self { storage }
    }

    /// Gives a key to a job, unless it stands for one.
    pub async fn claim(
        &self,
        tenant: &TenantId,
        name: &HexDigest,
        record: &KeyRecord,
    ) -> Result<Claimed, KeyArchiveError> {
        let key = storage_key(tenant, name)?;
        for _ in 0..4 {
            if self.put(&key, record, Precondition::IfAbsent).await? {
                return Ok(Claimed::Ours);
            }
            match self.storage.get(&key, MAX_BYTES).await {
                Ok(object) => {
                    let parsed: Option<KeyRecord> = serde_json::from_slice(&object.bytes).ok();
                    let theirs = parsed.filter(|it| it.format_version == FORMAT_VERSION);
                    let theirs = theirs.ok_or(KeyArchiveError::Damaged { key })?;
                    return Ok(Claimed::Theirs(theirs, object.version));
                }
                // Whoever had it was refused just now.
                Err(StorageError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(KeyArchiveError::Contended)
    }

    /// Gives a key to another job than it stood for; false where somebody else did so meanwhile.
    pub async fn give(
        &self,
        tenant: &TenantId,
        name: &HexDigest,
        record: &KeyRecord,
        over: Version,
    ) -> Result<bool, KeyArchiveError> {
        let key = storage_key(tenant, name)?;
        self.put(&key, record, Precondition::IfMatch(over)).await
    }

    /// Forgets a key whose job was refused.
    pub async fn forget(&self, tenant: &TenantId, name: &HexDigest) -> Result<(), KeyArchiveError> {
        Ok(self.storage.delete(&storage_key(tenant, name)?).await?)
    }

    async fn put(
        &self,
        key: &Key,
        record: &KeyRecord,
        precondition: Precondition,
    ) -> Result<bool, KeyArchiveError> {
        let damaged = || KeyArchiveError::Damaged { key: key.clone() };
        let body = serde_json::to_vec(record).map_err(|_| damaged())?;
        match self.storage.put(key, body.into(), precondition).await {
            Ok(_) => Ok(true),
            Err(StorageError::PreconditionFailed { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// `tenants/<tenant>/idempotency/<SHA-256 of the key>.json`
fn storage_key(tenant: &TenantId, name: &HexDigest) -> Result<Key, InvalidKey> {
    format!("{}{}.json", crate::key::idempotency(tenant), name.0).parse()
}
