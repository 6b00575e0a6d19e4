//! One job from the queue to its end: wait for a worker, offer it the job, follow its stream; with a worker that is lost, once more.
//!
//! What a failed try means is decided by [`retry::judge`], and whether a lost job is repeated by [`Repeat`]. The job goes on whoever reads or does not read its events. This module must not know HTTP.

mod follow;
mod noted;
mod waiting;

use std::sync::Arc;

use mayfly_protocol::{ErrorCode, Failure, Stage};
use mayfly_queue::{Position, WaitReason};
use mayfly_session::Sent;
use mayfly_telemetry::task;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cancel;
use crate::dispatch::{Lease, Place};
use crate::exchange::{Exchange, Keeper, KeptJob, Shelter};
use crate::fleet::WorkerKind;
use crate::fleet::roster::Release;
use crate::intake::HeldBody;
use crate::job_trace::JobTrace;
use crate::jobs::{End, JobWriter};
use crate::open_record::OpenRecord;
use crate::outcome;
use crate::relay;
use crate::retry::{self, Outcome, Repeat, Verdict};
use crate::state::Gateway;
use crate::worker_client::{Order, WorkerStream};
use follow::{Followed, Loss, follow};
use noted::Unsent;
use waiting::Waited;

/// Where a job stands that has a worker already.
const AT_ONCE: Position = Position {
    number: 1,
    reason: WaitReason::NoFreeWorker,
};

/// A job that was let in.
pub(crate) struct JobRun {
    gateway: Arc<Gateway>,
    writer: JobWriter,
    place: Place,
    /// Tells other gateways of the job, once it is carried out.
    keeper: Option<Box<Keeper>>,
    /// Whether another gateway can begin the job, or repeat it; `None` where none ever can.
    sheltered: Option<watch::Receiver<bool>>,
    /// Held to the end: another worker may need it.
    body: HeldBody,
    record: Arc<OpenRecord>,
    /// Whether a worker may have begun the job.
    is_touched: bool,
    /// How often it was noted to whom the job is sent.
    sends: u64,
    trace: JobTrace,
    attempt: u32,
    deadline: Instant,
    last_position: Option<Position>,
    last_retry: Option<Instant>,
    last_refusal: Option<String>,
}

/// How a try ended.
enum Tried {
    Taken(WorkerStream),
    Not(Outcome),
    Stopped,
    Cancelled,
}

impl Tried {
    /// Whether the worker may have begun the job.
    fn may_have_begun(&self) -> bool {
        match self {
            Self::Taken(_) | Self::Stopped | Self::Cancelled => true,
            Self::Not(outcome) => !matches!(
                outcome,
                Outcome::Unreachable(_)
                    | Outcome::Busy
                    | Outcome::Unready
                    | Outcome::Unauthorized
                    | Outcome::Stranger(_)
                    | Outcome::Refused(_)
            ),
        }
    }
}

