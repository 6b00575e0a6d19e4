//! Progress of a fetch: counters that the indexing thread moves, and reports of them a few times a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::remote::words::last_message;

/// The least time between two reports of one kind.
pub(crate) const REPORT_INTERVAL: Duration = Duration::from_millis(250);

/// How far a fetch is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchProgress {
    /// The pack arrives.
    Receiving {
        /// Objects that are here.
        objects: u64,
        /// Objects in the pack, once that is known.
        total: Option<u64>,
        /// Bytes of the pack that are here.
        bytes: u64,
    },
    /// The pack is here; its deltas are resolved.
    Resolving {
        /// Objects that are resolved.
        done: u64,
        /// Objects in the pack.
        total: u64,
    },
    /// The remote's own words: one line of at most 200 characters, without control characters.
    Remote(String),
}

/// What the indexing thread counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Objects in the pack; 0 until its header is here.
    pub(crate) total: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) resolved: AtomicU64,
}

/// Reports, but not too often.
pub(crate) struct Reporter {
    sink: Arc<dyn Fn(FetchProgress) + Send + Sync>,
    counters: Arc<Counters>,
    last_count: Option<Instant>,
    last_words: Option<Instant>,
}

impl Reporter {
    pub(crate) fn new(sink: Arc<dyn Fn(FetchProgress) + Send + Sync>) -> Self {
        Self {
            sink,
            counters: Arc::default(),
            last_count: None,
            last_words: None,
        }
    }

    pub(crate) fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    pub(crate) fn receiving(&mut self, bytes: u64) {
        if is_due(&mut self.last_count) {
            let total = self.counters.total.load(Ordering::Relaxed);
            (self.sink)(FetchProgress::Receiving {
                objects: self.counters.received.load(Ordering::Relaxed),
                total: (total > 0).then_some(total),
                bytes,
            });
        }
    }

    pub(crate) fn resolving(&mut self) {
        if is_due(&mut self.last_count) {
            (self.sink)(FetchProgress::Resolving {
                done: self.counters.resolved.load(Ordering::Relaxed),
                total: self.counters.total.load(Ordering::Relaxed),
            });
        }
    }

    pub(crate) fn remote(&mut self, raw: &[u8]) {
        if let Some(message) = last_message(raw)
            && is_due(&mut self.last_words)
        {
            (self.sink)(FetchProgress::Remote(message));
        }
    }
}

fn is_due(last: &mut Option<Instant>) -> bool {
    let due = last.is_none_or(|last| last.elapsed() >= REPORT_INTERVAL);
    if due {
        *last = Some(Instant::now());
    }
    due
}
