//! A job's request, from its headers and bytes to checked values.
//!
//! This module must not know the slot: what it refuses was never claimed.

use std::str::FromStr;

use axum::body::Body;
use http::{HeaderMap, Request};
use mayfly_protocol::event::timestamp;
use mayfly_protocol::{ErrorCode, Job, JobId, JobKind, Refusal, TenantId, header};
use mayfly_server::request::{BodyLimits, check_json, invalid_header, read_body, single_header};
use mayfly_telemetry::trace::TraceContext;
use time::OffsetDateTime;

use crate::config::WorkerConfig;

/// A checked request, with what the gateway said about it in headers, or what stands in for that.
pub(crate) struct JobRequest {
    pub(crate) job: Job,
    pub(crate) order: Order,
}

/// What the gateway says about a job besides the job.
pub(crate) struct Order {
    pub(crate) job_id: JobId,
    pub(crate) attempt: u32,
    pub(crate) accepted_at: OffsetDateTime,
    pub(crate) tenant: TenantId,
    /// Events of the job's stream before this worker's first.
    pub(crate) events_before: u64,
    /// The trace that the job belongs to.
    pub(crate) trace: Option<TraceContext>,
}

/// Reads a request for a job of this kind: 415, 413, 400, and 408 where the body does not arrive.
pub(crate) async fn read(
    config: &WorkerConfig,
    kind: JobKind,
    request: Request<Body>,
) -> Result<JobRequest, Refusal> {
    let (head, body) = request.into_parts();
    let limits = BodyLimits {
        bytes: config.max_body_bytes,
        timeout: config.body_timeout,
    };
    check_json(&head.headers, limits)?;
    let order = Order::from_headers(&head.headers)?;
    check_tenant(config, &order.tenant)?;
    let body = read_body(body, limits, |_| Ok(())).await?;
    let job = Job::parse(kind, &body)?;
    Ok(JobRequest { job, order })
}

/// A tenant is believed from whoever has the fleet's token, and from nobody else.
fn check_tenant(config: &WorkerConfig, tenant: &TenantId) -> Result<(), Refusal> {
    if config.tokens.is_some() || *tenant == TenantId::default() {
        return Ok(());
    }
    let text = format!(
        "this worker has no WORKER_TOKEN, and so believes nobody who speaks for the tenant `{tenant}`; set it at the worker and at the gateway"
    );
    Err(Refusal::new(ErrorCode::Forbidden, text).with_field(header::TENANT))
}

impl Order {
    fn from_headers(headers: &HeaderMap) -> Result<Self, Refusal> {
        let attempt: Option<u32> = parsed(headers, header::ATTEMPT, "is not a number from 1 to 4294967295")?;
        if attempt == Some(0) {
            return Err(invalid_header(header::ATTEMPT, "is 0; the first attempt is 1"));
        }
        let accepted_at = match single_header(headers, header::ACCEPTED_AT)? {
            Some(text) => timestamp::parse(text)
                .ok_or_else(|| invalid_header(header::ACCEPTED_AT, "is not an RFC 3339 time"))?,
            None => OffsetDateTime::now_utc(),
        };
        Ok(Self {
            job_id: parsed(
                headers,
                header::JOB_ID,
                "is not a UUID in lower case with hyphens",
            )?
            .unwrap_or_else(JobId::new_now),
            attempt: attempt.unwrap_or(1),
            accepted_at,
            events_before: parsed(headers, header::EVENTS_BEFORE, "is not a number")?.unwrap_or(0),
            trace: trace(headers),
            tenant: parsed(headers, header::TENANT, "is not a tenant's id")?.unwrap_or_default(),
        })
    }
}

/// What is not as the specification has it begins a trace anew, which it asks for.
fn trace(headers: &HeaderMap) -> Option<TraceContext> {
    headers.get(header::TRACEPARENT)?.to_str().ok()?.parse().ok()
}

fn parsed<T: FromStr>(headers: &HeaderMap, name: &str, rule: &str) -> Result<Option<T>, Refusal> {
    single_header(headers, name)?
        .map(|text| text.parse().map_err(|_| invalid_header(name, rule)))
        .transpose()
}
