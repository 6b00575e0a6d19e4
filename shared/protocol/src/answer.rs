//! What a job that is done says: `data` of its `completed` event, a type for each kind of job.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;

use crate::id::{CommitId, Generation, SessionId, TreeId};
use crate::name::BranchName;
use crate::repo_url::RepoUrl;
use crate::request::JobKind;

/// What a clone, or a pull, came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClonedRepository {
    /// The session.
    pub session_id: SessionId,
    /// Its generation.
    pub generation: Generation,
    /// The repository.
    #[schemars(with = "String")]
    pub repo_url: RepoUrl,
    /// The branch that the session stands on.
    #[schemars(with = "String")]
    pub branch: BranchName,
    /// The commit that it stands on; `null` in a repository without commits.
    pub head_sha: Option<CommitId>,
    /// Whether the session existed, and was pulled into.
    pub pulled: bool,
    /// Whether some of the history was left out.
    pub shallow: bool,
    /// The depth of history; `null` for all of it.
    pub depth: Option<u32>,
    /// Always `null`.
    pub filter: Option<String>,
    /// Who or what decided how much of the history came.
    pub fetched_because: String,
    /// Objects that came.
    pub objects: u32,
    /// Bytes that came.
    pub received_bytes: u64,
    /// What was fetched of Git LFS, in a session that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lfs: Option<LfsMoved>,
}

/// The branch that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedBranch {
    /// The session.
    pub session_id: SessionId,
    /// Its generation.
    pub generation: Generation,
    /// The branch.
    #[schemars(with = "String")]
    pub branch: BranchName,
    /// The branch that it begins at.
    #[schemars(with = "String")]
    pub base_branch: BranchName,
    /// The commit that it stands on; `null` in a repository without commits.
    pub head_sha: Option<CommitId>,
    /// Whether the remote has it.
    pub pushed: bool,
    /// Who chose its name.
    #[schemars(extend("enum" = ["caller", "llm", "heuristic"]))]
    pub name_source: String,
}

/// The commit that was made, if there was anything to commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Committed {
    /// The session.
    pub session_id: SessionId,
    /// Its generation.
    pub generation: Generation,
    /// The branch.
    #[schemars(with = "String")]
    pub branch: BranchName,
    /// Whether there was anything to commit.
    pub committed: bool,
    /// The commit that the session stands on.
    pub commit_sha: Option<CommitId>,
    /// The message of the commit; `null` without one.
    pub message: Option<String>,
    /// Who wrote it; `null` without one.
    #[schemars(extend("enum" = ["caller", "llm", "heuristic", null]))]
    pub message_source: Option<String>,
    /// Files that changed; one that only moved is one.
    pub files_changed: usize,
    /// Lines added in all files that could be compared.
    pub insertions: u64,
    /// Lines removed in all files that could be compared.
    pub deletions: u64,
    /// Whether the remote has what the session stands on.
    pub pushed: bool,
    /// What was sent to Git LFS, in a session that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lfs: Option<LfsMoved>,
    /// What the ignore rules kept out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignored: Option<Ignored>,
}

/// The changes that were made in the worktree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedChanges {
    /// The session.
    pub session_id: SessionId,
    /// Its generation.
    pub generation: Generation,
    /// Files that are not as they were; a renamed one counts once.
    pub files_changed: usize,
    /// The tree that is the worktree now.
    pub worktree: TreeId,
    /// What the ignore rules kept out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignored: Option<Ignored>,
}

/// Contents of Git LFS that were moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct LfsMoved {
    /// How many.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Files that were left out since the repository's rules exclude them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Ignored {
    /// How many.
    pub count: usize,
    /// The first of them; bytes that are not UTF-8 are escaped.
    pub paths: Vec<String>,
}

/// What any job says, for those who do not know its kind.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum JobAnswer {
    /// Of a clone.
    ClonedRepository(ClonedRepository),
    /// Of a new branch.
    CreatedBranch(CreatedBranch),
    /// Of a commit.
    Committed(Committed),
    /// Of changes.
    AppliedChanges(AppliedChanges),
}

impl JobKind {
    /// The JSON schema of what a job of this kind says when it is done; `None` where nobody can do it.
    pub fn answer_schema(self, generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(match self {
            Self::CloneRepository => generator.subschema_for::<ClonedRepository>(),
            Self::CreateBranch => generator.subschema_for::<CreatedBranch>(),
            Self::CommitAndPush => generator.subschema_for::<Committed>(),
            Self::ApplyChanges => generator.subschema_for::<AppliedChanges>(),
            Self::CodeOperation => return None,
        })
    }
}
