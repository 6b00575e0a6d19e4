//! Puts the id of the trace that an entry belongs to at the top of its JSON, where collectors of logs look for it.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::{Format, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The field of spans that has the id; 32 hexadecimal digits.
const NAME: &str = "trace_id";

/// Keeps the trace's id of each span that has one.
pub(super) struct TraceIds;

struct TraceId(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for TraceIds {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut found = Found(None);
        attributes.record(&mut found);
        if let (Some(trace), Some(span)) = (found.0, context.span(id)) {
            span.extensions_mut().insert(TraceId(trace));
        }
    }
}

struct Found(Option<String>);

impl Visit for Found {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == NAME {
            let text = format!("{value:?}");
            // It goes into JSON as it is.
            self.0 = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
    }
}

/// JSON as ever, with the trace's id first.
pub(super) struct WithTraceId(Format<Json>);

impl Default for WithTraceId {
    fn default() -> Self {
        Self(tracing_subscriber::fmt::format().json().flatten_event(true))
    }
}

impl<S, N> FormatEvent<S, N> for WithTraceId
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let spans = context.event_scope().into_iter().flatten();
        let id = { spans }.find_map(|span| span.extensions().get::<TraceId>().map(|id| id.0.clone()));
        let Some(id) = id else {
            return self.0.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        match line.strip_prefix('{') {
            Some(rest) => write!(writer, "{{\"{NAME}\":\"{id}\",{rest}"),
            None => writer.write_str(&line),
        }
    }
}
