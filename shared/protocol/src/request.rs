//! Requests for jobs: the wire form is parsed at the edge, and only the checked form goes further.

use std::num::NonZeroU32;

use base64::Engine as _;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::code_operation::CodeOperation;
use crate::error::{ErrorCode, Refusal};
use crate::id::{CommitId, SessionId};
use crate::limits;
use crate::name::BranchName;
use crate::path::RepoPath;
use crate::repo_url::RepoUrl;

/// The kinds of job, each with its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, Deserialize)]
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
                Self::CloneRepository(read::<wire::CloneRepository>(body)?.try_into()?)
            }
            JobKind::CreateBranch => Self::CreateBranch(read::<wire::CreateBranch>(body)?.try_into()?),
            JobKind::CommitAndPush => Self::CommitAndPush(read::<wire::CommitAndPush>(body)?.try_into()?),
            JobKind::ApplyChanges => Self::ApplyChanges(read::<wire::ApplyChanges>(body)?.try_into()?),
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
    /// The number of commits to fetch from the tip; all of them when absent.
    pub depth: Option<NonZeroU32>,
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
    /// The name, when the caller chooses it.
    pub branch_name: Option<BranchName>,
    /// The credential for the LLM.
    pub llm_credential: Option<SecretString>,
    /// The token for the remote.
    pub access_token: Option<SecretString>,
    /// Whether to push the branch.
    pub push: bool,
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

mod wire {
    //! The requests as they come: every field unchecked, unknown and doubled ones refused by serde.
    use super::{Deserialize, SecretString};

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub(super) struct CloneRepository {
        pub(super) session_id: String,
        pub(super) repo_url: String,
        pub(super) branch: Option<String>,
        pub(super) access_token: Option<SecretString>,
        pub(super) commit: Option<String>,
        pub(super) depth: Option<u32>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub(super) struct CreateBranch {
        pub(super) session_id: String,
        pub(super) user_request: String,
        pub(super) base_branch: Option<String>,
        pub(super) repo_url: Option<String>,
        pub(super) branch_name: Option<String>,
        pub(super) claude_credentials: Option<SecretString>,
        pub(super) github_access_token: Option<SecretString>,
        pub(super) push: Option<bool>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub(super) struct CommitAndPush {
        pub(super) session_id: String,
        pub(super) claude_credentials: Option<SecretString>,
        pub(super) github_access_token: Option<SecretString>,
        pub(super) user_id: Option<String>,
        pub(super) message: Option<String>,
        pub(super) author: Option<Author>,
        pub(super) push: Option<bool>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub(super) struct Author {
        pub(super) name: String,
        pub(super) email: String,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub(super) struct ApplyChanges {
        pub(super) session_id: String,
        pub(super) patch: Option<String>,
        pub(super) files: Option<Vec<FileChange>>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub(super) struct FileChange {
        pub(super) path: String,
        pub(super) content: Option<String>,
        pub(super) content_base64: Option<String>,
        pub(super) delete: Option<bool>,
        pub(super) mode: Option<String>,
    }
}

/// Reads JSON; serde's own words name the field and the place, and never the value of a secret.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, InvalidRequest> {
    serde_json::from_slice(body).map_err(|error| {
        let kind = match error.classify() {
            serde_json::error::Category::Data => "does not fit the request",
            _ => "is not JSON",
        };
        InvalidRequest::new(
            named_field(&error).unwrap_or_default(),
            format!("{kind} (line {}, column {})", error.line(), error.column()),
        )
    })
}

/// The field that serde names between backquotes, when it is one of a missing, unknown or doubled field.
fn named_field(error: &serde_json::Error) -> Option<String> {
    let text = error.to_string();
    let rest = ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))?;
    let name = rest.split('`').next()?;
    let is_plain = name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_plain.then(|| name.to_owned())
}

/// Parses one field by the rules of its type.
pub(crate) fn field<T>(name: &str, text: &str) -> Result<T, InvalidRequest>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error: T::Err| InvalidRequest::new(name, error.to_string()))
}

