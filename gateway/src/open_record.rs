//! What the storage is told of a job while it is not over, so that it outlives this process: that there is one, and to whom it was sent.
//!
//! A job is never sent to a worker before its record says so; what stands in no record was therefore never begun. This module must not know
//! how jobs are taken over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mayfly_protocol::outcome::{FORMAT_VERSION, NumberedEvent};
use mayfly_protocol::{Event, JobOutcome};
use mayfly_session::{GatewayId, OpenJob, OpenJobError, OpenJobs, OutcomeArchive, Sent};
use mayfly_storage::Version;
use time::OffsetDateTime;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::jobs::Job;

/// How often the storage is told that a job is over; then its record is left to whoever takes over from this gateway.
const CLOSING_TRIES: u32 = 5;

/// Why a job's record does not say what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotNoted {
    #[error("another gateway has taken the job over, since this one was thought to be gone")]
    Taken,
    #[error("the storage did not answer in time")]
    Late,
    #[error(transparent)]
    Storage(#[from] OpenJobError),
}

/// The jobs of this gateway in the storage.
#[derive(Debug, Clone)]
pub(crate) struct OwnJobs {
    pub(crate) archive: OpenJobs,
    pub(crate) gateway: GatewayId,
    pub(crate) patience: Duration,
}

/// The record of one job; without a storage it keeps nothing.
#[derive(Debug)]
pub(crate) struct OpenRecord {
    jobs: Option<OwnJobs>,
    /// It was noted before the job was queued, and nothing may happen to the job that is not noted.
    is_promised: AtomicBool,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    job: OpenJob,
    version: Option<Version>,
    /// How often it was noted to whom the job is sent.
    sends: u64,
    /// A write whose end nobody saw may have been done.
    is_uncertain: bool,
}

impl OpenRecord {
    pub(crate) fn new(jobs: Option<OwnJobs>, job: &Job) -> Self {
        let lane = &job.lane;
        let open = OpenJob::waiting(
            job.id.clone(),
            job.kind,
            lane.tenant.clone(),
            lane.session.clone(),
            job.accepted_at,
        );
        Self {
            jobs,
            is_promised: false.into(),
            known: Mutex::new(Known {
                job: open,
                version: None,
                sends: 0,
                is_uncertain: false,
            }),
        }
    }

    /// The record of a job that waited at a gateway that is gone, as it stands among this one's.
    pub(crate) fn inherited(jobs: Option<OwnJobs>, open: &OpenJob) -> Self {
        Self {
            jobs,
            is_promised: true.into(),
            known: Mutex::new(Known {
                job: open.clone(),
                version: None,
                sends: 0,
                is_uncertain: true,
            }),
        }
    }

    /// Whether nothing may happen to the job that is not noted.
    pub(crate) fn is_promised(&self) -> bool {
        self.is_promised.load(Ordering::Relaxed)
    }

    /// Notes that there is the job, before it is queued.
    pub(crate) async fn promise(&self) -> Result<(), NotNoted> {
        self.is_promised.store(true, Ordering::Relaxed);
        self.note().await
    }

    /// Notes that there is the job, unless that is noted.
    pub(crate) async fn note(&self) -> Result<(), NotNoted> {
        let mut known = self.known.lock().await;
        match known.version {
            Some(_) => Ok(()),
            None => self.write(&mut known).await,
        }
    }

    /// Notes that the job waits, after it was noted this often to whom it is sent, and nobody to whom it was can have begun it; one more time, and this comes too late.
    pub(crate) async fn note_untouched(&self, sends: u64) -> Result<(), NotNoted> {
        let mut known = self.known.lock().await;
        if known.sends != sends {
            return Ok(());
        }
        if known.version.is_some() && known.job.sent.take().is_none() {
            return Ok(());
        }
        self.write(&mut known).await
    }

