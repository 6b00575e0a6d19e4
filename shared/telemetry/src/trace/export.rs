//! Spans go to a collector over OTLP/HTTP with protobuf: in batches, from a bounded queue, so that a collector that is away costs nothing but spans.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;

use super::context::TraceContext;
use super::span::{Span, SpanKind};
use crate::task;

pub use opentelemetry_http::{HttpClient, HttpError};

/// Spans that wait to be sent; more are dropped.
const QUEUE: usize = 4096;
/// Spans in one request.
const BATCH: usize = 512;
/// How long a span waits for others to be sent with it.
const GATHER: Duration = Duration::from_secs(1);
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Traces cannot be exported.
#[derive(Debug, thiserror::Error)]
#[error("traces cannot be exported to this address")]
pub struct ExporterError(#[source] opentelemetry_otlp::ExporterBuildError);

enum Message {
    Span(Box<SpanData>),
    Flush(oneshot::Sender<()>),
}

/// Where spans begin. Clones are the same; the default one exports nothing.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<Queue>>);

#[derive(Debug)]
struct Queue {
    messages: mpsc::Sender<Message>,
    scope: InstrumentationScope,
}

/// What exports the spans of a process, until it is shut down.
#[derive(Debug)]
pub struct Tracing {
    tracer: Tracer,
    tasks: TaskTracker,
}

impl Tracing {
    /// Exports nothing.
    pub fn off() -> Self {
        Self {
            tracer: Tracer::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Exports to a collector; `url` is the whole address, which ends with `/v1/traces`, and `service` the name that the spans carry.
    ///
    /// Further headers come from `OTEL_EXPORTER_OTLP_HEADERS`, and facts of the process from `OTEL_RESOURCE_ATTRIBUTES`.
    pub fn otlp(
        url: &str,
        service: &'static str,
        client: impl HttpClient + 'static,
    ) -> Result<Self, ExporterError> {
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(url)
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(TIMEOUT)
            .build()
            .map_err(ExporterError)?;
        exporter.set_resource(&Resource::builder().with_service_name(service).build());
        let (messages, received) = mpsc::channel(QUEUE);
        let tasks = TaskTracker::new();
        task::spawn(&tasks, send_all(exporter, received));
        let scope = InstrumentationScope::builder("mayfly")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Ok(Self {
            tracer: Tracer(Some(Arc::new(Queue { messages, scope }))),
            tasks,
        })
    }

    /// Where spans begin.
    pub fn tracer(&self) -> Tracer {
        self.tracer.clone()
    }

    /// Sends what is left, for as long as that may take.
    pub async fn shutdown(self, grace: Duration) {
        if let Some(queue) = &self.tracer.0 {
            let (done, sent) = oneshot::channel();
            let flushing = async {
                if queue.messages.send(Message::Flush(done)).await.is_ok() {
                    // The other end goes when it is done.
                    let _done = sent.await;
                }
            };
            if timeout(grace, flushing).await.is_err() {
                tracing::warn!("the collector of traces took too long; the last spans are lost");
            }
        }
        self.tasks.close();
    }
}

impl Tracer {
    /// Begins a span: below another one, or of a trace of its own.
    pub fn start(&self, name: impl Into<String>, kind: SpanKind, above: Option<TraceContext>) -> Span {
        Span {
            tracer: self.clone(),
            context: above.map_or_else(TraceContext::new_root, TraceContext::child),
            parent: above.map_or(0, |above| above.span()),
            name: name.into(),
            kind,
            began: SystemTime::now(),
            attributes: Vec::new(),
            error: None,
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn end(&self, span: &mut Span) {
        let Some(queue) = self.0.as_ref().filter(|_| span.context.is_sampled()) else {
            return;
        };
        let data = span_data(span, queue.scope.clone());
        // A full queue means that the collector is away or too slow: the work goes on, and its spans are lost.
        let _full = queue.messages.try_send(Message::Span(Box::new(data)));
    }
}

fn span_data(span: &mut Span, scope: InstrumentationScope) -> SpanData {
    let attributes = std::mem::take(&mut span.attributes).into_iter();
    SpanData {
        span_context: SpanContext::new(
            TraceId::from(span.context.trace()),
            SpanId::from(span.context.span()),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        ),
        parent_span_id: SpanId::from(span.parent),
        parent_span_is_remote: span.kind == SpanKind::Server,
        span_kind: match span.kind {
            SpanKind::Server => opentelemetry::trace::SpanKind::Server,
            SpanKind::Client => opentelemetry::trace::SpanKind::Client,
            SpanKind::Internal => opentelemetry::trace::SpanKind::Internal,
        },
        name: Cow::Owned(std::mem::take(&mut span.name)),
        start_time: span.began,
        end_time: SystemTime::now(),
        attributes: attributes
            .map(|(name, value)| KeyValue::new(name, value))
            .collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: match span.error.take() {
            Some(description) => Status::error(description),
            None => Status::Unset,
        },
        instrumentation_scope: scope,
    }
}

/// Gathers and sends spans until nobody can begin one any more.
async fn send_all(exporter: opentelemetry_otlp::SpanExporter, mut received: mpsc::Receiver<Message>) {
    let mut batch = Vec::new();
    while let Some(first) = received.recv().await {
        let mut waiting = take(first, &mut batch);
        let until = Instant::now() + GATHER;
        while waiting.is_none() && batch.len() < BATCH {
            match timeout_at(until, received.recv()).await {
                Ok(Some(message)) => waiting = take(message, &mut batch),
                Ok(None) | Err(_) => break,
            }
        }
        if !batch.is_empty() {
            send(&exporter, std::mem::take(&mut batch)).await;
        }
        if let Some(done) = waiting {
            // Whoever asked may have gone.
            let _gone = done.send(());
        }
    }
}

fn take(message: Message, batch: &mut Vec<SpanData>) -> Option<oneshot::Sender<()>> {
    match message {
        Message::Span(span) => {
            batch.push(*span);
            None
        }
        Message::Flush(done) => Some(done),
    }
}

async fn send(exporter: &opentelemetry_otlp::SpanExporter, batch: Vec<SpanData>) {
    let spans = batch.len();
    match timeout(TIMEOUT, exporter.export(batch)).await {
        Ok(Ok(())) => {}
        // What the exporter says may hold headers or words of the collector.
        Ok(Err(_)) => tracing::warn!(spans, "the collector of traces did not take these spans"),
        Err(_) => tracing::warn!(spans, "the collector of traces did not answer in time"),
    }
}
