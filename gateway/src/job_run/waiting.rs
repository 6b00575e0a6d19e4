//! The wait for a worker: for as long as the job may wait, the client wants it, and this gateway may look for one.

use std::pin::pin;
use std::sync::Arc;

use futures::FutureExt as _;
use mayfly_protocol::{ErrorCode, Failure};
use mayfly_queue::WaitReason;
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until};

use super::JobRun;
use crate::cancel;
use crate::dispatch::Lease;
use crate::state::Gateway;

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
        let mut given_up = pin!(given_up(
            gateway,
            self.sheltered.clone(),
            self.is_touched,
            self.attempt
        ));
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

/// Waits until this gateway may look for a worker no longer: once it drains, or, where the client should not have to send the job again, when its
/// grace is over.
///
/// `sheltered` says whether another gateway can begin the job; `is_touched` whether a worker had it, which was lost.
async fn given_up(
    gateway: Arc<Gateway>,
    sheltered: Option<watch::Receiver<bool>>,
    is_touched: bool,
    attempt: u32,
) -> Waited {
    let is_kept = || sheltered.as_ref().is_some_and(|it| *it.borrow());
    gateway.draining.cancelled().await;
    if is_kept() || is_touched {
        gateway.stopping.cancelled().await;
    }
    match is_kept() {
        true => Waited::Elsewhere,
        false => Waited::Over(drained(attempt)),
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
