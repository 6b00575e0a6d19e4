//! What was tried for each job: in memory for the newest, and, as the same JSON, in the storage.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mayfly_protocol::JobId;
use mayfly_protocol::event::timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::verdict::Answer;

/// Deliveries that are over and still in memory.
const KEPT: usize = 1000;
/// Tries that are listed; of more, the newest.
const MAX_ATTEMPTS: usize = 20;

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "DeliveryState")]
pub(crate) enum Progress {
    /// The job has not ended, or the next try is to come.
    Pending,
    /// The receiver took it.
    Delivered,
    /// As many tries as there may be have failed.
    Failed,
    /// The receiver answered 410.
    Gone,
    /// The address may not be reached.
    Refused,
    /// The gateway ended before the delivery was over.
    Abandoned,
}

impl Progress {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Gone => "gone",
            Self::Refused => "refused",
            Self::Abandoned => "abandoned",
        }
    }
}

/// The deliveries of one job, as `GET /jobs/{id}/deliveries` shows them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Deliveries {
    job_id: JobId,
    /// The header `webhook-id` of every try.
    webhook_id: String,
    /// Scheme, host and port of the `callbackUrl`; the rest may be a secret.
    receiver: String,
    state: Progress,
    attempts: Vec<Attempt>,
}

impl Deliveries {
    /// Nothing was tried yet.
    pub(super) fn pending(job: &JobId, receiver: String) -> Self {
        Self {
            job_id: job.clone(),
            webhook_id: super::message_id(job),
            receiver,
            state: Progress::Pending,
            attempts: Vec::new(),
        }
    }
}

/// One try.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "DeliveryAttempt")]
pub(crate) struct Attempt {
    /// From 1.
    number: u32,
    #[schemars(extend("format" = "date-time"))]
    at: String,
    duration_ms: u64,
    /// The status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// What went wrong, where it was not delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// When the next try is to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    next_at: Option<String>,
}

impl Attempt {
    pub(super) fn new(
        number: u32,
        at: OffsetDateTime,
        took: Duration,
        answer: &Answer,
        next: Option<OffsetDateTime>,
    ) -> Self {
        Self {
            number,
            at: timestamp::format(at),
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            status: answer.status(),
            error: (answer.name() != "taken").then(|| answer.to_string()),
            next_at: next.map(timestamp::format),
        }
    }
}

#[derive(Debug, Default)]
struct Known {
    deliveries: HashMap<JobId, Deliveries>,
    over: VecDeque<JobId>,
}

/// The deliveries that this gateway remembers.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<Known>);

impl Log {
    pub(super) fn begin(&self, deliveries: Deliveries) {
        self.known()
            .deliveries
            .insert(deliveries.job_id.clone(), deliveries);
    }

    pub(super) fn forget(&self, job: &JobId) {
        self.known().deliveries.remove(job);
    }

    pub(super) fn add(&self, job: &JobId, attempt: Attempt) {
        if let Some(deliveries) = self.known().deliveries.get_mut(job) {
            if deliveries.attempts.len() == MAX_ATTEMPTS {
                deliveries.attempts.remove(0);
            }
            deliveries.attempts.push(attempt);
        }
    }

    /// Notes how it ended, and forgets the oldest that ended.
    pub(super) fn end(&self, job: &JobId, state: Progress) {
        let mut known = self.known();
        if let Some(deliveries) = known.deliveries.get_mut(job) {
            deliveries.state = state;
        }
        known.over.push_back(job.clone());
        if known.over.len() > KEPT
            && let Some(oldest) = known.over.pop_front()
        {
            known.deliveries.remove(&oldest);
        }
    }

    pub(super) fn get(&self, job: &JobId) -> Option<Deliveries> {
        self.known().deliveries.get(job).cloned()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
