//! A request with a JSON body, checked and read within its limits: 415, 413, 400, and 408 where the body does not arrive.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt as _;
use mayfly_protocol::{ErrorCode, Refusal};
use tokio::time::timeout;

/// The bounds of one body.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Bytes of the body.
    pub bytes: usize,
    /// How long it may take to arrive.
    pub timeout: Duration,
}

/// Refuses a body that is not plain JSON, or is too large, by what its headers say: before anything of it is read.
pub fn check_json(headers: &HeaderMap, limits: BodyLimits) -> Result<(), Refusal> {
    check_media_type(headers)?;
    let declared: Option<u64> = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    match declared.is_some_and(|bytes| bytes > limits.bytes as u64) {
        true => Err(too_large(limits)),
        false => Ok(()),
    }
}

/// Reads the body, and stops as soon as it is too large or too late. `hold` is asked for room before each chunk is kept.
pub async fn read_body(
    body: Body,
    limits: BodyLimits,
    hold: impl FnMut(usize) -> Result<(), Refusal>,
) -> Result<Bytes, Refusal> {
    let collected = timeout(limits.timeout, collect(body, limits, hold)).await;
    collected.map_err(|_| late(limits))?
}

async fn collect(
    mut body: Body,
    limits: BodyLimits,
    mut hold: impl FnMut(usize) -> Result<(), Refusal>,
) -> Result<Bytes, Refusal> {
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            let text = "the body broke off or is not framed as its headers say; send it again, whole";
            Refusal::new(ErrorCode::InvalidRequest, text)
        })?;
        let Ok(chunk) = frame.into_data() else { continue };
        if collected.len() + chunk.len() > limits.bytes {
            return Err(too_large(limits));
        }
        hold(chunk.len())?;
        collected.extend_from_slice(&chunk);
    }
    Ok(collected.freeze())
}

/// The value of a header that may be absent, and must not come twice.
pub fn single_header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(invalid_header(name, "is given twice"));
    }
    value
        .to_str()
        .map(Some)
        .map_err(|_| invalid_header(name, "is not printable ASCII"))
}

/// The refusal of a header, with the reason behind its name.
pub fn invalid_header(name: &str, reason: &str) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, format!("the header `{name}` {reason}")).with_field(name)
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let unsupported = |text: &str| Err(Refusal::new(ErrorCode::UnsupportedMediaType, text));
    let content_type = single_header(headers, CONTENT_TYPE.as_str())?.unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return unsupported("the body must be JSON; send it with `content-type: application/json`");
    }
    let encoding = single_header(headers, CONTENT_ENCODING.as_str())?.unwrap_or("identity");
    if !encoding.eq_ignore_ascii_case("identity") {
        return unsupported("the body must not be compressed; send it without `content-encoding`");
    }
    Ok(())
}

fn too_large(limits: BodyLimits) -> Refusal {
    let text = format!(
        "the body is larger than {} bytes; send less in one job",
        limits.bytes
    );
    Refusal::new(ErrorCode::BodyTooLarge, text)
}

fn late(limits: BodyLimits) -> Refusal {
    let seconds = limits.timeout.as_secs_f32();
    let text = format!("the body did not arrive within {seconds} s; send it again");
    Refusal::new(ErrorCode::RequestTimeout, text)
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
    fn only_plain_json_of_a_fitting_length_is_taken() {
        const JSON: (&str, &str) = ("content-type", "application/json");
        let limits = BodyLimits {
            bytes: 10,
            timeout: Duration::from_secs(1),
        };
        for (list, code) in [
            (&[JSON][..], None),
            (&[("content-type", "Application/JSON; charset=utf-8")], None),
            (&[JSON, ("content-encoding", "identity")], None),
            (&[JSON, ("content-length", "10")], None),
            (&[], Some(ErrorCode::UnsupportedMediaType)),
            (
                &[("content-type", "text/plain")],
                Some(ErrorCode::UnsupportedMediaType),
            ),
            (
                &[JSON, ("content-type", "text/plain")],
                Some(ErrorCode::InvalidRequest),
            ),
            (
                &[JSON, ("content-encoding", "gzip")],
                Some(ErrorCode::UnsupportedMediaType),
            ),
            (&[JSON, ("content-length", "11")], Some(ErrorCode::BodyTooLarge)),
        ] {
            let refused = check_json(&headers(list), limits).err().map(|it| it.code);
            assert_eq!(refused, code, "{list:?}");
        }
    }

    #[tokio::test]
    async fn a_body_is_read_within_its_bounds_and_its_room() {
        let limits = |bytes| BodyLimits {
            bytes,
            timeout: Duration::from_secs(1),
        };
        let mut held = 0;
        let body = read_body(Body::from("12345"), limits(5), |bytes| {
            held += bytes;
            Ok(())
        });
        assert_eq!(body.await.unwrap(), "12345");
        assert_eq!(held, 5);
        let refused = read_body(Body::from("12345"), limits(4), |_| Ok(())).await;
        assert_eq!(refused.unwrap_err().code, ErrorCode::BodyTooLarge);
        let full = Refusal::new(ErrorCode::QueueFull, "no room");
        let refused = read_body(Body::from("12345"), limits(5), |_| Err(full.clone())).await;
        assert_eq!(refused.unwrap_err(), full);
    }
}
