//! What an HTTP status means for a repository. Pure, but for `Retry-After` as a date, which is told the time.

use std::time::SystemTime;

use mayfly_http::{HeaderMap, StatusCode, header};
use mayfly_protocol::RepoUrl;

use super::RemoteError;
use super::words::one_line;

/// Source: RFC 9110, and what GitHub, GitLab and Gitea answer.
pub(crate) fn check_status(
    url: &RepoUrl,
    status: StatusCode,
    headers: &HeaderMap,
    now: SystemTime,
) -> Result<(), RemoteError> {
    let url = url.clone();
    match status.as_u16() {
        200 => Ok(()),
        401 => Err(RemoteError::AuthenticationFailed { url }),
        403 => Err(RemoteError::AccessDenied { url }),
        404 | 410 => Err(RemoteError::RepositoryNotFound { url }),
        429 => Err(RemoteError::RateLimited {
            url,
            retry_after: retry_after(headers, now),
        }),
        500..=599 => Err(RemoteError::Unavailable {
            url,
            status: status.as_u16(),
            retry_after: retry_after(headers, now),
        }),
        other => Err(RemoteError::NotGit {
            url,
            what: format!("it answers with the status {other}"),
        }),
    }
}

/// A host that serves pages, or git's old "dumb" protocol, answers 200 with another type.
pub(crate) fn check_type(url: &RepoUrl, headers: &HeaderMap, wanted: &str) -> Result<(), RemoteError> {
    let found = headers
        .get(header::CONTENT_TYPE)
        .map_or(&b""[..], |value| value.as_bytes());
    if found.eq_ignore_ascii_case(wanted.as_bytes()) {
        return Ok(());
    }
    let what = match one_line(found, 60) {
        name if name.is_empty() => "its answer has no content type".to_owned(),
        name => format!("its answer is of type `{name}`"),
    };
    Err(RemoteError::NotGit {
        url: url.clone(),
        what,
    })
}

/// Seconds, or an HTTP date (RFC 9110, section 10.2.3); never more than a day.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<u64> {
    const DAY: u64 = 24 * 3600;
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = match value.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => httpdate::parse_http_date(value)
            .ok()?
            .duration_since(now)
            .map_or(0, |wait| wait.as_secs()),
    };
    Some(seconds.min(DAY))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mayfly_http::HeaderValue;
    use mayfly_protocol::ErrorCode;

    use super::*;

    fn check(status: u16, retry: Option<&str>) -> RemoteError {
        let url = "https://host/r".parse().unwrap();
        let mut headers = HeaderMap::new();
        if let Some(retry) = retry {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_str(retry).unwrap());
        }
        // Sun, 06 Nov 1994 08:49:37 GMT
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        check_status(&url, StatusCode::from_u16(status).unwrap(), &headers, now).unwrap_err()
    }

    #[test]
    fn each_status_has_its_code() {
        for (status, code) in [
            (401, ErrorCode::AuthenticationFailed),
            (403, ErrorCode::AccessDenied),
            (404, ErrorCode::RepositoryNotFound),
            (410, ErrorCode::RepositoryNotFound),
            (429, ErrorCode::RemoteRateLimited),
            (500, ErrorCode::RemoteUnavailable),
            (503, ErrorCode::RemoteUnavailable),
            (400, ErrorCode::NotGit),
            (204, ErrorCode::NotGit),
            (304, ErrorCode::NotGit),
        ] {
            assert_eq!(check(status, None).code(), code, "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        for (value, seconds) in [
            ("7", Some(7)),
            ("99999999999", Some(86_400)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
        ] {
            assert_eq!(check(429, Some(value)).retry_after(), seconds, "{value}");
            assert_eq!(check(503, Some(value)).retry_after(), seconds, "{value}");
        }
    }
}
