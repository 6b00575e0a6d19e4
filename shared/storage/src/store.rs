//! The port itself: what every store does, in which types, and with which promises.

use std::fmt::Debug;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Subject;
use crate::{Body, Key, StorageError, Unfinished, Upload};

/// The most bytes of a write under [`Precondition::IfMatch`]: what is replaced is a small pointer, never data.
pub const MAX_REPLACEMENT_BYTES: u64 = 16 * 1024 * 1024;

/// Names one stored state of an object, as the store said it (an ETag, a content hash). Opaque, and of use only to the store that gave it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version(String);

impl Version {
    pub(crate) fn new(tag: impl Into<String>) -> Self {
        Self(tag.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What must be true of the stored object for a write to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing: the write replaces whatever is there.
    None,
    /// There is no object under the key.
    IfAbsent,
    /// The object is in the state that this version names.
    IfMatch(Version),
}

impl Precondition {
    /// Whether a write may be done on an object in this state (`None`: there is no object).
    pub(crate) fn holds(&self, current: Option<&Version>) -> bool {
        match self {
            Self::None => true,
            Self::IfAbsent => current.is_none(),
            Self::IfMatch(expected) => current == Some(expected),
        }
    }
}

pub(crate) fn check_replacement(
    subject: &Subject,
    bytes: u64,
    precondition: &Precondition,
) -> Result<(), StorageError> {
    match precondition {
        Precondition::IfMatch(_) if bytes > MAX_REPLACEMENT_BYTES => {
            Err(subject.too_large(MAX_REPLACEMENT_BYTES))
        }
        _ => Ok(()),
    }
}

/// A small object, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The content.
    pub bytes: Bytes,
    /// The state that was read, for a write under [`Precondition::IfMatch`].
    pub version: Version,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// The object's name.
    pub key: Key,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was written, by the store's clock; S3 tells whole seconds.
    pub modified: SystemTime,
}

/// Some of what lies directly below a prefix, as [`ObjectStore::list_folder`] lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderPage {
    /// Objects whose keys have no `/` after the prefix, sorted by key.
    pub objects: Vec<ObjectMeta>,
    /// What other keys begin with, up to and with the first `/` after the prefix; sorted, each once.
    pub folders: Vec<String>,
    /// Where the next page begins; `None` where this is the last one.
    pub next: Option<String>,
}

/// A store of objects. The promises that hold for all operations stand at the head of this crate.
#[async_trait]
pub trait ObjectStore: Debug + Send + Sync + 'static {
    /// Reads an object whole; one of more than `max_bytes` is [`StorageError::TooLarge`], and at most that much is read of it.
    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Object, StorageError>;

    /// Reads the bytes from `range.start` up to, not including, `range.end`: fewer where the object ends before, none past its end.
    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StorageError>;

    /// Streams an object of at most `max_bytes` into the file `to`, and returns its size.
    ///
    /// The file appears whole, replacing one that was there, or not at all: until then the bytes are in a file beside it, which goes away
    /// when the download fails or is dropped.
    async fn download(&self, key: &Key, to: &Path, max_bytes: u64) -> Result<u64, StorageError>;

    /// The size of an object in bytes; `None` where there is none.
    async fn head(&self, key: &Key) -> Result<Option<u64>, StorageError>;

    /// Writes an object, durably when it returns, and tells the version of what was written.
    ///
    /// Under [`Precondition::IfMatch`] the body is at most [`MAX_REPLACEMENT_BYTES`] long, else [`StorageError::TooLarge`]; an absent object does
    /// not match.
    ///
    /// Lost answers: a write may be done although its answer is lost. Stores repeat such a write by themselves, and where the condition then
    /// fails, or no answer ever comes, they read the object: if it holds the very bytes of this write, the write counts as done. Therefore
    /// two conditional writers that must tell which of them won write bytes that differ (a job's id, a random number), and content-addressed
    /// objects need not. Where a later writer has already replaced what this one wrote, the answer is `PreconditionFailed` although the write
    /// was done for a while; a chain of pointers that must not be fooled keeps a short history in the object.
    /// After [`StorageError::Unavailable`] it is unknown whether the write was, or still will be, done.
    async fn put(&self, key: &Key, body: Body, precondition: Precondition) -> Result<Version, StorageError>;

    /// Removes an object; one that is absent is removed already.
    async fn delete(&self, key: &Key) -> Result<(), StorageError>;

    /// All objects whose keys begin with `prefix` (any text, not only whole components), sorted by key.
    ///
    /// Objects of others in the same place, whose names are no [`Key`]s, are left out.
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StorageError>;

    /// Lists what lies directly below `prefix` (any text; a folder's ends with `/`), in the order of bytes of keys and folders together: those
    /// that follow `after`, as many as `limit` or fewer, whatever their folders hold. Fewer does not mean that there are no more:
    /// [`FolderPage::next`] says so, and is `after` of the next page.
    ///
    /// A folder that has just become empty may be listed for a moment.
    async fn list_folder(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: NonZeroUsize,
    ) -> Result<FolderPage, StorageError>;

    /// Begins a write whose length is not known, in bounded memory. It has no condition: the key is one that no other writer uses.
    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>, StorageError>;

    /// Everything in the store that was begun and is no object yet, whoever began it: also what is under way at this moment.
    async fn unfinished(&self) -> Result<Vec<Unfinished>, StorageError>;

    /// Removes what an unfinished write holds; one that is gone is removed already. If it was still under way, it fails.
    async fn discard(&self, unfinished: &Unfinished) -> Result<(), StorageError>;

    /// Waits until what dropped uploads held is removed, or the attempts at it are over.
    async fn settle(&self);
}
