//! The seam between the runtime and the jobs that a worker knows.

use std::path::PathBuf;

use mayfly_protocol::{Failure, Job, JobId, JobKind, JobOutcome, Source, TenantId, Usage};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::events::ProgressSink;

/// Carries out jobs of the kinds that it names.
#[async_trait::async_trait]
pub trait JobRunner: Send + Sync + 'static {
    /// The component that speaks in the events.
    fn source(&self) -> Source;

    /// The kinds of job that this worker takes; other paths are 404.
    fn kinds(&self) -> &'static [JobKind];

    /// Carries out one job; its value is the `data` of the `completed` event.
    ///
    /// A runner polls `context.cancel` and returns soon after it fired: with its value where the work is done all the same, or with any failure.
    /// The runtime replaces its code by that of the reason for the cancellation and keeps its text, which says what became of the session. A runner that does not return within the grace is left behind.
    /// A panic becomes the failure `internal`.
    async fn run(&self, job: Job, context: JobContext) -> Result<serde_json::Value, Failure>;

    /// What was used so far, which is told with the end of the job; nothing, if not said otherwise.
    fn usage(&self) -> Usage {
        Usage::default()
    }

    /// Where outcomes are kept before they are announced; nowhere, if not said otherwise.
    fn outcomes(&self) -> Option<&dyn OutcomeStore> {
        None
    }
}

/// Keeps how jobs end, so that they can be asked about when everybody who saw them is gone.
#[async_trait::async_trait]
pub trait OutcomeStore: Send + Sync {
    /// Keeps an outcome. A failure does not change the job's result; it is logged.
    async fn keep(&self, tenant: &TenantId, outcome: &JobOutcome) -> Result<(), OutcomeNotKept>;
}

/// An outcome could not be kept.
#[derive(Debug, thiserror::Error)]
#[error("the outcome of the job is not kept")]
pub struct OutcomeNotKept(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// What a job is given besides its request.
#[derive(Debug, Clone)]
pub struct JobContext {
    /// The id of the job.
    pub job_id: JobId,
    /// Which attempt at the job this is, from 1.
    pub attempt: u32,
    /// When the job was accepted, which is the time that its commits carry.
    pub accepted_at: OffsetDateTime,
    /// When this attempt began, by the clock of this process: nobody else has a say in it.
    pub started_at: OffsetDateTime,
    /// Whose job this is.
    pub tenant: TenantId,
    /// A folder of the job's own: it exists, is empty, has mode 0700, and is removed after the job whatever happens.
    pub scratch: PathBuf,
    /// Fires when the work shall stop.
    pub cancel: CancellationToken,
    /// Where the job says how far it is.
    pub events: ProgressSink,
}
