//! How jobs ended, one small object each: written once by the worker, or by the gateway where it ended the job itself, and read by any gateway.

use std::sync::Arc;

use bytes::Bytes;
use mayfly_protocol::{JobId, JobOutcome, TenantId, outcome};
use mayfly_storage::{InvalidKey, Key, Object, ObjectStore, Precondition, StorageError};

/// The largest outcome that is written or read, in bytes.
const MAX_OUTCOME_BYTES: u64 = 8 * 1024 * 1024;

/// How often a swap is tried that others win.
const ROUNDS: usize = 4;

/// What became of an outcome that was to be kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Kept {
    /// It is kept.
    Ours,
    /// Another one of this attempt, or of a later one, was kept before, and stays.
    Theirs(Box<JobOutcome>),
}

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
    /// Others wrote it again and again at the same moment.
    #[error("the outcome of job `{job}` is being written by several at once")]
    Contended {
        /// The job.
        job: JobId,
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

    /// Keeps an outcome: the first of its attempt stays for good, and one of an earlier attempt gives way, as does one that is damaged.
    pub async fn keep(&self, tenant: &TenantId, outcome: &JobOutcome) -> Result<Kept, OutcomeError> {
        let job = &outcome.job_id;
        let body = serde_json::to_vec(outcome).map_err(|error| damaged(job, error.to_string()))?;
        let bytes = body.len() as u64;
        if bytes > MAX_OUTCOME_BYTES {
            let job = job.clone();
            return Err(OutcomeError::TooLarge { job, bytes });
        }
        let (key, body) = (key(tenant, job)?, Bytes::from(body));
        let mut precondition = Precondition::IfAbsent;
        for _ in 0..ROUNDS {
            match self.storage.put(&key, body.clone().into(), precondition).await {
                Ok(_) => return Ok(Kept::Ours),
                Err(StorageError::PreconditionFailed { .. }) => {}
                Err(source) => return Err(failed(job, source)),
            }
            precondition = match self.read(&key, job).await? {
                None => Precondition::IfAbsent,
                Some(object) if object.bytes == body => return Ok(Kept::Ours),
                Some(object) => match parse(job, &object.bytes) {
                    Ok(theirs) if theirs.attempt >= outcome.attempt => {
                        return Ok(Kept::Theirs(Box::new(theirs)));
                    }
                    Ok(_) | Err(_) => Precondition::IfMatch(object.version),
                },
            };
        }
        Err(OutcomeError::Contended { job: job.clone() })
    }

    /// Reads the outcome of a job; `None` where it has none, yet or any more.
    pub async fn find(&self, tenant: &TenantId, job: &JobId) -> Result<Option<JobOutcome>, OutcomeError> {
        let object = self.read(&key(tenant, job)?, job).await?;
        object.map(|object| parse(job, &object.bytes)).transpose()
    }

    /// Whether the outcome of a job is kept.
    pub async fn has(&self, tenant: &TenantId, job: &JobId) -> Result<bool, OutcomeError> {
        let head = self.storage.head(&key(tenant, job)?).await;
        Ok(head.map_err(|source| failed(job, source))?.is_some())
    }

    /// Keeps the log of a job's webhook beside its outcome, as long as the outcome; the newest stays.
    pub async fn keep_deliveries(
        &self,
        tenant: &TenantId,
        job: &JobId,
        log: Bytes,
    ) -> Result<(), OutcomeError> {
        let key = deliveries_key(tenant, job)?;
        let kept = self.storage.put(&key, log.into(), Precondition::None).await;
        kept.map(|_| ()).map_err(|source| failed(job, source))
    }

    /// Reads the log of a job's webhook; `None` where it has none, yet or any more.
    pub async fn find_deliveries(
        &self,
        tenant: &TenantId,
        job: &JobId,
    ) -> Result<Option<Bytes>, OutcomeError> {
        let object = self.read(&deliveries_key(tenant, job)?, job).await?;
        Ok(object.map(|object| object.bytes))
    }

    async fn read(&self, key: &Key, job: &JobId) -> Result<Option<Object>, OutcomeError> {
        match self.storage.get(key, MAX_OUTCOME_BYTES).await {
            Ok(object) => Ok(Some(object)),
            Err(StorageError::NotFound { .. }) => Ok(None),
            Err(source) => Err(failed(job, source)),
        }
    }
}

fn parse(job: &JobId, bytes: &[u8]) -> Result<JobOutcome, OutcomeError> {
    let outcome: JobOutcome =
        serde_json::from_slice(bytes).map_err(|error| damaged(job, error.to_string()))?;
    check(job, &outcome).map_err(|reason| damaged(job, reason.to_owned()))?;
    Ok(outcome)
}

/// `tenants/<tenant>/jobs/<job>.json`
fn key(tenant: &TenantId, job: &JobId) -> Result<Key, OutcomeError> {
    let parsed = format!("tenants/{tenant}/jobs/{job}.json").parse();
    parsed.map_err(|source| OutcomeError::Key {
        job: job.clone(),
        source,
    })
}

/// `tenants/<tenant>/jobs/<job>.deliveries.json`
fn deliveries_key(tenant: &TenantId, job: &JobId) -> Result<Key, OutcomeError> {
    let parsed = format!("tenants/{tenant}/jobs/{job}.deliveries.json").parse();
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
