//! How jobs ended, in the storage: asked about those that this gateway does not know or whose worker it lost, and told of those that it ended itself.
//! Bounded in time.

use std::sync::Arc;

use mayfly_protocol::outcome::{FORMAT_VERSION, NumberedEvent};
use mayfly_protocol::{Event, EventBody, Failure, JobId, JobOutcome, Source, Stage, TenantId};
use mayfly_queue::Lane;
use mayfly_session::{Kept, OutcomeError};
use time::OffsetDateTime;
use tokio::time::timeout;

use crate::jobs::{End, Job, JobWriter};
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
/// `attempt` is the one that was lost, and `relayed` the number of its worker's events that the stream has. What an earlier attempt ended with
/// counts only if it did the job: it may have failed just because this one shut it out.
pub(crate) async fn true_end(
    gateway: &Gateway,
    writer: &JobWriter,
    attempt: u32,
    relayed: u64,
) -> Option<End> {
    let job = writer.job();
    let outcome = match find(gateway, &job.lane.tenant, &job.id).await {
        Ok(outcome) => outcome?,
        Err(error) => {
            let error = &error as &(dyn std::error::Error + 'static);
            tracing::warn!(job.id = %job.id, error, "whether the lost worker had ended the job is not known");
            return None;
        }
    };
    let is_earlier = outcome.attempt < attempt;
    if is_earlier && !outcome.is_completed() {
        return None;
    }
    let relayed = if is_earlier { u64::MAX } else { relayed };
    let end = told(writer, outcome, relayed);
    tracing::info!(job.id = %job.id, "the lost worker had ended the job");
    end
}

/// The end that an outcome tells; what the stream lacks of the worker's events goes into it first.
fn told(writer: &JobWriter, outcome: JobOutcome, relayed: u64) -> Option<End> {
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
    end
}

/// The same where another gateway began the stream: events have their numbers from the outcome, and the log leaves out those that it has.
pub(crate) fn told_behind(writer: &JobWriter, outcome: JobOutcome) -> Option<End> {
    let before = outcome.events_before;
    let mut end = None;
    for numbered in outcome.events {
        let data = encode(&numbered.event);
        match numbered.event.body {
            EventBody::Progress { stage, .. } => {
                writer.relay_at(before.saturating_add(numbered.id), stage_name(stage), &data);
            }
            EventBody::Completed { .. } => end = Some(End::Completed(data.into())),
            EventBody::Error(_) => end = Some(End::Failed(data.into())),
        }
    }
    end
}

/// Keeps the gateway's own end of a job, and gives it; where the worker of this attempt was first, its end is given. An end that cannot be kept is told all the same.
///
/// `attempt` is 0 where no worker can have begun the job.
pub(crate) async fn keep_own(gateway: &Gateway, writer: &JobWriter, attempt: u32, failure: Failure) -> End {
    let events_before = writer.job().log.size().events;
    keep_at(gateway, writer, attempt, failure, events_before).await
}

/// The same behind this many events of the stream.
pub(crate) async fn keep_at(
    gateway: &Gateway,
    writer: &JobWriter,
    attempt: u32,
    failure: Failure,
    events_before: u64,
) -> End {
    let Some(outcomes) = &gateway.outcomes else {
        return End::Ours(failure);
    };
    let job = writer.job();
    let own = own_outcome(job, attempt, failure.clone(), events_before);
    let keeping = outcomes.keep(&job.lane.tenant, &own);
    match timeout(gateway.config.outcome_timeout, keeping).await {
        Ok(Ok(Kept::Ours)) => {}
        Ok(Ok(Kept::Theirs(theirs))) => {
            if let Some(end) = told(writer, *theirs, u64::MAX) {
                return end;
            }
        }
        Ok(Err(error)) => {
            let error = &error as &(dyn std::error::Error + 'static);
            tracing::warn!(job.id = %job.id, error, "the end of the job is told without being kept");
        }
        Err(_) => tracing::warn!(job.id = %job.id, "the end of the job took too long to keep, and is told"),
    }
    End::Ours(failure)
}

fn own_outcome(job: &Job, attempt: u32, failure: Failure, events_before: u64) -> JobOutcome {
    let now = OffsetDateTime::now_utc();
    let event = Event {
        body: EventBody::Error(failure),
        source: Source::Gateway,
        timestamp: now,
        job_id: job.id.clone(),
        usage: None,
    };
    JobOutcome {
        format_version: FORMAT_VERSION,
        job_id: job.id.clone(),
        kind: job.kind,
        session_id: job.lane.session.clone(),
        attempt,
        accepted_at: job.accepted_at,
        started_at: now,
        finished_at: now,
        events_before,
        events: vec![NumberedEvent { id: 1, event }],
    }
}

/// The stage as it stands on the wire.
pub(crate) fn stage_name(stage: Stage) -> String {
    let name = serde_json::to_value(stage).unwrap_or_default();
    name.as_str().unwrap_or_default().to_owned()
}

pub(crate) fn encode(event: &mayfly_protocol::Event) -> Vec<u8> {
    serde_json::to_vec(event).expect("an event has text keys only, so it is always JSON")
}
