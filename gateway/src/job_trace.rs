//! The trace of one job: what of its time was waiting, asking a worker, and the worker's own.
//!
//! This module must not know what any of it means for the job.

use mayfly_protocol::JobKind;
use mayfly_telemetry::trace::{Span, SpanKind, TraceContext, Tracer};

use crate::fleet::address::WorkerUrl;
use crate::jobs::{End, Job};

/// The trace of one job: a span for all of it, and one for what it does now.
#[derive(Debug)]
pub(crate) struct JobTrace {
    root: Span,
    part: Option<Span>,
}

impl JobTrace {
    /// Begins it, below what the client sent or anew.
    pub(crate) fn begin(tracer: &Tracer, kind: JobKind, above: Option<TraceContext>) -> Self {
        let name = format!("job {}", kind.as_str());
        Self {
            root: tracer.start(name, SpanKind::Server, above),
            part: None,
        }
    }

    /// Notes whose it is.
    pub(crate) fn of(&mut self, job: &Job) {
        self.root.set("mayfly.job.id", job.id.as_str());
        self.root.set("mayfly.session.id", job.lane.session.as_str());
        self.root.set("mayfly.tenant.id", job.lane.tenant.as_str());
    }

    /// What puts the trace's id into the log.
    pub(crate) fn log_span(&self) -> tracing::Span {
        let id = self.root.context().trace_id();
        tracing::info_span!("job", trace_id = %id)
    }

    /// The job waits for a worker.
    pub(crate) fn waits(&mut self) {
        self.next("queue", SpanKind::Internal);
    }

    /// A worker was found.
    pub(crate) fn attempts(&mut self, number: u32, worker: &WorkerUrl) {
        let part = self.next("attempt", SpanKind::Client);
        part.set("mayfly.job.attempt", number.to_string());
        part.set("server.address", worker.authority());
    }

    /// The asking of the worker, which lasts until it takes the job or does not.
    pub(crate) fn dispatch(&self) -> Span {
        let above = self.part.as_ref().unwrap_or(&self.root);
        above.child("dispatch", SpanKind::Internal)
    }

    /// What the worker's part belongs to.
    pub(crate) fn context(&self) -> TraceContext {
        self.part.as_ref().unwrap_or(&self.root).context()
    }

    /// The job ended.
    pub(crate) fn ended(mut self, end: &End) {
        self.part = None;
        match end {
            End::Completed(_) => {}
            End::Failed(_) => self.root.fail("the worker ended the job with an error"),
            End::Ours(failure) => self.root.fail(failure.code.as_str()),
        }
    }

    fn next(&mut self, name: &'static str, kind: SpanKind) -> &mut Span {
        // The one before ends first.
        self.part = None;
        self.part.insert(self.root.child(name, kind))
    }
}
