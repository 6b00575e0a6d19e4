//! Medians, ratios and growth, for people as Markdown and for machines as JSON.

use std::io::{self, Write};

use serde::Serialize;

use super::figures::{Figures, Job, Sample, Side, Spread, median, ratio};
use super::place::Description;

/// One repository with what was measured on it.
pub(crate) struct Measured {
    pub(crate) repository: Description,
    pub(crate) figures: Figures,
}

/// All that a bench has to say.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    storage: String,
    runs: u32,
    changed_files: usize,
    repositories: Vec<Repository>,
    /// How each job's cost grows from the smallest repository; empty for a single one.
    growth: Vec<Growth>,
}

#[derive(Debug, Serialize)]
struct Repository {
    #[serde(flatten)]
    description: Description,
    comparisons: Vec<Comparison>,
    samples: Vec<Samples>,
}

/// Every run of one job by one side.
#[derive(Debug, Serialize)]
struct Samples {
    job: Job,
    side: Side,
    samples: Vec<Sample>,
}

/// Our side of a job against another's.
#[derive(Debug, Serialize)]
struct Comparison {
    job: Job,
    against: Side,
    /// Ours to theirs, by pairs of runs.
    wall_ratio: Option<Spread>,
    /// Processor time, the same way.
    cpu_ratio: Option<Spread>,
    ours: Medians,
    theirs: Medians,
}

/// One side's job on one repository against the same on the smallest.
#[derive(Debug, Serialize)]
struct Growth {
    job: Job,
    side: Side,
    repository: String,
    smallest: String,
    wall_ratio: Option<Spread>,
    cpu_ratio: Option<Spread>,
    here: Medians,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Medians {
    wall_ms: f64,
    cpu_ms: f64,
    storage_bytes: f64,
    storage_calls: Option<f64>,
    host_bytes: f64,
    host_ms: f64,
    peak_mib: f64,
    anonymous_mib: Option<f64>,
    file_backed_mib: Option<f64>,
}

impl Medians {
    fn of(samples: &[Sample]) -> Self {
        let has_parts = samples.iter().all(|it| it.usage.parts.is_some());
        let part = |figure: fn(&super::measure::Parts) -> u64| {
            has_parts.then(|| {
                median(samples, |it| {
                    it.usage.parts.as_ref().map_or(0, figure) as f64 / 1024.0
                })
            })
        };
        Self {
            wall_ms: median(samples, |it| it.usage.wall * 1000.0),
            cpu_ms: median(samples, |it| it.usage.cpu * 1000.0),
            storage_bytes: median(samples, |it| it.storage() as f64),
            storage_calls: samples
                .iter()
                .all(|it| it.storage_calls.is_some())
                .then(|| median(samples, |it| it.storage_calls.unwrap_or_default() as f64)),
            host_bytes: median(samples, |it| it.host() as f64),
            host_ms: median(samples, |it| it.host_seconds * 1000.0),
            peak_mib: median(samples, |it| it.usage.peak_kib as f64 / 1024.0),
            anonymous_mib: part(|it| it.anon_kib),
            file_backed_mib: part(|it| it.file_kib),
        }
    }

    fn storage(&self) -> String {
        let moved = bytes(self.storage_bytes);
        match self.storage_calls {
            Some(calls) => format!("{moved}, {calls:.0} calls"),
            None => moved,
        }
    }

    fn host(&self) -> String {
        format!("{}, {:.0} ms", bytes(self.host_bytes), self.host_ms)
    }

    fn peak(&self) -> String {
        match (self.anonymous_mib, self.file_backed_mib) {
            (Some(anon), Some(file)) => format!("{:.0} ({anon:.0} + {file:.0})", self.peak_mib),
            _ => format!("{:.0}", self.peak_mib),
        }
    }
}

impl Report {
    pub(crate) fn new(storage: &str, runs: u32, changed_files: usize, measured: Vec<Measured>) -> Self {
        Self {
            storage: storage.to_owned(),
            runs,
            changed_files,
            growth: growth(&measured),
            repositories: measured.into_iter().map(Repository::from).collect(),
        }
    }

