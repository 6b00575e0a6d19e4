//! One span: a name, a time, and what is known of it; it ends when it is dropped.

use std::time::SystemTime;

use super::context::TraceContext;
use super::export::Tracer;

/// What a span is to the one above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Work for whoever asked from outside.
    Server,
    /// A request to another process.
    Client,
    /// A part of the work.
    Internal,
}

/// A span that has begun; dropped, it ends, and is exported where that is configured.
#[derive(Debug)]
pub struct Span {
    pub(super) tracer: Tracer,
    pub(super) context: TraceContext,
    /// The span above; 0 for none.
    pub(super) parent: u64,
    pub(super) name: String,
    pub(super) kind: SpanKind,
    pub(super) began: SystemTime,
    pub(super) attributes: Vec<(&'static str, String)>,
    pub(super) error: Option<String>,
}

impl Span {
    /// What work below this span belongs to, here or in another process.
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// A part of this span's work.
    pub fn child(&self, name: impl Into<String>, kind: SpanKind) -> Self {
        self.tracer.start(name, kind, Some(self.context))
    }

    /// Notes a fact, which must hold no secret.
    pub fn set(&mut self, name: &'static str, value: impl Into<String>) {
        if self.tracer.is_on() {
            self.attributes.push((name, value.into()));
        }
    }

    /// Notes that the work failed; the text must hold no secret.
    pub fn fail(&mut self, code: impl Into<String>) {
        self.error = Some(code.into());
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.tracer.clone().end(self);
    }
}
