//! Whether the streams of a job have reached their clients: that of whoever sent it, and those of whoever reads along.
//!
//! This module must not know HTTP.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// Streams of one job that are open at the same time, beside the first.
const MAX_READERS: usize = 16;

/// The streams of a job; each is delivered when its token fires.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deliveries(Arc<Mutex<Vec<CancellationToken>>>);

impl Deliveries {
    /// The streams, with that of whoever sent the job.
    pub(crate) fn of(first: CancellationToken) -> Self {
        Self(Arc::new(Mutex::new(vec![first])))
    }

    /// Adds a stream; false where there are as many as may be.
    pub(crate) fn add(&self, stream: CancellationToken) -> bool {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|stream| !stream.is_cancelled());
        let has_room = streams.len() <= MAX_READERS;
        if has_room {
            streams.push(stream);
        }
        has_room
    }

    /// Waits until nothing can be sent to anybody any more.
    pub(crate) async fn all(&self) {
        while let Some(open) = self.first_open() {
            open.cancelled().await;
        }
    }

    fn first_open(&self) -> Option<CancellationToken> {
        let streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        streams.iter().find(|stream| !stream.is_cancelled()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_are_waited_for_and_no_more_than_may_be_are_taken() {
        let first = CancellationToken::new();
        let deliveries = Deliveries::of(first.clone());
        let others: Vec<_> = (0..MAX_READERS).map(|_| CancellationToken::new()).collect();
        assert!(others.iter().all(|other| deliveries.add(other.clone())));
        assert!(!deliveries.add(CancellationToken::new()));
        first.cancel();
        assert!(deliveries.first_open().is_some());
        others.iter().for_each(CancellationToken::cancel);
        deliveries.all().await;
        assert!(deliveries.add(CancellationToken::new()));
    }
}
