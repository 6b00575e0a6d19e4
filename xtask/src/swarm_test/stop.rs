//! When the test ends before its time: at Ctrl-C, and at its bound. Every wait of the test goes through here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::bail;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(250);

/// Says whether the test may go on.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    asked: Arc<AtomicBool>,
    bound: Instant,
}

impl Stop {
    /// Listens for signals from now on, and ends the test after the time at the latest.
    pub(super) fn listen(bound: Duration) -> anyhow::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&asked))?;
        }
        Ok(Self {
            asked,
            bound: Instant::now() + bound,
        })
    }

    /// Whether the test is to end now.
    pub(super) fn is_due(&self) -> bool {
        self.asked.load(Ordering::Relaxed) || Instant::now() >= self.bound
    }

    /// Fails if the test is to end now.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.asked.load(Ordering::Relaxed) {
            bail!("stopped by a signal");
        }
        if Instant::now() >= self.bound {
            bail!("the test took longer than it may; `--minutes` gives it more");
        }
        Ok(())
    }

    /// Waits.
    pub(super) fn pause(&self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.check()?;
            sleep(STEP.min(end.saturating_duration_since(Instant::now())));
        }
        self.check()
    }

    /// Waits until the condition holds, and says how long that took.
    pub(super) fn until(
        &self,
        what: &str,
        patience: Duration,
        mut holds: impl FnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        while !holds()? {
            self.check()?;
            if begun.elapsed() > patience {
                bail!("after {} s it is still not so that {what}", patience.as_secs());
            }
            sleep(STEP);
        }
        Ok(begun.elapsed())
    }
}
