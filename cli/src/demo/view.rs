//! Live progress of a job: a bar on a terminal, plain lines in a pipe.

use indicatif::{ProgressBar, ProgressStyle};
use mayfly_protocol::{Event, EventBody, JobKind};

/// The view of one job.
pub(super) struct JobView {
    bar: ProgressBar,
    kind: JobKind,
}

impl JobView {
    pub(super) fn new(kind: JobKind) -> Self {
        let bar = ProgressBar::new(0);
        if let Ok(style) =
            ProgressStyle::with_template("  {spinner} {prefix:18} {wide_bar:.cyan/dim} {pos}/{len} {msg:40!}")
        {
            bar.set_style(style);
        }
        bar.set_prefix(kind.path());
        bar.enable_steady_tick(std::time::Duration::from_millis(100));
        Self { bar, kind }
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
        self.bar.set_message(message.clone());
        if let Some(progress) = progress {
            self.bar.set_length(progress.total.unwrap_or(progress.done));
            self.bar.set_position(progress.done);
        }
    }

    pub(super) fn done(self) {
        self.bar.finish_and_clear();
    }
}
