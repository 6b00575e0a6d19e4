//! What a failed try at a worker means: pure verdicts, without clock, chance or I/O.
//!
//! A job is offered to another worker as the same attempt only where this one surely touched nothing: it was not reached, or it refused before it began.
//! Once the request may have been read and no answer came, the job may be running: the worker counts as lost, and only a new attempt may follow, which
//! shuts this one out of the session.

use std::time::Duration;

use mayfly_protocol::{ErrorCode, Failure, Refusal};

/// How a try at a worker ended without a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Outcome {
    /// No connection, so nothing was sent.
    #[error("could not be reached: {0}")]
    Unreachable(String),
    /// 429: it has its job, or is about to end.
    #[error("was busy")]
    Busy,
    /// 503: it takes no job at present.
    #[error("takes no job at present")]
    Unready,
    /// 401 or 403: it wants another token than ours.
    #[error("refuses the gateway's WORKER_TOKEN")]
    Unauthorized,
    /// A redirect, 404, 501, or a client's error that is not in the contract's form: what listens there now is no worker for this job, and did nothing with it. An
    /// address that a worker had may be somebody else's a moment later.
    #[error("answered with status {0}, as no worker for this job does")]
    Stranger(u16),
    /// Another refusal in the contract's form, before anything was touched.
    #[error("refused the job: {}", .0.error)]
    Refused(Refusal),
    /// An answer that is neither a stream nor a refusal.
    #[error("answered with {0}, and not with a stream of events")]
    NotAStream(String),
    /// The request may have been read, and no answer came.
    #[error("took the request, and then did not answer: {0}")]
    NoAnswer(String),
}

/// How a worker is treated after a try, or after its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aside {
    /// It had its job, and something starts it afresh.
    Restarting,
    /// It does somebody's job.
    Busy,
    /// It cannot be reached, as between two processes.
    Away,
    /// It does what no good worker does; the pauses grow longer.
    Faulty,
}

/// What to do after a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was touched: another worker may have the job.
    NextWorker(Aside),
    /// The job ends.
    Fail(Failure, Aside),
    /// The worker may have begun, and is lost; the failure that the job ends with if it is not repeated.
    Lost(Failure),
}

/// Whether a job whose worker was lost is done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeat {
    /// The attempt that was lost, from 1.
    pub attempt: u32,
    /// The attempts that a job may have.
    pub attempts: u32,
    /// Whether a client has cancelled it.
    pub is_cancelled: bool,
    /// Whether the gateway's grace is over: it looks for no worker any more.
    pub is_stopping: bool,
}

impl Repeat {
    /// The number of the next attempt; `None` where there is to be none.
    pub fn next(self) -> Option<u32> {
        let may = self.attempt < self.attempts && !self.is_cancelled && !self.is_stopping;
        may.then(|| self.attempt + 1)
    }
}

impl Outcome {
    /// How the worker is treated after it.
    pub fn aside(&self) -> Aside {
        match self {
            Self::Unreachable(_) | Self::Unready => Aside::Away,
            Self::Busy | Self::Refused(_) => Aside::Busy,
            Self::Unauthorized | Self::Stranger(_) | Self::NotAStream(_) | Self::NoAnswer(_) => Aside::Faulty,
        }
    }
}

/// Judges a try.
pub fn judge(outcome: &Outcome) -> Verdict {
    match outcome {
        Outcome::Unreachable(_)
        | Outcome::Busy
        | Outcome::Unready
        | Outcome::Unauthorized
        | Outcome::Stranger(_) => Verdict::NextWorker(outcome.aside()),
        Outcome::Refused(refusal) => Verdict::Fail(passed_on(refusal), outcome.aside()),
        Outcome::NotAStream(_) => Verdict::Fail(
            Failure::new(
                ErrorCode::WorkerProtocol,
                format!(
                    "the worker {outcome}; check that the address belongs to a Mayfly worker of this version"
                ),
            ),
            outcome.aside(),
        ),
        Outcome::NoAnswer(_) => Verdict::Lost(Failure::new(
            ErrorCode::WorkerLost,
            format!(
                "the worker {outcome}; the job may have run, so look at the session before sending it again"
            ),
        )),
    }
}

fn passed_on(refusal: &Refusal) -> Failure {
    Failure {
        retry_after: refusal.retry_after,
        ..Failure::new(
            refusal.code,
            format!("the worker refused the job: {}", refusal.error),
        )
    }
}

/// How long a worker is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pauses {
    /// After the first refusal; doubled with each that follows.
    pub first: Duration,
    /// At most, for a worker that is busy or away: such states end by themselves.
    pub longest: Duration,
    /// At most, for a faulty one.
    pub longest_faulty: Duration,
}

