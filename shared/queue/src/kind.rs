//! The kinds of worker, each of which has a queue of its own.

use std::ops::{Index, IndexMut};

use mayfly_protocol::JobKind;

/// The kinds of worker.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, schemars::JsonSchema,
)]
pub enum WorkerKind {
    /// Does the git jobs.
    #[serde(rename = "git-worker")]
    Git,
    /// Does code operations.
    #[serde(rename = "code-worker")]
    Code,
}

impl WorkerKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[Self::Git, Self::Code];

    /// The name, as in an event's `source`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Git => "git-worker",
            Self::Code => "code-worker",
        }
    }

    /// The setting that says where workers of this kind are.
    pub const fn setting(self) -> &'static str {
        match self {
            Self::Git => "GIT_WORKERS",
            Self::Code => "CODE_WORKERS",
        }
    }
}

impl From<JobKind> for WorkerKind {
    fn from(kind: JobKind) -> Self {
        match kind {
            JobKind::CloneRepository
            | JobKind::CreateBranch
            | JobKind::CommitAndPush
            | JobKind::ApplyChanges => Self::Git,
            JobKind::CodeOperation => Self::Code,
        }
    }
}

impl std::fmt::Display for WorkerKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One value for each kind of worker.
#[derive(Debug, Clone, Default)]
pub struct PerKind<T> {
    git: T,
    code: T,
}

impl<T> PerKind<T> {
    /// Makes the value of each kind.
    pub fn new(mut make: impl FnMut(WorkerKind) -> T) -> Self {
        Self {
            git: make(WorkerKind::Git),
            code: make(WorkerKind::Code),
        }
    }

    /// The values of all kinds.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        WorkerKind::ALL.iter().map(|kind| &self[*kind])
    }
}

impl<T> Index<WorkerKind> for PerKind<T> {
    type Output = T;
    fn index(&self, kind: WorkerKind) -> &T {
        match kind {
            WorkerKind::Git => &self.git,
            WorkerKind::Code => &self.code,
        }
    }
}

impl<T> IndexMut<WorkerKind> for PerKind<T> {
    fn index_mut(&mut self, kind: WorkerKind) -> &mut T {
        match kind {
            WorkerKind::Git => &mut self.git,
            WorkerKind::Code => &mut self.code,
        }
    }
}
