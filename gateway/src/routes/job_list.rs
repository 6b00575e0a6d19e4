//! `GET /jobs`, `/jobs/{id}` and `/jobs/{id}/events`.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use mayfly_protocol::{ErrorCode, InvalidId, JobId, Refusal};
use mayfly_server::refuse::json;
use serde::{Deserialize, Serialize};

use super::{Asking, answer};
use crate::access::Caller;
use crate::event_stream;
use crate::jobs::{Job, JobFilter, JobState, JobView};
use crate::outcome;
use crate::state::Gateway;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

pub(super) type JobPath = Result<Path<String>, PathRejection>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ListQuery {
    session_id: Option<String>,
    state: Option<JobState>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct JobList {
    jobs: Vec<JobView>,
}

pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Asking,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Response {
    let found = filter(&caller, query).map(|(filter, limit)| JobList {
        jobs: gateway.jobs.list(&filter, limit),
    });
    answer(found.map(|list| json(StatusCode::OK, &list)))
}

fn filter(
    caller: &Caller,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<(JobFilter, usize), Refusal> {
    let Query(query) = query.map_err(|_| {
        let text = "the query may have `sessionId`, `state` (`queued`, `running`, `completed`, `failed`) and `limit` (a number)";
        Refusal::new(ErrorCode::InvalidRequest, text)
    })?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        let text = format!("`limit` is not between 1 and {MAX_LIMIT}");
        return Err(Refusal::new(ErrorCode::InvalidRequest, text).with_field("limit"));
    }
    let session = query
        .session_id
        .map(|text| text.parse())
        .transpose()
        .map_err(|error: InvalidId| {
            Refusal::new(ErrorCode::InvalidRequest, error.to_string()).with_field("sessionId")
        })?;
    let filter = JobFilter {
        tenant: caller.tenant.clone(),
        session,
        state: query.state,
    };
    Ok((filter, limit))
}

pub(super) async fn one(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Asking,
    id: JobPath,
) -> Response {
    let found = find(&gateway, &caller, id).await;
    answer(found.map(|job| json(StatusCode::OK, &job.view(true))))
}

pub(super) async fn events(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Asking,
    id: JobPath,
    headers: HeaderMap,
) -> Response {
    let found = find(&gateway, &caller, id).await;
    let stream = |job: Arc<Job>| {
        let pass = gateway.access.stream(&caller)?;
        event_stream::resume(&job, &headers, gateway.config.heartbeat, pass)
    };
    answer(found.and_then(stream))
}

/// A job of the caller's tenant that this gateway remembers, or that the storage has the outcome of.
///
/// What is not an id is as unknown as an id that no job has, and so is another tenant's: the storage is asked for it just the same, so that
/// neither the answer nor its time tells the two apart.
pub(super) async fn find(gateway: &Gateway, caller: &Caller, id: JobPath) -> Result<Arc<Job>, Refusal> {
    let id: Option<JobId> = id.ok().and_then(|Path(id)| id.parse().ok());
    let id = id.ok_or_else(unknown)?;
    let remembered = gateway.jobs.get(&id);
    if let Some(job) = remembered.filter(|job| job.lane.tenant == caller.tenant) {
        return Ok(job);
    }
    match outcome::recall(gateway, &caller.tenant, &id).await {
        Ok(job) => job.ok_or_else(unknown),
        Err(error) => {
            let error = &error as &(dyn std::error::Error + 'static);
            tracing::warn!(job.id = %id, error, "the storage did not say how a job ended");
            let text = "this gateway does not remember such a job, and the storage does not say how it ended; ask again";
            Err(Refusal::new(ErrorCode::StorageUnavailable, text))
        }
    }
}

fn unknown() -> Refusal {
    let text = "no such job is known; it may be too old, or have been lost before a worker began it, and one that runs on after a restart is known once it ends";
    Refusal::new(ErrorCode::NotFound, text)
}
