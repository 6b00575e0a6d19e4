//! From an address to a store.

use std::sync::Arc;

use crate::url::Place;
use crate::{DirectoryStore, MemoryStore, ObjectStore, OpenError, StorageOptions, StorageUrl};

/// Opens the store at `url`. A folder is made where it is missing; `memory:` is a new, empty store each time.
pub async fn open(url: &StorageUrl, options: &StorageOptions) -> Result<Arc<dyn ObjectStore>, OpenError> {
    Ok(match &url.0 {
        Place::Directory(path) => Arc::new(DirectoryStore::open(path, options).await?),
        Place::Memory => Arc::new(MemoryStore::new()),
        Place::S3 { .. } => {
            return Err(OpenError::Folder {
                path: "s3".into(),
                source: std::io::ErrorKind::Unsupported.into(),
            });
        }
    })
}