pub(crate) fn optional<T>(name: &str, text: Option<&str>) -> Result<Option<T>, InvalidRequest>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.map(|text| field(name, text)).transpose()
}

/// Checks a credential: at most 16 KiB of printable ASCII, so that it fits one header line. An empty one counts as absent.
pub(crate) fn secret(
    name: &str,
    value: Option<SecretString>,
) -> Result<Option<SecretString>, InvalidRequest> {
    let Some(value) = value.filter(|value| !value.expose_secret().is_empty()) else {
        return Ok(None);
    };
    let text = value.expose_secret();
    if text.len() > limits::MAX_SECRET_BYTES {
        return Err(InvalidRequest::new(name, "is longer than 16 KiB"));
    }
    if !text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        return Err(InvalidRequest::new(
            name,
            "has characters that no HTTP header may carry",
        ));
    }
    Ok(Some(value))
}

pub(crate) fn text(name: &str, value: String, max_bytes: usize) -> Result<String, InvalidRequest> {
    if value.len() > max_bytes {
        return Err(InvalidRequest::new(
            name,
            format!("is longer than {max_bytes} bytes"),
        ));
    }
    if value.contains('\0') {
        return Err(InvalidRequest::new(name, "has a NUL character"));
    }
    Ok(value)
}

impl TryFrom<wire::CloneRepository> for CloneRepository {
    type Error = InvalidRequest;
    fn try_from(wire: wire::CloneRepository) -> Result<Self, InvalidRequest> {
        let depth = match wire.depth {
            None => None,
            Some(depth) if depth <= limits::MAX_DEPTH => {
                Some(NonZeroU32::new(depth).ok_or_else(|| InvalidRequest::new("depth", "is 0"))?)
            }
            Some(_) => return Err(InvalidRequest::new("depth", "is more than 1000000")),
        };
        Ok(Self {
            session_id: field("sessionId", &wire.session_id)?,
            repo_url: field("repoUrl", &wire.repo_url)?,
            branch: optional("branch", wire.branch.as_deref())?,
            access_token: secret("accessToken", wire.access_token)?,
            commit: optional("commit", wire.commit.as_deref())?,
            depth,
        })
    }
}

impl TryFrom<wire::CreateBranch> for CreateBranch {
    type Error = InvalidRequest;
    fn try_from(wire: wire::CreateBranch) -> Result<Self, InvalidRequest> {
        Ok(Self {
            session_id: field("sessionId", &wire.session_id)?,
            user_request: text("userRequest", wire.user_request, limits::MAX_USER_REQUEST_BYTES)?,
            base_branch: optional("baseBranch", wire.base_branch.as_deref())?,
            repo_url: optional("repoUrl", wire.repo_url.as_deref())?,
            branch_name: optional("branchName", wire.branch_name.as_deref())?,
            llm_credential: secret("claudeCredentials", wire.claude_credentials)?,
            access_token: secret("githubAccessToken", wire.github_access_token)?,
            push: wire.push.unwrap_or(true),
        })
    }
}

impl TryFrom<wire::CommitAndPush> for CommitAndPush {
    type Error = InvalidRequest;
    fn try_from(wire: wire::CommitAndPush) -> Result<Self, InvalidRequest> {
        let user_id = wire.user_id.map(|id| identity("userId", id)).transpose()?;
        let message = wire
            .message
            .map(|message| text("message", message, limits::MAX_MESSAGE_BYTES))
            .transpose()?;
        if message.as_ref().is_some_and(|message| message.trim().is_empty()) {
            return Err(InvalidRequest::new(
                "message",
                "is empty; leave it out to have one written",
            ));
        }
        let author = wire.author.map(Author::try_from).transpose()?;
        Ok(Self {
            session_id: field("sessionId", &wire.session_id)?,
            llm_credential: secret("claudeCredentials", wire.claude_credentials)?,
            access_token: secret("githubAccessToken", wire.github_access_token)?,
            user_id,
            message,
            author,
            push: wire.push.unwrap_or(true),
        })
    }
}

