//! Branch names and commit messages: by an LLM where there is one, and otherwise by rule.
//!
//! Nothing here fails a job. An LLM that is not configured, does not answer, or answers with something that is not a name leads to the
//! name that the rules give, which is the same for the same input. What the LLM reads (a user's text, a diff) is data that may try to
//! give orders, so its answer is held to the same rules whatever it says.
//!
//! This crate must not know git libraries, sessions, storage or events: it gets texts and gives texts.

pub mod change;
pub mod config;
pub mod prompt;

mod answer;
mod branch;
mod commit;
mod llm;
mod named;
mod namer;
mod plain;
mod tokens;

pub use change::{ChangeSummary, ChangedFile, FileChangeKind};
pub use config::{LlmConfig, Provider};
pub use named::{NameSource, Named};
pub use namer::{BranchRequest, Namer};
pub use tokens::LlmUsage;
