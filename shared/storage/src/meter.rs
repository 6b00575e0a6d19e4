//! Counts what goes through a store: for benches, metrics and closing figures.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use mayfly_telemetry::task;

use crate::{
    Body, FolderPage, Key, Object, ObjectMeta, ObjectStore, Operation, Precondition, StorageError,
    Unfinished, Upload, Version,
};

/// How many calls there were, by operation, the failed ones included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the operation of its name")]
pub struct RequestCounts {
    pub get: u64,
    pub get_range: u64,
    pub download: u64,
    pub head: u64,
    pub put: u64,
    pub delete: u64,
    pub list: u64,
    pub list_folder: u64,
    pub upload: u64,
    pub unfinished: u64,
    pub discard: u64,
}

impl RequestCounts {
    /// All calls together.
    pub fn total(&self) -> u64 {
        let reads = self.get + self.get_range + self.download + self.head;
        let writes = self.put + self.upload + self.delete + self.discard;
        reads + writes + self.list + self.list_folder + self.unfinished
    }
}

/// A store that counts the calls to another, and the bytes of content that were read and written with success.
///
/// Calls of the port are counted, not requests on the wire: a write in parts or of a stream, or one that is repeated, is one call.
#[derive(Debug)]
pub struct Metered {
    store: Arc<dyn ObjectStore>,
    requests: [AtomicU64; Operation::COUNT],
    read_bytes: AtomicU64,
    written_bytes: Arc<AtomicU64>,
}

impl Metered {
    /// Counts what goes to `store` from now on.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            requests: Default::default(),
            read_bytes: AtomicU64::new(0),
            written_bytes: Arc::default(),
        }
    }

    /// The bytes of content read so far.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// The bytes of content written so far.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    /// The calls so far.
    pub fn requests(&self) -> RequestCounts {
        let count = |operation| self.requests[operation as usize].load(Ordering::Relaxed);
        RequestCounts {
            get: count(Operation::Get),
            get_range: count(Operation::GetRange),
            download: count(Operation::Download),
            head: count(Operation::Head),
            put: count(Operation::Put),
            delete: count(Operation::Delete),
            list: count(Operation::List),
            list_folder: count(Operation::ListFolder),
            upload: count(Operation::Upload),
            unfinished: count(Operation::Unfinished),
            discard: count(Operation::Discard),
        }
    }

    fn count(&self, operation: Operation) {
        self.requests[operation as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn count_read(&self, bytes: u64) {
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[async_trait]
impl ObjectStore for Metered {
    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Object, StorageError> {
        self.count(Operation::Get);
        let object = self.store.get(key, max_bytes).await?;
        self.count_read(object.bytes.len() as u64);
        Ok(object)
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StorageError> {
        self.count(Operation::GetRange);
        let bytes = self.store.get_range(key, range).await?;
        self.count_read(bytes.len() as u64);
        Ok(bytes)
    }

    async fn download(&self, key: &Key, to: &Path, max_bytes: u64) -> Result<u64, StorageError> {
        self.count(Operation::Download);
        let bytes = self.store.download(key, to, max_bytes).await?;
        self.count_read(bytes);
        Ok(bytes)
    }

    async fn head(&self, key: &Key) -> Result<Option<u64>, StorageError> {
        self.count(Operation::Head);
        self.store.head(key).await
    }

    async fn put(&self, key: &Key, body: Body, precondition: Precondition) -> Result<Version, StorageError> {
        self.count(Operation::Put);
        let content = body.clone();
        let version = self.store.put(key, body, precondition).await?;
        let bytes = task::blocking(move || content.size()).await.unwrap_or(0);
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(version)
    }

    async fn delete(&self, key: &Key) -> Result<(), StorageError> {
        self.count(Operation::Delete);
        self.store.delete(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StorageError> {
        self.count(Operation::List);
        self.store.list(prefix).await
    }

    async fn list_folder(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: NonZeroUsize,
    ) -> Result<FolderPage, StorageError> {
        self.count(Operation::ListFolder);
        self.store.list_folder(prefix, after, limit).await
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>, StorageError> {
        self.count(Operation::Upload);
        Ok(Box::new(MeteredUpload {
            upload: self.store.upload(key).await?,
            written_bytes: Arc::clone(&self.written_bytes),
        }))
    }

    async fn unfinished(&self) -> Result<Vec<Unfinished>, StorageError> {
        self.count(Operation::Unfinished);
        self.store.unfinished().await
    }

    async fn discard(&self, unfinished: &Unfinished) -> Result<(), StorageError> {
        self.count(Operation::Discard);
        self.store.discard(unfinished).await
    }

    async fn settle(&self) {
        self.store.settle().await;
    }
}

/// An upload whose bytes are counted when they have become an object.
#[derive(Debug)]
struct MeteredUpload {
    upload: Box<dyn Upload>,
    written_bytes: Arc<AtomicU64>,
}

#[async_trait]
impl Upload for MeteredUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        self.upload.write(bytes).await
    }

    async fn complete(self: Box<Self>) -> Result<u64, StorageError> {
        let bytes = self.upload.complete().await?;
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(bytes)
    }

    async fn abort(self: Box<Self>) {
        self.upload.abort().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    #[tokio::test]
    async fn calls_and_bytes_are_counted() {
        let store = Metered::new(Arc::new(MemoryStore::new()));
        let key = Key::new("a").unwrap();
        store
            .put(&key, vec![1; 10].into(), Precondition::None)
            .await
            .unwrap();
        store
            .put(&key, vec![1; 99].into(), Precondition::IfAbsent)
            .await
            .unwrap_err();
        store.get(&key, 10).await.unwrap();
        store.get_range(&key, 2..5).await.unwrap();
        store.get(&key, 9).await.unwrap_err();
        let mut upload = store.upload(&key).await.unwrap();
        upload.write(Bytes::from_static(b"12345")).await.unwrap();
        assert_eq!((store.read_bytes(), store.written_bytes()), (13, 10));
        upload.complete().await.unwrap();
        assert_eq!((store.read_bytes(), store.written_bytes()), (13, 15));
        let requests = store.requests();
        assert_eq!(
            (requests.put, requests.get, requests.get_range, requests.upload),
            (2, 2, 1, 1)
        );
        assert_eq!(requests.total(), 6);
    }
}
