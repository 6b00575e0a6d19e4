//! Collection of garbage in the storage, now and then. Of several gateways with one storage one does the work; more of them do no harm.

use std::time::Duration;

use mayfly_session::gc::{Gc, GcLine};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

/// The time from the start of a gateway to its first collection, at most.
const FIRST: Duration = Duration::from_secs(60);

/// What is collected, and how often.
#[derive(Debug, Clone)]
pub struct CollectConfig {
    /// What is collected.
    pub gc: Gc,
    /// The time from one collection to the next.
    pub interval: Duration,
    /// How long one may take; it is broken off then, and the next one goes on.
    pub timeout: Duration,
}

impl CollectConfig {
    /// Collects for ever.
    pub(crate) async fn run(&self) {
        let mut ticks = interval_at(Instant::now() + self.interval.min(FIRST), self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.collect().await;
        }
    }

    /// A collection that began within half of the interval was another gateway's.
    async fn collect(&self) {
        let mut tell = |line: &GcLine| match &line.error {
            None => {
                tracing::info!(subject = ?line.subject, key = line.key, bytes = line.bytes, reason = line.reason, "collected");
            }
            Some(error) => tracing::warn!(
                key = line.key,
                error,
                "could not be collected; the next collection tries again"
            ),
        };
        match timeout(
            self.timeout,
            self.gc.run_unless_recent(self.interval / 2, &mut tell),
        )
        .await
        {
            Ok(Ok(Some(sums))) => tracing::info!(
                sessions = sums.sessions,
                objects = sums.objects,
                bytes = sums.bytes,
                failed = sums.failed,
                "collected garbage in the storage"
            ),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "garbage could not be collected; the next collection goes on");
            }
            Err(_) => tracing::warn!("a collection of garbage took too long; the next one goes on"),
        }
    }
}
