//! What an answer of S3 means. Decides purely; knows neither keys nor operations.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::StorageError;
use crate::error::Subject;

/// A request that did not succeed, by what there is to do about it.
#[derive(Debug)]
pub(super) enum Failure {
    /// 404: there is no such object (or upload).
    Absent,
    /// 412: the condition does not hold.
    ConditionFailed,
    /// 409: another write of the same key is under way.
    Conflict(Cause),
    /// 416: the range begins after the end.
    OutOfRange,
    /// The request will never be taken as it is.
    Denied(Cause),
    /// The request may have been done or not, and may be taken later.
    Transient(Cause),
}

/// What the server or the network said, in one line: never headers or bodies, which can hold keys and signatures.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(super) struct Cause(pub(super) String);

const MAX_CAUSE_CHARS: usize = 400;

impl Cause {
    fn new(text: &str) -> Self {
        let one_line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        Self(one_line.take(MAX_CAUSE_CHARS).collect())
    }
}

impl Failure {
    pub(super) fn into_error(self, subject: &Subject) -> StorageError {
        match self {
            Self::Absent => subject.not_found(),
            Self::ConditionFailed | Self::Conflict(_) => subject.precondition_failed(),
            Self::OutOfRange => subject.damaged("the server finds no such range"),
            Self::Denied(cause) => subject.denied(cause.to_string()),
            Self::Transient(cause) => subject.unavailable(cause),
        }
    }

    pub(super) fn transient(text: &str) -> Self {
        Self::Transient(Cause::new(text))
    }
}

impl<E> From<SdkError<E, HttpResponse>> for Failure
where
    E: ProvideErrorMetadata + Error + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        let status = error.raw_response().map(|response| response.status().as_u16());
        match status {
            Some(status) if matches!(error, SdkError::ServiceError(_)) => {
                let (code, message) = (
                    error.code().unwrap_or_default(),
                    error.message().unwrap_or_default(),
                );
                of_answer(status, code, Cause::new(&format!("{status} {code} {message}")))
            }
            _ if lacks_credentials(&error) => Self::Denied(Cause::new(&chain(&error))),
            _ => Self::Transient(Cause::new(&chain(&error))),
        }
    }
}

/// Source of the codes: "Error responses" in the Amazon S3 API Reference. A `HEAD` has no body, so its code is empty.
fn of_answer(status: u16, code: &str, cause: Cause) -> Failure {
    match (status, code) {
        (404, "NoSuchBucket") => Failure::Denied(cause),
        (404, _) => Failure::Absent,
        (409, _) => Failure::Conflict(cause),
        (412, _) => Failure::ConditionFailed,
        (416, _) => Failure::OutOfRange,
        (400, "RequestTimeout" | "BadDigest" | "IncompleteBody") | (408 | 425 | 429, _) => {
            Failure::Transient(cause)
        }
        (501, _) => Failure::Denied(cause),
        (500.., _) => Failure::Transient(cause),
        _ => Failure::Denied(cause),
    }
}

fn lacks_credentials(error: &(dyn Error + 'static)) -> bool {
    sources(error).any(|source| {
        matches!(
            source.downcast_ref(),
            Some(CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_))
        )
    })
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let texts: Vec<String> = sources(error).map(ToString::to_string).collect();
    texts.join(": ")
}

fn sources<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let kind = |status, code| match of_answer(status, code, Cause::new("")) {
            Failure::Absent => "absent",
            Failure::ConditionFailed => "condition",
            Failure::Conflict(_) => "conflict",
            Failure::OutOfRange => "range",
            Failure::Denied(_) => "denied",
            Failure::Transient(_) => "transient",
        };
        for (status, code, expected) in [
            (404, "NoSuchKey", "absent"),
            (404, "", "absent"),
            (404, "NoSuchUpload", "absent"),
            (404, "NoSuchBucket", "denied"),
            (409, "ConditionalRequestConflict", "conflict"),
            (409, "OperationAborted", "conflict"),
            (412, "PreconditionFailed", "condition"),
            (416, "InvalidRange", "range"),
            (400, "RequestTimeout", "transient"),
            (400, "BadDigest", "transient"),
            (400, "ExpiredToken", "denied"),
            (401, "", "denied"),
            (403, "SignatureDoesNotMatch", "denied"),
            (403, "", "denied"),
            (301, "PermanentRedirect", "denied"),
            (429, "", "transient"),
            (500, "InternalError", "transient"),
            (501, "NotImplemented", "denied"),
            (503, "SlowDown", "transient"),
        ] {
            assert_eq!(kind(status, code), expected, "{status} {code}");
        }
    }

    #[test]
    fn causes_are_one_short_line() {
        let cause = Cause::new(&format!("a\r\ndata: {}", "x".repeat(9999)));
        assert!(cause.0.starts_with("a  data: x") && cause.0.len() == MAX_CAUSE_CHARS);
    }
}
