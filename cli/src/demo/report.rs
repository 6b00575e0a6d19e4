//! What the demo prints: what it did, what plain git saw, and how long each part took.

use std::io::Write as _;
use std::time::Duration;

use mayfly_protocol::JobKind;
use serde_json::Value;

use super::repository::Seen;

/// Lines on standard output, written as they come.
pub(super) struct Report {
    timings: Vec<(String, Duration, Option<Duration>)>,
}

impl Report {
    pub(super) fn new() -> Self {
        let report = Self { timings: Vec::new() };
        report.say("Mayfly demo");
        report
    }

    /// Prints a line. A closed pipe is no reason to stop the demo.
    pub(super) fn say(&self, line: impl AsRef<str>) {
        let _closed = writeln!(std::io::stdout().lock(), "{}", line.as_ref());
    }

    pub(super) fn timing(&mut self, what: &str, elapsed: Duration) {
        self.timings.push((what.to_owned(), elapsed, None));
    }

    pub(super) fn job(&mut self, kind: JobKind, first_event: Duration, elapsed: Duration, data: &Value) {
        self.timings
            .push((kind.path().to_owned(), elapsed, Some(first_event)));
        self.say(format!("{:<19} {}", kind.path(), summary(kind, data)));
    }

    pub(super) fn seen(&self, seen: &Seen) {
        self.say("\nPlain git on the remote:");
        self.say(format!("  commit   {}", seen.subject));
        self.say(format!("  author   {}", seen.author));
        self.say(format!("  parent   {}", seen.parent));
        for line in seen.stat.lines() {
            self.say(format!("  {}", line.trim()));
        }
        self.say("  git fsck --strict passes");
        self.say(String::new());
    }

    pub(super) fn finish(self) {
        self.say("\nTimings                    total   first event");
        for (what, elapsed, first) in &self.timings {
            let first = first.map_or_else(String::new, millis);
            self.say(format!("  {what:<20} {:>9}   {first:>11}", millis(*elapsed)));
        }
    }
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// The fields of `completed.data` that tell most.
fn summary(kind: JobKind, data: &Value) -> String {
    let text = |field: &str| match &data[field] {
        Value::String(text) => text.lines().next().unwrap_or_default().to_owned(),
        other => other.to_string(),
    };
    match kind {
        JobKind::CloneRepository => {
            format!(
                "{} at {:.10}, {} objects",
                text("branch"),
                text("headSha"),
                text("objects")
            )
        }
        JobKind::CreateBranch => format!(
            "{} from {} ({})",
            text("branch"),
            text("baseBranch"),
            text("nameSource")
        ),
        JobKind::ApplyChanges => format!("{} files changed", text("filesChanged")),
        JobKind::CommitAndPush => format!(
            "{:.10} \"{}\" ({}), +{} -{}",
            text("commitSha"),
            text("message"),
            text("messageSource"),
            text("insertions"),
            text("deletions")
        ),
        JobKind::CodeOperation => String::new(),
    }
}