/// Between the first asks of a worker whether it is idle.
const FIRST_ASK: Duration = Duration::from_millis(25);
/// By how much the pause between two asks grows: a worker that was away for a time is found at most a sixteenth of it too late.
const ASK_GROWTH: f64 = 1.0625;

impl Default for Pauses {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(50),
            longest: Duration::from_secs(1),
            longest_faulty: Duration::from_secs(10),
        }
    }
}

impl Pauses {
    /// The pause after this many failures in a row (0 for none yet), with `jitter` from 0 to 1 spreading it over its upper half.
    pub fn after(&self, aside: Aside, failures: u32, jitter: f64) -> Duration {
        let longest = match aside {
            Aside::Restarting | Aside::Busy | Aside::Away => self.longest,
            Aside::Faulty => self.longest_faulty,
        };
        let doubled = self.first.saturating_mul(1 << failures.min(20));
        spread(doubled.min(longest), jitter)
    }

    /// The pause before a worker that restarts, is busy or is away is asked whether it is idle, after it was asked so often; spread in the same way.
    pub fn between_asks(&self, asks: u32, jitter: f64) -> Duration {
        let grown = FIRST_ASK.mul_f64(ASK_GROWTH.powi(asks.min(200) as i32));
        spread(grown.min(self.longest), jitter)
    }
}

fn spread(pause: Duration, jitter: f64) -> Duration {
    pause.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_touched_nothing_is_tried_again() {
        let refusal = Refusal::new(ErrorCode::BodyTooLarge, "too large");
        let fails = |outcome: Outcome| match judge(&outcome) {
            Verdict::NextWorker(aside) => (None, Some(aside)),
            Verdict::Fail(failure, aside) => (Some(failure.code), Some(aside)),
            Verdict::Lost(failure) => (Some(failure.code), None),
        };
        for (outcome, code, aside) in [
            (Outcome::Unreachable("refused".into()), None, Some(Aside::Away)),
            (Outcome::Busy, None, Some(Aside::Busy)),
            (Outcome::Unready, None, Some(Aside::Away)),
            (Outcome::Unauthorized, None, Some(Aside::Faulty)),
            (Outcome::Stranger(404), None, Some(Aside::Faulty)),
            (
                Outcome::Refused(refusal),
                Some(ErrorCode::BodyTooLarge),
                Some(Aside::Busy),
            ),
            (
                Outcome::NotAStream("status 200".into()),
                Some(ErrorCode::WorkerProtocol),
                Some(Aside::Faulty),
            ),
            (
                Outcome::NoAnswer("reset".into()),
                Some(ErrorCode::WorkerLost),
                None,
            ),
        ] {
            assert_eq!(fails(outcome.clone()), (code, aside), "{outcome:?}");
        }
    }

    #[test]
    fn a_lost_job_is_repeated_up_to_its_bound_and_not_against_anybodys_will() {
        let repeat = Repeat {
            attempt: 1,
            attempts: 3,
            is_cancelled: false,
            is_stopping: false,
        };
        let next = |change: fn(&mut Repeat)| {
            let mut repeat = repeat;
            change(&mut repeat);
            repeat.next()
        };
        assert_eq!(next(|_| {}), Some(2));
        assert_eq!(next(|it| it.attempt = 2), Some(3));
        assert_eq!(next(|it| it.attempt = 3), None);
        assert_eq!(next(|it| it.attempts = 1), None);
        assert_eq!(next(|it| it.is_cancelled = true), None);
        assert_eq!(next(|it| it.is_stopping = true), None);
    }

    #[test]
    fn pauses_grow_to_their_bound_and_are_spread() {
        let pauses = Pauses::default();
        let millis = |aside, failures, jitter| pauses.after(aside, failures, jitter).as_millis();
        assert_eq!(millis(Aside::Restarting, 0, 1.0), 50);
        assert_eq!(millis(Aside::Busy, 2, 1.0), 200);
        assert_eq!(millis(Aside::Busy, 2, 0.0), 100);
        assert_eq!(millis(Aside::Away, 31, 1.0), 1000);
        assert_eq!(millis(Aside::Faulty, u32::MAX, 1.0), 10_000);
    }

    #[test]
    fn asks_come_slower_the_longer_a_worker_is_away() {
        let pauses = Pauses::default();
        let millis = |asks, jitter| pauses.between_asks(asks, jitter).as_millis();
        assert_eq!((millis(0, 1.0), millis(0, 0.0)), (25, 12));
        assert_eq!(millis(8, 1.0), 40);
        assert_eq!(millis(u32::MAX, 1.0), 1000);
    }
}
