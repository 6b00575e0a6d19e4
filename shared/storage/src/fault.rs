//! A store that fails on purpose, for the tests of those who use one: a wrapper round a real store, with a script.
//!
//! What fails is decided by counting calls, or by a seeded generator, never by time: a failure can be replayed from its script.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Subject;
use crate::{
    Body, FolderPage, Key, Object, ObjectMeta, ObjectStore, Operation, Precondition, StorageError,
    Unfinished, Upload, Version,
};

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done; [`StorageError::Denied`].
    Deny,
    /// Nothing is done; [`StorageError::Unavailable`].
    Unavailable,
    /// Nothing is done; [`StorageError::PreconditionFailed`], as if another writer had won.
    Conflict,
    /// Nothing is done; [`StorageError::DiskFull`].
    DiskFull,
    /// Nothing is done, and no answer ever comes: the caller's own bound must end the wait.
    Stall,
    /// It is done, and then [`StorageError::Unavailable`]: the answer was lost.
    AnswerLost,
    /// It is done, and then no answer ever comes.
    AnswerStalls,
}

/// Which of the calls that a rule looks at fail; calls are counted from 1, for each rule by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Every call.
    Always,
    /// The call of this number only.
    Nth(u64),
    /// All calls up to this number.
    First(u64),
    /// All calls after this number.
    After(u64),
    /// So many of a hundred, by the store's seed.
    Percent(u8),
}

/// One line of a script.
#[derive(Debug, Clone)]
pub struct Rule {
    operation: Option<Operation>,
    key_prefix: String,
    when: When,
    fault: Fault,
    calls: u64,
}

impl Rule {
    /// A rule for the calls of one operation.
    pub fn on(operation: Operation, when: When, fault: Fault) -> Self {
        Self {
            operation: Some(operation),
            ..Self::on_any(when, fault)
        }
    }

    /// A rule for the calls of all operations.
    pub fn on_any(when: When, fault: Fault) -> Self {
        Self {
            operation: None,
            key_prefix: String::new(),
            when,
            fault,
            calls: 0,
        }
    }

    /// The same rule, for keys (or, of listings, prefixes) that begin so.
    #[must_use]
    pub fn under(mut self, key_prefix: &str) -> Self {
        key_prefix.clone_into(&mut self.key_prefix);
        self
    }

    fn judge(&mut self, subject: &Subject, random: &mut Random) -> Option<Fault> {
        let looks = self
            .operation
            .is_none_or(|operation| operation == subject.operation)
            && subject.key.starts_with(&self.key_prefix);
        if !looks {
            return None;
        }
        self.calls += 1;
        let hits = match self.when {
            When::Always => true,
            When::Nth(n) => self.calls == n,
            When::First(n) => self.calls <= n,
            When::After(n) => self.calls > n,
            When::Percent(percent) => random.next_below(100) < u64::from(percent),
        };
        hits.then_some(self.fault)
    }
}

/// A store that does what another does, except where its script says otherwise. The first rule that hits decides.
#[derive(Debug)]
pub struct FaultyStore {
    store: Arc<dyn ObjectStore>,
    script: SharedScript,
}

#[derive(Debug, Clone)]
struct SharedScript(Arc<Mutex<Script>>);

#[derive(Debug)]
struct Script {
    rules: Vec<Rule>,
    random: Random,
    faults: u64,
}

/// What the script says of one call.
#[derive(Clone, Copy)]
enum After {
    Answer,
    Lose,
    Stall,
}

impl FaultyStore {
    /// A store without rules yet; `seed` decides [`When::Percent`].
    pub fn new(store: Arc<dyn ObjectStore>, seed: u64) -> Self {
        Self {
            store,
            script: SharedScript(Arc::new(Mutex::new(Script {
                rules: Vec::new(),
                random: Random(seed),
                faults: 0,
            }))),
        }
    }

    /// The same store with one more rule.
    #[must_use]
    pub fn with(self, rule: Rule) -> Self {
        self.add(rule);
        self
    }

