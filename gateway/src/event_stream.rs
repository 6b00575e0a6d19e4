//! A job's log as an answer: Server-Sent Events, from where the client left off.
//!
//! Frames go out as the client reads them; nothing is held for one that does not. This module must not know who fills the log.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use mayfly_protocol::{ErrorCode, JobId, Refusal, header};
use mayfly_server::request::single_header;
use mayfly_sse::HEARTBEAT;
use tokio::time::timeout;

use crate::access::StreamPass;
use crate::jobs::{Job, Reader};

const LAST_EVENT_ID: &str = "Last-Event-ID";
/// A reader's place is given back when its connection ends, which nobody can foretell.
const RETRY_AFTER_SECS: u64 = 5;

/// The answer to whoever wants a job's events after the number in `Last-Event-ID`.
///
/// Where the job is over and the client has its last event, the answer is 204: it tells an `EventSource` not to come back (WHATWG HTML, 9.2.1).
pub(crate) fn resume(
    job: &Job,
    headers: &HeaderMap,
    heartbeat: Duration,
    pass: StreamPass,
) -> Result<Response, Refusal> {
    let after = last_event_id(headers)?;
    let size = job.log.size();
    if after > size.events && !job.log.may_lag() {
        let text = format!(
            "`{LAST_EVENT_ID}` is {after}, and the job has {} events so far",
            size.events
        );
        return Err(Refusal::new(ErrorCode::InvalidRequest, text).with_field(LAST_EVENT_ID));
    }
    if size.ended && after == size.events {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    begin(job, after, heartbeat, pass)
}

/// The answer that streams a job's events after this number.
pub(crate) fn begin(
    job: &Job,
    after: u64,
    heartbeat: Duration,
    pass: StreamPass,
) -> Result<Response, Refusal> {
    let reader = job.read(after).ok_or_else(|| {
        let text = "this job has as many readers as it may; close one of them, or come back later";
        Refusal::new(ErrorCode::RateLimited, text).with_retry_after(RETRY_AFTER_SECS)
    })?;
    let mut response = Response::new(frames(reader, heartbeat, pass));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    headers.insert(HeaderName::from_static(header::JOB_ID), job_id_value(&job.id));
    Ok(response)
}

/// The id as a header's value.
pub(crate) fn job_id_value(id: &JobId) -> HeaderValue {
    HeaderValue::try_from(id.as_str()).expect("a UUID is a header's value")
}

pub(crate) fn last_event_id(headers: &HeaderMap) -> Result<u64, Refusal> {
    let text = single_header(headers, LAST_EVENT_ID)?.unwrap_or_default();
    if text.is_empty() {
        return Ok(0);
    }
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_number);
    number.ok_or_else(|| {
        let text =
            format!("`{LAST_EVENT_ID}` is not a number; send the `id` of the last event that was read");
        Refusal::new(ErrorCode::InvalidRequest, text).with_field(LAST_EVENT_ID)
    })
}

/// The events as frames, and a sign of life in each silence.
fn frames(reader: Reader, heartbeat: Duration, pass: StreamPass) -> Body {
    Body::from_stream(stream::unfold(
        (reader, pass),
        move |(mut reader, pass)| async move {
            let frame = match timeout(heartbeat, reader.follower.next()).await {
                Ok(frame) => frame?,
                Err(_) => Bytes::from_static(HEARTBEAT),
            };
            Some((Ok::<_, Infallible>(frame), (reader, pass)))
        },
    ))
}
