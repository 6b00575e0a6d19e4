//! What each error of the layers below means to a client: its code, its text, and whether a retry is safe.

use std::error::Error;

use mayfly_git::apply::ApplyError;
use mayfly_git::fetch::{FetchError, SinkError};
use mayfly_git::push::PushError;
use mayfly_git::scratch::{MergeError, ScratchError};
use mayfly_git::tree_check::TreeCheckError;
use mayfly_lfs::LfsError;
use mayfly_protocol::{ErrorCode, Failure, ObjectId};
use mayfly_session::{LfsStoreError, LoadError, SaveError};

/// Why a job failed, as its terminal event says it.
#[derive(Debug)]
pub(crate) struct JobError {
    failure: Failure,
    /// The pack in which damage of the session was found.
    damaged_pack: Option<ObjectId>,
}

impl JobError {
    pub(crate) fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self {
            failure: Failure::new(code, text),
            damaged_pack: None,
        }
    }

    /// The same with another meaning for retries.
    pub(crate) fn retryable(mut self, retryable: bool) -> Self {
        self.failure.retryable = retryable;
        self
    }

    /// The pack in which damage of the session was found, where it was found in one.
    pub(crate) fn damaged_pack(&self) -> Option<ObjectId> {
        self.damaged_pack
    }

    /// The code of an error with its text, and those of its causes.
    fn caused(code: ErrorCode, error: &(dyn Error + 'static)) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Self::new(code, text)
    }

    pub(crate) fn code(&self) -> ErrorCode {
        self.failure.code
    }

    /// For objects that a remote has just sent: what is wrong with them is not the session's damage.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "stands where `From` may stand as well"
    )]
    pub(crate) fn of_received(error: ScratchError) -> Self {
        let code = match &error {
            ScratchError::Damaged { .. } | ScratchError::Missing { .. } => ErrorCode::RemoteProtocol,
            ScratchError::TooMany { .. } => ErrorCode::TreeTooLarge,
            other => other.code(),
        };
        Self::caused(code, &error)
    }

    pub(crate) fn into_failure(self) -> Failure {
        self.failure
    }
}

impl std::fmt::Display for JobError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.failure.error)
    }
}

/// The protocol names five kinds of job; one of them is not for git workers, and their routes do not offer it.
pub(crate) fn not_a_git_job() -> JobError {
    JobError::new(
        ErrorCode::NoExecutor,
        "git workers do no code operations; send this to a code worker",
    )
}

impl From<FetchError> for JobError {
    fn from(error: FetchError) -> Self {
        let error = match error {
            FetchError::Copy(SinkError(cause)) => match cause.downcast::<SaveError>() {
                Ok(cause) => return (*cause).into(),
                Err(other) => FetchError::Copy(SinkError(other)),
            },
            other => other,
        };
        let mut failure = Self::caused(error.code(), &error);
        failure.failure.retry_after = error.retry_after();
        failure
    }
}

impl From<PushError> for JobError {
    fn from(error: PushError) -> Self {
        let mut failure = Self::caused(error.code(), &error);
        failure.failure.retry_after = error.retry_after();
        failure
    }
}

impl From<ApplyError> for JobError {
    fn from(error: ApplyError) -> Self {
        Self::caused(error.code(), &error)
    }
}

impl From<TreeCheckError> for JobError {
    fn from(error: TreeCheckError) -> Self {
        Self::caused(error.code(), &error)
    }
}

impl From<ScratchError> for JobError {
    fn from(error: ScratchError) -> Self {
        Self::caused(error.code(), &error)
    }
}

impl From<MergeError> for JobError {
    fn from(error: MergeError) -> Self {
        Self::caused(error.code(), &error)
    }
}

impl From<LfsError> for JobError {
    fn from(error: LfsError) -> Self {
        let mut failure = Self::caused(error.code(), &error);
        failure.failure.retry_after = error.retry_after();
        failure
    }
}

impl From<LfsStoreError> for JobError {
    fn from(error: LfsStoreError) -> Self {
        match error {
            LfsStoreError::Load(error) => error.into(),
            LfsStoreError::Save(error) => error.into(),
        }
    }
}

impl From<LoadError> for JobError {
    fn from(error: LoadError) -> Self {
        let mut failure = Self::caused(error.code(), &error);
        failure.damaged_pack = error.damaged_pack();
        failure
    }
}

impl From<SaveError> for JobError {
    fn from(error: SaveError) -> Self {
        Self::caused(error.code(), &error)
    }
}