    /// Adds a rule while the store is in use.
    pub fn add(&self, rule: Rule) {
        self.script.lock().rules.push(rule);
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.script.lock().rules.clear();
    }

    /// How many calls have failed on purpose.
    pub fn faults(&self) -> u64 {
        self.script.lock().faults
    }
}

impl SharedScript {
    fn lock(&self) -> std::sync::MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails the call before it is done, or says what becomes of its answer.
    async fn before(&self, subject: &Subject) -> Result<After, StorageError> {
        let verdict = self.lock().judge(subject);
        let Some(fault) = verdict else {
            return Ok(After::Answer);
        };
        match fault {
            Fault::Deny => Err(subject.denied("a fault on purpose")),
            Fault::Unavailable => Err(subject.unavailable("a fault on purpose")),
            Fault::Conflict => Err(subject.precondition_failed()),
            Fault::DiskFull => Err(subject.disk_full(std::io::ErrorKind::StorageFull.into())),
            Fault::Stall => std::future::pending().await,
            Fault::AnswerLost => Ok(After::Lose),
            Fault::AnswerStalls => Ok(After::Stall),
        }
    }
}

impl Script {
    fn judge(&mut self, subject: &Subject) -> Option<Fault> {
        let Self { rules, random, .. } = self;
        let fault = rules.iter_mut().fold(None, |found: Option<Fault>, rule| {
            found.or(rule.judge(subject, random))
        });
        self.faults += u64::from(fault.is_some());
        fault
    }
}

