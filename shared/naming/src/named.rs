//! A name together with where it came from.

use serde::{Deserialize, Serialize};

/// Where a name or a message came from; `nameSource` and `messageSource` on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameSource {
    /// The caller gave it.
    Caller,
    /// An LLM wrote it.
    Llm,
    /// It was made by rule.
    Heuristic,
}

impl NameSource {
    /// The source as it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Llm => "llm",
            Self::Heuristic => "heuristic",
        }
    }
}

/// A name or a message, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named<T> {
    /// The name or the message.
    pub value: T,
    /// Where it came from.
    pub source: NameSource,
    /// Why no LLM wrote it: one line for a log or a progress event, without credentials and without words of the LLM's server.
    pub fallback_reason: Option<String>,
}

impl<T> Named<T> {
    /// What the caller gave.
    pub fn caller(value: T) -> Self {
        Self {
            value,
            source: NameSource::Caller,
            fallback_reason: None,
        }
    }

    pub(crate) fn llm(value: T) -> Self {
        Self {
            value,
            source: NameSource::Llm,
            fallback_reason: None,
        }
    }

    pub(crate) fn heuristic(value: T, reason: String) -> Self {
        Self {
            value,
            source: NameSource::Heuristic,
            fallback_reason: Some(reason),
        }
    }
}
