//! Whether a refused question is asked again, and after which pause.
//!
//! A function of its input: it must not know clocks or connections.

use std::time::Duration;

use mayfly_http::{HeaderMap, StatusCode, header};

use crate::config::LlmConfig;

/// The pause before the next attempt, or nothing where none is made: another question would not help, the attempts are used up, or the
/// pause would not leave time for an answer.
pub(super) fn pause(
    config: &LlmConfig,
    attempt: u32,
    status: StatusCode,
    headers: &HeaderMap,
    left: Duration,
) -> Option<Duration> {
    let may_pass = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
    if !may_pass || attempt >= config.max_attempts.get() {
        return None;
    }
    let asked = headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    let pause = match asked {
        // A date, which the header may hold too, is for clients with more time than a name is worth.
        Some(seconds) => Duration::from_secs(seconds.trim().parse().ok()?),
        None => config.retry_delay,
    };
    (pause < left).then_some(pause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Provider;

    #[test]
    fn only_what_may_pass_is_asked_again() {
        let config = LlmConfig::default_for(Provider::Anthropic);
        let second = |n| Some(Duration::from_secs(n));
        let default = Some(config.retry_delay);
        for (status, retry_after, attempt, expected) in [
            (429, None, 1, default),
            (429, Some("2"), 1, second(2)),
            (529, None, 1, default),
            (500, None, 1, default),
            (503, Some("0"), 1, second(0)),
            (500, None, 2, None),
            (429, Some("10"), 1, None),
            (429, Some("86400"), 1, None),
            (429, Some("99999999999999999999"), 1, None),
            (429, Some("Wed, 21 Oct 2026 07:28:00 GMT"), 1, None),
            (400, None, 1, None),
            (401, Some("1"), 1, None),
            (302, None, 1, None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = retry_after {
                headers.insert(header::RETRY_AFTER, value.parse().unwrap());
            }
            let status = StatusCode::from_u16(status).unwrap();
            let got = pause(&config, attempt, status, &headers, Duration::from_secs(10));
            assert_eq!(got, expected, "{status} {retry_after:?} {attempt}");
        }
    }
}
