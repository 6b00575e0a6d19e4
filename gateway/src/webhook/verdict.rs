//! What a try at a delivery means: pure, without clock, chance or I/O.

use std::fmt;
use std::time::Duration;

use super::log::Progress;

/// How often a delivery is tried, and how long the pauses between are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebhookPauses {
    /// Tries in all.
    pub attempts: u32,
    /// The pause after the first one.
    pub first: Duration,
    /// By how much each pause is longer than the one before.
    pub factor: u32,
    /// The longest pause, also where the receiver asks for a longer one.
    pub longest: Duration,
}

impl Default for WebhookPauses {
    fn default() -> Self {
        Self {
            attempts: 8,
            first: Duration::from_secs(5),
            factor: 4,
            longest: Duration::from_secs(60 * 60),
        }
    }
}

/// How a receiver answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// With this status.
    Status {
        status: u16,
        retry_after: Option<Duration>,
    },
    /// With another address, which is not followed.
    Redirect,
    /// Not at all: it may not be reached.
    Refused(String),
    /// Not at all, or not in time.
    Failed(String),
}

impl Answer {
    /// The answer as a label.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Status {
                status: 200..=299, ..
            } => "taken",
            Self::Status { .. } => "status",
            Self::Redirect => "redirect",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
        }
    }

    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { status, .. } => write!(f, "status {status}"),
            Self::Redirect => f.write_str("a redirect, which is not followed"),
            Self::Refused(why) | Self::Failed(why) => f.write_str(why),
        }
    }
}

/// What to do after a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing more.
    Over(Progress),
    /// The next try after this pause.
    After(Duration),
}

/// Judges the try of this number, from 1; `chance` is between 0 and 1, and spreads pauses by a fifth to either side.
pub(super) fn judge(answer: &Answer, number: u32, pauses: &WebhookPauses, chance: f64) -> Verdict {
    let asked = match answer {
        Answer::Status {
            status: 200..=299, ..
        } => return Verdict::Over(Progress::Delivered),
        Answer::Status { status: 410, .. } => return Verdict::Over(Progress::Gone),
        Answer::Refused(_) => return Verdict::Over(Progress::Refused),
        Answer::Status { retry_after, .. } => *retry_after,
        Answer::Redirect | Answer::Failed(_) => None,
    };
    if number >= pauses.attempts {
        return Verdict::Over(Progress::Failed);
    }
    let grown = pauses.factor.saturating_pow(number - 1);
    let pause = pauses.first.saturating_mul(grown).min(pauses.longest);
    let spread = pause.mul_f64(0.8 + 0.4 * chance.clamp(0.0, 1.0));
    Verdict::After(spread.max(asked.unwrap_or_default()).min(pauses.longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16) -> Answer {
        let retry_after = None;
        Answer::Status { status, retry_after }
    }

    #[test]
    fn answers_mean_what_they_say() {
        let pauses = WebhookPauses::default();
        let judged = |answer: &Answer, number| judge(answer, number, &pauses, 0.5);
        let after = |secs| Verdict::After(Duration::from_secs(secs));
        let patient = |secs| Answer::Status {
            status: 503,
            retry_after: Some(Duration::from_secs(secs)),
        };
        for (answer, number, expected) in [
            (status(204), 1, Verdict::Over(Progress::Delivered)),
            (status(410), 1, Verdict::Over(Progress::Gone)),
            (Answer::Refused("x".into()), 1, Verdict::Over(Progress::Refused)),
            (status(500), 1, after(5)),
            (status(404), 2, after(20)),
            (Answer::Redirect, 3, after(80)),
            (Answer::Failed("x".into()), 7, after(3600)),
            (Answer::Failed("x".into()), 8, Verdict::Over(Progress::Failed)),
            (patient(60), 1, after(60)),
            (patient(1), 1, after(5)),
            (patient(1_000_000), 1, after(3600)),
        ] {
            assert_eq!(judged(&answer, number), expected, "{answer:?} {number}");
        }
    }

    #[test]
    fn pauses_are_spread_and_bounded_whatever_the_numbers() {
        let pauses = WebhookPauses {
            attempts: u32::MAX,
            factor: u32::MAX,
            ..WebhookPauses::default()
        };
        for number in [1, 2, 3, 1000, u32::MAX - 1] {
            for chance in [-1.0, 0.0, 1.0, f64::INFINITY] {
                let Verdict::After(pause) = judge(&status(500), number, &pauses, chance) else {
                    panic!("{number}")
                };
                assert!(
                    (Duration::from_secs(4)..=pauses.longest).contains(&pause),
                    "{pause:?}"
                );
            }
        }
    }
}
