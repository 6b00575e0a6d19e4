//! Requests for jobs: the wire form is parsed at the edge, and only the checked form goes further.

pub(crate) mod field;
mod wire;

use std::num::NonZeroU32;

use secrecy::SecretString;
use serde::Deserialize;

use crate::callback_url::CallbackUrl;
use crate::code_operation::CodeOperation;
use crate::error::{ErrorCode, Refusal};
use crate::id::{CommitId, SessionId};
use crate::name::BranchName;
use crate::path::RepoPath;
use crate::repo_url::RepoUrl;

/// The kinds of job, each with its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// `POST /clone-repository`
    CloneRepository,
    /// `POST /create-branch`
    CreateBranch,
    /// `POST /commit-and-push`
    CommitAndPush,
    /// `POST /apply-changes`
    ApplyChanges,
    /// `POST /code-operation`
    CodeOperation,
}

/// The fields of requests that hold credentials: all of them, whatever the kind of job.
pub const CREDENTIAL_FIELDS: &[&str] = &["accessToken", "githubAccessToken", "claudeCredentials"];

impl JobKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::CloneRepository,
        Self::CreateBranch,
        Self::CommitAndPush,
        Self::ApplyChanges,
        Self::CodeOperation,
    ];

    /// The path that takes jobs of this kind.
    pub const fn path(self) -> &'static str {
        match self {
            Self::CloneRepository => "/clone-repository",
            Self::CreateBranch => "/create-branch",
            Self::CommitAndPush => "/commit-and-push",
            Self::ApplyChanges => "/apply-changes",
            Self::CodeOperation => "/code-operation",
        }
    }

    /// The JSON schema of the request for a job of this kind.
    pub fn request_schema(self, generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        match self {
            Self::CloneRepository => generator.subschema_for::<wire::WireCloneRepository>(),
            Self::CreateBranch => generator.subschema_for::<wire::WireCreateBranch>(),
            Self::CommitAndPush => generator.subschema_for::<wire::WireCommitAndPush>(),
            Self::ApplyChanges => generator.subschema_for::<wire::WireApplyChanges>(),
            Self::CodeOperation => generator.subschema_for::<crate::code_operation::Wire>(),
        }
    }

    /// The name of the kind, as in a manifest's history.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CloneRepository => "clone_repository",
            Self::CreateBranch => "create_branch",
            Self::CommitAndPush => "commit_and_push",
            Self::ApplyChanges => "apply_changes",
            Self::CodeOperation => "code_operation",
        }
    }
}

/// A field that is missing, malformed or against its rules. It never repeats the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {reason}")]
pub struct InvalidRequest {
    /// The field, as in `files[2].path`; empty where the body as a whole is wrong.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl InvalidRequest {
    pub(crate) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

impl From<InvalidRequest> for Refusal {
    fn from(invalid: InvalidRequest) -> Self {
        if invalid.field.is_empty() {
            return Self::new(ErrorCode::InvalidRequest, format!("the body {}", invalid.reason));
        }
        Self::new(ErrorCode::InvalidRequest, invalid.to_string()).with_field(invalid.field)
    }
}

/// A checked request for a job.
#[derive(Debug, Clone)]
pub enum Job {
    /// Clone a repository into a session, or pull into one that exists.
    CloneRepository(CloneRepository),
    /// Make a branch, and push it.
    CreateBranch(CreateBranch),
    /// Commit the worktree, and push it.
    CommitAndPush(CommitAndPush),
    /// Change files in the worktree.
    ApplyChanges(ApplyChanges),
    /// Let an LLM change the code.
    CodeOperation(Box<CodeOperation>),
}

impl Job {
    /// Parses and checks a JSON body.
    pub fn parse(kind: JobKind, body: &[u8]) -> Result<Self, InvalidRequest> {
        Ok(match kind {
            JobKind::CloneRepository => {
                Self::CloneRepository(field::read::<wire::WireCloneRepository>(body)?.try_into()?)
            }
            JobKind::CreateBranch => {
                Self::CreateBranch(field::read::<wire::WireCreateBranch>(body)?.try_into()?)
            }
            JobKind::CommitAndPush => {
                Self::CommitAndPush(field::read::<wire::WireCommitAndPush>(body)?.try_into()?)
            }
            JobKind::ApplyChanges => {
                Self::ApplyChanges(field::read::<wire::WireApplyChanges>(body)?.try_into()?)
            }
            JobKind::CodeOperation => Self::CodeOperation(Box::new(CodeOperation::from_json(body)?)),
        })
    }

    /// The kind of the job.
    pub fn kind(&self) -> JobKind {
        match self {
            Self::CloneRepository(_) => JobKind::CloneRepository,
            Self::CreateBranch(_) => JobKind::CreateBranch,
            Self::CommitAndPush(_) => JobKind::CommitAndPush,
            Self::ApplyChanges(_) => JobKind::ApplyChanges,
            Self::CodeOperation(_) => JobKind::CodeOperation,
        }
    }

