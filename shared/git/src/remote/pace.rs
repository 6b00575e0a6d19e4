//! Whether bytes arrive fast enough. Pure: the time that was waited is told to it.

use std::time::Duration;

/// Watches the rate of one answer.
#[derive(Debug)]
pub(crate) struct Pace {
    min_bytes_per_second: u64,
    window: Duration,
    /// What is left of the time that the remote may prepare a pack; `None` once bytes must flow.
    preparing: Option<Duration>,
    waited: Duration,
    bytes: u64,
}

/// What is wrong with the pace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OutOfPace {
    TooSlow,
    NeverReady,
}

impl Pace {
    /// Bytes must flow from the start.
    pub(crate) fn flowing(min_bytes_per_second: u64, window: Duration) -> Self {
        Self {
            min_bytes_per_second,
            window,
            preparing: None,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// The remote may first prepare for so long, and show signs of life only.
    pub(crate) fn preparing_for(self, limit: Duration) -> Self {
        let preparing = Some(limit);
        Self { preparing, ..self }
    }

    /// What was awaited begins: from now on bytes must flow.
    pub(crate) fn begins(&mut self) {
        if self.preparing.take().is_some() {
            (self.waited, self.bytes) = (Duration::ZERO, 0);
        }
    }

    /// Takes note of a wait and of the bytes that it brought.
    pub(crate) fn note(&mut self, waited: Duration, bytes: usize) -> Result<(), OutOfPace> {
        if let Some(left) = &mut self.preparing {
            *left = left.checked_sub(waited).ok_or(OutOfPace::NeverReady)?;
            return Ok(());
        }
        self.waited += waited;
        self.bytes += bytes as u64;
        if self.waited < self.window {
            return Ok(());
        }
        let wanted = self.waited.as_secs_f64() * self.min_bytes_per_second as f64;
        if (self.bytes as f64) < wanted {
            return Err(OutOfPace::TooSlow);
        }
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_trickle_is_too_slow_once_the_window_is_over() {
        let mut pace = Pace::flowing(100, 3 * SECOND);
        assert_eq!(pace.note(SECOND, 1), Ok(()));
        assert_eq!(pace.note(SECOND, 1), Ok(()));
        assert_eq!(pace.note(SECOND, 1), Err(OutOfPace::TooSlow));
    }

    #[test]
    fn a_steady_flow_and_our_own_slowness_are_fine() {
        let mut pace = Pace::flowing(100, 3 * SECOND);
        for _ in 0..100 {
            assert_eq!(pace.note(SECOND, 100), Ok(()));
        }
        for _ in 0..100 {
            assert_eq!(pace.note(Duration::ZERO, 1), Ok(()));
        }
    }

    #[test]
    fn a_remote_may_prepare_but_not_for_ever() {
        let mut pace = Pace::flowing(100, SECOND).preparing_for(5 * SECOND);
        for _ in 0..5 {
            assert_eq!(pace.note(SECOND, 5), Ok(()));
        }
        assert_eq!(pace.note(SECOND, 5), Err(OutOfPace::NeverReady));
        let mut pace = Pace::flowing(100, SECOND).preparing_for(5 * SECOND);
        pace.begins();
        assert_eq!(pace.note(2 * SECOND, 5), Err(OutOfPace::TooSlow));
    }
}
