//! Waiting on conditions, so that no test sleeps for a guessed time.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How long a test waits for what must come; far longer than it ever takes, so that a slow machine is no failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Waits until the condition holds; panics with `what` when it does not within [`PATIENCE`].
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "did not happen within {PATIENCE:?}: {what}"
        );
        sleep(POLL_INTERVAL).await;
    }
}

/// Waits for the future; panics with `what` when it is not done within [`PATIENCE`].
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    let done = timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("did not happen within {PATIENCE:?}: {what}"))
}

/// Tries again until there is something; panics with `what` when there is nothing within [`PATIENCE`].
pub async fn obtained<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let trying = async {
        loop {
            if let Some(found) = attempt().await {
                break found;
            }
            sleep(POLL_INTERVAL).await;
        }
    };
    within(what, trying).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_is_asked_until_it_holds() {
        let mut asked = 0;
        eventually("three questions", || {
            asked += 1;
            asked == 3
        })
        .await;
        assert_eq!(asked, 3);
    }

    #[tokio::test]
    async fn what_is_tried_for_is_given() {
        let mut tried = 0;
        let third = obtained("a third try", async || {
            tried += 1;
            (tried == 3).then_some(tried)
        });
        assert_eq!(third.await, 3);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "did not happen within 60s: the impossible")]
    async fn patience_ends() {
        eventually("the impossible", || false).await;
    }
}
