//! One job from claim to terminal event: scratch folder, runner, deadline, drain, end.
//!
//! Exactly one terminal event comes out of here, whatever the runner does. This module must not know HTTP.

use std::sync::Arc;
use std::time::Duration;

use mayfly_protocol::{ErrorCode, Failure, Job, JobId};
use mayfly_telemetry::task;
use mayfly_telemetry::trace::{Span, SpanKind};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::config::WorkerConfig;
use crate::delivery::Deliveries;
use crate::events::{self, EventReader, EventWriter, ProgressSink, StreamSettings};
use crate::outcome::Facts;
use crate::request::{JobRequest, Order};
use crate::run::Worker;
use crate::runner::JobContext;
use crate::scratch::Scratch;
use crate::slot::{JobClaim, Occupant};
use crate::stages::StageSpans;

/// Claims the slot and starts the job; `None` where the slot is taken. The job goes on whoever reads or does not read its events.
///
/// `delivered` fires when nothing can be sent to the client any more.
pub(crate) fn start(
    worker: &Arc<Worker>,
    request: JobRequest,
    delivered: CancellationToken,
) -> Option<EventReader> {
    let started_at = OffsetDateTime::now_utc();
    let facts = Facts::of(&request, started_at);
    let JobRequest { job, order } = request;
    let (id, kind, attempt) = (order.job_id.clone(), job.kind().as_str(), order.attempt);
    let tracer = &worker.config.tracer;
    let mut trace = tracer.start(format!("work {kind}"), SpanKind::Server, order.trace);
    trace.set("mayfly.job.id", id.as_str());
    trace.set("mayfly.job.attempt", attempt.to_string());
    let context = trace.context();
    let (writer, sink, reader) = events::open(StreamSettings {
        stages: StageSpans::below(tracer.clone(), context),
        kind: job.kind(),
        job_id: order.job_id.clone(),
        source: worker.runner.source(),
        buffer: worker.config.event_buffer,
        progress_interval: worker.config.progress_interval,
    });
    let asked = CancellationToken::new();
    let deliveries = Deliveries::of(delivered);
    let claim = worker.slot.try_claim(Occupant {
        job_id: order.job_id.clone(),
        kind: job.kind(),
        attempt: order.attempt,
        started_at,
        events: sink.clone(),
        deliveries: deliveries.clone(),
        asked: asked.clone(),
    })?;
    let span = tracing::info_span!("job", job.id = %id, job.kind = kind, job.attempt = attempt, trace_id = %context.trace_id());
    let task = Task {
        worker: Arc::clone(worker),
        job,
        order,
        sink,
        asked,
        trace,
    };
    let work = task.carry_out(claim, writer, facts, deliveries).instrument(span);
    task::spawn(&worker.jobs, work);
    Some(reader)
}

struct Task {
    worker: Arc<Worker>,
    job: Job,
    order: Order,
    sink: ProgressSink,
    /// Fires when a client cancels the job.
    asked: CancellationToken,
    trace: Span,
}

impl Task {
    /// Runs the job, clears up, keeps the outcome, and only then announces the end; the claim goes last, and with it the process.
    async fn carry_out(self, claim: JobClaim, writer: EventWriter, facts: Facts, deliveries: Deliveries) {
        tracing::info!("took the job");
        let worker = Arc::clone(&self.worker);
        let config = &worker.config;
        let job_id = self.order.job_id.clone();
        let (mut scratch, outcome) = match self.make_scratch().await {
            Ok(scratch) => {
                let outcome = self.run_in(&scratch).await;
                (Some(scratch), outcome)
            }
            Err(failure) => (None, Err(failure)),
        };
        remove(&mut scratch, config.cleanup_grace).await;
        log_end(&job_id, &outcome);
        let (terminal, events) = writer.seal(outcome, worker.runner.usage());
        facts.keep(&worker, events).await;
        writer.finish(terminal);
        if timeout(config.flush_grace, deliveries.all()).await.is_err() {
            tracing::warn!("a client did not read the end of the stream in time");
        }
        // A runner that was left behind may have made files since.
        remove(&mut scratch, config.cleanup_grace).await;
        drop(claim);
    }