    /// Prints the tables to standard output.
    pub(crate) fn print(&self) -> io::Result<()> {
        self.write(&mut io::stdout().lock())
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for repository in &self.repositories {
            let about = &repository.description;
            writeln!(
                out,
                "{}: {} of packs, {} objects, {} files; storage: {}; {} runs, {} changed files\n",
                about.name,
                bytes(about.pack_bytes as f64),
                about.objects,
                about.files,
                self.storage,
                self.runs,
                self.changed_files
            )?;
            repository.write(out)?;
        }
        if self.growth.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "| job | side | repository | wall, to {0} | CPU, to {0} | wall, ms | CPU, ms | storage | git host | peak, MiB |\n\
             |---|---|---|---|---|---|---|---|---|---|",
            self.growth[0].smallest
        )?;
        for growth in &self.growth {
            growth.write(out)?;
        }
        writeln!(out)
    }
}

impl From<Measured> for Repository {
    fn from(measured: Measured) -> Self {
        let figures = &measured.figures;
        let compare = |(job, against, theirs): (Job, Side, &[Sample])| {
            let ours = figures.of(job, Side::Mayfly);
            Comparison {
                job,
                against,
                wall_ratio: ratio(ours, theirs, |it| it.usage.wall),
                cpu_ratio: ratio(ours, theirs, |it| it.usage.cpu),
                ours: Medians::of(ours),
                theirs: Medians::of(theirs),
            }
        };
        Self {
            description: measured.repository,
            comparisons: figures
                .measured()
                .filter(|(_, side, _)| *side != Side::Mayfly)
                .map(compare)
                .collect(),
            samples: figures
                .measured()
                .map(|(job, side, samples)| Samples {
                    job,
                    side,
                    samples: samples.to_vec(),
                })
                .collect(),
        }
    }
}

impl Repository {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.comparisons.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "| job | against | wall ratio | CPU ratio | wall, ms | CPU, ms | storage | git host | peak, MiB |\n\
             |---|---|---|---|---|---|---|---|---|"
        )?;
        for comparison in &self.comparisons {
            let (ours, theirs) = (&comparison.ours, &comparison.theirs);
            writeln!(
                out,
                "| {} | {} | {} | {} | {:.0} / {:.0} | {:.0} / {:.0} | {} / {} | {} / {} | {} / {} |",
                comparison.job,
                comparison.against,
                spread(comparison.wall_ratio),
                spread(comparison.cpu_ratio),
                ours.wall_ms,
                theirs.wall_ms,
                ours.cpu_ms,
                theirs.cpu_ms,
                ours.storage(),
                theirs.storage(),
                ours.host(),
                theirs.host(),
                ours.peak(),
                theirs.peak(),
            )?;
        }
        writeln!(out)
    }
}

/// What each side's jobs cost on each repository, to what they cost on the first.
fn growth(measured: &[Measured]) -> Vec<Growth> {
    let Some((smallest, larger)) = measured.split_first() else {
        return Vec::new();
    };
    let mut growth = Vec::new();
    if larger.is_empty() {
        return growth;
    }
    for (job, side, base) in smallest.figures.measured() {
        for here in measured {
            let samples = here.figures.of(job, side);
            growth.push(Growth {
                job,
                side,
                repository: here.repository.name.clone(),
                smallest: smallest.repository.name.clone(),
                wall_ratio: ratio(samples, base, |it| it.usage.wall),
                cpu_ratio: ratio(samples, base, |it| it.usage.cpu),
                here: Medians::of(samples),
            });
        }
    }
    growth
}

impl Growth {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let here = &self.here;
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {:.0} | {:.0} | {} | {} | {} |",
            self.job,
            self.side,
            self.repository,
            spread(self.wall_ratio),
            spread(self.cpu_ratio),
            here.wall_ms,
            here.cpu_ms,
            here.storage(),
            here.host(),
            here.peak(),
        )
    }
}

/// A ratio with its least and its greatest value.
fn spread(spread: Option<Spread>) -> String {
    spread.map_or_else(
        || "–".to_owned(),
        |it| format!("{} ({}–{})", short(it.median), short(it.min), short(it.max)),
    )
}

