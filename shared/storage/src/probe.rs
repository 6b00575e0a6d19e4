//! Finds out, by a real race, whether a store keeps its promise about conditional writes.
//!
//! Some servers that speak S3 ignore the conditions, and some check them but let both writers of a race win, which two calls one after
//! the other do not show. Whoever leans on compare-and-swap runs this at start, and refuses a store that fails it.

mod note;

use futures::future::join_all;
use uuid::Uuid;

use crate::{Key, ObjectStore, Precondition, StorageError, Version};

pub(crate) use note::{is_noted, note, unavailable};

/// How hard the probe tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeSize {
    /// How many writers race for one key; at least 2.
    pub writers: u16,
    /// How many races of each kind are held, each on a key of its own; at least 1.
    pub rounds: u16,
}

impl Default for ProbeSize {
    /// 32 writers, twice.
    fn default() -> Self {
        Self {
            writers: 32,
            rounds: 2,
        }
    }
}

/// How a store broke the promise, or why that could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Not exactly one of the create-only writers won.
    #[error(
        "the object storage does not keep conditional writes (If-None-Match): {winners} of {writers} writers created one object; use another store"
    )]
    CreateRace {
        /// How many won.
        winners: usize,
        /// How many raced.
        writers: u16,
    },
    /// Not exactly one of the compare-and-swap writers won.
    #[error(
        "the object storage does not keep conditional writes (If-Match): {winners} of {writers} writers replaced the same version; use another store"
    )]
    SwapRace {
        /// How many won.
        winners: usize,
        /// How many raced.
        writers: u16,
    },
    /// A write with the version of a replaced state was taken.
    #[error(
        "the object storage does not keep conditional writes (If-Match): it took a write with a stale version; use another store"
    )]
    StaleVersionTaken,
    /// A swap of an object that is absent was taken.
    #[error(
        "the object storage does not keep conditional writes (If-Match): it took a swap of an absent object; use another store"
    )]
    AbsentVersionTaken,
    /// The object does not hold what the winner wrote.
    #[error(
        "the object storage does not keep conditional writes: a writer that was told that it won finds the bytes of another; use another store"
    )]
    WinnerOverwritten,
    /// The store failed in another way.
    #[error("the object storage could not be probed for conditional writes")]
    Storage(#[source] StorageError),
}

const MAX_PROBE_BYTES: u64 = 1024;

/// Races create-only writers, then compare-and-swap writers, and tries stale versions, on keys of its own under `mayfly-probe/`, which it
/// removes again whatever comes.
pub async fn conditional_writes(store: &dyn ObjectStore, size: ProbeSize) -> Result<(), ProbeError> {
    for _ in 0..size.rounds.max(1) {
        let key = scratch_key()?;
        let verdict = probe_key(store, &key, size.writers.max(2)).await;
        let cleaned = store.delete(&key).await;
        verdict?;
        cleaned.map_err(ProbeError::Storage)?;
    }
    Ok(())
}

fn scratch_key() -> Result<Key, ProbeError> {
    let text = format!("mayfly-probe/{}", Uuid::new_v4());
    Key::new(&text).map_err(|invalid| {
        let cause = crate::error::Subject::of_prefix(crate::Operation::Put, &text).unavailable(invalid);
        ProbeError::Storage(cause)
    })
}

async fn probe_key(store: &dyn ObjectStore, key: &Key, writers: u16) -> Result<(), ProbeError> {
    let created = race(store, key, writers, "create", &Precondition::IfAbsent).await?;
    let first = match created.as_slice() {
        [winner] => check_winner(store, key, winner).await?,
        winners => {
            return Err(ProbeError::CreateRace {
                winners: winners.len(),
                writers,
            });
        }
    };
    let swap = Precondition::IfMatch(first.clone());
    let swapped = race(store, key, writers, "swap", &swap).await?;
    match swapped.as_slice() {
        [winner] => check_winner(store, key, winner).await?,
        winners => {
            return Err(ProbeError::SwapRace {
                winners: winners.len(),
                writers,
            });
        }
    };
    if write(store, key, "stale", &swap).await?.is_some() {
        return Err(ProbeError::StaleVersionTaken);
    }
    store.delete(key).await.map_err(ProbeError::Storage)?;
    match write(store, key, "absent", &swap).await? {
        Some(_) => Err(ProbeError::AbsentVersionTaken),
        None => Ok(()),
    }
}

/// A writer that was told that it won.
struct Winner {
    content: String,
    version: Version,
}

async fn race(
    store: &dyn ObjectStore,
    key: &Key,
    writers: u16,
    kind: &str,
    precondition: &Precondition,
) -> Result<Vec<Winner>, ProbeError> {
    let attempts = (0..writers).map(|number| async move {
        let content = format!("{kind} {number}");
        let written = write(store, key, &content, precondition).await?;
        Ok(written.map(|version| Winner { content, version }))
    });
    let outcomes: Result<Vec<_>, ProbeError> = join_all(attempts).await.into_iter().collect();
    Ok(outcomes?.into_iter().flatten().collect())
}

