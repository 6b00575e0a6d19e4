//! `POST` of a job: checked, queued, and answered with its stream or its address.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::header::LOCATION;
use http::{HeaderName, HeaderValue, Request, StatusCode};
use mayfly_protocol::{CallbackUrl, ErrorCode, JobId, JobKind, Refusal, header};
use mayfly_queue::{FullOf, Lane, QueueFull};
use mayfly_server::refuse;
use mayfly_telemetry::task;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::task::yield_now;

use crate::access::Caller;
use crate::dispatch::AdmitError;
use crate::event_stream;
use crate::fleet::WorkerKind;
use crate::idempotency::{self, Turn};
use crate::intake::{self, HeldBody};
use crate::job_run::JobRun;
use crate::job_trace::JobTrace;
use crate::jobs::{Job, JobState, JobWriter};
use crate::open_record::OpenRecord;
use crate::state::Gateway;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Accepted {
    job_id: JobId,
    state: JobState,
}

/// Takes a job: it is queued when this returns, and goes on whoever reads the answer.
pub(super) async fn take(
    gateway: &Arc<Gateway>,
    caller: &Caller,
    kind: JobKind,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    if gateway.draining.is_cancelled() {
        return Err(refusal(gateway, kind.into(), AdmitError::Closed));
    }
    let intake = intake::read(gateway, &caller.tenant, kind, request).await?;
    let respond_async = intake.respond_async;
    let lane = Lane {
        tenant: caller.tenant.clone(),
        session: intake.session,
    };
    // Before the job is begun, since a 429 promises that it is not.
    let pass = match respond_async {
        true => None,
        false => Some(gateway.access.stream(caller)?),
    };
    let callback_url = intake.callback_url;
    let trace = JobTrace::begin(&gateway.config.tracer, kind, intake.trace);
    let job = match intake.keyed {
        None => {
            let writer = gateway.jobs.add(kind, lane);
            begin(gateway, caller, writer, false, intake.body, trace, callback_url).await?
        }
        Some(keyed) => match idempotency::turn(gateway, kind, lane, &keyed).await? {
            Turn::Again(job) => job,
            Turn::First(writer) => {
                let begun = begin(gateway, caller, writer, true, intake.body, trace, callback_url).await;
                if begun.is_err() {
                    idempotency::give_back(gateway, &caller.tenant, &keyed).await;
                }
                begun?
            }
        },
    };
    match pass {
        None => Ok(accepted(&job)),
        Some(pass) => event_stream::begin(&job, 0, gateway.config.heartbeat, pass),
    }
}

/// Begins a job; what its receiver is owed is noted before that.
async fn begin(
    gateway: &Arc<Gateway>,
    caller: &Caller,
    writer: JobWriter,
    has_key: bool,
    body: HeldBody,
    trace: JobTrace,
    callback_url: Option<CallbackUrl>,
) -> Result<Arc<Job>, Refusal> {
    let owed = gateway.webhooks.promise(writer.job(), callback_url).await;
    let started = match has_key {
        true => start_keyed(gateway, caller, writer, body, trace).await,
        false => start(gateway, caller, writer, body, trace, None),
    };
    match (&started, owed) {
        (Ok(job), Some(owed)) => gateway.webhooks.follow(job, owed),
        (Err(_), Some(owed)) => gateway.webhooks.withdraw(owed).await,
        (_, None) => {}
    }
    if let Ok(job) = &started {
        // The worker is called before the client is answered: that takes the longer way.
        yield_now().await;
        // Whoever hears of the job finds it at every gateway, and jobs that are sent later behind it.
        job.log.begun().await;
    }
    started
}

