//! From an address to a store.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::timeout;
use tracing::warn;

use crate::probe::{self, ProbeError, ProbeSize};
use crate::url::Place;
use crate::{DirectoryStore, MemoryStore, ObjectStore, OpenError, S3Store, StorageOptions, StorageUrl};

/// Opens the store at `url`. A folder is made where it is missing; `memory:` is a new, empty store each time; to S3 nothing is sent yet.
pub async fn open(url: &StorageUrl, options: &StorageOptions) -> Result<Arc<dyn ObjectStore>, OpenError> {
    Ok(open_place(url, options).await?.0)
}

/// When a store is held to its promise about conditional writes by a race.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Race {
    /// Now: for a process that lives long.
    Now,
    /// Now, unless the store holds a fresh note that it passed: one read, for a process that starts for every job. A store that is not
    /// available at the moment is opened unproved, so that an outage ends jobs and not processes; the next to start proves it.
    UnlessNoted,
}

/// Why a store is not opened for several writers.
#[derive(Debug, thiserror::Error)]
pub enum SharedOpenError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It fails the probe, or cannot be probed.
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

/// Opens the store at `url` for several writers: refuses one whose conditional writes lose races. A pass is noted in the store.
pub async fn open_shared(
    url: &StorageUrl,
    options: &StorageOptions,
    race: Race,
) -> Result<Arc<dyn ObjectStore>, SharedOpenError> {
    let (store, place) = open_place(url, options).await?;
    if !url.is_shared() {
        return Ok(store);
    }
    let outcome = match race {
        Race::Now => prove(&*store, &place).await,
        Race::UnlessNoted => prove_unless_noted(&*store, &place, options).await,
    };
    match outcome {
        Err(ProbeError::Storage(error)) if race == Race::UnlessNoted && error.is_transient() => {
            warn!(
                error = &error as &dyn std::error::Error,
                "`{url}` is not available: its conditional writes are not proved, which the next start makes up for"
            );
        }
        outcome => outcome?,
    }
    Ok(store)
}

async fn prove(store: &dyn ObjectStore, place: &str) -> Result<(), ProbeError> {
    probe::conditional_writes(store, ProbeSize::default()).await?;
    probe::note(store, place, SystemTime::now()).await
}

async fn prove_unless_noted(
    store: &dyn ObjectStore,
    place: &str,
    options: &StorageOptions,
) -> Result<(), ProbeError> {
    let noted = probe::is_noted(store, place, SystemTime::now());
    if in_time(options.start_timeout, noted).await? {
        return Ok(());
    }
    in_time(options.operation_timeout, prove(store, place)).await
}

async fn in_time<T>(
    longest: Duration,
    step: impl Future<Output = Result<T, ProbeError>>,
) -> Result<T, ProbeError> {
    let outcome = timeout(longest, step).await;
    outcome.unwrap_or_else(|elapsed| Err(probe::unavailable(elapsed)))
}

/// The store, and words that tell its place from all others.
async fn open_place(
    url: &StorageUrl,
    options: &StorageOptions,
) -> Result<(Arc<dyn ObjectStore>, String), OpenError> {
    Ok(match &url.0 {
        Place::Directory(path) => (
            Arc::new(DirectoryStore::open(path, options).await?),
            url.to_string(),
        ),
        Place::S3 { bucket, prefix } => {
            let store = S3Store::open(bucket, prefix.as_ref(), options).await?;
            let place = store.place();
            (Arc::new(store), place)
        }
        Place::Memory => (Arc::new(MemoryStore::new()), url.to_string()),
    })
}
