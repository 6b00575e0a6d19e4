//! Refusals as HTTP answers: JSON with a code, whatever went wrong.

use std::any::Any;

use axum::body::Body;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use mayfly_protocol::{ErrorCode, Refusal};
use serde::Serialize;

/// The answer to a refused request. The connection ends with it, since the rest of the request may not have been read.
pub fn response(refusal: &Refusal) -> Response {
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

/// A JSON answer that nobody may keep. The value has text keys only.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let body = serde_json::to_vec(value).expect("answers have text keys only");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The answer where a handler panicked. What the panic says stays out of it, since it may hold anything.
pub fn panicked(_: Box<dyn Any + Send>) -> Response {
    tracing::error!("a request made its handler panic");
    let text = "the server's own code failed (a defect of Mayfly); its log has the details";
    response(&Refusal::new(ErrorCode::Internal, text))
}
