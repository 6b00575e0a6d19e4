//! The bounds on what a scratch repository keeps in memory and reads whole.

/// Bounds of one scratch repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScratchLimits {
    /// Bytes of all objects that are kept in memory, new ones and those that were added.
    pub max_new_bytes: u64,
    /// Bytes of one object that is read whole.
    pub max_object_bytes: u64,
    /// Commits that one walk through history looks at.
    pub max_commits: usize,
    /// Trees and blobs that one walk through trees meets.
    pub max_objects: usize,
}

impl Default for ScratchLimits {
    fn default() -> Self {
        Self {
            max_new_bytes: 512 * 1024 * 1024,
            max_object_bytes: 128 * 1024 * 1024,
            max_commits: 5_000_000,
            max_objects: 5_000_000,
        }
    }
}
