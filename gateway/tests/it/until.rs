//! Waits for what cannot tell when it changes: a server's answers, a file of another process.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::client::PATIENCE;

const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks until there is something to see.
pub(crate) async fn until_some<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            sleep(LOOK_EVERY).await;
        }
    };
    timeout(PATIENCE, looking)
        .await
        .unwrap_or_else(|_| panic!("never seen: {what}"))
}

/// Looks until it is so.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    until_some("what the test waits for", async || is_so().then_some(())).await;
}
