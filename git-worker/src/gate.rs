//! Where a cancelled job stops: at once while it only reads and prepares, and not between the first write that counts and the last.
//!
//! A job passes the gate before it changes the session or the remote. Until then a cancellation drops the work wherever it waits; afterwards the
//! work settles what it began and says what became of it. This module must not know what the work is.

use std::future::pending;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mayfly_protocol::ErrorCode;
use tokio_util::sync::CancellationToken;

use crate::failure::JobError;

/// What most cancelled jobs leave behind.
pub(crate) const AS_BEFORE: &str = "the session is as it was before the job";

/// The failure of a cancelled job, with what it leaves behind.
pub(crate) fn cancelled(left: &str) -> JobError {
    JobError::new(ErrorCode::Cancelled, left)
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Nothing is under way; what a job that stops here leaves behind.
    Open(&'static str),
    /// A change is under way.
    Passed,
    /// The job was cancelled before a change.
    Closed(&'static str),
}

/// The gate of one job.
#[derive(Debug)]
pub(crate) struct Gate(Mutex<State>);

impl Default for Gate {
    fn default() -> Self {
        Self(Mutex::new(State::Open(AS_BEFORE)))
    }
}

impl Gate {
    /// Begins a change, unless the job was cancelled; from now on the work is not dropped.
    pub(crate) fn enter(&self) -> Result<(), JobError> {
        let mut state = self.state();
        if let State::Closed(left) = *state {
            return Err(cancelled(left));
        }
        *state = State::Passed;
        Ok(())
    }

    /// Ends a change; `left` says what a job that is cancelled from now on leaves behind.
    pub(crate) fn leave(&self, left: &'static str, cancel: &CancellationToken) -> Result<(), JobError> {
        *self.state() = State::Open(left);
        match cancel.is_cancelled() {
            true => Err(cancelled(self.close().unwrap_or(left))),
            false => Ok(()),
        }
    }

    /// Does the work, and drops it when it is cancelled before it has begun a change.
    pub(crate) async fn unless_cancelled<T>(
        &self,
        cancel: &CancellationToken,
        work: impl Future<Output = Result<T, JobError>>,
    ) -> Result<T, JobError> {
        tokio::select! {
            biased;
            left = self.closed_by(cancel) => Err(cancelled(left)),
            done = work => done.map_err(|error| self.caused_by(cancel).unwrap_or(error)),
        }
    }

    /// A failure of work that has changed nothing, and was cancelled, is an effect of that.
    fn caused_by(&self, cancel: &CancellationToken) -> Option<JobError> {
        let left = cancel.is_cancelled().then(|| self.close()).flatten();
        left.map(cancelled)
    }

    async fn closed_by(&self, cancel: &CancellationToken) -> &'static str {
        cancel.cancelled().await;
        match self.close() {
            Some(left) => left,
            None => pending().await,
        }
    }

    fn close(&self) -> Option<&'static str> {
        let mut state = self.state();
        match *state {
            State::Open(left) => {
                *state = State::Closed(left);
                Some(left)
            }
            State::Passed | State::Closed(_) => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(outcome: Result<u8, JobError>) -> String {
        outcome.map_or_else(|error| error.into_failure().error, |value| value.to_string())
    }

    #[tokio::test]
    async fn work_that_has_changed_nothing_is_dropped() {
        let (gate, cancel) = (Gate::default(), CancellationToken::new());
        let work = async {
            cancel.cancel();
            pending().await
        };
        assert_eq!(text(gate.unless_cancelled(&cancel, work).await), AS_BEFORE);
        assert!(gate.enter().is_err());
    }

    #[tokio::test]
    async fn a_failure_by_the_cancellation_says_what_is_left() {
        let (gate, cancel) = (Gate::default(), CancellationToken::new());
        let work = async {
            cancel.cancel();
            Err(JobError::new(ErrorCode::Cancelled, "the request was cancelled"))
        };
        assert_eq!(text(gate.unless_cancelled(&cancel, work).await), AS_BEFORE);
    }

    #[tokio::test]
    async fn a_change_that_has_begun_is_ended() {
        let (gate, cancel) = (Gate::default(), CancellationToken::new());
        let work = async {
            gate.enter()?;
            cancel.cancel();
            tokio::task::yield_now().await;
            gate.enter()?;
            Ok(1)
        };
        assert_eq!(text(gate.unless_cancelled(&cancel, work).await), "1");
    }

    #[tokio::test]
    async fn between_two_changes_the_first_is_told() {
        let (gate, cancel) = (Gate::default(), CancellationToken::new());
        let work = async {
            gate.enter()?;
            cancel.cancel();
            tokio::task::yield_now().await;
            gate.leave("half", &cancel)?;
            Ok(1)
        };
        assert_eq!(text(gate.unless_cancelled(&cancel, work).await), "half");
        assert!(gate.enter().is_err());
    }
}
