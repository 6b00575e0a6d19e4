//! From an address to a store.

use std::sync::Arc;

use crate::url::Place;
use crate::{DirectoryStore, MemoryStore, ObjectStore, OpenError, S3Store, StorageOptions, StorageUrl};

/// Opens the store at `url`. A folder is made where it is missing; `memory:` is a new, empty store each time; to S3 nothing is sent yet.
pub async fn open(url: &StorageUrl, options: &StorageOptions) -> Result<Arc<dyn ObjectStore>, OpenError> {
    Ok(match &url.0 {
        Place::Directory(path) => Arc::new(DirectoryStore::open(path, options).await?),
        Place::S3 { bucket, prefix } => Arc::new(S3Store::open(bucket, prefix.as_ref(), options).await?),
        Place::Memory => Arc::new(MemoryStore::new()),
    })
}
