//! Why a push failed.

use mayfly_http::HttpError;
use mayfly_protocol::{ErrorCode, ObjectId};

use crate::remote::RemoteError;

/// Why a ref was not moved, or why that is not known.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The exchange with the remote failed; the ref was not moved.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The remote has another value than was expected; nothing was sent.
    #[error(
        "`{reference}` on the remote is at {}, not at {}; fetch first",
        shown(actual),
        shown(expected)
    )]
    Stale {
        /// The ref.
        reference: String,
        /// What was expected.
        expected: Option<ObjectId>,
        /// What the remote has.
        actual: Option<ObjectId>,
    },
    /// The remote says that the ref has moved, or may only move forward.
    #[error("the remote did not move `{reference}`, since it has moved on itself: {reason}; fetch first")]
    NotFastForward {
        /// The ref.
        reference: String,
        /// The remote's reason.
        reason: String,
        /// What it said besides: one line, at most 2 KiB.
        server_words: String,
    },
    /// The remote refused: a hook, a rule, a damaged pack.
    #[error("the remote refused to move `{reference}`: {reason}{}", aside(server_words))]
    Rejected {
        /// The ref.
        reference: String,
        /// The remote's reason.
        reason: String,
        /// What it said besides: one line, at most 2 KiB.
        server_words: String,
    },
    /// The push was sent, and its answer did not come: the ref may have moved.
    #[error(
        "the answer to the push was lost; whether the ref has moved is not known, pushing the same again is safe"
    )]
    AnswerLost {
        /// How it was lost, if not by a report that leaves our ref out.
        #[source]
        source: Option<HttpError>,
    },
    /// The name of the ref is not that of a branch or a tag.
    #[error("the ref to push is not a branch or a tag with a valid name")]
    BadName,
}

impl PushError {
    /// The code of the wire contract for this error.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Remote(error) => error.code(),
            Self::Stale { .. } | Self::NotFastForward { .. } => ErrorCode::NotFastForward,
            Self::Rejected { .. } => ErrorCode::PushRejected,
            Self::AnswerLost {
                source: Some(HttpError::Cancelled),
            } => ErrorCode::Cancelled,
            Self::AnswerLost { .. } => ErrorCode::RemoteUnreachable,
            Self::BadName => ErrorCode::InvalidRequest,
        }
    }

    /// In how many seconds the remote asks to come back, if it does.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Remote(error) => error.retry_after(),
            _ => None,
        }
    }

    pub(crate) fn answer_lost() -> Self {
        Self::AnswerLost { source: None }
    }

    /// Sorts what went wrong once the command may have reached the remote: a broken connection does not say whether it did.
    pub(crate) fn after_sending(error: RemoteError) -> Self {
        match error {
            RemoteError::Http(
                source @ (HttpError::Unreachable { .. }
                | HttpError::Timeout { .. }
                | HttpError::Cancelled
                | HttpError::Protocol { .. }),
            ) => Self::AnswerLost { source: Some(source) },
            RemoteError::TooSlow { .. } | RemoteError::NeverReady { .. } => Self::answer_lost(),
            other => other.into(),
        }
    }
}

fn shown(id: &Option<ObjectId>) -> String {
    id.map_or_else(|| "nothing".to_owned(), |id| id.to_string())
}

fn aside(words: &str) -> String {
    if words.is_empty() {
        String::new()
    } else {
        format!(" (it says: {words})")
    }
}
