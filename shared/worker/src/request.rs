//! A job's request, from its headers and bytes to checked values.
//!
//! This module must not know the slot: what it refuses was never claimed.

use std::str::FromStr;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use mayfly_protocol::event::timestamp;
use mayfly_protocol::{ErrorCode, Job, JobId, JobKind, Refusal, TenantId, header};
use time::OffsetDateTime;
use tokio::time::timeout;

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
}

/// Reads a request for a job of this kind: 415, 413, 400, and 408 where the body does not arrive.
pub(crate) async fn read(
    config: &WorkerConfig,
    kind: JobKind,
    request: Request<Body>,
) -> Result<JobRequest, Refusal> {
    let (head, body) = request.into_parts();
    check_media_type(&head.headers)?;
    check_declared_length(&head.headers, config.max_body_bytes)?;
    let order = Order::from_headers(&head.headers)?;
    let body = timeout(config.body_timeout, collect(body, config.max_body_bytes));
    let body = body.await.map_err(|_| late(config))??;
    let job = Job::parse(kind, &body)?;
    Ok(JobRequest { job, order })
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let unsupported = |text: &str| Err(Refusal::new(ErrorCode::UnsupportedMediaType, text));
    let content_type = single(headers, CONTENT_TYPE.as_str())?.unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return unsupported("the body must be JSON; send it with `content-type: application/json`");
    }
    let encoding = single(headers, CONTENT_ENCODING.as_str())?.unwrap_or("identity");
    if !encoding.eq_ignore_ascii_case("identity") {
        return unsupported("the body must not be compressed; send it without `content-encoding`");
    }
    Ok(())
}

fn check_declared_length(headers: &HeaderMap, max_bytes: usize) -> Result<(), Refusal> {
    let declared: Option<u64> = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|bytes| bytes > max_bytes as u64) {
        return Err(too_large(max_bytes));
    }
    Ok(())
}

/// Reads the body, and stops as soon as it is too large.
async fn collect(mut body: Body, max_bytes: usize) -> Result<Bytes, Refusal> {
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            Refusal::new(
                ErrorCode::InvalidRequest,
                "the body broke off or is not framed as its headers say; send it again, whole",
            )
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if collected.len() + data.len() > max_bytes {
            return Err(too_large(max_bytes));
        }
        collected.extend_from_slice(&data);
    }
    Ok(collected.freeze())
}

fn too_large(max_bytes: usize) -> Refusal {
    Refusal::new(
        ErrorCode::BodyTooLarge,
        format!("the body is larger than {max_bytes} bytes"),
    )
}

fn late(config: &WorkerConfig) -> Refusal {
    let seconds = config.body_timeout.as_secs_f32();
    Refusal::new(
        ErrorCode::RequestTimeout,
        format!("the body did not arrive within {seconds} s; send it again"),
    )
}

impl Order {
    fn from_headers(headers: &HeaderMap) -> Result<Self, Refusal> {
        let attempt: Option<u32> = parsed(headers, header::ATTEMPT, "is not a number from 1 to 4294967295")?;
        if attempt == Some(0) {
            return Err(invalid(header::ATTEMPT, "is 0; the first attempt is 1"));
        }
        let accepted_at = match single(headers, header::ACCEPTED_AT)? {
            Some(text) => timestamp::parse(text)
                .ok_or_else(|| invalid(header::ACCEPTED_AT, "is not an RFC 3339 time"))?,
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
            tenant: parsed(headers, header::TENANT, "is not a tenant's id")?.unwrap_or_default(),
        })
    }
}

fn parsed<T: FromStr>(headers: &HeaderMap, name: &str, rule: &str) -> Result<Option<T>, Refusal> {
    single(headers, name)?
        .map(|text| text.parse().map_err(|_| invalid(name, rule)))
        .transpose()
}

/// The value of a header that may be absent, and must not come twice.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(invalid(name, "is given twice"));
    }
    value
        .to_str()
        .map(Some)
        .map_err(|_| invalid(name, "is not printable ASCII"))
}

fn invalid(name: &str, reason: &str) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, format!("the header `{name}` {reason}")).with_field(name)
}
