//! What was measured: samples by job and side, their medians, and ratios of pairs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::measure::Usage;

/// A job that both sides do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Job {
    CloneUnknown,
    CloneKnown,
    Pull,
    CreateBranch,
    ApplyChanges,
    CommitAndPush,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CloneUnknown => "clone of an unknown repository",
            Self::CloneKnown => "clone of a known repository, no news",
            Self::Pull => "pull of one commit",
            Self::CreateBranch => "create branch",
            Self::ApplyChanges => "apply changes",
            Self::CommitAndPush => "commit and push",
        })
    }
}

/// Who does it, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Side {
    /// One `mayfly git-worker` process.
    Mayfly,
    /// `git clone`, and nothing kept.
    GitClone,
    /// `git clone --bare`, and nothing kept.
    GitCloneBare,
    /// The git CLI, and a tar of everything in the storage.
    Tar,
    /// The same, compressed by `zstd -3`.
    TarZstd,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mayfly => "mayfly",
            Self::GitClone => "`git clone`",
            Self::GitCloneBare => "`git clone --bare`",
            Self::Tar => "git + tar",
            Self::TarZstd => "git + tar.zst",
        })
    }
}

/// One run of one job by one side.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Sample {
    #[serde(flatten)]
    pub(crate) usage: Usage,
    /// Bytes read from the storage.
    pub(crate) storage_read: u64,
    /// Bytes written to the storage.
    pub(crate) storage_written: u64,
    /// Calls to the storage, where they are counted.
    pub(crate) storage_calls: Option<u64>,
    /// Bytes sent to the git host.
    pub(crate) host_sent: u64,
    /// Bytes received from it.
    pub(crate) host_received: u64,
    /// Seconds that the git host took over its answers.
    pub(crate) host_seconds: f64,
}

impl Sample {
    /// This, and then that.
    pub(crate) fn then(self, next: Self) -> Self {
        Self {
            usage: self.usage.then(next.usage),
            storage_read: self.storage_read + next.storage_read,
            storage_written: self.storage_written + next.storage_written,
            storage_calls: None,
            host_sent: self.host_sent + next.host_sent,
            host_received: self.host_received + next.host_received,
            host_seconds: self.host_seconds + next.host_seconds,
        }
    }

    pub(crate) fn storage(&self) -> u64 {
        self.storage_read + self.storage_written
    }

    pub(crate) fn host(&self) -> u64 {
        self.host_sent + self.host_received
    }
}

/// All samples of one repository, in the order of the runs.
#[derive(Debug, Default)]
pub(crate) struct Figures(BTreeMap<(Job, Side), Vec<Sample>>);

impl Figures {
    pub(crate) fn push(&mut self, job: Job, side: Side, sample: Sample) {
        self.0.entry((job, side)).or_default().push(sample);
    }

    pub(crate) fn of(&self, job: Job, side: Side) -> &[Sample] {
        self.0.get(&(job, side)).map_or(&[], Vec::as_slice)
    }

    /// What was measured, by job and then by side.
    pub(crate) fn measured(&self) -> impl Iterator<Item = (Job, Side, &[Sample])> {
        self.0
            .iter()
            .map(|(&(job, side), samples)| (job, side, samples.as_slice()))
    }
}

/// The middle of some values with the least and the greatest of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of two middle values it takes the lower one; of nothing there is none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: *sorted.get(sorted.len().checked_sub(1)? / 2)?,
            min: *sorted.first()?,
            max: *sorted.last()?,
        })
    }
}

/// The median of a figure.
pub(crate) fn median(samples: &[Sample], figure: impl Fn(&Sample) -> f64) -> f64 {
    Spread::of(samples.iter().map(figure)).map_or(f64::NAN, |spread| spread.median)
}

/// The ratios of the pairs of runs: what drifts with the machine drifts on both sides of a pair.
pub(crate) fn ratio(
    samples: &[Sample],
    others: &[Sample],
    figure: impl Fn(&Sample) -> f64,
) -> Option<Spread> {
    Spread::of(
        samples
            .iter()
            .zip(others)
            .map(|(one, other)| figure(one) / figure(other)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        let spread = |median, min, max| Some(Spread { median, min, max });
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), spread(2.0, 1.0, 3.0));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]), spread(2.0, 1.0, 4.0));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn ratios_are_of_pairs() {
        let sample = |wall| Sample {
            usage: Usage {
                wall,
                ..Usage::default()
            },
            ..Sample::default()
        };
        let (ours, theirs) = ([1.0, 8.0, 3.0].map(sample), [10.0, 16.0, 10.0].map(sample));
        let ratio = ratio(&ours, &theirs, |it| it.usage.wall).unwrap();
        assert_eq!((ratio.median, ratio.min, ratio.max), (0.3, 0.1, 0.5));
    }
}
