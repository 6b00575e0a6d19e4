//! What is kept of one job while it waits, so that another gateway can begin it.

use std::time::Duration;

use mayfly_coordination::JobRef;
use tokio::sync::watch;

use super::{Exchange, Waiting};

/// Bytes of a body that is kept; a job with a larger one goes with its gateway.
const MOST_BYTES: usize = 1024 * 1024;
/// How much longer it is kept than the job may wait: until another gateway has taken over.
const BEYOND_WAIT: Duration = Duration::from_secs(60);

/// What is kept of a waiting job.
pub(crate) struct Shelter {
    waiting: Waiting,
    /// Whether the job waits, and no worker can have begun it.
    is_wanted: watch::Receiver<bool>,
    longest_wait: Duration,
    is_kept: watch::Sender<bool>,
}

impl Shelter {
    pub(crate) fn new(waiting: Waiting, is_wanted: watch::Receiver<bool>, longest_wait: Duration) -> Self {
        Self {
            waiting,
            is_wanted,
            longest_wait,
            is_kept: watch::Sender::new(false),
        }
    }

    /// Tells whether it is kept, and so whether another gateway can begin the job; `None` where it never will be.
    pub(crate) fn told(&self, exchange: &Exchange) -> Option<watch::Receiver<bool>> {
        let is_possible = exchange.keys.is_some() && self.waiting.body.len() <= MOST_BYTES;
        is_possible.then(|| self.is_kept.subscribe())
    }

    /// Waits until the job waits, or does not any more.
    pub(super) async fn changed(&mut self) {
        if self.is_wanted.changed().await.is_err() {
            // The job is at its end, which is told elsewhere.
            std::future::pending::<()>().await;
        }
    }

    /// What was kept is lost.
    pub(super) fn was_lost(&mut self) {
        self.is_kept.send_replace(false);
    }

    /// Keeps it, or takes it back.
    pub(super) async fn settle(&mut self, exchange: &Exchange, job: &JobRef) {
        let is_wanted = *self.is_wanted.borrow_and_update();
        let is_kept = *self.is_kept.borrow();
        match (&exchange.keys, is_wanted, is_kept) {
            (Some(keys), true, false) if self.waiting.body.len() <= MOST_BYTES => {
                let Some(sealed) = keys.seal(&job.tenant, &job.job, &self.waiting) else {
                    return;
                };
                let keep_for = self.longest_wait + BEYOND_WAIT;
                let kept = exchange.coordination.shelter(job, &sealed, keep_for).await;
                self.is_kept.send_replace(kept.is_ok());
            }
            (_, false, true) => self.remove(exchange, job).await,
            _ => {}
        }
    }

    /// Takes it back, since the job is over. What cannot be taken back goes after its time.
    pub(super) async fn remove(&mut self, exchange: &Exchange, job: &JobRef) {
        let is_kept = *self.is_kept.borrow();
        if is_kept && exchange.coordination.take_shelter(job).await.is_ok() {
            self.is_kept.send_replace(false);
        }
    }
}
