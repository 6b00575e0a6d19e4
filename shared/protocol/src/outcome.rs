//! How a job ended, as a worker keeps it before it announces the end: what answers for the job when nobody remembers it.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::event::{Event, EventBody, timestamp};
use crate::id::{JobId, SessionId};
use crate::request::JobKind;

/// The format that this build writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// The outcome of a job, with what its worker said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobOutcome {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// The job.
    pub job_id: JobId,
    /// What it was.
    pub kind: JobKind,
    /// The session that it worked on.
    pub session_id: SessionId,
    /// Which attempt ended so.
    pub attempt: u32,
    /// When the job was accepted.
    #[serde(with = "timestamp")]
    pub accepted_at: OffsetDateTime,
    /// When the worker took it.
    #[serde(with = "timestamp")]
    pub started_at: OffsetDateTime,
    /// When it ended.
    #[serde(with = "timestamp")]
    pub finished_at: OffsetDateTime,
    /// How many events the job's stream had before the worker's first: those of the gateway.
    pub events_before: u64,
    /// The worker's events with its own numbers, from 1; bounded, so that later progress may be missing. The last one is terminal.
    pub events: Vec<NumberedEvent>,
}

/// An event with its number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NumberedEvent {
    /// The number.
    pub id: u64,
    /// The event.
    pub event: Event,
}

impl JobOutcome {
    /// The terminal event; `None` in what no worker wrote.
    pub fn terminal(&self) -> Option<&NumberedEvent> {
        self.events.last().filter(|last| last.event.is_terminal())
    }

    /// Whether the job was done.
    pub fn is_completed(&self) -> bool {
        let last = self.terminal().map(|last| &last.event.body);
        matches!(last, Some(EventBody::Completed { .. }))
    }
}
