//! The bounds on what one job may move.

/// The bounds on what one job may move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LfsLimits {
    /// Bytes of all contents that are fetched.
    pub max_bytes: u64,
    /// Contents that are fetched, or sent.
    pub max_objects: usize,
    /// Contents that one request asks about.
    pub max_batch: usize,
    /// Bytes of an answer of the batch API.
    pub max_answer_bytes: usize,
    /// Transfers at the same time.
    pub transfers_at_once: usize,
}

impl Default for LfsLimits {
    fn default() -> Self {
        Self {
            max_bytes: 1 << 30,
            max_objects: 100_000,
            max_batch: 100,
            max_answer_bytes: 1 << 20,
            transfers_at_once: 4,
        }
    }
}
