//! Refusals as HTTP answers: JSON with a code, whatever went wrong.

use axum::body::Body;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use mayfly_protocol::{ErrorCode, Refusal};
use serde::Serialize;

/// Seconds after which a client may ask this worker's address again: something starts a fresh process there.
const RETRY_AFTER_SECS: u64 = 1;

/// The refusal of a job while the worker has one, or is about to end.
pub(crate) fn busy(reason: &str) -> Refusal {
    Refusal::new(
        ErrorCode::WorkerBusy,
        format!("this worker {reason}; ask another one, or come back in {RETRY_AFTER_SECS} s"),
    )
    .with_retry_after(RETRY_AFTER_SECS)
}

/// The answer to a refused request. The connection ends with it, since the rest of the request may not have been read.
pub(crate) fn response(refusal: &Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, refusal);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if let Some(seconds) = refusal.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if refusal.code == ErrorCode::Unauthorized {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A JSON answer that nobody may keep.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let body = serde_json::to_vec(value).expect("the answers of a worker have text keys only");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