async fn write(
    store: &dyn ObjectStore,
    key: &Key,
    content: &str,
    precondition: &Precondition,
) -> Result<Option<Version>, ProbeError> {
    let body = content.to_owned().into_bytes().into();
    match store.put(key, body, precondition.clone()).await {
        Ok(version) => Ok(Some(version)),
        Err(StorageError::PreconditionFailed { .. }) => Ok(None),
        Err(error) => Err(ProbeError::Storage(error)),
    }
}

async fn check_winner(store: &dyn ObjectStore, key: &Key, winner: &Winner) -> Result<Version, ProbeError> {
    let object = store
        .get(key, MAX_PROBE_BYTES)
        .await
        .map_err(ProbeError::Storage)?;
    if object.bytes == winner.content.as_bytes() && object.version == winner.version {
        Ok(object.version)
    } else {
        Err(ProbeError::WinnerOverwritten)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::ops::Range;
    use std::path::Path;
    use std::sync::Arc;

    use async_trait::async_trait;
    use bytes::Bytes;

    use super::*;
    use crate::{
        Body, Fault, FaultyStore, FolderPage, MemoryStore, Object, ObjectMeta, Operation, Rule, Unfinished,
        Upload, When,
    };

    /// Looks first and writes later, as some servers do: right one by one, wrong in a race.
    #[derive(Debug, Default)]
    struct Racy {
        store: MemoryStore,
        only_swaps: bool,
    }

    #[async_trait]
    impl ObjectStore for Racy {
        async fn put(
            &self,
            key: &Key,
            body: Body,
            precondition: Precondition,
        ) -> Result<Version, StorageError> {
            if self.only_swaps && precondition == Precondition::IfAbsent {
                return self.store.put(key, body, precondition).await;
            }
            let current = match self.store.get(key, MAX_PROBE_BYTES).await {
                Ok(object) => Some(object.version),
                Err(_) => None,
            };
            tokio::task::yield_now().await;
            match precondition.holds(current.as_ref()) {
                true => self.store.put(key, body, Precondition::None).await,
                false => Err(StorageError::PreconditionFailed { key: key.to_string() }),
            }
        }
        async fn get(&self, key: &Key, max_bytes: u64) -> Result<Object, StorageError> {
            self.store.get(key, max_bytes).await
        }
        async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StorageError> {
            self.store.get_range(key, range).await
        }
        async fn download(&self, key: &Key, to: &Path, max_bytes: u64) -> Result<u64, StorageError> {
            self.store.download(key, to, max_bytes).await
        }
        async fn head(&self, key: &Key) -> Result<Option<u64>, StorageError> {
            self.store.head(key).await
        }
        async fn delete(&self, key: &Key) -> Result<(), StorageError> {
            self.store.delete(key).await
        }
        async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StorageError> {
            self.store.list(prefix).await
        }
        async fn list_folder(
            &self,
            prefix: &str,
            after: Option<&str>,
            limit: NonZeroUsize,
        ) -> Result<FolderPage, StorageError> {
            self.store.list_folder(prefix, after, limit).await
        }
        async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>, StorageError> {
            self.store.upload(key).await
        }
        async fn unfinished(&self) -> Result<Vec<Unfinished>, StorageError> {
            self.store.unfinished().await
        }
        async fn discard(&self, unfinished: &Unfinished) -> Result<(), StorageError> {
            self.store.discard(unfinished).await
        }
        async fn settle(&self) {
            self.store.settle().await;
        }
    }

    #[tokio::test]
    async fn a_store_that_is_right_one_by_one_fails_in_the_race() {
        let store = Racy::default();
        let error = conditional_writes(&store, ProbeSize::default())
            .await
            .unwrap_err();
        assert!(
            matches!(error, ProbeError::CreateRace { winners: 2.., .. }),
            "{error:?}"
        );
        assert!(store.list("").await.unwrap().is_empty());

        let store = Racy {
            only_swaps: true,
            ..Racy::default()
        };
        let error = conditional_writes(&store, ProbeSize::default())
            .await
            .unwrap_err();
        assert!(
            matches!(error, ProbeError::SwapRace { winners: 2.., .. }),
            "{error:?}"
        );
        assert!(store.list("").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_probed_is_no_store_that_failed() {
        let store = FaultyStore::new(Arc::new(MemoryStore::new()), 1).with(Rule::on(
            Operation::Put,
            When::Nth(7),
            Fault::Unavailable,
        ));
        let error = conditional_writes(&store, ProbeSize::default())
            .await
            .unwrap_err();
        assert!(matches!(error, ProbeError::Storage(_)), "{error:?}");
        assert!(store.list("").await.unwrap().is_empty());
    }
}