    /// Where the gateway says that the job has ended.
    pub fn callback_url(&self) -> Option<&CallbackUrl> {
        match self {
            Self::CloneRepository(job) => job.callback_url.as_ref(),
            Self::CreateBranch(job) => job.callback_url.as_ref(),
            Self::CommitAndPush(job) => job.callback_url.as_ref(),
            Self::ApplyChanges(job) => job.callback_url.as_ref(),
            Self::CodeOperation(job) => job.callback_url.as_ref(),
        }
    }

    /// The session that the job works in.
    pub fn session_id(&self) -> &SessionId {
        match self {
            Self::CloneRepository(job) => &job.session_id,
            Self::CreateBranch(job) => &job.session_id,
            Self::CommitAndPush(job) => &job.session_id,
            Self::ApplyChanges(job) => &job.session_id,
            Self::CodeOperation(job) => &job.session_id,
        }
    }
}

/// Clone a repository into a session, or pull into one that exists.
#[derive(Debug, Clone)]
pub struct CloneRepository {
    /// The session to make or to bring up to date.
    pub session_id: SessionId,
    /// The repository.
    pub repo_url: RepoUrl,
    /// The branch; otherwise the session's, or the remote's default.
    pub branch: Option<BranchName>,
    /// The token for the remote.
    pub access_token: Option<SecretString>,
    /// The commit to stand at, instead of the branch's tip.
    pub commit: Option<CommitId>,
    /// How much of the history.
    pub history: History,
    /// Whether the contents of Git LFS are fetched too; a session that has them goes on having them.
    pub lfs: bool,
    /// Where the gateway says that the job has ended.
    pub callback_url: Option<CallbackUrl>,
}

/// How much of a branch's history a session is to have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum History {
    /// The service chooses; a session that exists keeps what it has.
    #[default]
    Chosen,
    /// So many commits from the tip, in git's words `--depth`.
    Depth(NonZeroU32),
    /// All of it, in git's words `--unshallow`.
    Whole,
}

/// Make a branch in a session, named by the caller, an LLM or a rule, and push it.
#[derive(Debug, Clone)]
pub struct CreateBranch {
    /// The session.
    pub session_id: SessionId,
    /// What the branch is for, in the user's words; the name is made from it.
    pub user_request: String,
    /// The branch to start from; the session's own when absent.
    pub base_branch: Option<BranchName>,
    /// The repository to clone first when the session does not exist.
    pub repo_url: Option<RepoUrl>,
    /// Whether that clone fetches the contents of Git LFS too.
    pub lfs: bool,
    /// The name, when the caller chooses it.
    pub branch_name: Option<BranchName>,
    /// The credential for the LLM.
    pub llm_credential: Option<SecretString>,
    /// The token for the remote.
    pub access_token: Option<SecretString>,
    /// Whether to push the branch.
    pub push: bool,
    /// Where the gateway says that the job has ended.
    pub callback_url: Option<CallbackUrl>,
}

/// Commit a session's worktree and push the commit.
#[derive(Debug, Clone)]
pub struct CommitAndPush {
    /// The session.
    pub session_id: SessionId,
    /// The credential for the LLM.
    pub llm_credential: Option<SecretString>,
    /// The token for the remote.
    pub access_token: Option<SecretString>,
    /// The user on whose behalf the service asks; kept in the session's history.
    pub user_id: Option<String>,
    /// The message, when the caller chooses it.
    pub message: Option<String>,
    /// The author; Mayfly's own identity when absent.
    pub author: Option<Author>,
    /// Whether to push the commit.
    pub push: bool,
    /// Where the gateway says that the job has ended.
    pub callback_url: Option<CallbackUrl>,
}

/// Who wrote a change, as git records it: no control characters, no `<` or `>`, at most 256 bytes each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The name.
    pub name: String,
    /// The e-mail address.
    pub email: String,
}

/// Change files in a session's worktree.
#[derive(Debug, Clone)]
pub struct ApplyChanges {
    /// The session.
    pub session_id: SessionId,
    /// What to change.
    pub changes: Changes,
    /// Where the gateway says that the job has ended.
    pub callback_url: Option<CallbackUrl>,
}

/// The two forms in which changes come.
#[derive(Debug, Clone)]
pub enum Changes {
    /// A unified diff, as `git diff` writes it.
    Patch(String),
    /// Whole files, each path once.
    Files(Vec<FileChange>),
}

/// What becomes of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// The file.
    pub path: RepoPath,
    /// Its new content, or its end.
    pub action: FileAction,
}

/// What is done to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileAction {
    /// The file gets this content, and this mode where one is given; otherwise it keeps its own.
    Write {
        /// The whole new content; of a link, its target.
        content: Vec<u8>,
        /// The new mode.
        mode: Option<FileMode>,
    },
    /// The file goes.
    Delete,
}

/// The modes that a file can have in git.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileMode {
    /// `100644`
    Regular,
    /// `100755`
    Executable,
    /// `120000`
    Symlink,
}

impl FileMode {
    /// The mode as a number, as in a tree.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Regular => 0o100_644,
            Self::Executable => 0o100_755,
            Self::Symlink => 0o120_000,
        }
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
