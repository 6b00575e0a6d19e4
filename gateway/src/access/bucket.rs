//! A rate as a bucket of tokens: a pure structure, whose time is handed in.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);

/// Requests within a minute. It holds a minute's worth at most, and fills evenly.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    /// When it would be, or was, full. Each request moves this by the time that one request stands for.
    full_at: Instant,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes a token, or says how long it takes until there is one. The rate may be another each time.
    pub(super) fn take(&mut self, per_minute: NonZeroU32, now: Instant) -> Result<(), Duration> {
        let one = MINUTE / per_minute.get();
        let after = self.full_at.max(now) + one;
        let too_early = (after - now).saturating_sub(one * per_minute.get());
        if too_early > Duration::ZERO {
            return Err(too_early);
        }
        self.full_at = after;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_minute: u32) -> NonZeroU32 {
        NonZeroU32::new(per_minute).unwrap()
    }

    #[test]
    fn a_burst_is_let_through_and_then_the_rate_holds() {
        let begin = Instant::now();
        let mut bucket = Bucket::new(begin);
        for _ in 0..30 {
            assert_eq!(bucket.take(rate(30), begin), Ok(()));
        }
        assert_eq!(bucket.take(rate(30), begin), Err(Duration::from_secs(2)));
        // The wait that was told is true: not earlier, and not later.
        let just_before = begin + Duration::from_millis(1999);
        assert_eq!(bucket.take(rate(30), just_before), Err(Duration::from_millis(1)));
        assert_eq!(bucket.take(rate(30), begin + Duration::from_secs(2)), Ok(()));
        assert!(bucket.take(rate(30), begin + Duration::from_secs(2)).is_err());
    }

    #[test]
    fn over_any_time_no_more_than_the_rate_and_one_burst_go_through() {
        for per_minute in [1, 7, 60, 1000] {
            let begin = Instant::now();
            let mut bucket = Bucket::new(begin);
            let (mut let_through, mut now) = (0, begin);
            for step in 0..20_000_u64 {
                now += Duration::from_millis(step % 23);
                let_through += u32::from(bucket.take(rate(per_minute), now).is_ok());
            }
            let minutes = (now - begin).as_secs_f64() / 60.0;
            let most = f64::from(per_minute) * (minutes + 1.0);
            assert!(f64::from(let_through) <= most + 1.0, "{let_through} of {most}");
            assert!(
                f64::from(let_through) >= (most - 2.0).min(20_000.0) * 0.95,
                "{let_through} of {most}"
            );
        }
    }
}
