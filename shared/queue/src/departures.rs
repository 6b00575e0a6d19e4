//! How fast jobs leave a queue, and when to come back to a full one.

use std::time::Duration;

/// Departures of this long ago count about a third of those of now.
const MEMORY: Duration = Duration::from_secs(60);
/// A rate is not told from less time than this.
const SHORTEST_VIEW: Duration = Duration::from_secs(1);
/// Whoever was refused comes back when this part of those that wait has left, so that not all who were refused meet one free place.
const ROOM_PART: usize = 10;

/// The bounds of what a refused client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComeBack {
    /// Where no job has left yet.
    pub unknown: Duration,
    /// At most.
    pub longest: Duration,
}

/// When to come back to a queue in which this many jobs wait, and which jobs leave at this rate: whole seconds, at least one.
pub fn come_back_after(per_second: Option<f64>, waiting: usize, bounds: ComeBack) -> Duration {
    let Some(rate) = per_second else {
        return bounds.unknown.min(bounds.longest);
    };
    let jobs = (waiting / ROOM_PART).max(1) as f64;
    let longest = bounds.longest.as_secs().max(1);
    // A rate of zero makes it infinite, which the cast turns into the largest number.
    let seconds = (jobs / rate).ceil() as u64;
    Duration::from_secs(seconds.clamp(1, longest))
}

/// Counts departures, the older the less.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Departures {
    count: f64,
    counted_at: Duration,
    first_at: Option<Duration>,
}

impl Departures {
    pub(crate) fn add(&mut self, now: Duration) {
        self.count = self.faded(now) + 1.0;
        self.counted_at = now;
        self.first_at.get_or_insert(now);
    }

    /// Takes one back, for a job that returned.
    pub(crate) fn take_back(&mut self, now: Duration) {
        self.count = (self.faded(now) - 1.0).max(0.0);
        self.counted_at = now;
    }

    /// `None` before the first departure.
    pub(crate) fn per_second(&self, now: Duration) -> Option<f64> {
        let view = now.saturating_sub(self.first_at?).max(SHORTEST_VIEW);
        let memory = MEMORY.as_secs_f64();
        let seen = memory * (1.0 - (-view.as_secs_f64() / memory).exp());
        Some(self.faded(now) / seen)
    }

    fn faded(&self, now: Duration) -> f64 {
        let age = now.saturating_sub(self.counted_at).as_secs_f64();
        self.count * (-age / MEMORY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: ComeBack = ComeBack {
        unknown: Duration::from_secs(5),
        longest: Duration::from_secs(300),
    };

    #[test]
    fn who_is_refused_comes_back_when_there_is_room() {
        for (rate, waiting, seconds) in [
            (None, 1000, 5),
            (Some(10.0), 1000, 10),
            (Some(3.0), 1000, 34),
            (Some(0.1), 1, 10),
            (Some(1000.0), 10, 1),
            (Some(0.001), 1000, 300),
            (Some(0.0), 1000, 300),
        ] {
            let told = come_back_after(rate, waiting, BOUNDS).as_secs();
            assert_eq!(told, seconds, "{rate:?}, {waiting} waiting");
        }
    }

    #[test]
    fn the_rate_is_that_of_the_last_minute() {
        let mut departures = Departures::default();
        assert_eq!(departures.per_second(Duration::ZERO), None);
        let mut now = Duration::ZERO;
        for _ in 0..2000 {
            departures.add(now);
            now += Duration::from_millis(100);
        }
        let rate = departures.per_second(now).unwrap();
        assert!((9.0..11.0).contains(&rate), "{rate}");
        now += Duration::from_secs(600);
        let rate = departures.per_second(now).unwrap();
        assert!(rate < 0.01, "{rate}: nothing left for ten minutes");
        departures.add(now);
        departures.take_back(now);
        assert!(departures.per_second(now).unwrap() < 0.01);
    }
}
