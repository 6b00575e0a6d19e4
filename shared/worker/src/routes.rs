//! The routes of a worker, and the order in which it refuses.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use mayfly_protocol::event::timestamp;
use mayfly_protocol::{ErrorCode, Event, JobId, JobKind, Refusal, Source, Stage, header};
use mayfly_sandbox::Report;
use mayfly_server::Delivered;
use mayfly_server::refuse::{json, response};
use mayfly_server::request::{invalid_header, single_header};
use mayfly_sse::{HEARTBEAT, encode_event};
use serde::Serialize;
use tokio::time::timeout;

use crate::events::{EventFollower, EventReader};
use crate::run::Worker;
use crate::slot::{Availability, Occupant};
use crate::{job, request};

const HEALTH: &str = "/health";
/// Seconds after which a client may ask this worker's address again: something starts a fresh process there.
const RETRY_AFTER_SECS: u64 = 1;

/// The routes: one for each kind of job that the runner takes, and what tells about the worker.
pub(crate) fn router(worker: &Arc<Worker>) -> Router {
    let mut router = Router::new()
        .route(HEALTH, get(health))
        .route("/status", get(status))
        .route("/jobs/{id}/cancel", post(cancel))
        .route("/jobs/{id}/events", get(follow));
    for kind in worker.runner.kinds().iter().copied() {
        let handler = move |State(worker): State<Arc<Worker>>, request| async move {
            take_job(&worker, kind, request)
                .await
                .unwrap_or_else(|refusal| response(&refusal))
        };
        router = router.route(kind.path(), post(handler));
    }
    router
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(worker), authorize))
        .with_state(Arc::clone(worker))
}

async fn authorize(State(worker): State<Arc<Worker>>, request: Request<Body>, next: Next) -> Response {
    let allowed = match &worker.config.tokens {
        Some(tokens) => request.uri().path() == HEALTH || tokens.are_carried_by(request.headers()),
        None => true,
    };
    if allowed {
        return next.run(request).await;
    }
    response(&Refusal::new(
        ErrorCode::Unauthorized,
        "this worker wants its token; send `authorization: Bearer` with the WORKER_TOKEN of the fleet",
    ))
}

/// Refuses while the slot is taken before the body is read, and once more when the claim fails.
async fn take_job(worker: &Arc<Worker>, kind: JobKind, request: Request<Body>) -> Result<Response, Refusal> {
    refuse_unless_idle(worker)?;
    let permit = worker.open_bodies.try_acquire();
    let _permit = permit.map_err(|_| busy("is reading as many requests as it may"))?;
    let delivered = request
        .extensions()
        .get::<Delivered>()
        .cloned()
        .unwrap_or_default();
    let request = request::read(&worker.config, kind, request).await?;
    let job_id = request.order.job_id.clone();
    let Some(reader) = job::start(worker, request, delivered.token()) else {
        refuse_unless_idle(worker)?;
        return Err(busy("has its job"));
    };
    Ok(stream(&job_id, reader, worker.config.heartbeat))
}

fn refuse_unless_idle(worker: &Worker) -> Result<(), Refusal> {
    match worker.slot.report().0 {
        Availability::Idle => Ok(()),
        Availability::Busy => Err(busy("has its job")),
        Availability::Draining => Err(busy("is ending")),
    }
}

/// The refusal of a job while the worker has one, or is about to end.
fn busy(reason: &str) -> Refusal {
    Refusal::new(
        ErrorCode::WorkerBusy,
        format!("this worker {reason}; ask another one, or come back in {RETRY_AFTER_SECS} s"),
    )
    .with_retry_after(RETRY_AFTER_SECS)
}

fn stream(job_id: &JobId, reader: impl Events, heartbeat: Duration) -> Response {
    let mut response = Response::new(frames(reader, heartbeat));
    let job_id = HeaderValue::try_from(job_id.as_str()).expect("a UUID is a header's value");
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    headers.insert(HeaderName::from_static(header::JOB_ID), job_id);
    response
}

/// Whoever reads a job's events.
trait Events: Send + 'static {
    /// The next event and its number; `None` after the terminal one.
    fn next(&mut self) -> impl Future<Output = Option<(u64, Event)>> + Send;
}

impl Events for EventReader {
    async fn next(&mut self) -> Option<(u64, Event)> {
        Self::next(self).await
    }
}

impl Events for EventFollower {
    async fn next(&mut self) -> Option<(u64, Event)> {
        Self::next(self).await
    }
}

