//! Figures by measure, side and run; their medians and ratios, for people as Markdown and for machines as JSON.

use std::io::{self, Write};

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::side::Side;
use crate::bench::figures::Spread;

/// What one side came to in one run, by the names of the figures, in the order of the columns.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures(Vec<(&'static str, f64)>);

impl Figures {
    pub(super) fn with(mut self, name: &'static str, value: f64) -> Self {
        self.0.push((name, value));
        self
    }

    fn get(&self, name: &str) -> Option<f64> {
        let mut pairs = self.0.iter();
        pairs.find(|(key, _)| *key == name).map(|(_, value)| *value)
    }
}

impl Serialize for Figures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// All runs of one measure.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    pub(super) measure: String,
    /// What was done, in words.
    pub(super) about: String,
    pub(super) sides: Vec<Samples>,
}

/// All runs of one side.
#[derive(Debug, Serialize)]
pub(super) struct Samples {
    pub(super) side: Side,
    pub(super) samples: Vec<Figures>,
}

impl Samples {
    fn of(&self, name: &str) -> impl Iterator<Item = f64> {
        self.samples.iter().filter_map(move |sample| sample.get(name))
    }
}

impl Measured {
    pub(super) fn new(measure: String, about: String) -> Self {
        Self {
            measure,
            about,
            sides: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, side: Side, figures: Figures) {
        match self.sides.iter_mut().find(|samples| samples.side == side) {
            Some(samples) => samples.samples.push(figures),
            None => self.sides.push(Samples {
                side,
                samples: vec![figures],
            }),
        }
    }

    fn columns(&self) -> Vec<&'static str> {
        let first = self.sides.first().and_then(|samples| samples.samples.first());
        first.map_or_else(Vec::new, |figures| {
            figures.0.iter().map(|(name, _)| *name).collect()
        })
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}: {}\n", self.measure, self.about)?;
        let columns = self.columns();
        writeln!(out, "| side | {} |", columns.join(" | "))?;
        writeln!(out, "|---|{}", "---|".repeat(columns.len()))?;
        for samples in &self.sides {
            let cells = columns.iter().map(|name| cell(samples.of(name)));
            writeln!(
                out,
                "| {} | {} |",
                samples.side,
                cells.collect::<Vec<_>>().join(" | ")
            )?;
        }
        for (side, ratios) in self.ratios(&columns) {
            writeln!(out, "| mayfly to {side} | {} |", ratios.join(" | "))?;
        }
        writeln!(out)
    }

    /// Ours to each other's, by pairs of runs.
    fn ratios(&self, columns: &[&'static str]) -> Vec<(Side, Vec<String>)> {
        let Some(ours) = self.sides.iter().find(|samples| samples.side == Side::Mayfly) else {
            return Vec::new();
        };
        let others = self
            .sides
            .iter()
            .filter(|it| matches!(it.side, Side::Nginx | Side::Haproxy));
        others
            .map(|theirs| {
                let ratio = |name: &&'static str| {
                    let pairs = ours.of(name).zip(theirs.of(name));
                    cell(
                        pairs
                            .filter(|(_, their)| *their != 0.0)
                            .map(|(our, their)| our / their),
                    )
                };
                (theirs.side, columns.iter().map(ratio).collect())
            })
            .collect()
    }
}

/// All that the bench has to say.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) runs: u32,
    pub(super) measures: Vec<Measured>,
}

impl Report {
    /// Prints the tables to standard output.
    pub(super) fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "alternating runs: {}; median (least to greatest); ratios are medians of pairs\n",
            self.runs
        )?;
        self.measures
            .iter()
            .try_for_each(|measured| measured.write(&mut out))
    }
}

/// The median, with the least and the greatest where they differ.
fn cell(values: impl Iterator<Item = f64>) -> String {
    match Spread::of(values.filter(|value| value.is_finite())) {
        None => "–".to_owned(),
        Some(spread) if short(spread.min) == short(spread.max) => short(spread.median),
        Some(spread) => format!(
            "{} ({} to {})",
            short(spread.median),
            short(spread.min),
            short(spread.max)
        ),
    }
}

/// Three digits that count, or all that stand before the point.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The value below which this share of the sorted values lies (nearest rank); NaN of none.
pub(super) fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// The values in order, in milliseconds.
pub(super) fn sorted_millis(values: impl IntoIterator<Item = std::time::Duration>) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.into_iter().map(|it| it.as_secs_f64() * 1000.0).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.5), 50.0);
        assert_eq!(percentile(&values, 0.99), 99.0);
        assert_eq!(percentile(&values[..1], 0.99), 1.0);
        assert!(percentile(&[], 0.5).is_nan());
    }

    #[test]
    fn a_table_has_medians_and_ratios() {
        let mut measured = Measured::new("m".to_owned(), "about".to_owned());
        for (side, value) in [
            (Side::Mayfly, 1.0),
            (Side::Nginx, 4.0),
            (Side::Mayfly, 3.0),
            (Side::Nginx, 4.0),
        ] {
            measured.push(side, Figures::default().with("x", value).with("none", 0.0));
        }
        let mut out = Vec::new();
        measured.write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("| mayfly | 1 (1 to 3) | 0 |"), "{text}");
        assert!(
            text.contains("| mayfly to nginx | 0.250 (0.250 to 0.750) | – |"),
            "{text}"
        );
    }
}