impl After {
    async fn apply<T>(self, subject: &Subject, answer: Result<T, StorageError>) -> Result<T, StorageError> {
        match self {
            Self::Answer => answer,
            Self::Lose => Err(subject.unavailable("the answer was lost on purpose")),
            Self::Stall => std::future::pending().await,
        }
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Object, StorageError> {
        let subject = Subject::new(Operation::Get, key);
        let after = self.script.before(&subject).await?;
        after.apply(&subject, self.store.get(key, max_bytes).await).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StorageError> {
        let subject = Subject::new(Operation::GetRange, key);
        let after = self.script.before(&subject).await?;
        after
            .apply(&subject, self.store.get_range(key, range).await)
            .await
    }

    async fn download(&self, key: &Key, to: &Path, max_bytes: u64) -> Result<u64, StorageError> {
        let subject = Subject::new(Operation::Download, key);
        let after = self.script.before(&subject).await?;
        after
            .apply(&subject, self.store.download(key, to, max_bytes).await)
            .await
    }

    async fn head(&self, key: &Key) -> Result<Option<u64>, StorageError> {
        let subject = Subject::new(Operation::Head, key);
        let after = self.script.before(&subject).await?;
        after.apply(&subject, self.store.head(key).await).await
    }

    async fn put(&self, key: &Key, body: Body, precondition: Precondition) -> Result<Version, StorageError> {
        let subject = Subject::new(Operation::Put, key);
        let after = self.script.before(&subject).await?;
        after
            .apply(&subject, self.store.put(key, body, precondition).await)
            .await
    }

    async fn delete(&self, key: &Key) -> Result<(), StorageError> {
        let subject = Subject::new(Operation::Delete, key);
        let after = self.script.before(&subject).await?;
        after.apply(&subject, self.store.delete(key).await).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StorageError> {
        let subject = Subject::of_prefix(Operation::List, prefix);
        let after = self.script.before(&subject).await?;
        after.apply(&subject, self.store.list(prefix).await).await
    }

    async fn list_folder(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: NonZeroUsize,
    ) -> Result<FolderPage, StorageError> {
        let subject = Subject::of_prefix(Operation::ListFolder, prefix);
        let fate = self.script.before(&subject).await?;
        let page = self.store.list_folder(prefix, after, limit).await;
        fate.apply(&subject, page).await
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>, StorageError> {
        let subject = Subject::new(Operation::Upload, key);
        let after = self.script.before(&subject).await?;
        let upload = after.apply(&subject, self.store.upload(key).await).await?;
        Ok(Box::new(FaultyUpload {
            upload,
            key: key.clone(),
            script: self.script.clone(),
        }))
    }

    async fn unfinished(&self) -> Result<Vec<Unfinished>, StorageError> {
        let subject = Subject::of_prefix(Operation::Unfinished, "");
        let after = self.script.before(&subject).await?;
        after.apply(&subject, self.store.unfinished().await).await
    }

    async fn discard(&self, unfinished: &Unfinished) -> Result<(), StorageError> {
        let key = unfinished.key.as_ref().map_or("", Key::as_str);
        let subject = Subject::of_prefix(Operation::Discard, key);
        let after = self.script.before(&subject).await?;
        after.apply(&subject, self.store.discard(unfinished).await).await
    }

    async fn settle(&self) {
        self.store.settle().await;
    }
}

/// An upload each call of which the script may fail.
#[derive(Debug)]
struct FaultyUpload {
    upload: Box<dyn Upload>,
    key: Key,
    script: SharedScript,
}

#[async_trait]
impl Upload for FaultyUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        let subject = Subject::new(Operation::UploadWrite, &self.key);
        let after = self.script.before(&subject).await?;
        after.apply(&subject, self.upload.write(bytes).await).await
    }

    async fn complete(self: Box<Self>) -> Result<u64, StorageError> {
        let subject = Subject::new(Operation::UploadComplete, &self.key);
        let after = self.script.before(&subject).await?;
        after.apply(&subject, self.upload.complete().await).await
    }

    async fn abort(self: Box<Self>) {
        self.upload.abort().await;
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same on every machine.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next_below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    fn faulty(rule: Rule) -> FaultyStore {
        FaultyStore::new(Arc::new(MemoryStore::new()), 1).with(rule)
    }

    async fn put(store: &FaultyStore, key: &str) -> Result<Version, StorageError> {
        store
            .put(&Key::new(key).unwrap(), vec![1].into(), Precondition::IfAbsent)
            .await
    }

    #[tokio::test]
    async fn only_the_named_call_fails() {
        let store = faulty(Rule::on(Operation::Put, When::Nth(2), Fault::Conflict).under("m/"));
        put(&store, "m/1").await.unwrap();
        put(&store, "p/1").await.unwrap();
        assert!(matches!(
            put(&store, "m/2").await,
            Err(StorageError::PreconditionFailed { .. })
        ));
        put(&store, "m/3").await.unwrap();
        assert_eq!((store.faults(), store.list("m/").await.unwrap().len()), (1, 2));
    }

    #[tokio::test]
    async fn a_lost_answer_comes_after_the_work() {
        let store = faulty(Rule::on(Operation::Put, When::Always, Fault::AnswerLost));
        assert!(put(&store, "a").await.unwrap_err().is_transient());
        assert_eq!(store.head(&Key::new("a").unwrap()).await.unwrap(), Some(1));
        store.heal();
        assert!(matches!(
            put(&store, "a").await,
            Err(StorageError::PreconditionFailed { .. })
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_call_never_answers() {
        let store = faulty(Rule::on_any(When::Always, Fault::Stall));
        let an_hour = std::time::Duration::from_secs(3600);
        assert!(tokio::time::timeout(an_hour, put(&store, "a")).await.is_err());
        assert_eq!(store.faults(), 1);
    }

    #[tokio::test]
    async fn a_seed_decides_and_repeats_itself() {
        let mut runs = Vec::new();
        for seed in [7, 7, 8] {
            let store = FaultyStore::new(Arc::new(MemoryStore::new()), seed)
                .with(Rule::on_any(When::Percent(30), Fault::Unavailable));
            let mut run = Vec::new();
            for n in 0..100 {
                run.push(put(&store, &n.to_string()).await.is_ok());
            }
            assert!((10..50).contains(&store.faults()), "{}", store.faults());
            runs.push(run);
        }
        assert!(runs[0] == runs[1] && runs[1] != runs[2]);
    }
}