impl JobRun {
    /// Begins the job's stream with where it stands; where other gateways have a say in that, the stream begins when the job is carried out.
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        writer: JobWriter,
        place: Place,
        position: Position,
        body: HeldBody,
        record: Arc<OpenRecord>,
        trace: JobTrace,
    ) -> Box<Self> {
        let mut sheltered = None;
        let keeper = |exchange: &Arc<Exchange>| {
            let kept_job = KeptJob {
                terms: place.terms(),
                body: body.bytes(),
            };
            let longest_job = gateway.config.queue_timeout + gateway.config.job_timeout;
            let shelter = Shelter::new(kept_job, longest_job);
            sheltered = shelter.told(exchange);
            Box::new(Keeper::new(exchange, writer.job(), place.permit(), shelter))
        };
        let mut run = Box::new(Self {
            deadline: Instant::now() + gateway.config.queue_timeout,
            keeper: gateway.exchange.as_ref().map(keeper),
            sheltered,
            gateway,
            writer,
            place,
            body,
            record,
            trace,
            is_touched: false,
            sends: 0,
            attempt: 1,
            last_position: None,
            last_retry: None,
            last_refusal: None,
        });
        if run.keeper.is_none() {
            run.say_position(position);
        }
        run
    }

    /// Does the job once more, after an attempt of which another gateway and its worker were lost.
    pub(crate) fn repeat_after(mut self: Box<Self>, lost: &Sent) -> Box<Self> {
        self.is_touched = true;
        self.attempt = lost.attempt;
        self.writer.wait_after(lost);
        self.say_next_attempt("the gateway and the worker that had the job were lost");
        self
    }

    /// Takes the job's place in the line of its session among all gateways.
    async fn line_up(&mut self) {
        let Some(mut keeper) = self.keeper.take() else {
            return;
        };
        keeper.line_up().await;
        keeper.introduce().await;
        let position = self.place.position().unwrap_or(AT_ONCE);
        self.say_position(position);
        task::spawn(&self.gateway.running, keeper.run());
    }

    /// Carries the job to its end. The job is on the heap: its task would have room for it in each of its steps.
    pub(crate) async fn carry_out(mut self: Box<Self>) {
        Box::pin(self.line_up()).await;
        loop {
            let lease = match self.wait().await {
                Waited::Worker(lease) => lease,
                Waited::Over(failure) => return Box::pin(self.end(failure)).await,
                Waited::Elsewhere => return self.leave(),
            };
            self.trace.attempts(self.attempt, lease.url());
            if let Some(unsent) = Box::pin(self.note_worker(&lease)).await {
                lease.release(Release::Untouched);
                return match unsent {
                    Unsent::Over(failure) => Box::pin(self.end(failure)).await,
                    Unsent::Elsewhere => self.leave(),
                };
            }
            // On the heap, as is all that is over before the job runs: a job that runs holds no room for it.
            let tried = Box::pin(self.offer(&lease)).await;
            if tried.may_have_begun() {
                self.is_touched = true;
                self.writer.touch();
            }
            let lost = match tried {
                Tried::Taken(mut stream) => match self.follow(&lease, &mut stream).await {
                    Followed::Ended(end) => return self.end_well(lease, stream, end).await,
                    Followed::GivenUp(failure) => {
                        lease.release(Release::Failed);
                        return Box::pin(self.end(failure)).await;
                    }
                    Followed::Stopped => {
                        lease.release(Release::Failed);
                        return self.leave();
                    }
                    Followed::Lost(lost) => lost,
                },
                Tried::Stopped => {
                    lease.release(Release::Failed);
                    return self.leave();
                }
                Tried::Cancelled => {
                    self.cancel_unheard(&lease);
                    lease.release(Release::Failed);
                    let failure = cancel::unsettled(&self.gateway.config);
                    return Box::pin(self.end(failure)).await;
                }
                Tried::Not(outcome) => match retry::judge(&outcome) {
                    Verdict::NextWorker(aside) => {
                        self.say_retry(&lease, &outcome);
                        self.place.wait_again(lease, Release::Refused(aside));
                        continue;
                    }
                    Verdict::Fail(failure, aside) => {
                        tracing::warn!(job.id = %self.writer.job().id, worker = %lease.url(), "the worker {outcome}");
                        lease.release(Release::Refused(aside));
                        return Box::pin(self.end(failure)).await;
                    }
                    Verdict::Lost(failure) => Loss { failure, relayed: 0 },
                },
            };
            if let Some(end) = Box::pin(self.end_of_lost(&lost)).await {
                lease.release(Release::Failed);
                return self.finish(end);
            }
            self.repeat(lease, &lost.failure);
        }
    }

    /// Whether another gateway can begin the job.
    fn is_sheltered(&self) -> bool {
        self.sheltered.as_ref().is_some_and(|kept| *kept.borrow())
    }

    /// Events of the job's stream before the first of the worker that is asked now; `dispatched` comes between.
    fn events_before(&self) -> u64 {
        self.writer.job().log.size().events + 1
    }

    async fn offer(&self, lease: &Lease) -> Tried {
        let job = self.writer.job();
        let _dispatch = self.trace.dispatch();
        let order = Order {
            trace: self.trace.context(),
            path: job.kind.path(),
            job_id: &job.id,
            attempt: self.attempt,
            accepted_at: job.accepted_at,
            tenant: &job.lane.tenant,
            events_before: self.events_before(),
            body: self.body.bytes(),
        };
        tokio::select! {
            biased;
            answer = self.gateway.client.offer(lease.url(), &order) => match answer {
                Ok(stream) => Tried::Taken(stream),
                Err(outcome) => Tried::Not(outcome),
            },
            () = self.gateway.stopping.cancelled() => Tried::Stopped,
            () = cancel::overdue(&self.gateway.config, job) => Tried::Cancelled,
        }
    }

    /// Tells a worker to cancel the job that did not say whether it has it, or fell silent.
    fn cancel_unheard(&self, lease: &Lease) {
        let (gateway, url, id) = (
            Arc::clone(&self.gateway),
            lease.url().clone(),
            self.writer.job().id.clone(),
        );
        task::spawn(&self.gateway.running, async move {
            cancel::tell(&gateway, &url, &id).await;
        });
    }

    /// Follows the stream of the worker that took the job.
    async fn follow(&self, lease: &Lease, stream: &mut WorkerStream) -> Followed {
        let writer = &self.writer;
        lease.began();
        writer.begin(lease.url().to_string());
        let worker = WorkerKind::from(writer.job().kind);
        writer.progress(Stage::Dispatched, format!("A {worker} took the job"), None);
        tracing::info!(job.id = %writer.job().id, job.attempt = self.attempt, worker = %lease.url(), "a worker took the job");
        follow(&self.gateway, lease.url(), stream, writer).await
    }

    /// The end of a job whose worker was lost: the true one, where it is known, or ours where the job is not to be repeated.
    async fn end_of_lost(&self, lost: &Loss) -> Option<End> {
        if let Some(end) = outcome::true_end(&self.gateway, &self.writer, self.attempt, lost.relayed).await {
            return Some(end);
        }
        let next = self.next_attempt();
        self.gateway.metrics.lost(self.writer.job().kind, next.is_some());
        match next {
            Some(_) => None,
            None => Some(self.kept(lost.failure.clone()).await),
        }
    }

    fn next_attempt(&self) -> Option<u32> {
        let repeat = Repeat {
            attempt: self.attempt,
            attempts: self.gateway.config.job_attempts,
            is_cancelled: self.writer.job().cancelled.is_cancelled(),
            is_stopping: self.gateway.stopping.is_cancelled(),
        };
        repeat.next()
    }

    /// Puts the job back to the front of its session's, for the next attempt at it.
    fn repeat(&mut self, lease: Lease, lost: &Failure) {
        // One that is only slow need not go on with what will not be saved.
        self.cancel_unheard(&lease);
        self.writer.wait_again();
        self.say_next_attempt(lost_in_short(lost));
        tracing::warn!(job.id = %self.writer.job().id, job.attempt = self.attempt, worker = %lease.url(), "the worker was lost; the job is repeated");
        self.deadline = Instant::now() + self.gateway.config.queue_timeout;
        self.last_position = None;
        self.place.wait_again(lease, Release::Failed);
    }

    fn say_next_attempt(&mut self, lost: &str) {
        self.attempt += 1;
        let (attempt, attempts) = (self.attempt, self.gateway.config.job_attempts);
        self.writer.progress(
            Stage::Retrying,
            format!("{lost}; attempt {attempt} of {attempts} follows"),
            Some(json!({"attempt": attempt, "attempts": attempts})),
        );
    }

    /// Ends the job as its worker did. The session is free before the client can send its next job, and the worker once it has seen its stream delivered.
    async fn end_well(self: Box<Self>, lease: Lease, mut stream: WorkerStream, end: End) {
        let linger = self.gateway.config.linger;
        self.finish(end);
        relay::linger(&mut stream, linger).await;
        drop(stream);
        lease.release(Release::Done);
    }

    /// Ends the job as the gateway says, once that is kept.
    async fn end(self: Box<Self>, failure: Failure) {
        let end = self.kept(failure).await;
        self.finish(end);
    }

    /// Keeps the gateway's own end of the job; where the worker's was kept before, that one counts.
    async fn kept(&self, failure: Failure) -> End {
        let attempt = if self.is_touched { self.attempt } else { 0 };
        outcome::keep_own(&self.gateway, &self.writer, attempt, failure).await
    }

    fn finish(self: Box<Self>, end: End) {
        let Self {
            writer,
            place,
            record,
            gateway,
            trace,
            ..
        } = *self;
        trace.ended(&end);
        drop(place);
        let job = Arc::clone(writer.job());
        writer.finish(end);
        let running = gateway.running.clone();
        task::spawn(&running, async move {
            if let Some(outcomes) = &gateway.outcomes {
                record.close(outcomes, &job).await;
            }
        });
    }

    /// The gateway ends before the job. With a storage the next gateway goes on with it; without one nobody here could say any more how it ends.
    fn leave(self: Box<Self>) {
        match self.gateway.own_jobs {
            Some(_) => self.writer.leave(),
            None => self.finish(End::Ours(stopped())),
        }
    }

    fn say_position(&mut self, position: Position) {
        if self.last_position == Some(position) {
            return;
        }
        self.last_position = Some(position);
        let message = match position.reason {
            WaitReason::NoFreeWorker => format!("Waiting for a free worker, at position {}", position.number),
            WaitReason::SessionBusy => "Waiting for an earlier job of this session".to_owned(),
            WaitReason::TenantLimit => {
                "Waiting for another job of this tenant to end: as many run as may".to_owned()
            }
        };
        let detail = json!({"position": position.number, "reason": position.reason});
        self.writer.progress(Stage::Queued, message, Some(detail));
    }

    /// Says that a worker did not take the job, unless that was said just now.
    fn say_retry(&mut self, lease: &Lease, outcome: &Outcome) {
        tracing::debug!(job.id = %self.writer.job().id, worker = %lease.url(), "the worker {outcome}");
        self.last_refusal = Some(outcome.to_string());
        self.gateway.metrics.refused(self.writer.job().kind);
        let interval = self.gateway.config.position_interval;
        if self.last_retry.is_some_and(|at| at.elapsed() < interval) {
            return;
        }
        self.last_retry = Some(Instant::now());
        self.writer.progress(
            Stage::Retrying,
            format!("A worker {outcome}; trying another"),
            None,
        );
    }
}

/// What is said of a loss before the next attempt: the failure's first half.
fn lost_in_short(failure: &Failure) -> &str {
    failure.error.split(';').next().unwrap_or_default()
}

fn stopped() -> Failure {
    let text = "the gateway is shutting down and follows the job no longer; the worker may still finish it, so look at the session before sending it again";
    Failure::new(ErrorCode::ShuttingDown, text)
}
