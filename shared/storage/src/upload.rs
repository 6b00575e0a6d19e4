//! Writes of unknown length: bytes go up as they come, and are an object at the end or nothing. Must not know a backend.

use std::fmt::Debug;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Key, StorageError};

/// A streamed write that has begun, see [`crate::ObjectStore::upload`].
///
/// It is nothing until [`Upload::complete`] returns. One that is dropped, or that fails, is discarded: the store removes what it holds of it, in
/// the background where that takes requests ([`crate::ObjectStore::settle`] waits for that). Only the end of the process, or of the network,
/// can leave an [`Unfinished`] one behind.
#[async_trait]
pub trait Upload: Debug + Send {
    /// Takes the next bytes. Waits while as much as the store may hold in memory is on its way. After a failure every further call fails.
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError>;

    /// Makes the object of all that was written, durably, in place of one that was there; returns its size in bytes.
    ///
    /// After [`StorageError::Unavailable`] it is unknown whether the object was, or still will be, made.
    async fn complete(self: Box<Self>) -> Result<u64, StorageError>;

    /// Discards all that was written, and returns when that is done, or when the store does not let it be done.
    async fn abort(self: Box<Self>);
}

/// A streamed write, or a write in parts, that was begun and not ended: it is under way, or its process died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The object that it was to make, where the store knows it.
    pub key: Option<Key>,
    /// The store's own name of it.
    pub id: UnfinishedId,
    /// The bytes that it occupies, where the store tells them in its listing.
    pub bytes: Option<u64>,
    /// When it was last known to be alive, by the store's clock: its beginning (S3), or its last write (a directory).
    pub alive_at: SystemTime,
}

/// The store's own name of an unfinished write; of use only to the store that gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedId(String);

impl UnfinishedId {
    pub(crate) fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}
