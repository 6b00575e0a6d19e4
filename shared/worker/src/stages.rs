//! A span for each stage that a job passes.

use std::sync::{Mutex, PoisonError};

use mayfly_protocol::Stage;
use mayfly_telemetry::trace::{Span, SpanKind, TraceContext, Tracer};

/// The spans of a job's stages: one ends where the next begins.
#[derive(Debug)]
pub(crate) struct StageSpans {
    tracer: Tracer,
    above: TraceContext,
    current: Mutex<Option<(Stage, Span)>>,
}

impl StageSpans {
    /// Below the span of the job.
    pub(crate) fn below(tracer: Tracer, above: TraceContext) -> Self {
        Self {
            tracer,
            above,
            current: Mutex::default(),
        }
    }

    /// The job is at this stage, perhaps as before.
    pub(crate) fn enter(&self, stage: Stage) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|(before, _)| *before == stage) {
            return;
        }
        *current = None;
        let name = serde_json::to_value(stage).unwrap_or_default();
        let name = name.as_str().unwrap_or_default();
        *current = Some((
            stage,
            self.tracer.start(name, SpanKind::Internal, Some(self.above)),
        ));
    }

    /// The job is over.
    pub(crate) fn leave(&self) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
