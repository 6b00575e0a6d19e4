//! Asks the storage how a job ended that this gateway does not know, or whose worker it lost. Bounded in time.

use std::sync::Arc;

use mayfly_protocol::{EventBody, JobId, JobOutcome, Stage, TenantId};
use mayfly_session::OutcomeError;
use tokio::time::timeout;

use crate::jobs::{End, Job, JobWriter};
use crate::queue::Lane;
use crate::state::Gateway;

/// Why the storage did not say how a job ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsaid {
    #[error("the storage did not answer in time")]
    Late,
    #[error(transparent)]
    Archive(#[from] OutcomeError),
}

/// The kept outcome of a job; `None` where there is none, or no storage.
pub(crate) async fn find(
    gateway: &Gateway,
    tenant: &TenantId,
    job: &JobId,
) -> Result<Option<JobOutcome>, Unsaid> {
    let Some(outcomes) = &gateway.outcomes else {
        return Ok(None);
    };
    let found = timeout(gateway.config.outcome_timeout, outcomes.find(tenant, job)).await;
    Ok(found.map_err(|_| Unsaid::Late)??)
}

/// The job as its outcome tells it, for readers.
pub(crate) async fn recall(
    gateway: &Gateway,
    tenant: &TenantId,
    job: &JobId,
) -> Result<Option<Arc<Job>>, Unsaid> {
    let found = find(gateway, tenant, job).await?;
    Ok(found.map(|outcome| {
        let lane = Lane {
            tenant: tenant.clone(),
            session: outcome.session_id.clone(),
        };
        gateway.jobs.recall(lane, outcome)
    }))
}

/// The true end of a job whose worker was lost, if it was done before; what the stream lacks of the worker's events comes first.
///
/// `relayed` is the number of the worker's events that the stream has.
pub(crate) async fn true_end(gateway: &Gateway, writer: &JobWriter, relayed: u64) -> Option<End> {
    let job = writer.job();
    let outcome = match find(gateway, &job.lane.tenant, &job.id).await {
        Ok(outcome) => outcome?,
        Err(error) => {
            let error = &error as &(dyn std::error::Error + 'static);
            tracing::warn!(job.id = %job.id, error, "whether the lost worker had ended the job is not known");
            return None;
        }
    };
    let mut end = None;
    for numbered in outcome.events {
        let data = encode(&numbered.event);
        match numbered.event.body {
            EventBody::Progress { stage, .. } if numbered.id > relayed => {
                writer.relay(stage_name(stage), &data);
            }
            EventBody::Progress { .. } => {}
            EventBody::Completed { .. } => end = Some(End::Completed(data.into())),
            EventBody::Error(_) => end = Some(End::Failed(data.into())),
        }
    }
    tracing::info!(job.id = %job.id, "the lost worker had ended the job");
    end
}

/// The stage as it stands on the wire.
pub(crate) fn stage_name(stage: Stage) -> String {
    let name = serde_json::to_value(stage).unwrap_or_default();
    name.as_str().unwrap_or_default().to_owned()
}

pub(crate) fn encode(event: &mayfly_protocol::Event) -> Vec<u8> {
    serde_json::to_vec(event).expect("an event has text keys only, so it is always JSON")
}
