//! How jobs ended, one small object each: written once by the worker, read by any gateway.

use std::sync::Arc;

use mayfly_protocol::{JobId, JobOutcome, TenantId, outcome};
use mayfly_storage::{InvalidKey, Key, ObjectStore, Precondition, StorageError};

/// The largest outcome that is written or read, in bytes.
const MAX_OUTCOME_BYTES: u64 = 8 * 1024 * 1024;

/// The outcomes in a storage.
#[derive(Debug, Clone)]
pub struct OutcomeArchive {
    storage: Arc<dyn ObjectStore>,
}

/// Why an outcome could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum OutcomeError {
    /// What is stored cannot be what was kept.
    #[error("the outcome of job `{job}` is damaged: {reason}")]
    Damaged {
        /// The job.
        job: JobId,
        /// What is wrong.
        reason: String,
    },
    /// It has too many bytes.
    #[error("the outcome of job `{job}` has {bytes} bytes, more than the {MAX_OUTCOME_BYTES} that are kept")]
    TooLarge {
        /// The job.
        job: JobId,
        /// Its size.
        bytes: u64,
    },
    /// The storage failed.
    #[error("the outcome of job `{job}` could not be kept or read")]
    Storage {
        /// The job.
        job: JobId,
        /// How.
        #[source]
        source: StorageError,
    },
    /// The id makes no storage key.
    #[error("the outcome of job `{job}` has no place in object storage")]
    Key {
        /// The job.
        job: JobId,
        /// Why.
        #[source]
        source: InvalidKey,
    },
}

impl OutcomeArchive {
    /// The outcomes in this storage.
    pub fn new(storage: Arc<dyn ObjectStore>) -> Self {
        Self { storage }
    }

    /// Keeps an outcome; that of an earlier attempt gives way.
    pub async fn keep(&self, tenant: &TenantId, outcome: &JobOutcome) -> Result<(), OutcomeError> {
        let job = &outcome.job_id;
        let body = serde_json::to_vec(outcome).map_err(|error| damaged(job, error.to_string()))?;
        let bytes = body.len() as u64;
        if bytes > MAX_OUTCOME_BYTES {
            let job = job.clone();
            return Err(OutcomeError::TooLarge { job, bytes });
        }
        let written = self
            .storage
            .put(&key(tenant, job)?, body.into(), Precondition::None)
            .await;
        written.map(drop).map_err(|source| failed(job, source))
    }

    /// Reads the outcome of a job; `None` where it has none, yet or any more.
    pub async fn find(&self, tenant: &TenantId, job: &JobId) -> Result<Option<JobOutcome>, OutcomeError> {
        let object = match self.storage.get(&key(tenant, job)?, MAX_OUTCOME_BYTES).await {
            Ok(object) => object,
            Err(StorageError::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(failed(job, source)),
        };
        let outcome: JobOutcome =
            serde_json::from_slice(&object.bytes).map_err(|error| damaged(job, error.to_string()))?;
        check(job, &outcome).map_err(|reason| damaged(job, reason.to_owned()))?;
        Ok(Some(outcome))
    }
}

/// `tenants/<tenant>/jobs/<job>.json`
fn key(tenant: &TenantId, job: &JobId) -> Result<Key, OutcomeError> {
    let parsed = format!("tenants/{tenant}/jobs/{job}.json").parse();
    parsed.map_err(|source| OutcomeError::Key {
        job: job.clone(),
        source,
    })
}

fn check(job: &JobId, outcome: &JobOutcome) -> Result<(), &'static str> {
    if outcome.format_version != outcome::FORMAT_VERSION {
        return Err("its format is not the one that this build reads");
    }
    let events = &outcome.events;
    if outcome.job_id != *job || events.iter().any(|it| it.event.job_id != *job) {
        return Err("it is of another job");
    }
    let rising =
        events.is_sorted_by(|one, next| one.id < next.id) && events.first().is_some_and(|it| it.id > 0);
    let ends = events.iter().filter(|it| it.event.is_terminal()).count();
    if !rising || ends != 1 || outcome.terminal().is_none() {
        return Err("its events are not those of one stream");
    }
    Ok(())
}

fn damaged(job: &JobId, reason: String) -> OutcomeError {
    let job = job.clone();
    OutcomeError::Damaged { job, reason }
}

fn failed(job: &JobId, source: StorageError) -> OutcomeError {
    let job = job.clone();
    OutcomeError::Storage { job, source }
}
