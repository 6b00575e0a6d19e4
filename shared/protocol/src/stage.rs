//! The stages that a job's progress passes, in the order of the wire contract.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::request::JobKind;

/// A stage of a job. Clients show it; their order within a job never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The gateway: the job waits for a free worker.
    Queued,
    /// The gateway: a worker took the job.
    Dispatched,
    /// The gateway: a worker could not take it, or was lost; another is tried.
    Retrying,
    /// Credentials and request are made ready.
    Preparing,
    /// The session's manifest is read.
    DownloadingSession,
    /// The session exists: a clone becomes a pull.
    SessionFound,
    /// The session does not exist yet.
    NewSession,
    /// Objects are received from the remote.
    Cloning,
    /// The objects are here, and checked.
    Cloned,
    /// A name for the branch is sought.
    GeneratingName,
    /// The name is found.
    NameGenerated,
    /// The branch is made in the session.
    CreatingBranch,
    /// The worktree is compared with the head.
    Analyzing,
    /// The number of changed files is known.
    ChangesDetected,
    /// A commit message is sought.
    GeneratingMessage,
    /// The commit is made.
    Committing,
    /// Changes are applied to the worktree.
    ApplyingChanges,
    /// The remote is asked to move its ref.
    Pushing,
    /// The session is saved.
    Uploading,
    /// A code operation runs.
    Executing,
}

impl Stage {
    /// The stages that a worker's job of this kind may pass, in order; a job may leave some out, and never goes back.
    pub fn order(kind: JobKind) -> &'static [Self] {
        use Stage::*;
        match kind {
            JobKind::CloneRepository => &[
                DownloadingSession,
                SessionFound,
                NewSession,
                Cloning,
                Cloned,
                Uploading,
            ],
            JobKind::CreateBranch => &[
                Preparing,
                DownloadingSession,
                GeneratingName,
                NameGenerated,
                CreatingBranch,
                Pushing,
                Uploading,
            ],
            JobKind::CommitAndPush => &[
                Preparing,
                DownloadingSession,
                Analyzing,
                ChangesDetected,
                GeneratingMessage,
                Committing,
                Pushing,
                Uploading,
            ],
            JobKind::ApplyChanges => &[Preparing, DownloadingSession, ApplyingChanges, Uploading],
            JobKind::CodeOperation => &[Preparing, DownloadingSession, Executing, Pushing, Uploading],
        }
    }
}
