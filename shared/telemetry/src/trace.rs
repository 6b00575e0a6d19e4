//! Traces: the context that travels in `traceparent` (W3C Trace Context), and spans, which are exported where that is configured.
//!
//! Spans are explicit values and no part of the log: a job's work moves between tasks and processes, and its times are known where it does.
//! Without an exporter a span costs two random numbers.

mod context;
mod export;
mod span;

pub use context::{InvalidTraceparent, TraceContext};
pub use export::{ExporterError, HttpClient, HttpError, Tracer, Tracing};
pub use span::{Span, SpanKind};