/// Two digits that count, or all that stand before the point.
fn short(value: f64) -> String {
    match value {
        _ if value >= 10.0 => format!("{value:.0}"),
        _ if value >= 0.1 => format!("{value:.2}"),
        _ if value >= 0.01 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

/// Bytes in the unit that leaves few digits.
fn bytes(value: f64) -> String {
    match value {
        _ if value >= 10e6 => format!("{:.0} MB", value / 1e6),
        _ if value >= 1e6 => format!("{:.1} MB", value / 1e6),
        _ if value >= 1e3 => format!("{:.1} kB", value / 1e3),
        _ => format!("{value:.0} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::measure::{Parts, Usage};
    use super::*;

    fn measured(name: &str, ours: [f64; 3], theirs: [f64; 3]) -> Measured {
        let mut figures = Figures::default();
        for (side, walls) in [(Side::Mayfly, ours), (Side::Tar, theirs)] {
            for wall in walls {
                let usage = Usage {
                    wall,
                    cpu: wall / 2.0,
                    peak_kib: 20 * 1024,
                    parts: (side == Side::Mayfly).then_some(Parts {
                        anon_kib: 4096,
                        file_kib: 12 * 1024,
                        shared_kib: 0,
                    }),
                };
                let sample = Sample {
                    usage,
                    storage_read: 1_500,
                    storage_written: 500,
                    storage_calls: (side == Side::Mayfly).then_some(7),
                    host_sent: 100,
                    host_received: 200,
                    host_seconds: 0.005,
                };
                figures.push(Job::Pull, side, sample);
            }
        }
        Measured {
            repository: Description {
                name: name.to_owned(),
                pack_bytes: 10_000_000,
                objects: 9,
                files: 3,
            },
            figures,
        }
    }

    #[test]
    fn tables_and_json_say_the_same() {
        let small = measured("10MB", [0.01, 0.02, 0.03], [1.0, 1.0, 1.5]);
        let large = measured("1GB", [0.02, 0.02, 0.06], [100.0, 120.0, 90.0]);
        let report = Report::new("file", 3, 5, vec![small, large]);
        let mut out = Vec::new();
        report.write(&mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r"
        10MB: 10 MB of packs, 9 objects, 3 files; storage: file; 3 runs, 5 changed files

        | job | against | wall ratio | CPU ratio | wall, ms | CPU, ms | storage | git host | peak, MiB |
        |---|---|---|---|---|---|---|---|---|
        | pull of one commit | git + tar | 0.020 (0.010–0.020) | 0.020 (0.010–0.020) | 20 / 1000 | 10 / 500 | 2.0 kB, 7 calls / 2.0 kB | 300 B, 5 ms / 300 B, 5 ms | 20 (4 + 12) / 20 |

        1GB: 10 MB of packs, 9 objects, 3 files; storage: file; 3 runs, 5 changed files

        | job | against | wall ratio | CPU ratio | wall, ms | CPU, ms | storage | git host | peak, MiB |
        |---|---|---|---|---|---|---|---|---|
        | pull of one commit | git + tar | 0.0002 (0.0002–0.0007) | 0.0002 (0.0002–0.0007) | 20 / 100000 | 10 / 50000 | 2.0 kB, 7 calls / 2.0 kB | 300 B, 5 ms / 300 B, 5 ms | 20 (4 + 12) / 20 |

        | job | side | repository | wall, to 10MB | CPU, to 10MB | wall, ms | CPU, ms | storage | git host | peak, MiB |
        |---|---|---|---|---|---|---|---|---|---|
        | pull of one commit | mayfly | 10MB | 1.00 (1.00–1.00) | 1.00 (1.00–1.00) | 20 | 10 | 2.0 kB, 7 calls | 300 B, 5 ms | 20 (4 + 12) |
        | pull of one commit | mayfly | 1GB | 2.00 (1.00–2.00) | 2.00 (1.00–2.00) | 20 | 10 | 2.0 kB, 7 calls | 300 B, 5 ms | 20 (4 + 12) |
        | pull of one commit | git + tar | 10MB | 1.00 (1.00–1.00) | 1.00 (1.00–1.00) | 1000 | 500 | 2.0 kB | 300 B, 5 ms | 20 |
        | pull of one commit | git + tar | 1GB | 100 (60–120) | 100 (60–120) | 100000 | 50000 | 2.0 kB | 300 B, 5 ms | 20 |
        ");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["growth"][1]["wall_ratio"]["median"], 2.0);
        let ratio = &json["repositories"][0]["comparisons"][0]["wall_ratio"];
        assert_eq!((&ratio["median"], &ratio["max"]), (&0.02.into(), &0.02.into()));
        let sample = &json["repositories"][1]["samples"][0]["samples"][2];
        assert_eq!(
            (&sample["wall"], &sample["anon_kib"]),
            (&0.06.into(), &4096.into())
        );
    }
}
