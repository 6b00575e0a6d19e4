//! A store in a folder, for one machine or a shared file system whose locks work (`flock`; on NFS version 4 they do).
//!
//! An object is a file whose path below the root is its key. A write goes to a file under `.mayfly-tmp/`, is synced, and is renamed into its
//! place, after which the folder is synced. Writes of one key are serialised between threads and processes by a lock on one of the 64 files
//! under `.mayfly-locks/`, chosen by the key's hash; conditions are checked under that lock. A version is the SHA-256 of the content.
//!
//! Unlike S3, a folder cannot hold both `a` and `a/b`: [`StorageError::Occupied`]. Symbolic links inside the root are refused, not followed.
//! Files and folders are made private to the user. Unfinished files that a crash left behind are removed at
//! a start more than a day later, or by [`ObjectStore::discard`].

mod layout;
mod lock;
mod upload;
mod write;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use mayfly_telemetry::task;

use crate::digest::ContentHash;
use crate::download::download_file;
use crate::error::Subject;
use crate::folder;
use crate::{
    Body, FolderPage, Key, Object, ObjectMeta, ObjectStore, OpenError, Operation, Precondition, StorageError,
    StorageOptions, Unfinished, Upload, Version,
};
use layout::Layout;
use lock::KeyLocks;
use upload::FileUpload;

/// A store in a folder.
#[derive(Debug, Clone)]
pub struct DirectoryStore {
    layout: Layout,
    locks: KeyLocks,
}

impl DirectoryStore {
    /// Opens the store in the folder `root`, and makes the folder where it is missing.
    ///
    /// A writer waits at most [`StorageOptions::operation_timeout`] for the others that write the same key.
    pub async fn open(root: &Path, options: &StorageOptions) -> Result<Self, OpenError> {
        let (root, lock_timeout) = (root.to_owned(), options.operation_timeout);
        task::blocking(move || Self::open_now(&root, lock_timeout)).await
    }

    fn open_now(root: &Path, lock_timeout: Duration) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Folder {
            path: root.to_owned(),
            source,
        };
        let layout = Layout::create(root).map_err(failed)?;
        let locks = KeyLocks::create(layout.locks(), lock_timeout).map_err(failed)?;
        write::sweep(&layout);
        Ok(Self { layout, locks })
    }

    /// Runs blocking work of one operation on one key.
    async fn run<T, F>(&self, operation: Operation, key: &Key, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&Self, &Subject, &Key) -> Result<T, StorageError> + Send + 'static,
    {
        let (store, key) = (self.clone(), key.clone());
        task::blocking(move || work(&store, &Subject::new(operation, &key), &key)).await
    }
}

#[async_trait]
impl ObjectStore for DirectoryStore {
    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Object, StorageError> {
        self.run(Operation::Get, key, move |store, subject, key| {
            let (file, size) = store.layout.open_object(subject, key)?;
            let bytes = read_limited(subject, file, size, max_bytes)?;
            let version = Version::new(ContentHash::of(&bytes).to_string());
            Ok(Object { bytes, version })
        })
        .await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StorageError> {
        self.run(Operation::GetRange, key, move |store, subject, key| {
            let (file, size) = store.layout.open_object(subject, key)?;
            read_range(subject, file, range.start..range.end.min(size))
        })
        .await
    }

    async fn download(&self, key: &Key, to: &Path, max_bytes: u64) -> Result<u64, StorageError> {
        let to = to.to_owned();
        self.run(Operation::Download, key, move |store, subject, key| {
            let (file, size) = store.layout.open_object(subject, key)?;
            if size > max_bytes {
                return Err(subject.too_large(max_bytes));
            }
            download_file(subject, file, &to, max_bytes)
        })
        .await
    }

    async fn head(&self, key: &Key) -> Result<Option<u64>, StorageError> {
        self.run(Operation::Head, key, |store, subject, key| {
            store.layout.size(subject, key)
        })
        .await
    }

    async fn put(&self, key: &Key, body: Body, precondition: Precondition) -> Result<Version, StorageError> {
        self.run(Operation::Put, key, move |store, subject, key| {
            write::put(&store.layout, &store.locks, subject, key, &body, &precondition)
        })
        .await
    }

    async fn delete(&self, key: &Key) -> Result<(), StorageError> {
        self.run(Operation::Delete, key, |store, subject, key| {
            write::delete(&store.layout, &store.locks, subject, key)
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StorageError> {
        let (layout, prefix) = (self.layout.clone(), prefix.to_owned());
        task::blocking(move || layout.list(&Subject::of_prefix(Operation::List, &prefix), &prefix)).await
    }

    async fn list_folder(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: NonZeroUsize,
    ) -> Result<FolderPage, StorageError> {
        let (layout, prefix) = (self.layout.clone(), prefix.to_owned());
        let after = after.map(ToOwned::to_owned);
        task::blocking(move || {
            let subject = Subject::of_prefix(Operation::ListFolder, &prefix);
            let entries = layout.list_level(&subject, &prefix)?;
            Ok(folder::page_of(entries, after.as_deref(), limit))
        })
        .await
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>, StorageError> {
        Ok(Box::new(FileUpload::begin(self, key).await?))
    }

    async fn unfinished(&self) -> Result<Vec<Unfinished>, StorageError> {
        let layout = self.layout.clone();
        let found = task::blocking(move || upload::unfinished(&layout)).await;
        found.map_err(|error| Subject::of_prefix(Operation::Unfinished, "").of_io(error))
    }

    async fn discard(&self, unfinished: &Unfinished) -> Result<(), StorageError> {
        let (layout, id) = (self.layout.clone(), unfinished.id.clone());
        let subject = Subject::of_prefix(Operation::Discard, id.as_str());
        let discarded = task::blocking(move || upload::discard(&layout, &id)).await;
        discarded.map_err(|error| subject.of_io(error))
    }

    /// A dropped upload removes its file at once.
    async fn settle(&self) {}
}

fn read_limited(subject: &Subject, file: File, size: u64, max_bytes: u64) -> Result<Bytes, StorageError> {
    if size > max_bytes {
        return Err(subject.too_large(max_bytes));
    }
    read_range(subject, file, 0..size)
}

fn read_range(subject: &Subject, mut file: File, range: Range<u64>) -> Result<Bytes, StorageError> {
    if range.is_empty() {
        return Ok(Bytes::new());
    }
    let length = range.end - range.start;
    let mut bytes =
        Vec::with_capacity(usize::try_from(length).map_err(|_| subject.too_large(usize::MAX as u64))?);
    file.seek(SeekFrom::Start(range.start))
        .and_then(|_| file.take(length).read_to_end(&mut bytes))
        .map_err(|error| subject.of_io(error))?;
    Ok(bytes.into())
}
