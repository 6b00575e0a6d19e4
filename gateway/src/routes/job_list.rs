//! `GET /jobs`, `/jobs/{id}` and `/jobs/{id}/events`.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use mayfly_protocol::{ErrorCode, InvalidId, JobId, Refusal, TenantId};
use mayfly_server::refuse::json;
use mayfly_session::OpenJob;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{Asking, answer};
use crate::access::Caller;
use crate::event_stream;
use crate::jobs::{Job, JobFilter, JobState, JobView};
use crate::outcome;
use crate::state::Gateway;
use crate::watch;

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

#[derive(Serialize, JsonSchema)]
pub(super) struct JobList {
    jobs: Vec<JobView>,
}

pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Asking,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Response {
    let (filter, limit) = match filter(&caller, query) {
        Ok(wanted) => wanted,
        Err(refusal) => return answer(Err(refusal)),
    };
    let others = match &gateway.exchange {
        Some(exchange) => exchange.views(&filter.tenant).await,
        None => Vec::new(),
    };
    let list = JobList {
        jobs: gateway.jobs.list(&filter, others, limit),
    };
    json(StatusCode::OK, &list)
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
    match find(&gateway, &caller, id, Wanted::Shown).await {
        Ok(job) => json(StatusCode::OK, &view(&gateway, &job).await),
        Err(refusal) => answer(Err(refusal)),
    }
}

/// How a job stands, as the gateway knows that has it.
pub(super) async fn view(gateway: &Gateway, job: &Job) -> JobView {
    if let Some(exchange) = &gateway.exchange
        && job.is_read_along()
        && let Some(told) = exchange.view(&job.lane.tenant, &job.id).await
    {
        return told;
    }
    job.view(true)
}

pub(super) async fn events(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Asking,
    id: JobPath,
    headers: HeaderMap,
) -> Response {
    let found = find(&gateway, &caller, id, Wanted::Followed).await;
    let stream = |job: Arc<Job>| {
        let pass = gateway.access.stream(&caller)?;
        event_stream::resume(&job, &headers, gateway.config.heartbeat, pass)
    };
    answer(found.and_then(stream))
}

/// What was tried to tell the job's receiver.
pub(super) async fn deliveries(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Asking,
    id: JobPath,
) -> Response {
    let found = async {
        let job = find(&gateway, &caller, id, Wanted::Shown).await?;
        let deliveries = gateway.webhooks.deliveries(&caller.tenant, &job.id).await;
        deliveries.ok_or_else(|| {
            let text = "no webhook of this job is known; it has no `callbackUrl`, or its log is gone";
            Refusal::new(ErrorCode::NotFound, text)
        })
    };
    answer(found.await.map(|found| json(StatusCode::OK, &found)))
}

/// A job of the caller's tenant that this gateway remembers, that the storage has the outcome of, or that another gateway has.
///
/// What is not an id is as unknown as an id that no job has, and so is another tenant's: the storage is asked for it just the same, so that
/// neither the answer nor its time tells the two apart.
pub(super) async fn find(
    gateway: &Arc<Gateway>,
    caller: &Caller,
    id: JobPath,
    wanted: Wanted,
) -> Result<Arc<Job>, Refusal> {
    let id: Option<JobId> = id.ok().and_then(|Path(id)| id.parse().ok());
    let id = id.ok_or_else(unknown)?;
    look_for(gateway, &caller.tenant, &id, wanted)
        .await
        .map_err(|error| match error {
            Unknown::NotFound => unknown(),
            Unknown::Unsaid => unsaid(),
        })
}

/// Why there is no such job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// Nobody has it.
    NotFound,
    /// The storage does not say.
    Unsaid,
}

/// What is wanted of a job that another gateway has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Where it stands, as far as the storage says.
    Shown,
    /// That it is followed from now on, for as long as it is read.
    Followed,
}

/// The job, wherever it is.
pub(crate) async fn look_for(
    gateway: &Arc<Gateway>,
    tenant: &TenantId,
    id: &JobId,
    wanted: Wanted,
) -> Result<Arc<Job>, Unknown> {
    let unsaid = |error: &(dyn std::error::Error + 'static)| {
        tracing::warn!(job.id = %id, error, "the storage did not say what became of a job");
        Unknown::Unsaid
    };
    let remembered = gateway.jobs.get(id);
    if let Some(job) = remembered.filter(|job| job.lane.tenant == *tenant) {
        return Ok(job);
    }
    if let Some(exchange) = &gateway.exchange
        && let Some(open) = exchange.view(tenant, id).await.and_then(|view| view.open(tenant))
    {
        return Ok(show(gateway, open, wanted));
    }
    let ended = async || {
        let ended = outcome::recall(gateway, tenant, id).await;
        ended.map_err(|error| unsaid(&error))
    };
    if let Some(job) = ended().await? {
        return Ok(job);
    }
    let own = gateway.own_jobs.as_ref().ok_or(Unknown::NotFound)?;
    let looking = timeout(gateway.config.outcome_timeout, own.archive.find(tenant, id)).await;
    let open = looking
        .map_err(|late| unsaid(&late))?
        .map_err(|error| unsaid(&error))?;
    if let Some((_, open)) = open {
        return Ok(show(gateway, open, wanted));
    }
    // Between the two looks it may have ended, and its record gone.
    ended().await?.ok_or(Unknown::NotFound)
}

fn show(gateway: &Arc<Gateway>, open: OpenJob, wanted: Wanted) -> Arc<Job> {
    match wanted {
        Wanted::Shown => Arc::new(gateway.jobs.shown(&open)),
        Wanted::Followed => watch::join(gateway, open),
    }
}

pub(crate) fn unsaid() -> Refusal {
    let text = "this gateway does not remember such a job, and the storage does not say what became of it; ask again";
    Refusal::new(ErrorCode::StorageUnavailable, text)
}

fn unknown() -> Refusal {
    let text = "no such job is known; it may be too old, or have been lost with its gateway before it was noted anywhere";
    Refusal::new(ErrorCode::NotFound, text)
}
