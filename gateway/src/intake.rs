//! A job's request, from its headers and bytes to a checked job, before anything is claimed: 415, 413, 400, 408, and 429 where too many bytes are held.
//!
//! This module must not know the queue.

use std::sync::Arc;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use mayfly_protocol::{ErrorCode, Job, JobKind, Refusal, SessionId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::config::GatewayConfig;
use crate::state::Gateway;

/// The bytes of a body, which hold secrets: never shown, and counted while they are held.
pub(crate) struct HeldBody {
    bytes: Bytes,
    _permit: Option<OwnedSemaphorePermit>,
}

impl HeldBody {
    pub(crate) fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }
}

/// A checked request.
pub(crate) struct Intake {
    pub(crate) session: SessionId,
    pub(crate) body: HeldBody,
    /// The client wants no stream, but the job's address.
    pub(crate) respond_async: bool,
}

/// Reads and checks a request for a job of this kind.
pub(crate) async fn read(
    gateway: &Gateway,
    kind: JobKind,
    request: Request<Body>,
) -> Result<Intake, Refusal> {
    let (head, body) = request.into_parts();
    let config = &gateway.config;
    check_media_type(&head.headers)?;
    check_declared_length(&head.headers, config.max_body_bytes)?;
    check_no_idempotency_key(&head.headers)?;
    let collected = timeout(config.body_timeout, collect(body, config, &gateway.held_bytes));
    let body = collected.await.map_err(|_| late(config))??;
    let job = Job::parse(kind, &body.bytes)?;
    Ok(Intake {
        session: job.session_id().clone(),
        body,
        respond_async: prefers_async(&head.headers),
    })
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

/// The value of a header that may stand there once.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().ok(),
        (Some(_), Some(_)) => None,
    };
    value.map(Some).ok_or_else(|| {
        let text = format!("the header `{name}` is not readable text, or stands there twice");
        Refusal::new(ErrorCode::InvalidRequest, text).with_field(name)
    })
}

fn check_declared_length(headers: &HeaderMap, max_bytes: usize) -> Result<(), Refusal> {
    let value = headers.get(CONTENT_LENGTH);
    let declared: Option<u64> = value.and_then(|value| value.to_str().ok()?.parse().ok());
    match declared.is_some_and(|bytes| bytes > max_bytes as u64) {
        true => Err(too_large(max_bytes)),
        false => Ok(()),
    }
}

/// A key promises that the job never runs twice. This gateway cannot keep that yet, and does not pretend to.
fn check_no_idempotency_key(headers: &HeaderMap) -> Result<(), Refusal> {
    const NAME: &str = "Idempotency-Key";
    if !headers.contains_key(NAME) {
        return Ok(());
    }
    let text = "the header `Idempotency-Key` is not supported by this gateway yet; leave it out, and look at the session before sending a job again";
    Err(Refusal::new(ErrorCode::InvalidRequest, text).with_field(NAME))
}

fn prefers_async(headers: &HeaderMap) -> bool {
    let values = headers.get_all("prefer").iter();
    let mut preferences = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']));
    preferences.any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
}

/// Reads the body, and stops as soon as it, or all bodies together, are too large.
async fn collect(
    mut body: Body,
    config: &GatewayConfig,
    held_bytes: &Arc<Semaphore>,
) -> Result<HeldBody, Refusal> {
    let mut bytes = BytesMut::new();
    let mut permit: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|_| Refusal::new(ErrorCode::InvalidRequest, "the body broke off before its end"))?;
        let Ok(chunk) = frame.into_data() else { continue };
        if bytes.len() + chunk.len() > config.max_body_bytes {
            return Err(too_large(config.max_body_bytes));
        }
        let more = hold(held_bytes, chunk.len()).ok_or_else(|| no_room(config))?;
        match &mut permit {
            Some(permit) => permit.merge(more),
            None => permit = Some(more),
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(HeldBody {
        bytes: bytes.freeze(),
        _permit: permit,
    })
}

fn hold(held_bytes: &Arc<Semaphore>, bytes: usize) -> Option<OwnedSemaphorePermit> {
    let bytes = u32::try_from(bytes).ok()?;
    Arc::clone(held_bytes).try_acquire_many_owned(bytes).ok()
}

fn no_room(config: &GatewayConfig) -> Refusal {
    let text = "the jobs that wait hold as many bytes as they may; come back later";
    Refusal::new(ErrorCode::QueueFull, text).with_retry_after(config.queue_retry_after.as_secs().max(1))
}

fn too_large(max_bytes: usize) -> Refusal {
    Refusal::new(
        ErrorCode::BodyTooLarge,
        format!("the body is larger than {max_bytes} bytes; send less in one job"),
    )
}

fn late(config: &GatewayConfig) -> Refusal {
    let seconds = config.body_timeout.as_secs_f32();
    Refusal::new(
        ErrorCode::RequestTimeout,
        format!("the body did not arrive within {seconds} s; send it again"),
    )
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        list.iter().map(pair).collect()
    }

    #[test]
    fn only_plain_json_is_taken() {
        for (list, is_taken) in [
            (&[("content-type", "application/json")][..], true),
            (&[("content-type", "Application/JSON; charset=utf-8")], true),
            (
                &[
                    ("content-type", "application/json"),
                    ("content-encoding", "identity"),
                ],
                true,
            ),
            (&[], false),
            (&[("content-type", "text/plain")], false),
            (
                &[
                    ("content-type", "application/json"),
                    ("content-type", "text/plain"),
                ],
                false,
            ),
            (
                &[("content-type", "application/json"), ("content-encoding", "gzip")],
                false,
            ),
        ] {
            assert_eq!(check_media_type(&headers(list)).is_ok(), is_taken, "{list:?}");
        }
    }

    #[test]
    fn a_wish_for_no_stream_is_found_among_others() {
        for (value, expected) in [
            ("respond-async", true),
            ("wait=10, Respond-Async", true),
            ("respond-async; x=1", true),
            ("return=minimal", false),
        ] {
            assert_eq!(prefers_async(&headers(&[("prefer", value)])), expected, "{value}");
        }
    }
}
