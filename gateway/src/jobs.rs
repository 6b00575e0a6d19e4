//! The jobs that this gateway knows: what each is, where it stands, and its log.
//!
//! There is one writer for each job, and its end consumes it. This module must not know HTTP or workers beyond their addresses.

mod writer;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use mayfly_protocol::answer::JobAnswer;
use mayfly_protocol::event::timestamp;
use mayfly_protocol::{ErrorCode, EventBody, Failure, JobId, JobKind, JobOutcome, SessionId, TenantId};
use mayfly_queue::Lane;
use mayfly_session::OpenJob;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

pub(crate) use writer::{End, JobWriter};

use crate::job_log::{Follower, JobLog, LogLimits};
use crate::metrics::Metrics;
use crate::outcome;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JobState {
    Queued,
    Running,
    Completed,
    Failed,
}

/// One job.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) kind: JobKind,
    pub(crate) lane: Lane,
    pub(crate) accepted_at: OffsetDateTime,
    pub(crate) log: Arc<JobLog>,
    /// Fires when a client cancels the job.
    pub(crate) cancelled: CancellationToken,
    /// Fires when this gateway has taken the job over from one that is gone.
    pub(crate) inherited: CancellationToken,
    /// Fires when this gateway begins the job itself, after it had followed it at the worker of another one.
    pub(crate) repeated: CancellationToken,
    facts: Mutex<Facts>,
    places: Arc<Semaphore>,
}

#[derive(Debug)]
struct Facts {
    state: JobState,
    started_at: Option<OffsetDateTime>,
    finished_at: Option<OffsetDateTime>,
    worker: Option<String>,
    /// The attempts that began.
    attempts: u32,
    /// A worker may have begun it.
    is_touched: bool,
    last_stage: Option<String>,
    /// The data of the terminal event.
    terminal: Option<Bytes>,
}

/// A job as `GET /jobs/{id}` shows it, and as gateways tell it to one another.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JobView {
    id: JobId,
    kind: JobKind,
    session_id: SessionId,
    state: JobState,
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    finished_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_stage: Option<String>,
    events: u64,
    events_dropped: u64,
    #[serde(flatten)]
    outcome: Option<Outcome>,
}

impl JobView {
    /// The job as what can be followed, where it is not over.
    pub(crate) fn open(&self, tenant: &TenantId) -> Option<OpenJob> {
        let is_over = matches!(self.state, JobState::Completed | JobState::Failed);
        let accepted_at = timestamp::parse(&self.created_at).filter(|_| !is_over)?;
        let (id, session) = (self.id.clone(), self.session_id.clone());
        Some(OpenJob::waiting(
            id,
            self.kind,
            tenant.clone(),
            session,
            accepted_at,
        ))
    }
}

/// What the terminal event said: `data`, or `error` with its code.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<JobAnswer>")]
    data: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retryable: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after: Option<Value>,
}

/// A reader's place at a job's log, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) follower: Follower,
    _place: OwnedSemaphorePermit,
}

impl Job {
    pub(crate) fn state(&self) -> JobState {
        self.facts().state
    }

    /// Whether the job ended before any worker can have begun it, and not because a client wanted that: to send it again is no second run.
    pub(crate) fn ended_untouched(&self) -> bool {
        let facts = self.facts();
        if facts.is_touched {
            return false;
        }
        let terminal = facts.terminal.as_ref();
        let failure: Option<Failure> = terminal.and_then(|data| serde_json::from_slice(data).ok());
        failure.is_some_and(|failure| failure.retryable && failure.code != ErrorCode::Cancelled)
    }

    /// The data of the terminal event, where the job is over.
    pub(crate) fn terminal(&self) -> Option<Bytes> {
        self.facts().terminal.clone()
    }

    /// When a worker took it, where one did.
    pub(crate) fn started_at(&self) -> Option<OffsetDateTime> {
        self.facts().started_at
    }

    /// Whether another gateway has it, and knows where it stands.
    pub(crate) fn is_read_along(&self) -> bool {
        self.log.may_lag() && !self.inherited.is_cancelled()
    }

    /// Readers at this moment.
    pub(crate) fn readers(&self, limit: usize) -> usize {
        limit - self.places.available_permits()
    }

