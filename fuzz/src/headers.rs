//! Headers of requests, one in a line: each is taken once, in one spelling, and within its bounds.

use http::{HeaderMap, HeaderName, HeaderValue};
use mayfly_gateway::fuzzing::{idempotency_key, last_event_id};
use mayfly_server::bearer::bearer;
use mayfly_server::request::{BodyLimits, check_json, single_header};
use mayfly_telemetry::trace::TraceContext;
use std::time::Duration;

pub fn check(data: &[u8]) {
    let headers = headers(data);
    let last = last_event_id(&headers);
    match single_header(&headers, "last-event-id") {
        Ok(None | Some("")) => assert_eq!(last, Ok(0)),
        Ok(Some(text)) if last.is_ok() => {
            assert_eq!(last.ok().map(|it| it.to_string()).as_deref(), Some(trimmed(text)));
        }
        _ => assert!(last.is_err()),
    }
    if let Ok(Some(_)) = idempotency_key(&headers) {
        let key = &headers["idempotency-key"];
        assert!((1..=255).contains(&key.len()) && key.as_bytes().iter().all(u8::is_ascii_graphic));
    }
    if let Some(credential) = bearer(&headers) {
        assert!(!credential.is_empty() && credential == credential.trim());
    }
    let limits = BodyLimits {
        bytes: 100,
        timeout: Duration::from_secs(1),
    };
    if check_json(&headers, limits).is_ok() {
        let kind = headers["content-type"].to_str().expect("it was read");
        assert!(kind.to_ascii_lowercase().contains("application/json"));
    }
    if let Ok(Some(text)) = single_header(&headers, "traceparent")
        && let Ok(context) = text.parse::<TraceContext>()
    {
        assert_eq!(context.to_string().parse(), Ok(context));
        assert!(text.contains(&context.trace_id()));
    }
}

/// Without the zeros before it.
fn trimmed(number: &str) -> &str {
    match number.trim_start_matches('0') {
        "" => "0",
        rest => rest,
    }
}

fn headers(data: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(50) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}
