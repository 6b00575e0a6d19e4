//! A storage with a clock of its own, and actors that do one call to it at a time, in the order that a test says.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use mayfly_git::pack::PackFiles;
use mayfly_protocol::ObjectId;
use mayfly_storage::{
    Body, FolderPage, Key, MemoryStore, Object, ObjectMeta, ObjectStore, Precondition, StorageError,
    Unfinished, Upload, Version,
};
use sha1::{Digest, Sha1};
use tempfile::TempDir;
use tokio::sync::Semaphore;

/// The seconds of 2026-01-01.
const START: u64 = 1_767_225_600;

/// What is stored, and the storage's clock.
#[derive(Debug)]
pub(crate) struct World {
    store: MemoryStore,
    written: Mutex<BTreeMap<Key, SystemTime>>,
    seconds: AtomicU64,
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            store: MemoryStore::new(),
            written: Mutex::default(),
            seconds: AtomicU64::new(START),
        })
    }

    pub(crate) fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.seconds.load(Ordering::SeqCst))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.seconds.fetch_add(by.as_secs(), Ordering::SeqCst);
    }

    /// Goes on to so long before the end of the week, unless that has passed. The clock began with a week.
    pub(crate) fn advance_to_the_end_of_the_week(&self, before: Duration) {
        const WEEK: u64 = 7 * 24 * 3600;
        let now = self.seconds.load(Ordering::SeqCst);
        let then = now - now % WEEK + WEEK - before.as_secs();
        self.seconds.fetch_max(then, Ordering::SeqCst);
    }

    /// The storage, without a gate.
    pub(crate) fn open(self: &Arc<Self>) -> Arc<dyn ObjectStore> {
        let gate = Arc::new(Gate::default());
        gate.permits.add_permits(Semaphore::MAX_PERMITS / 2);
        self.behind(gate)
    }

    pub(crate) fn behind(self: &Arc<Self>, gate: Arc<Gate>) -> Arc<dyn ObjectStore> {
        let world = Arc::clone(self);
        Arc::new(Gated { world, gate })
    }

    fn date(&self, objects: &mut [ObjectMeta]) {
        let written = self.written.lock().unwrap();
        for object in objects {
            object.modified = written[&object.key];
        }
    }

    pub(crate) async fn keys(&self) -> Vec<String> {
        let objects = self.store.list("").await.unwrap();
        objects.iter().map(|object| object.key.to_string()).collect()
    }
}

/// Lets calls through one by one.
pub(crate) struct Gate {
    permits: Semaphore,
    waiting: AtomicUsize,
    running: AtomicUsize,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            permits: Semaphore::new(0),
            waiting: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
        }
    }
}

impl Gate {
    async fn pass<T>(&self, call: impl Future<Output = T>) -> T {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.permits.acquire().await.unwrap().forget();
        self.running.fetch_add(1, Ordering::SeqCst);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        let done = call.await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        done
    }

    fn is_still(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0 && self.running.load(Ordering::SeqCst) == 0
    }
}

/// Something that uses the storage. To drop it is to kill it.
pub(crate) struct Actor<T> {
    gate: Arc<Gate>,
    work: Pin<Box<dyn Future<Output = T> + Send>>,
    pub(crate) began: SystemTime,
    /// It stands still until then, where the test says so.
    pub(crate) sleeps_until: SystemTime,
}

impl<T> Actor<T> {
    pub(crate) fn new<F>(world: &Arc<World>, work: impl FnOnce(Arc<dyn ObjectStore>) -> F) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        let gate = Arc::new(Gate::default());
        Self {
            work: Box::pin(work(world.behind(Arc::clone(&gate)))),
            gate,
            began: world.now(),
            sleeps_until: world.now(),
        }
    }

    /// Does one call to the storage, and what follows up to the next; gives what the actor ends with.
    pub(crate) async fn step(&mut self) -> Option<T> {
        self.gate.permits.add_permits(1);
        poll_fn(|context| match self.work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.gate.is_still() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

impl Actor<()> {
    /// Does so many calls, and says whether the actor has ended.
    pub(crate) async fn steps(&mut self, count: u32) -> bool {
        for _ in 0..count {
            if self.step().await.is_some() {
                return true;
            }
        }
        false
    }
}

/// The storage behind a gate, with the times of the world's clock.
struct Gated {
    world: Arc<World>,
    gate: Arc<Gate>,
}

impl fmt::Debug for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gated")
    }
}

#[async_trait]
impl ObjectStore for Gated {
    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Object, StorageError> {
        self.gate.pass(self.world.store.get(key, max_bytes)).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StorageError> {
        self.gate.pass(self.world.store.get_range(key, range)).await
    }

    async fn download(&self, key: &Key, to: &Path, max_bytes: u64) -> Result<u64, StorageError> {
        self.gate
            .pass(self.world.store.download(key, to, max_bytes))
            .await
    }

    async fn head(&self, key: &Key) -> Result<Option<u64>, StorageError> {
        self.gate.pass(self.world.store.head(key)).await
    }

    async fn put(&self, key: &Key, body: Body, precondition: Precondition) -> Result<Version, StorageError> {
        let put = async {
            let version = self.world.store.put(key, body, precondition).await?;
            let now = self.world.now();
            self.world.written.lock().unwrap().insert(key.clone(), now);
            Ok(version)
        };
        self.gate.pass(put).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StorageError> {
        self.gate.pass(self.world.store.delete(key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StorageError> {
        let mut objects = self.gate.pass(self.world.store.list(prefix)).await?;
        self.world.date(&mut objects);
        Ok(objects)
    }

    async fn list_folder(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: NonZeroUsize,
    ) -> Result<FolderPage, StorageError> {
        let listing = self.world.store.list_folder(prefix, after, limit);
        let mut page = self.gate.pass(listing).await?;
        self.world.date(&mut page.objects);
        Ok(page)
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>, StorageError> {
        self.gate.pass(self.world.store.upload(key)).await
    }

    async fn unfinished(&self) -> Result<Vec<Unfinished>, StorageError> {
        self.gate.pass(self.world.store.unfinished()).await
    }

    async fn discard(&self, unfinished: &Unfinished) -> Result<(), StorageError> {
        self.gate.pass(self.world.store.discard(unfinished)).await
    }

    async fn settle(&self) {
        self.world.store.settle().await;
    }
}

/// Files that pass for a pack, with this content: the same content makes the same pack.
pub(crate) fn pack_files(folder: &TempDir, content: &str) -> PackFiles {
    let sealed = |parts: &[&[u8]]| {
        let body = parts.concat();
        let seal: [u8; 20] = Sha1::digest(&body).into();
        ([&body[..], &seal].concat(), seal)
    };
    let (pack, hash) = sealed(&[b"what a pack has in it: ", content.as_bytes()]);
    let (index, _) = sealed(&[b"index of ", content.as_bytes(), &hash]);
    let hash = ObjectId::from_bytes(hash).to_string();
    let file = |extension: &str, content: &[u8]| {
        let path = folder.path().join(format!("pack-{hash}.{extension}"));
        std::fs::write(&path, content).unwrap();
        path
    };
    PackFiles {
        pack: file("pack", &pack),
        index: file("idx", &index),
        objects: 1,
        pack_bytes: pack.len() as u64,
        index_bytes: index.len() as u64,
        hash,
    }
}