    /// A reader of the events after this number; `None` where the job has as many readers as it may.
    pub(crate) fn read(&self, after: u64) -> Option<Reader> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Reader {
            follower: self.log.follow(after),
            _place: place,
        })
    }

    /// The job for a client; `whole` says whether the outcome is wanted, too.
    pub(crate) fn view(&self, whole: bool) -> JobView {
        let size = self.log.size();
        let facts = self.facts();
        let terminal = facts.terminal.as_ref().filter(|_| whole);
        JobView {
            id: self.id.clone(),
            kind: self.kind,
            session_id: self.lane.session.clone(),
            state: facts.state,
            created_at: timestamp::format(self.accepted_at),
            started_at: facts.started_at.map(timestamp::format),
            finished_at: facts.finished_at.map(timestamp::format),
            worker: facts.worker.clone(),
            attempts: facts.attempts,
            last_stage: facts.last_stage.clone(),
            events: size.events,
            events_dropped: size.dropped,
            outcome: terminal.and_then(|data| serde_json::from_slice(data).ok()),
        }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a job of another gateway stands in the queue.
pub(crate) fn lane_of(open: &OpenJob) -> Lane {
    Lane {
        tenant: open.tenant.clone(),
        session: open.session_id.clone(),
    }
}

/// The bounds on what is kept of jobs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JobLimits {
    pub(crate) log: LogLimits,
    pub(crate) readers: usize,
    pub(crate) finished_kept: usize,
    pub(crate) finished_bytes: usize,
}

/// How many jobs there are, and have been.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JobCounts {
    pub(crate) queued: usize,
    pub(crate) running: usize,
    /// Since the start.
    pub(crate) completed: u64,
    /// Since the start.
    pub(crate) failed: u64,
    pub(crate) finished_kept: usize,
    pub(crate) open_streams: usize,
}

#[derive(Debug, Default)]
struct Known {
    jobs: BTreeMap<JobId, Arc<Job>>,
    finished: VecDeque<(JobId, usize)>,
    finished_bytes: usize,
    completed: u64,
    failed: u64,
}

/// The jobs that this gateway knows.
#[derive(Debug)]
pub(crate) struct Jobs {
    limits: JobLimits,
    metrics: Arc<Metrics>,
    known: Mutex<Known>,
}

/// Which jobs a client asks for.
#[derive(Debug, Default)]
pub(crate) struct JobFilter {
    pub(crate) tenant: TenantId,
    pub(crate) session: Option<SessionId>,
    pub(crate) state: Option<JobState>,
}

impl JobFilter {
    fn passes(&self, session: &SessionId, state: JobState) -> bool {
        self.session.as_ref().is_none_or(|wanted| wanted == session)
            && self.state.is_none_or(|wanted| wanted == state)
    }
}

impl Jobs {
    pub(crate) fn new(limits: JobLimits, metrics: Arc<Metrics>) -> Self {
        Self {
            limits,
            metrics,
            known: Mutex::default(),
        }
    }

    /// Makes a job, which is queued, and its one writer.
    pub(crate) fn add(self: &Arc<Self>, kind: JobKind, lane: Lane) -> JobWriter {
        self.add_as(JobId::new_now(), kind, lane)
    }

    /// The same with an id that was made before.
    pub(crate) fn add_as(self: &Arc<Self>, id: JobId, kind: JobKind, lane: Lane) -> JobWriter {
        let log = JobLog::new(self.limits.log);
        let job = Arc::new(self.job(id, kind, lane, OffsetDateTime::now_utc(), log));
        self.known().jobs.insert(job.id.clone(), Arc::clone(&job));
        JobWriter::new(job, Arc::clone(self))
    }

    /// Makes a job that another gateway began, and its one writer here; or gives the job, where it is known.
    pub(crate) fn resume(self: &Arc<Self>, open: &OpenJob) -> Result<JobWriter, Arc<Job>> {
        let job = Arc::new(self.shown(open));
        match self.known().jobs.entry(job.id.clone()) {
            Entry::Occupied(known) => return Err(Arc::clone(known.get())),
            Entry::Vacant(vacant) => vacant.insert(Arc::clone(&job)),
        };
        Ok(JobWriter::new(job, Arc::clone(self)))
    }

    /// A job that another gateway has; it is not added to those that are known.
    pub(crate) fn shown(&self, open: &OpenJob) -> Job {
        let log = JobLog::continued(self.limits.log);
        let job = self.job(
            open.job_id.clone(),
            open.kind,
            lane_of(open),
            open.accepted_at,
            log,
        );
        if let Some(sent) = &open.sent {
            let mut facts = job.facts();
            facts.state = JobState::Running;
            facts.worker = Some(sent.worker.clone());
            facts.attempts = sent.attempt;
            facts.is_touched = true;
        }
        job
    }

