//! The only place that spawns: tasks are tracked, and both kinds of work keep the tracing span that they were started in.

use std::future::Future;

use tokio::task::{JoinError, JoinHandle};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

/// Starts a task that `tracker` can be waited on for.
pub fn spawn<F>(tracker: &TaskTracker, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tracker.spawn(future.instrument(Span::current()))
}

/// Runs blocking work (git libraries, file systems) away from the async threads and waits for it.
///
/// The work is not stopped when the future is dropped: long work polls a cancellation token. A panic of the work goes on in the caller.
#[expect(clippy::disallowed_methods, reason = "this is the one door for blocking work")]
pub async fn blocking<T, F>(work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let span = Span::current();
    match tokio::task::spawn_blocking(move || span.in_scope(work)).await {
        Ok(value) => value,
        Err(error) => resume_panic(error),
    }
}

fn resume_panic(error: JoinError) -> ! {
    match error.try_into_panic() {
        Ok(payload) => std::panic::resume_unwind(payload),
        Err(error) => panic!("blocking work is never aborted, and yet: {error}"),
    }
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn blocking_work_gives_its_value() {
        assert_eq!(super::blocking(|| 6 * 7).await, 42);
    }
}
