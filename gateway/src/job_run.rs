//! One job from the queue to its end: wait for a worker, offer it the job, follow its stream.
//!
//! What a failed try means is decided by [`retry::judge`]. The job goes on whoever reads or does not read its events. This module must not know HTTP.

use std::sync::Arc;

use mayfly_protocol::{ErrorCode, Failure, Stage};
use mayfly_telemetry::task;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::cancel;
use crate::dispatch::{Lease, Place};
use crate::fleet::WorkerKind;
use crate::fleet::address::WorkerUrl;
use crate::fleet::roster::Release;
use crate::intake::HeldBody;
use crate::jobs::{End, JobWriter};
use crate::outcome;
use crate::queue::{Position, WaitReason};
use crate::relay::{self, RelayError, RelayLimits};
use crate::retry::{self, Outcome, Verdict};
use crate::state::Gateway;
use crate::worker_client::{Order, WorkerStream};

/// A job that was let in.
pub(crate) struct JobRun {
    gateway: Arc<Gateway>,
    writer: JobWriter,
    place: Place,
    body: HeldBody,
    deadline: Instant,
    last_position: Option<usize>,
    last_retry: Option<Instant>,
    last_refusal: Option<String>,
}

/// How the wait for a worker ended.
enum Waited {
    Worker(Lease),
    Over(Failure),
}

/// How a try ended.
enum Tried {
    Taken(WorkerStream),
    Not(Outcome),
    Stopped,
    Cancelled,
}