    async fn make_scratch(&self) -> Result<Scratch, Failure> {
        let tmp_dir = self.worker.config.tmp_dir.clone();
        let made = Scratch::make(tmp_dir, self.worker.runner.source(), &self.order.job_id).await;
        made.map_err(|error| {
            let code = match error.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorCode::DiskFull,
                _ => ErrorCode::Internal,
            };
            let text = format!(
                "the worker cannot make a scratch folder in TMP_DIR: {}",
                error.kind()
            );
            Failure::new(code, text)
        })
    }

    async fn run_in(mut self, scratch: &Scratch) -> Result<Value, Failure> {
        let cancel = CancellationToken::new();
        let context = JobContext {
            job_id: self.order.job_id,
            attempt: self.order.attempt,
            accepted_at: self.order.accepted_at,
            started_at: OffsetDateTime::now_utc(),
            tenant: self.order.tenant,
            scratch: scratch.path().to_owned(),
            cancel: cancel.clone(),
            events: self.sink,
        };
        let runner = Arc::clone(&self.worker.runner);
        let job = self.job;
        // A task of its own: a runner that panics, or blocks its thread, stops neither the deadline nor the stream.
        let work = task::spawn(&self.worker.jobs, async move { runner.run(job, context).await });
        let stops = Stops {
            config: &self.worker.config,
            shutdown: &self.worker.shutdown,
            asked: &self.asked,
        };
        let outcome = stops.supervise(&cancel, work).await;
        if let Err(failure) = &outcome {
            self.trace.fail(failure.code.as_str());
        }
        outcome
    }
}

async fn remove(scratch: &mut Option<Scratch>, grace: Duration) {
    if let Some(scratch) = scratch {
        scratch.remove(grace).await;
    }
}

fn log_end(job_id: &JobId, outcome: &Result<Value, Failure>) {
    match outcome {
        Ok(_) => tracing::info!(job.id = %job_id, "the job is done"),
        Err(failure) => {
            tracing::warn!(job.id = %job_id, error.code = %failure.code, "the job failed: {}", failure.error);
        }
    }
}

/// Why a job is cancelled.
#[derive(Debug, Clone, Copy)]
enum StopReason {
    Asked,
    Deadline,
    Shutdown,
}

impl StopReason {
    fn grace(self, config: &WorkerConfig) -> Duration {
        match self {
            Self::Asked => config.asked_cancel_grace,
            Self::Deadline | Self::Shutdown => config.cancel_grace,
        }
    }

    /// The failure of a stopped job; `how` is what the runner says of how it stopped.
    fn failure(self, config: &WorkerConfig, how: &str) -> Failure {
        match self {
            Self::Asked => Failure::new(ErrorCode::Cancelled, format!("the job was cancelled: {how}")),
            Self::Deadline => Failure::new(
                ErrorCode::DeadlineExceeded,
                format!(
                    "the job was stopped, since it took longer than the {} s that a job may take: {how}",
                    config.job_timeout.as_secs_f32()
                ),
            ),
            Self::Shutdown => Failure::new(
                ErrorCode::ShuttingDown,
                format!(
                    "the job was stopped, since the worker is shutting down and the {} s of grace are over: {how}; send it again",
                    config.drain_grace.as_secs_f32()
                ),
            ),
        }
    }
}

/// What may stop a job.
#[derive(Clone, Copy)]
struct Stops<'a> {
    config: &'a WorkerConfig,
    shutdown: &'a CancellationToken,
    asked: &'a CancellationToken,
}

impl Stops<'_> {
    /// Waits for the runner, unless a client cancels it, within the deadline and the grace of a shutdown.
    ///
    /// A runner that ends well after it was cancelled has done its work, and that is what counts; a failure is taken for an effect of the cancellation.
    async fn supervise(
        self,
        cancel: &CancellationToken,
        mut work: JoinHandle<Result<Value, Failure>>,
    ) -> Result<Value, Failure> {
        let reason = tokio::select! {
            biased;
            done = &mut work => return done.unwrap_or_else(|error| Err(panicked(&error))),
            reason = self.reason() => reason,
        };
        cancel.cancel();
        match timeout(reason.grace(self.config), work).await {
            Ok(Ok(Ok(data))) => Ok(data),
            Ok(Ok(Err(failure))) => {
                tracing::info!(error.code = %failure.code, "the runner stopped: {}", failure.error);
                Err(reason.failure(self.config, &failure.error))
            }
            Ok(Err(error)) => Err(panicked(&error)),
            Err(_) => {
                tracing::error!(?reason, "the runner did not stop in time, and is left behind");
                let how = "it did not stop in time, so look at the session for what its last step did";
                Err(reason.failure(self.config, how))
            }
        }
    }

    async fn reason(self) -> StopReason {
        let drained = async {
            self.shutdown.cancelled().await;
            sleep(self.config.drain_grace).await;
        };
        tokio::select! {
            () = self.asked.cancelled() => StopReason::Asked,
            () = drained => StopReason::Shutdown,
            () = sleep(self.config.job_timeout) => StopReason::Deadline,
        }
    }
}

/// The text of the panic stays out of log and event: it may hold anything.
fn panicked(error: &JoinError) -> Failure {
    tracing::error!(panicked = error.is_panic(), "the runner ended without an outcome");
    Failure::new(
        ErrorCode::Internal,
        "the worker's own code failed (a defect of Mayfly); the worker's log has the details",
    )
}
