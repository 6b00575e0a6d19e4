//! Live progress of a job: a bar on a terminal, plain lines in a pipe.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use mayfly_protocol::{Event, EventBody, JobKind};

/// Between two turns of the spinner.
const TICK: Duration = Duration::from_millis(100);

/// The view of one job.
pub(super) struct JobView {
    bar: ProgressBar,
    kind: JobKind,
}

/// What is shown while nobody knows how long it takes, and while somebody does.
const UNKNOWN: &str = "  {spinner} {prefix:18} {msg}";
const KNOWN: &str = "  {spinner} {prefix:18} {bar:40.cyan/dim} {pos}/{len} {msg}";

impl JobView {
    pub(super) fn new(kind: JobKind) -> Self {
        let bar = ProgressBar::no_length();
        bar.set_prefix(kind.path());
        bar.enable_steady_tick(TICK);
        let view = Self { bar, kind };
        view.set_template(UNKNOWN);
        view
    }

    fn set_template(&self, template: &str) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
    }

    /// Shows one event.
    pub(super) fn show(&self, event: &Event) {
        let EventBody::Progress {
            message,
            progress,
            stage,
            ..
        } = &event.body
        else {
            return;
        };
        if self.bar.is_hidden() {
            tracing::info!(stage = ?stage, "{}: {message}", self.kind.path());
        }
        match progress.and_then(|progress| progress.total.map(|total| (progress.done, total))) {
            Some((done, total)) => {
                self.set_template(KNOWN);
                self.bar.set_length(total);
                self.bar.set_position(done);
            }
            None => self.set_template(UNKNOWN),
        }
        self.bar.set_message(message.clone());
    }

    pub(super) fn done(self) {
        self.bar.finish_and_clear();
    }
}
