//! How often and for how long one operation is tried. Must not know what is tried.
//!
//! A server that answers quickly, if only to refuse, gets every attempt that the options allow. One that is silent gets two attempts' time and no
//! more, so that the end of an operation is known beforehand.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::failure::Failure;
use crate::StorageOptions;

/// The attempts at one operation.
pub(super) struct Attempts<'a> {
    options: &'a StorageOptions,
    pauses: Box<dyn Iterator<Item = Duration> + Send + Sync + 'a>,
    began: Instant,
    window: Duration,
}

impl StorageOptions {
    /// The attempts at an operation that moves so much content, as far as that is known.
    pub(super) fn attempts(&self, bytes: u64) -> Attempts<'_> {
        Attempts {
            options: self,
            pauses: Box::new(self.pauses()),
            began: Instant::now(),
            window: self.operation_window(bytes),
        }
    }

    /// The attempts at finding out what became of a write, whose own time is over: half of what an operation gets.
    pub(super) fn attempts_to_settle(&self, bytes: u64) -> Attempts<'_> {
        Attempts {
            window: self.attempt_timeout(bytes),
            ..self.attempts(bytes)
        }
    }
}

impl Attempts<'_> {
    /// Pauses before the next attempt, and says whether there is one.
    pub(super) async fn next(&mut self) -> bool {
        let Some(pause) = self.pauses.next() else {
            return false;
        };
        if Instant::now() + pause >= self.end() {
            return false;
        }
        sleep(pause).await;
        true
    }

    /// Gives the operation the time that so much content takes, now that its size is known.
    pub(super) fn moves(&mut self, bytes: u64) {
        self.window = self.window.max(self.options.operation_window(bytes));
    }

    /// Waits for an answer, for no longer than the operation lasts.
    pub(super) async fn answer<T, E>(&self, request: impl Future<Output = Result<T, E>>) -> Result<T, Failure>
    where
        Failure: From<E>,
    {
        match timeout_at(self.end(), request).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Failure::transient("the server did not answer in time")),
        }
    }

    fn end(&self) -> Instant {
        self.began + self.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn options() -> StorageOptions {
        StorageOptions {
            operation_timeout: SECOND,
            ..StorageOptions::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_gets_the_time_of_two_attempts() {
        let (options, began) = (options(), Instant::now());
        let mut attempts = options.attempts(0);
        let mut made = 0;
        while attempts.next().await {
            made += 1;
            let silence = async {
                sleep(SECOND).await;
                Err::<(), _>(Failure::transient("silence"))
            };
            assert!(attempts.answer(silence).await.is_err());
        }
        assert_eq!((made, began.elapsed()), (2, 2 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_refuses_at_once_gets_all_attempts() {
        let options = options();
        let mut attempts = options.attempts(0);
        let mut made = 0;
        while attempts.next().await {
            made += 1;
        }
        assert_eq!(made, options.attempts.get());
    }

    #[tokio::test(start_paused = true)]
    async fn content_takes_its_time() {
        let options = options();
        let mut attempts = options.attempts(0);
        assert!(attempts.next().await);
        attempts.moves(10 * 64 * 1024);
        sleep(20 * SECOND).await;
        assert!(attempts.next().await);
        sleep(3 * SECOND).await;
        assert!(!attempts.next().await);
    }
}
