//! The one writer of a job: progress, and then exactly one end.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use mayfly_protocol::{ErrorCode, Event, EventBody, Failure, Source, Stage};
use mayfly_session::Sent;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{Job, JobState, Jobs};

/// How a job ends.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum End {
    /// The worker said that it is done: its event, unchanged.
    Completed(Bytes),
    /// The worker said that it failed: its event, unchanged.
    Failed(Bytes),
    /// The gateway says why it failed.
    Ours(Failure),
}

/// The one writer of a job. A writer that is dropped without an end writes one: a stream always has its terminal event.
#[derive(Debug)]
pub(crate) struct JobWriter {
    job: Arc<Job>,
    jobs: Arc<Jobs>,
    is_over: bool,
    /// Since when the job waits, or runs.
    since: Mutex<(JobState, Instant)>,
}

impl JobWriter {
    pub(super) fn new(job: Arc<Job>, jobs: Arc<Jobs>) -> Self {
        Self {
            job,
            jobs,
            is_over: false,
            since: Mutex::new((JobState::Queued, Instant::now())),
        }
    }

    /// Notes that the job waits or runs from now on, and measures what went before.
    fn measure(&self, state: JobState) {
        let now = Instant::now();
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, at) = std::mem::replace(&mut *since, (state, now));
        let (metrics, kind) = (&self.jobs.metrics, self.job.kind);
        match (before, state) {
            (JobState::Queued, JobState::Running) => metrics.waited(kind, now - at),
            (JobState::Running, _) => metrics.ran(kind, now - at),
            _ => {}
        }
    }

    pub(crate) fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// Adds a stage of the gateway's own.
    pub(crate) fn progress(&self, stage: Stage, message: String, detail: Option<Value>) {
        let body = EventBody::Progress {
            stage,
            message,
            progress: None,
            detail,
        };
        self.job.log.append(&self.encode(body));
    }

    /// Adds a worker's progress event, unchanged.
    pub(crate) fn relay(&self, stage: String, data: &[u8]) {
        self.job.facts().last_stage = Some(stage);
        self.job.log.append(data);
    }

    /// Adds a worker's progress event under the number that it had at another gateway.
    pub(crate) fn relay_at(&self, number: u64, stage: String, data: &[u8]) {
        self.job.facts().last_stage = Some(stage);
        self.job.log.append_at(number, data);
    }

    /// Notes that a worker may have begun the job.
    pub(crate) fn touch(&self) {
        self.job.facts().is_touched = true;
    }

    /// Notes that a worker has begun.
    pub(crate) fn begin(&self, worker: String) {
        let mut facts = self.job.facts();
        facts.state = JobState::Running;
        facts.is_touched = true;
        facts.started_at.get_or_insert_with(OffsetDateTime::now_utc);
        facts.worker = Some(worker);
        facts.attempts += 1;
        drop(facts);
        self.measure(JobState::Running);
    }

    /// Notes that a worker, to which another gateway sent the job, has it.
    pub(crate) fn begin_again(&self, sent: &Sent) {
        let mut facts = self.job.facts();
        facts.state = JobState::Running;
        facts.is_touched = true;
        facts.started_at.get_or_insert_with(OffsetDateTime::now_utc);
        facts.worker = Some(sent.worker.clone());
        facts.attempts = sent.attempt;
        drop(facts);
        // How long it waited is known to the other gateway.
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = (JobState::Running, Instant::now());
    }

    /// Notes that the worker was lost, and that the job waits for another.
    pub(crate) fn wait_again(&self) {
        let mut facts = self.job.facts();
        facts.state = JobState::Queued;
        facts.worker = None;
        drop(facts);
        self.measure(JobState::Queued);
    }

    /// Notes that the worker, to which another gateway sent the job, was lost, and that the job waits here for another.
    pub(crate) fn wait_after(&self, lost: &Sent) {
        let mut facts = self.job.facts();
        facts.state = JobState::Queued;
        facts.is_touched = true;
        facts.worker = None;
        facts.attempts = lost.attempt;
        drop(facts);
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = (JobState::Queued, Instant::now());
    }

    /// Ends the job. Its state changes before readers see the end.
    pub(crate) fn finish(mut self, end: End) {
        self.write_end(end, 0);
    }

    /// The same under a number of the stream, where another gateway began that.
    pub(crate) fn finish_at(mut self, end: End, number: u64) {
        self.write_end(end, number);
    }

    /// Leaves the job, which goes on elsewhere: readers are told to come back, and there is no terminal event.
    pub(crate) fn leave(mut self) {
        self.is_over = true;
        self.job.log.leave();
        self.jobs.forget(&self.job.id);
    }

    /// Forgets the job, which was refused before anybody heard of it.
    pub(crate) fn withdraw(mut self) {
        self.is_over = true;
        self.jobs.forget(&self.job.id);
    }

    fn write_end(&mut self, end: End, number: u64) {
        self.is_over = true;
        log_end(&self.job, &end);
        self.measure(JobState::Completed);
        self.jobs.metrics.ended(self.job.kind, &end);
        let (state, data) = match end {
            End::Completed(data) => (JobState::Completed, data),
            End::Failed(data) => (JobState::Failed, data),
            End::Ours(failure) => (JobState::Failed, self.encode(EventBody::Error(failure)).into()),
        };
        {
            let mut facts = self.job.facts();
            facts.state = state;
            facts.finished_at = Some(OffsetDateTime::now_utc());
            facts.terminal = Some(data.clone());
        }
        self.job.log.end_at(number, &data);
        self.jobs.retire(&self.job);
    }

    fn encode(&self, body: EventBody) -> Vec<u8> {
        let event = Event {
            body,
            source: Source::Gateway,
            timestamp: OffsetDateTime::now_utc(),
            job_id: self.job.id.clone(),
            usage: None,
        };
        serde_json::to_vec(&event).expect("an event has text keys only, so it is always JSON")
    }
}

impl Drop for JobWriter {
    fn drop(&mut self) {
        if !self.is_over {
            let text =
                "the gateway's own code failed (a defect of Mayfly); the gateway's log has the details";
            self.write_end(End::Ours(Failure::new(ErrorCode::Internal, text)), 0);
        }
    }
}

fn log_end(job: &Job, end: &End) {
    let kind = job.kind.as_str();
    match end {
        End::Completed(_) => tracing::info!(job.id = %job.id, job.kind = kind, "the job is done"),
        End::Failed(_) => {
            tracing::info!(job.id = %job.id, job.kind = kind, "the worker ended the job with an error");
        }
        End::Ours(failure) => {
            tracing::warn!(job.id = %job.id, job.kind = kind, error.code = %failure.code, "the job failed: {}", failure.error);
        }
    }
}