impl JobRun {
    /// Begins the job's stream with where it stands.
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        writer: JobWriter,
        place: Place,
        position: Position,
        body: HeldBody,
    ) -> Self {
        let mut run = Self {
            deadline: Instant::now() + gateway.config.queue_timeout,
            gateway,
            writer,
            place,
            body,
            last_position: None,
            last_retry: None,
            last_refusal: None,
        };
        run.say_position(position);
        run
    }

    /// Carries the job to its end.
    pub(crate) async fn carry_out(mut self) {
        loop {
            let lease = match self.wait().await {
                Waited::Worker(lease) => lease,
                Waited::Over(failure) => return self.finish(End::Ours(failure)),
            };
            match self.offer(&lease).await {
                Tried::Taken(stream) => return self.follow(lease, stream).await,
                Tried::Stopped => {
                    lease.release(Release::Failed);
                    return self.finish(End::Ours(stopped()));
                }
                Tried::Cancelled => {
                    self.cancel_unheard(&lease);
                    lease.release(Release::Failed);
                    let failure = cancel::unsettled(&self.gateway.config);
                    return self.finish(End::Ours(failure));
                }
                Tried::Not(outcome) => match retry::judge(&outcome) {
                    Verdict::NextWorker(aside) => {
                        self.say_retry(&lease, &outcome);
                        self.place.wait_again(lease, aside);
                    }
                    Verdict::Fail(failure, aside) => {
                        tracing::warn!(job.id = %self.writer.job().id, worker = %lease.url(), "the worker {outcome}");
                        lease.release(Release::Refused(aside));
                        return self.finish(End::Ours(failure));
                    }
                },
            }
        }
    }

    /// Waits for a worker, and says where the job stands whenever that changes.
    async fn wait(&mut self) -> Waited {
        let draining = self.gateway.draining.clone();
        let cancelled = self.writer.job().cancelled.clone();
        let interval = self.gateway.config.position_interval;
        loop {
            tokio::select! {
                biased;
                () = draining.cancelled() => return Waited::Over(not_begun()),
                () = cancelled.cancelled() => return Waited::Over(cancel::not_begun()),
                lease = self.place.worker() => return Waited::Worker(lease),
                () = sleep_until(self.deadline) => return Waited::Over(self.timed_out()),
                () = sleep(interval) => {}
            }
            if let Some(position) = self.place.position() {
                self.say_position(position);
            }
        }
    }

    async fn offer(&self, lease: &Lease) -> Tried {
        let job = self.writer.job();
        let order = Order {
            path: job.kind.path(),
            job_id: &job.id,
            accepted_at: job.accepted_at,
            tenant: &job.lane.tenant,
            // `dispatched` comes between.
            events_before: job.log.size().events + 1,
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

    /// Tells a worker to cancel the job that did not say whether it has it.
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

    /// Follows the stream of the worker that took the job. The body, which holds secrets, is not needed any more.
    async fn follow(self, lease: Lease, mut stream: WorkerStream) {
        let Self {
            gateway,
            writer,
            place,
            body,
            ..
        } = self;
        drop(body);
        lease.began();
        writer.begin(lease.url().to_string());
        let worker = WorkerKind::from(writer.job().kind);
        writer.progress(Stage::Dispatched, format!("A {worker} took the job"), None);
        tracing::info!(job.id = %writer.job().id, worker = %lease.url(), "a worker took the job");
        let (end, release) = end_of(&gateway, lease.url(), &mut stream, &writer).await;
        // The session is free before the client can send its next job, and the worker once it has seen its stream delivered.
        drop(place);
        writer.finish(end);
        if release == Release::Done {
            relay::linger(&mut stream, gateway.config.linger).await;
        }
        drop(stream);
        lease.release(release);
    }

    fn finish(self, end: End) {
        let Self { writer, place, .. } = self;
        drop(place);
        writer.finish(end);
    }

    fn say_position(&mut self, position: Position) {
        if self.last_position == Some(position.number) {
            return;
        }
        self.last_position = Some(position.number);
        let message = match position.reason {
            WaitReason::NoFreeWorker => format!("Waiting for a free worker, at position {}", position.number),
            WaitReason::SessionBusy => "Waiting for an earlier job of this session".to_owned(),
        };
        let detail = json!({"position": position.number, "reason": position.reason});
        self.writer.progress(Stage::Queued, message, Some(detail));
    }

    /// Says that a worker did not take the job, unless that was said just now.
    fn say_retry(&mut self, lease: &Lease, outcome: &Outcome) {
        tracing::debug!(job.id = %self.writer.job().id, worker = %lease.url(), "the worker {outcome}");
        self.last_refusal = Some(outcome.to_string());
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

    fn timed_out(&self) -> Failure {
        let waited = self.gateway.config.queue_timeout.as_secs_f32();
        let reason = match (
            self.place.position().map(|position| position.reason),
            &self.last_refusal,
        ) {
            (Some(WaitReason::SessionBusy), _) => {
                "an earlier job of this session is still running".to_owned()
            }
            (_, Some(refusal)) => format!("the worker that was asked last {refusal}"),
            (_, None) => "all are busy".to_owned(),
        };
        let text = format!("no worker took the job within {waited} s: {reason}; send it again later");
        Failure::new(ErrorCode::QueueTimeout, text)
    }
}

/// Follows the stream to its end, and says what to think of the worker.
async fn end_of(
    gateway: &Gateway,
    url: &WorkerUrl,
    stream: &mut WorkerStream,
    writer: &JobWriter,
) -> (End, Release) {
    let before = writer.job().log.size().events;
    let limits = RelayLimits {
        silence: gateway.config.silence_timeout,
        max_event_bytes: gateway.config.max_event_bytes,
    };
    let followed = timeout(gateway.config.job_timeout, relay::relay(stream, limits, writer));
    let relayed: Result<End, RelayError> = tokio::select! {
        biased;
        followed = followed => match followed {
            Ok(relayed) => relayed,
            Err(_) => return (End::Ours(too_long(gateway)), Release::Failed),
        },
        () = gateway.stopping.cancelled() => return (End::Ours(stopped()), Release::Failed),
        () = cancel::without_end(gateway, url, writer.job()) => {
            return (End::Ours(cancel::unsettled(&gateway.config)), Release::Failed);
        }
    };
    let error = match relayed {
        Ok(end) => return (end, Release::Done),
        Err(error) => error,
    };
    if !error.is_loss() {
        return (End::Ours(error.into()), Release::Failed);
    }
    let relayed = writer.job().log.size().events.saturating_sub(before);
    let end = outcome::true_end(gateway, writer, relayed).await;
    (end.unwrap_or_else(|| End::Ours(error.into())), Release::Failed)
}

fn not_begun() -> Failure {
    let text = "the gateway is shutting down, and no worker had begun the job; send it again";
    Failure::new(ErrorCode::ShuttingDown, text)
}

fn stopped() -> Failure {
    let text = "the gateway is shutting down and follows the job no longer; the worker may still finish it, so look at the session before sending it again";
    Failure::new(ErrorCode::ShuttingDown, text)
}

fn too_long(gateway: &Gateway) -> Failure {
    let seconds = gateway.config.job_timeout.as_secs_f32();
    let text =
        format!("the job took longer than the {seconds} s that a job may take, and is followed no longer");
    Failure::new(ErrorCode::DeadlineExceeded, text)
}
