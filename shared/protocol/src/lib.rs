//! The words that the gateway, the workers and their clients share: ids, names, requests, events and error codes.
//!
//! This crate is pure. It must not know async, I/O, HTTP servers, git libraries or storage: it parses what comes from outside
//! into checked types (see [`request`]) and says how events and refusals look on the wire (see [`event`] and [`error`]).

pub mod answer;
pub mod callback_url;
pub mod code_operation;
pub mod error;
pub mod event;
pub mod header;
pub mod id;
pub mod lfs;
pub mod limits;
pub mod name;
pub mod outcome;
pub mod path;
pub mod repo_url;
pub mod request;
pub mod stage;

pub use callback_url::{CallbackUrl, InvalidCallbackUrl};
pub use error::{ErrorCode, Refusal};
pub use event::{Event, EventBody, Failure, Progress, Source, Unit, Usage};
pub use id::{CommitId, Generation, InvalidId, JobId, ObjectId, SessionId, TenantId, TreeId};
pub use name::{BranchName, InvalidBranchName};
pub use outcome::JobOutcome;
pub use path::{InvalidPath, RepoPath};
pub use repo_url::{InvalidRepoUrl, RepoUrl};
pub use request::{InvalidRequest, Job, JobKind};
pub use secrecy::{ExposeSecret, SecretString};
pub use stage::Stage;
