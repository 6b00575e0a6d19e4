//! A job's request, from its headers and bytes to a checked job, before anything is claimed: 415, 413, 400, 408, and 429 where too many bytes are held.
//!
//! This module must not know the queue.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request};
use mayfly_protocol::{CallbackUrl, ErrorCode, Job, JobKind, Refusal, SessionId, TenantId, header};
use mayfly_server::request::{BodyLimits, check_json, read_body};
use mayfly_telemetry::trace::TraceContext;

use crate::config::GatewayConfig;
use crate::held::{HeldBytes, Hold};
use crate::idempotency::{self, Keyed};
use crate::state::Gateway;

/// The bytes of a body, which hold secrets: never shown, and counted while they are held.
pub(crate) struct HeldBody {
    bytes: Bytes,
    _hold: Hold,
}

impl HeldBody {
    /// The body of a job that is taken over; `None` where too many bytes are held.
    pub(crate) fn inherited(held: &Arc<HeldBytes>, tenant: &TenantId, bytes: Bytes) -> Option<Self> {
        let mut hold = held.hold(tenant);
        hold.grow(bytes.len()).then_some(Self { bytes, _hold: hold })
    }

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
    /// There where the client sent an idempotency key.
    pub(crate) keyed: Option<Keyed>,
    /// The trace that the client's request belongs to.
    pub(crate) trace: Option<TraceContext>,
    /// Whom to tell of the end.
    pub(crate) callback_url: Option<CallbackUrl>,
}

/// Reads and checks a request for a job of this kind.
pub(crate) async fn read(
    gateway: &Gateway,
    tenant: &TenantId,
    kind: JobKind,
    request: Request<Body>,
) -> Result<Intake, Refusal> {
    let (head, body) = request.into_parts();
    let limits = BodyLimits {
        bytes: gateway.config.max_body_bytes,
        timeout: gateway.config.body_timeout,
    };
    check_json(&head.headers, limits)?;
    let key = idempotency::key(&head.headers)?;
    let body = read_held(gateway, tenant, body, limits).await?;
    let job = Job::parse(kind, &body.bytes)?;
    gateway.webhooks.check(job.callback_url())?;
    Ok(Intake {
        session: job.session_id().clone(),
        keyed: key.map(|key| Keyed::new(key, kind, &body.bytes)),
        callback_url: job.callback_url().cloned(),
        trace: trace(&head.headers),
        body,
        respond_async: prefers_async(&head.headers),
    })
}

/// What is not as the specification has it begins a trace anew, which it asks for.
fn trace(headers: &HeaderMap) -> Option<TraceContext> {
    headers.get(header::TRACEPARENT)?.to_str().ok()?.parse().ok()
}

fn prefers_async(headers: &HeaderMap) -> bool {
    let values = headers.get_all("prefer").iter();
    let mut preferences = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']));
    preferences.any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
}

/// Reads the body, and stops as soon as it, or all bodies together, are too large.
async fn read_held(
    gateway: &Gateway,
    tenant: &TenantId,
    body: Body,
    limits: BodyLimits,
) -> Result<HeldBody, Refusal> {
    let mut hold = gateway.held_bytes.hold(tenant);
    let hold_more = |bytes| match hold.grow(bytes) {
        true => Ok(()),
        false => Err(no_room(&gateway.config)),
    };
    let bytes = read_body(body, limits, hold_more).await?;
    Ok(HeldBody { bytes, _hold: hold })
}

fn no_room(config: &GatewayConfig) -> Refusal {
    let text = "the jobs that wait, or those of this tenant, hold as many bytes as they may; come back later";
    Refusal::new(ErrorCode::QueueFull, text).with_retry_after(config.queue_retry_after.as_secs().max(1))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_wish_for_no_stream_is_found_among_others() {
        for (value, expected) in [
            ("respond-async", true),
            ("wait=10, Respond-Async", true),
            ("respond-async; x=1", true),
            ("return=minimal", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("prefer", HeaderValue::from_static(value));
            assert_eq!(prefers_async(&headers), expected, "{value}");
        }
    }
}