/// The events as frames, and a sign of life in each silence.
fn frames(mut reader: impl Events, heartbeat: Duration) -> Body {
    Body::from_stream(async_stream::stream! {
        loop {
            match timeout(heartbeat, reader.next()).await {
                Ok(Some((id, event))) => yield Ok::<_, std::convert::Infallible>(encode_event(id, &event)),
                Ok(None) => break,
                Err(_) => yield Ok(HEARTBEAT.into()),
            }
        }
    })
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

async fn health(State(worker): State<Arc<Worker>>) -> Response {
    let status = match worker.slot.report().0 {
        Availability::Idle | Availability::Busy => "ok",
        Availability::Draining => "draining",
    };
    json(StatusCode::OK, &Health { status })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    state: Availability,
    source: Source,
    kinds: &'static [JobKind],
    uptime_seconds: u64,
    sandbox: Report,
    #[serde(flatten)]
    job: Option<JobStatus>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JobStatus {
    job_id: JobId,
    kind: JobKind,
    attempt: u32,
    started_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<Stage>,
}

async fn status(State(worker): State<Arc<Worker>>) -> Response {
    let (state, occupant) = worker.slot.report();
    let job = occupant.map(|occupant| JobStatus {
        stage: occupant.events.current_stage(),
        started_at: timestamp::format(occupant.started_at),
        job_id: occupant.job_id,
        kind: occupant.kind,
        attempt: occupant.attempt,
    });
    let status = Status {
        state,
        source: worker.runner.source(),
        kinds: worker.runner.kinds(),
        uptime_seconds: worker.started.elapsed().as_secs(),
        sandbox: worker.config.sandbox,
        job,
    };
    json(StatusCode::OK, &status)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cancelling {
    job_id: JobId,
    state: &'static str,
}

/// Cancels the job, if it is this worker's; how it ends is in its stream. Asking again changes nothing.
async fn cancel(State(worker): State<Arc<Worker>>, id: Result<Path<String>, PathRejection>) -> Response {
    let occupant = match occupant(&worker, id) {
        Ok(occupant) => occupant,
        Err(refusal) => return response(&refusal),
    };
    tracing::info!(job.id = %occupant.job_id, "asked to cancel the job");
    occupant.asked.cancel();
    let cancelling = Cancelling {
        job_id: occupant.job_id,
        state: "cancelling",
    };
    json(StatusCode::ACCEPTED, &cancelling)
}

/// The job, if it is this worker's.
fn occupant(worker: &Worker, id: Result<Path<String>, PathRejection>) -> Result<Occupant, Refusal> {
    let asked = id.ok().map(|Path(id)| id);
    let occupant = worker.slot.report().1;
    let found = occupant.filter(|it| asked.as_deref() == Some(it.job_id.as_str()));
    found.ok_or_else(|| {
        let text = "this worker does not have this job; ask the gateway that gave the job its id";
        Refusal::new(ErrorCode::NotFound, text)
    })
}

/// The events of the job after `Last-Event-ID`, beside whoever reads them already: for a gateway that comes after the one that sent the job.
async fn follow(
    State(worker): State<Arc<Worker>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    extensions: Extensions,
) -> Response {
    let delivered = extensions.get::<Delivered>().cloned().unwrap_or_default();
    let followed = occupant(&worker, id).and_then(|occupant| {
        let after = last_event_id(&headers)?;
        match occupant.deliveries.add(delivered.token()) {
            true => Ok((occupant, after)),
            false => Err(busy("has as many readers of its job as may be")),
        }
    });
    match followed {
        Ok((occupant, after)) => {
            tracing::info!(job.id = %occupant.job_id, after, "the job is followed");
            let follower = occupant.events.follow(after);
            stream(&occupant.job_id, follower, worker.config.heartbeat)
        }
        Err(refusal) => response(&refusal),
    }
}

fn last_event_id(headers: &HeaderMap) -> Result<u64, Refusal> {
    const NAME: &str = "Last-Event-ID";
    let text = single_header(headers, NAME)?.unwrap_or("0");
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_number);
    number.ok_or_else(|| invalid_header(NAME, "is not a number"))
}

async fn unknown_path() -> Response {
    response(&Refusal::new(
        ErrorCode::NotFound,
        "this worker has no such path; jobs are posted to the paths of the kinds that `GET /status` lists",
    ))
}

async fn wrong_method() -> Response {
    response(&Refusal::new(
        ErrorCode::MethodNotAllowed,
        "this path takes another method; the header `allow` names it",
    ))
}
