//! Live progress of a job: a bar on a terminal, plain lines in a pipe, JSON for programs.

use std::io::{self, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mayfly_protocol::{Event, EventBody, JobId, Stage};
use serde_json::Value;

use super::exit::say;
use super::text;

/// Between two turns of the spinner.
const TICK: Duration = Duration::from_millis(100);
/// What is shown while nobody knows how long it takes, and while somebody does.
const UNKNOWN: &str = "{spinner} {prefix:18} {msg}";
const KNOWN: &str = "{spinner} {prefix:18} {bar:30.cyan/dim} {pos}/{len} {msg}";

/// How a job is shown.
pub(crate) enum View {
    /// A bar on standard error, which is a terminal.
    Bar(ProgressBar),
    /// A line on standard error for each new stage or message.
    Lines(Option<(Stage, String)>),
    /// Each event as a line of JSON on standard output; and why that cannot be written any more.
    Json(Option<io::Error>),
}

impl View {
    pub(crate) fn new(label: &'static str, is_json: bool) -> Self {
        if is_json {
            return Self::Json(None);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if bar.is_hidden() {
            return Self::Lines(None);
        }
        bar.set_prefix(label);
        bar.enable_steady_tick(TICK);
        set_template(&bar, UNKNOWN);
        Self::Bar(bar)
    }

    /// Says which job it is.
    pub(super) fn begin(&self, job: &JobId) {
        match self {
            Self::Bar(bar) => bar.set_message(format!("job {job}")),
            Self::Lines(_) => say(&format!("job {job}")),
            Self::Json(_) => {}
        }
    }

    /// Shows one event.
    pub(crate) fn show(&mut self, event: &Event) {
        if let Self::Json(failure) = self {
            // A reader that went away does not end the job; that nobody read its end is told then.
            let written = writeln!(io::stdout().lock(), "{}", text::json(event));
            *failure = failure.take().or(written.err());
            return;
        }
        let EventBody::Progress {
            message,
            progress,
            stage,
            ..
        } = &event.body
        else {
            return;
        };
        let message = text::line(message).into_owned();
        match self {
            Self::Bar(bar) => {
                match progress.and_then(|progress| progress.total.map(|total| (progress.done, total))) {
                    Some((done, total)) => {
                        set_template(bar, KNOWN);
                        bar.set_length(total);
                        bar.set_position(done);
                    }
                    None => set_template(bar, UNKNOWN),
                }
                bar.set_message(message);
            }
            Self::Lines(last) => {
                let new = Some((*stage, message));
                if *last != new
                    && let Some((stage, message)) = &new
                {
                    say(&format!("{:20} {message}", name(*stage)));
                }
                *last = new;
            }
            Self::Json(_) => {}
        }
    }

    /// Shows the result: each field is a line of standard output.
    pub(super) fn result(mut self, data: &Value) -> io::Result<()> {
        match &mut self {
            Self::Json(failure) => failure.take().map_or(Ok(()), Err),
            Self::Bar(bar) => {
                bar.finish_and_clear();
                fields(data)
            }
            Self::Lines(_) => fields(data),
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn set_template(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

/// A stage as the stream writes it.
fn name(stage: Stage) -> String {
    serde_json::to_value(stage).map_or_else(|_| String::new(), |value| plain(&value))
}

/// The fields of an object, a line each; what is null is left out.
pub(super) fn fields(data: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let Some(object) = data.as_object() else {
        return writeln!(out, "{}", text::json(data));
    };
    for (name, value) in object.iter().filter(|(_, value)| !value.is_null()) {
        writeln!(out, "{:16} {}", text::line(name), plain(value))?;
    }
    out.flush()
}

/// A value as people read it.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text::line(text).into_owned(),
        other => text::json(other),
    }
}
