//! The log: sentences for people with fields for queries, on standard error.

mod trace_id;

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::fmt::format::{DefaultFields, Format, JsonFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use trace_id::{TraceIds, WithTraceId};

// Records of the `log` crate come into this log, too, and below `debug` some libraries write whole requests there, tokens and all: no build has them.
const _: () = assert!(log::STATIC_MAX_LEVEL as usize <= log::LevelFilter::Debug as usize);

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The filter cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "the log filter `{filter}` cannot be read; use directives such as `info` or `mayfly_gateway=debug,info`"
)]
pub struct InvalidFilter {
    filter: String,
    #[source]
    source: tracing_subscriber::filter::ParseError,
}

/// Sets up the log of this process; a second call changes nothing.
///
/// `filter` is in the syntax of `RUST_LOG`. Nothing is written to standard output, which belongs to the commands.
pub fn init(format: LogFormat, filter: &str) -> Result<(), InvalidFilter> {
    let env_filter = EnvFilter::try_new(filter).map_err(|source| InvalidFilter {
        filter: filter.to_owned(),
        source,
    })?;
    let registry = tracing_subscriber::registry().with(env_filter);
    // An error means that a log is set up already, which is what was asked for.
    let _already_set = match format {
        LogFormat::Text => registry.with(on_stderr()).try_init(),
        LogFormat::Json => {
            let layer = on_stderr()
                .fmt_fields(JsonFields::new())
                .event_format(WithTraceId::default());
            registry.with(TraceIds).with(layer).try_init()
        }
    };
    Ok(())
}

fn on_stderr<S>() -> fmt::Layer<S, DefaultFields, Format, fn() -> std::io::Stderr> {
    fmt::layer()
        .with_writer(std::io::stderr as fn() -> std::io::Stderr)
        .with_ansi(std::io::stderr().is_terminal())
}
