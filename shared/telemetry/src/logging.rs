//! The log: sentences for people with fields for queries, on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

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
    let builder = tracing_subscriber::fmt()
        .with_env_filter(env_filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // An error means that a log is set up already, which is what was asked for.
    let _already_set = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}