/// Begins a job whose key promises that there is no second one: what becomes of it is noted before it is queued.
async fn start_keyed(
    gateway: &Arc<Gateway>,
    caller: &Caller,
    writer: JobWriter,
    body: HeldBody,
    trace: JobTrace,
) -> Result<Arc<Job>, Refusal> {
    let record = Arc::new(OpenRecord::new(gateway.own_jobs.clone(), writer.job()));
    if let Err(error) = record.promise().await {
        tracing::warn!(job.id = %writer.job().id, error = &error as &(dyn std::error::Error + 'static), "a job with an idempotency key could not be noted");
        record.withdraw().await;
        writer.withdraw();
        let text = "the storage did not take note of the job in time, so it was not begun; send the request again with the same key";
        return Err(Refusal::new(ErrorCode::StorageUnavailable, text));
    }
    let started = start(gateway, caller, writer, body, trace, Some(Arc::clone(&record)));
    if started.is_err() {
        record.withdraw().await;
    }
    started
}

fn start(
    gateway: &Arc<Gateway>,
    caller: &Caller,
    writer: JobWriter,
    body: HeldBody,
    mut trace: JobTrace,
    noted: Option<Arc<OpenRecord>>,
) -> Result<Arc<Job>, Refusal> {
    let job = Arc::clone(writer.job());
    trace.of(&job);
    // What is logged here, and by the task of the job, has the trace's id.
    let _entered = trace.log_span().entered();
    let worker_kind = WorkerKind::from(job.kind);
    let terms = caller.limits.terms();
    let is_held = gateway.exchange.is_some();
    match gateway
        .dispatcher
        .admit(worker_kind, job.lane.clone(), terms, &job.id, is_held)
    {
        Ok((place, position)) => {
            tracing::info!(
                job.id = %job.id,
                job.kind = job.kind.as_str(),
                session.id = %job.lane.session,
                tenant.id = %caller.tenant,
                key.id = caller.key.as_ref().map(tracing::field::display),
                "accepted a job"
            );
            gateway.metrics.accepted(job.kind);
            let record = noted.unwrap_or_else(|| Arc::new(OpenRecord::new(gateway.own_jobs.clone(), &job)));
            let run = JobRun::new(Arc::clone(gateway), writer, place, position, body, record, trace);
            task::spawn(&gateway.running, run.carry_out());
            Ok(job)
        }
        Err(error) => {
            writer.withdraw();
            Err(refusal(gateway, worker_kind, error))
        }
    }
}

fn accepted(job: &Job) -> Response {
    let body = Accepted {
        job_id: job.id.clone(),
        state: job.state(),
    };
    let mut response = refuse::json(StatusCode::ACCEPTED, &body);
    let location = HeaderValue::try_from(format!("/jobs/{}", job.id)).expect("a UUID is a header's value");
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    headers.insert(
        HeaderName::from_static(header::JOB_ID),
        event_stream::job_id_value(&job.id),
    );
    headers.insert(
        HeaderName::from_static("preference-applied"),
        HeaderValue::from_static("respond-async"),
    );
    response
}

fn refusal(gateway: &Gateway, kind: WorkerKind, error: AdmitError) -> Refusal {
    let seconds = gateway.config.queue_retry_after.as_secs().max(1);
    match error {
        AdmitError::Closed => Refusal::new(
            ErrorCode::ShuttingDown,
            "the gateway is shutting down and takes no job; send it again to the one that follows",
        )
        .with_retry_after(seconds),
        AdmitError::NoWorkers => Refusal::new(
            ErrorCode::NoWorkers,
            format!(
                "the gateway knows no {kind}; its setting {} says where they are",
                kind.setting()
            ),
        )
        .with_retry_after(seconds),
        AdmitError::Full(full) => queue_full(kind, full),
    }
}

fn queue_full(kind: WorkerKind, full: QueueFull) -> Refusal {
    let QueueFull {
        of,
        waiting,
        come_back,
    } = full;
    let text = match of {
        FullOf::Queue => {
            format!("{waiting} jobs wait for a {kind}, which is as many as may; come back later")
        }
        FullOf::Tenant => {
            format!("{waiting} jobs of this tenant wait, which is as many as may; come back later")
        }
    };
    Refusal::new(ErrorCode::QueueFull, text).with_retry_after(come_back.as_secs().max(1))
}
