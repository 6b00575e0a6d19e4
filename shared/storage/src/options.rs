//! The settings of a store: every wait and size that it has, with defaults that suit production.

use std::time::Duration;

/// How a store behaves. All sizes are in bytes.
#[derive(Debug, Clone)]
pub struct StorageOptions {
    /// The longest wait for the answer to one attempt of one request, or for a lock; the time to move content comes on top, see
    /// `min_bytes_per_second`.
    pub operation_timeout: Duration,
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self {
            operation_timeout: Duration::from_secs(30),
        }
    }
}
