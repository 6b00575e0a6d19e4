//! How a client command ended, as an exit code that scripts can tell apart.

use std::io::{self, Write as _};
use std::process::ExitCode;

use mayfly_protocol::{ErrorCode, Failure, JobId, Refusal};

use super::text;

/// Why a command of the client did not end well. Wrong arguments are 2, by clap.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Something on this side: a file, a setting.
    #[error("{0:#}")]
    Local(anyhow::Error),
    /// The job ended with an error.
    #[error("the job ended with `{}`: {}", .0.code, .0.error)]
    Failed(Failure),
    /// The gateway refused the request.
    #[error("refused with `{}`: {}", .0.code, .0.error)]
    Refused(Box<Refusal>),
    /// No gateway answers, or the stream was lost for good.
    #[error("{0:#}")]
    Unreachable(anyhow::Error),
    /// Ctrl-C: the job goes on.
    #[error("left; the job goes on: `mayfly watch {0}` shows it, `mayfly cancel {0}` stops it")]
    Left(JobId),
}

impl ClientError {
    /// 1 something here; 3 the same request fails again; 4 it may be sent again; 5 cancelled; 6 refused; 7 not reachable; 130 left by Ctrl-C.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Local(_) => 1,
            Self::Failed(failure) if failure.code == ErrorCode::Cancelled => 5,
            Self::Failed(failure) if failure.retryable => 4,
            Self::Failed(_) => 3,
            Self::Refused(refusal) if refusal.retryable => 4,
            Self::Refused(_) => 6,
            Self::Unreachable(_) => 7,
            Self::Left(_) => 130,
        }
    }
}

impl From<anyhow::Error> for ClientError {
    fn from(error: anyhow::Error) -> Self {
        Self::Local(error)
    }
}

impl From<std::io::Error> for ClientError {
    fn from(error: std::io::Error) -> Self {
        Self::Local(error.into())
    }
}

/// Says on standard error how a command ended, and gives its exit code.
pub(crate) fn tell(error: &ClientError) -> ExitCode {
    say(&format!("error: {error}"));
    error.code().into()
}

/// A line on standard error.
pub(super) fn say(line: &str) {
    // Nobody reads it: that is no reason to end otherwise.
    let _gone = writeln!(io::stderr().lock(), "{}", text::line(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_its_code() {
        let failed = |code| ClientError::Failed(Failure::new(code, "x")).code();
        assert_eq!(failed(ErrorCode::Cancelled), 5);
        assert_eq!(failed(ErrorCode::QueueTimeout), 4);
        assert_eq!(failed(ErrorCode::BranchExists), 3);
        let refused = |code| ClientError::Refused(Box::new(Refusal::new(code, "x"))).code();
        assert_eq!(refused(ErrorCode::QueueFull), 4);
        assert_eq!(refused(ErrorCode::InvalidRequest), 6);
        let job = "0197d7a0-0000-7000-8000-000000000000".parse().unwrap();
        assert_eq!(ClientError::Left(job).code(), 130);
    }
}