    /// Notes to whom the job is about to be sent.
    pub(crate) async fn send_to(&self, sent: Sent) -> Result<(), NotNoted> {
        let mut known = self.known.lock().await;
        known.job.sent = Some(sent);
        known.sends += 1;
        self.write(&mut known).await
    }

    async fn write(&self, known: &mut Known) -> Result<(), NotNoted> {
        let Some(jobs) = &self.jobs else {
            return Ok(());
        };
        let was_noted = known.version.is_some();
        let was_uncertain = std::mem::replace(&mut known.is_uncertain, true);
        let writing = async {
            if was_uncertain {
                let job = &known.job;
                known.version = jobs
                    .archive
                    .version(&jobs.gateway, &job.tenant, &job.job_id)
                    .await?;
                if was_noted && known.version.is_none() {
                    return Err(NotNoted::Taken);
                }
            }
            let over = known.version.clone();
            let written = jobs.archive.write(&jobs.gateway, &known.job, over).await?;
            written.ok_or(NotNoted::Taken)
        };
        let version = timeout(jobs.patience, writing)
            .await
            .map_err(|_| NotNoted::Late)??;
        known.version = Some(version);
        known.is_uncertain = false;
        Ok(())
    }

    /// Removes the record of a job that was refused.
    pub(crate) async fn withdraw(&self) {
        let Some(jobs) = &self.jobs else { return };
        let known = self.known.lock().await;
        let job = &known.job;
        let removing = jobs.archive.remove(&jobs.gateway, &job.tenant, &job.job_id);
        if !matches!(timeout(jobs.patience, removing).await, Ok(Ok(()))) {
            tracing::warn!(job.id = %job.job_id, "the record of a refused job could not be removed");
        }
    }

    /// Removes the record of a job that is over; before that it sees to it that the job's end is kept.
    pub(crate) async fn close(&self, outcomes: &OutcomeArchive, job: &Arc<Job>) {
        let Some(jobs) = &self.jobs else { return };
        let known = self.known.lock().await;
        if known.version.is_none() && !known.is_uncertain {
            return;
        }
        let attempt = known.job.sent.as_ref().map_or(0, |sent| sent.attempt);
        for tried in 1..=CLOSING_TRIES {
            match timeout(jobs.patience, close(jobs, outcomes, job, attempt)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) if tried == CLOSING_TRIES => {
                    let error = &*error;
                    tracing::warn!(job.id = %job.id, error, "the storage could not be told that the job is over");
                }
                Err(_) if tried == CLOSING_TRIES => {
                    tracing::warn!(job.id = %job.id, "the storage was not told in time that the job is over");
                }
                Ok(Err(_)) | Err(_) => sleep(jobs.patience).await,
            }
        }
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn close(
    jobs: &OwnJobs,
    outcomes: &OutcomeArchive,
    job: &Arc<Job>,
    attempt: u32,
) -> Result<(), AnyError> {
    let tenant = &job.lane.tenant;
    if !outcomes.has(tenant, &job.id).await?
        && let Some(outcome) = told_outcome(job, attempt)
    {
        outcomes.keep(tenant, &outcome).await?;
    }
    jobs.archive.remove(&jobs.gateway, tenant, &job.id).await?;
    Ok(())
}

/// The end of a job as its stream told it, where its worker could not keep it.
fn told_outcome(job: &Job, attempt: u32) -> Option<JobOutcome> {
    let event: Event = serde_json::from_slice(&job.terminal()?).ok()?;
    let now = OffsetDateTime::now_utc();
    Some(JobOutcome {
        format_version: FORMAT_VERSION,
        job_id: job.id.clone(),
        kind: job.kind,
        session_id: job.lane.session.clone(),
        attempt,
        accepted_at: job.accepted_at,
        started_at: job.started_at().unwrap_or(now),
        finished_at: now,
        events_before: job.log.size().events.saturating_sub(1),
        events: vec![NumberedEvent { id: 1, event }],
    })
}
