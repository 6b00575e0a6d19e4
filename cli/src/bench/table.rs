//! Medians and ratios of alternating runs, for people and as JSON.

use std::io::Write as _;

use serde::Serialize;

use super::measure::Usage;

/// One step, done by both sides in each run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Row {
    pub(crate) step: String,
    pub(crate) ours: Vec<Sample>,
    pub(crate) theirs: Vec<Sample>,
}

impl Row {
    /// Adds one run of both sides.
    pub(crate) fn push(&mut self, ours: Sample, theirs: Sample) {
        self.ours.push(ours);
        self.theirs.push(theirs);
    }
}

/// One run of one side.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Sample {
    #[serde(flatten)]
    pub(crate) usage: Usage,
    /// Bytes read from the storage.
    pub(crate) storage_read: u64,
    /// Bytes written to the storage.
    pub(crate) storage_written: u64,
}

/// The middle of the values; the lower one of two.
pub(crate) fn median<T: PartialOrd + Copy>(values: impl IntoIterator<Item = T>) -> Option<T> {
    let mut sorted: Vec<T> = values.into_iter().collect();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

/// The median of the ratios of pairs: what drifts with the machine drifts on both sides of a pair.
fn ratio(row: &Row, figure: impl Fn(&Sample) -> f64) -> f64 {
    let pairs = row
        .ours
        .iter()
        .zip(&row.theirs)
        .map(|(ours, theirs)| figure(ours) / figure(theirs));
    median(pairs).unwrap_or(f64::NAN)
}

/// Prints the table.
pub(crate) fn print(rows: &[Row]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{:<50} {:>10} {:>10} {:>7} {:>7} {:>10} {:>10} {:>12} {:>12}",
        "step (medians; ratios are by pairs)",
        "wall",
        "theirs",
        "wall×",
        "cpu×",
        "peak MiB",
        "theirs",
        "stored B",
        "theirs"
    )?;
    for row in rows {
        let wall = |side: &[Sample]| median(side.iter().map(|it| it.usage.wall * 1000.0)).unwrap_or(f64::NAN);
        let peak = |side: &[Sample]| median(side.iter().map(|it| it.usage.peak_kib / 1024)).unwrap_or(0);
        let moved =
            |side: &[Sample]| median(side.iter().map(|it| it.storage_read + it.storage_written)).unwrap_or(0);
        writeln!(
            out,
            "{:<50} {:>7.0} ms {:>7.0} ms {:>7.3} {:>7.3} {:>10} {:>10} {:>12} {:>12}",
            row.step,
            wall(&row.ours),
            wall(&row.theirs),
            ratio(row, |it| it.usage.wall),
            ratio(row, |it| it.usage.cpu),
            peak(&row.ours),
            peak(&row.theirs),
            moved(&row.ours),
            moved(&row.theirs),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([3, 1, 2]), Some(2));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.0));
        assert_eq!(median(Vec::<u8>::new()), None);
    }
}