impl TryFrom<wire::Author> for Author {
    type Error = InvalidRequest;
    fn try_from(wire: wire::Author) -> Result<Self, InvalidRequest> {
        Ok(Self {
            name: identity("author.name", wire.name)?,
            email: identity("author.email", wire.email)?,
        })
    }
}

/// Checks what goes into the header of a commit, where `<`, `>` and line ends have a meaning.
fn identity(name: &str, value: String) -> Result<String, InvalidRequest> {
    let value = text(name, value, limits::MAX_IDENTITY_BYTES)?;
    if value.trim().is_empty() {
        return Err(InvalidRequest::new(name, "is empty"));
    }
    if value.chars().any(|c| c.is_control() || c == '<' || c == '>') {
        return Err(InvalidRequest::new(name, "has a control character, `<` or `>`"));
    }
    Ok(value)
}

impl TryFrom<wire::ApplyChanges> for ApplyChanges {
    type Error = InvalidRequest;
    fn try_from(wire: wire::ApplyChanges) -> Result<Self, InvalidRequest> {
        let changes = match (wire.patch, wire.files) {
            (Some(patch), None) if patch.trim().is_empty() => {
                return Err(InvalidRequest::new("patch", "is empty"));
            }
            (Some(patch), None) => Changes::Patch(patch),
            (None, Some(files)) => Changes::Files(file_changes(files)?),
            _ => {
                return Err(InvalidRequest::new(
                    "",
                    "needs exactly one of `patch` and `files`",
                ));
            }
        };
        Ok(Self {
            session_id: field("sessionId", &wire.session_id)?,
            changes,
        })
    }
}

fn file_changes(files: Vec<wire::FileChange>) -> Result<Vec<FileChange>, InvalidRequest> {
    if files.is_empty() || files.len() > limits::MAX_CHANGED_FILES {
        return Err(InvalidRequest::new("files", "has no entry, or more than 10000"));
    }
    let mut seen = std::collections::HashSet::new();
    let mut changes = Vec::with_capacity(files.len());
    for (index, file) in files.into_iter().enumerate() {
        let change = file_change(&format!("files[{index}]"), file)?;
        if !seen.insert(change.path.clone()) {
            return Err(InvalidRequest::new(
                format!("files[{index}].path"),
                "is listed twice",
            ));
        }
        changes.push(change);
    }
    Ok(changes)
}

fn file_change(name: &str, wire: wire::FileChange) -> Result<FileChange, InvalidRequest> {
    let path = field(&format!("{name}.path"), &wire.path)?;
    let mode = wire
        .mode
        .map(|mode| file_mode(&format!("{name}.mode"), &mode))
        .transpose()?;
    let action = match (wire.content, wire.content_base64, wire.delete.unwrap_or(false)) {
        (Some(content), None, false) => FileAction::Write {
            content: content.into_bytes(),
            mode,
        },
        (None, Some(encoded), false) => {
            let content = base64::engine::general_purpose::STANDARD
                .decode(encoded.as_bytes())
                .map_err(|_| {
                    InvalidRequest::new(
                        format!("{name}.contentBase64"),
                        "is not base64 (RFC 4648, padded)",
                    )
                })?;
            FileAction::Write { content, mode }
        }
        (None, None, true) if mode.is_none() => FileAction::Delete,
        _ => {
            return Err(InvalidRequest::new(
                name,
                "needs exactly one of `content`, `contentBase64` and `delete: true`; `mode` goes with content only",
            ));
        }
    };
    Ok(FileChange { path, action })
}

fn file_mode(name: &str, text: &str) -> Result<FileMode, InvalidRequest> {
    match text {
        "100644" => Ok(FileMode::Regular),
        "100755" => Ok(FileMode::Executable),
        "120000" => Ok(FileMode::Symlink),
        _ => Err(InvalidRequest::new(
            name,
            "is not one of `100644`, `100755` and `120000`",
        )),
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
