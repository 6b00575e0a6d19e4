//! Doors for fuzz targets to the parsers of the gateway. It exists in builds for fuzzing only.

use http::HeaderMap;
use mayfly_protocol::{JobId, JobKind, Refusal};

use crate::relay::Said;
use crate::{access, event_stream, idempotency};

/// Reads a file of keys, and gives their number; `None` where it is refused.
pub fn keys(file: &[u8]) -> Result<usize, String> {
    access::parse_keys(file.to_vec()).map_err(|error| crate::error_text::with_causes(&error))
}

/// Reads `Last-Event-ID`.
pub fn last_event_id(headers: &HeaderMap) -> Result<u64, Refusal> {
    event_stream::last_event_id(headers)
}

/// Reads `Idempotency-Key`, and gives its digest as text.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    Ok(idempotency::key(headers)?.map(|digest| format!("{digest:?}")))
}

/// What makes a request the same as another one, as text.
pub fn request_digest(kind: JobKind, body: &[u8]) -> String {
    let key = mayfly_session::HexDigest::of(b"key");
    format!("{:?}", idempotency::Keyed::new(key, kind, body))
}

/// Reads an event of a worker, and says whether it is the last one of its job; `None` where it is rubbish.
pub fn is_last_event(data: &[u8], job: &JobId) -> Option<bool> {
    match Said::parse(data, job).ok()? {
        Said::Progress(_) => Some(false),
        Said::Completed | Said::Failed => Some(true),
    }
}