    fn job(&self, id: JobId, kind: JobKind, lane: Lane, accepted_at: OffsetDateTime, log: JobLog) -> Job {
        Job {
            id,
            kind,
            lane,
            accepted_at,
            log: Arc::new(log),
            cancelled: CancellationToken::new(),
            inherited: CancellationToken::new(),
            repeated: CancellationToken::new(),
            facts: Mutex::new(Facts {
                state: JobState::Queued,
                started_at: None,
                finished_at: None,
                worker: None,
                attempts: 0,
                is_touched: false,
                last_stage: None,
                terminal: None,
            }),
            places: Arc::new(Semaphore::new(self.limits.readers)),
        }
    }

    /// A job that is over, as its outcome tells it; it is not added to those that are known.
    pub(crate) fn recall(&self, lane: Lane, outcome: JobOutcome) -> Arc<Job> {
        let terminal = outcome.terminal().map(|last| &last.event);
        let last_stage = outcome.events.iter().rev().find_map(|it| match it.event.body {
            EventBody::Progress { stage, .. } => Some(outcome::stage_name(stage)),
            _ => None,
        });
        let facts = Facts {
            state: match terminal.map(|event| &event.body) {
                Some(EventBody::Completed { .. }) => JobState::Completed,
                _ => JobState::Failed,
            },
            started_at: Some(outcome.started_at),
            finished_at: Some(outcome.finished_at),
            worker: None,
            attempts: outcome.attempt,
            is_touched: outcome.attempt > 0,
            last_stage,
            terminal: terminal.map(|event| outcome::encode(event).into()),
        };
        let before = outcome.events_before;
        let numbered = outcome.events.iter();
        let stored = numbered.map(|it| (before.saturating_add(it.id), outcome::encode(&it.event)));
        Arc::new(Job {
            log: Arc::new(JobLog::stored(self.limits.log, stored)),
            cancelled: CancellationToken::new(),
            inherited: CancellationToken::new(),
            repeated: CancellationToken::new(),
            facts: Mutex::new(facts),
            places: Arc::new(Semaphore::new(self.limits.readers)),
            id: outcome.job_id,
            kind: outcome.kind,
            accepted_at: outcome.accepted_at,
            lane,
        })
    }

    pub(crate) fn get(&self, id: &JobId) -> Option<Arc<Job>> {
        self.known().jobs.get(id).cloned()
    }

    /// The newest jobs that pass the filter, of those that this gateway has and those that others told of.
    pub(crate) fn list(&self, filter: &JobFilter, others: Vec<JobView>, limit: usize) -> Vec<JobView> {
        let known = self.known();
        let of_tenant = known.jobs.values().filter(|job| job.lane.tenant == filter.tenant);
        let told: HashSet<JobId> = others.iter().map(|view| view.id.clone()).collect();
        // Of a job that is only read along, the gateway that has it knows more.
        let own = of_tenant.filter(|job| !job.is_read_along() || !told.contains(&job.id));
        let mut views: BTreeMap<JobId, JobView> = own
            .filter(|job| filter.passes(&job.lane.session, job.state()))
            .map(|job| (job.id.clone(), job.view(false)))
            .collect();
        for view in others {
            let is_own = known.jobs.get(&view.id).is_some_and(|job| !job.is_read_along());
            if !is_own && filter.passes(&view.session_id, view.state) {
                views.insert(view.id.clone(), view);
            }
        }
        views.into_values().rev().take(limit).collect()
    }

    pub(crate) fn counts(&self) -> JobCounts {
        let known = self.known();
        let mut counts = JobCounts {
            completed: known.completed,
            failed: known.failed,
            finished_kept: known.finished.len(),
            ..JobCounts::default()
        };
        for job in known.jobs.values() {
            counts.open_streams += job.readers(self.limits.readers);
            match job.state() {
                JobState::Queued => counts.queued += 1,
                JobState::Running => counts.running += 1,
                JobState::Completed | JobState::Failed => {}
            }
        }
        counts
    }

    /// Forgets a job that was refused after all.
    fn forget(&self, id: &JobId) {
        self.known().jobs.remove(id);
    }

    /// Keeps a finished job, and lets the oldest ones go that are too many.
    fn retire(&self, job: &Job) {
        let bytes = job.log.size().bytes;
        let mut known = self.known();
        match job.state() {
            JobState::Completed => known.completed += 1,
            _ => known.failed += 1,
        }
        known.finished.push_back((job.id.clone(), bytes));
        known.finished_bytes += bytes;
        while known.finished.len() > self.limits.finished_kept
            || known.finished_bytes > self.limits.finished_bytes
        {
            let Some((oldest, bytes)) = known.finished.pop_front() else {
                break;
            };
            known.finished_bytes -= bytes;
            known.jobs.remove(&oldest);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "jobs_tests.rs"]
mod tests;
