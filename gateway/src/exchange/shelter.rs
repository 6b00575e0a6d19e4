//! What is kept of one job until it is over, so that another gateway can begin it, or repeat it where its worker is lost, too.

use std::time::Duration;

use mayfly_coordination::JobRef;
use tokio::sync::watch;

use super::{Exchange, KeptJob};

/// Bytes of a body that is kept; a job with a larger one goes with its gateway.
const MOST_BYTES: usize = 1024 * 1024;
/// How much longer it is kept than the job may take: until another gateway has taken over.
const BEYOND_JOB: Duration = Duration::from_secs(60);

/// What is kept of a job.
pub(crate) struct Shelter {
    kept_job: KeptJob,
    longest_job: Duration,
    is_kept: watch::Sender<bool>,
}

impl Shelter {
    /// For a job that takes no longer than this, from its arrival to its end.
    pub(crate) fn new(kept_job: KeptJob, longest_job: Duration) -> Self {
        Self {
            kept_job,
            longest_job,
            is_kept: watch::Sender::new(false),
        }
    }

    /// Tells whether it is kept, and so whether another gateway can begin the job; `None` where it never will be.
    pub(crate) fn told(&self, exchange: &Exchange) -> Option<watch::Receiver<bool>> {
        let is_possible = exchange.keys.is_some() && self.kept_job.body.len() <= MOST_BYTES;
        is_possible.then(|| self.is_kept.subscribe())
    }

    /// What was kept is lost.
    pub(super) fn was_lost(&mut self) {
        self.is_kept.send_replace(false);
    }

    /// Keeps it, unless it is kept already.
    pub(super) async fn keep(&mut self, exchange: &Exchange, job: &JobRef) {
        let is_kept = *self.is_kept.borrow();
        let Some(keys) = &exchange.keys else { return };
        if is_kept || self.kept_job.body.len() > MOST_BYTES {
            return;
        }
        let Some(sealed) = keys.seal(&job.tenant, &job.job, &self.kept_job) else {
            return;
        };
        let keep_for = self.longest_job + BEYOND_JOB;
        let kept = exchange.coordination.shelter(job, &sealed, keep_for).await;
        self.is_kept.send_replace(kept.is_ok());
    }
}
