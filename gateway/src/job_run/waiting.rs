//! The wait for a worker: for as long as the job may wait, the client wants it, and this gateway may look for one.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use mayfly_protocol::{ErrorCode, Failure};
use mayfly_queue::WaitReason;
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout};

use super::JobRun;
use crate::cancel;
use crate::dispatch::Lease;
use crate::state::Gateway;

/// How long a job of a gateway that ends may take to be kept for others.
const SHELTERING: Duration = Duration::from_secs(1);

/// How the wait for a worker ended.
pub(super) enum Waited {
    Worker(Lease),
    Over(Failure),
    /// Another gateway begins the job.
    Elsewhere,
}

impl JobRun {
    /// Waits for a worker, and says where the job stands whenever that changes.
    pub(super) async fn wait(&mut self) -> Waited {
        self.trace.waits();
        let draining = self.gateway.draining.clone();
        let cancelled = self.writer.job().cancelled.clone();
        let interval = self.gateway.config.position_interval;
        let has_to_stop = draining.is_cancelled() || cancelled.is_cancelled();
        if !has_to_stop && let Some(lease) = self.place.worker().now_or_never() {
            return Waited::Worker(lease);
        }
        self.note_waiting();
        let gateway = Arc::clone(&self.gateway);
        let mut given_up = pin!(given_up(gateway, self.prospect(), self.attempt));
        loop {
            tokio::select! {
                biased;
                waited = &mut given_up => return waited,
                () = cancelled.cancelled() => return Waited::Over(cancel::waiting(self.attempt)),
                lease = self.place.worker() => return Waited::Worker(lease),
                () = sleep_until(self.deadline) => return Waited::Over(self.timed_out()),
                () = sleep(interval) => {}
            }
            if let Some(position) = self.place.position() {
                self.say_position(position);
            }
        }
    }

    fn prospect(&self) -> Prospect {
        match &self.sheltered {
            _ if self.is_touched => Prospect::Touched,
            Some(kept) => Prospect::Sheltered(kept.clone()),
            None => Prospect::Untouched,
        }
    }

    fn timed_out(&self) -> Failure {
        let waited = self.gateway.config.queue_timeout.as_secs_f32();
        let reason = match (
            self.place.position().map(|position| position.reason),
            &self.last_refusal,
        ) {
            (Some(WaitReason::SessionBusy), _) => {
                "an earlier job of this session is still running".to_owned()
            }
            (Some(WaitReason::TenantLimit), _) => "as many jobs of this tenant are running as may".to_owned(),
            (_, Some(refusal)) => format!("the worker that was asked last {refusal}"),
            (_, None) => "all are busy".to_owned(),
        };
        match self.attempt {
            1 => {
                let text = format!("no worker took the job within {waited} s: {reason}; send it again later");
                Failure::new(ErrorCode::QueueTimeout, text)
            }
            attempt => {
                let text = format!(
                    "the worker was lost, and no other took the job for attempt {attempt} within {waited} s: {reason}; the job may have run, \
                     so look at the session before sending it again"
                );
                Failure::new(ErrorCode::WorkerLost, text)
            }
        }
    }
}

/// What becomes of a waiting job once this gateway may look for a worker no longer.
enum Prospect {
    /// Nobody began it: its client sends it again, elsewhere.
    Untouched,
    /// As this says, another gateway can begin it, or soon can.
    Sheltered(watch::Receiver<bool>),
    /// A worker that was lost had it, and nobody else can repeat it.
    Touched,
}

/// Waits until this gateway may look for a worker no longer: once it drains, or, where its client should not have to send the job again, when its
/// grace is over.
async fn given_up(gateway: Arc<Gateway>, prospect: Prospect, attempt: u32) -> Waited {
    gateway.draining.cancelled().await;
    let over = Waited::Over(drained(attempt));
    match prospect {
        Prospect::Untouched => over,
        Prospect::Touched => {
            gateway.stopping.cancelled().await;
            over
        }
        Prospect::Sheltered(mut kept) => {
            // A job that has just begun to wait is about to be kept.
            let soon = timeout(SHELTERING, kept.wait_for(|is_kept| *is_kept)).await;
            if !soon.is_ok_and(|soon| soon.is_ok()) {
                return over;
            }
            gateway.stopping.cancelled().await;
            let is_kept = *kept.borrow();
            match is_kept {
                true => Waited::Elsewhere,
                false => over,
            }
        }
    }
}

/// The end of a job that waits for its worker, or for another one, when the gateway ends.
fn drained(attempt: u32) -> Failure {
    match attempt {
        1 => {
            let text = "the gateway is shutting down, and no worker had begun the job; send it again";
            Failure::new(ErrorCode::ShuttingDown, text)
        }
        _ => {
            let text = "the worker that had the job was lost, and the gateway is shutting down before another one took it; the job may have run, so look at \
                        the session before sending it again";
            Failure::new(ErrorCode::WorkerLost, text)
        }
    }
}
