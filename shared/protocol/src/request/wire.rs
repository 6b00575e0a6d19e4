//! The requests as they come: every field unchecked, unknown and doubled ones refused by serde; and the way from there to checked ones.

use std::num::NonZeroU32;

use base64::Engine as _;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use super::field::{identity, optional, parsed, secret, text};
use super::{
    ApplyChanges, Author, Changes, CloneRepository, CommitAndPush, CreateBranch, FileAction, FileChange,
    FileMode, History, InvalidRequest,
};
use crate::limits;

/// Clone a repository into a session, or pull into one that exists.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "CloneRepositoryRequest")]
pub(super) struct WireCloneRepository {
    /// The session: letters, digits, `.`, `_` and `-`, beginning with a letter or digit, without `..`.
    #[schemars(length(min = 1, max = 128))]
    pub(super) session_id: String,
    /// The repository: `https://…` (or `http://…` where private hosts are allowed), without credentials, query or fragment.
    #[schemars(length(max = 2048))]
    pub(super) repo_url: String,
    /// The branch; the remote's default branch when absent, and on a session that exists the session's own.
    #[schemars(length(max = 200))]
    pub(super) branch: Option<String>,
    /// A token (the password of user `x-access-token`), `user:password`, or `Bearer …`.
    #[schemars(with = "Option<String>", extend("format" = "password"))]
    pub(super) access_token: Option<SecretString>,
    /// Stand at this commit instead of the branch's tip.
    #[schemars(regex(pattern = "^[0-9a-f]{40}$"))]
    pub(super) commit: Option<String>,
    /// The number of commits from the tip; the service chooses when absent.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) depth: Option<u32>,
    /// All history, whatever the limits; not together with `depth`.
    pub(super) unshallow: Option<bool>,
    /// The contents of Git LFS too, from now on.
    pub(super) lfs: Option<bool>,
    /// Where the gateway says that the job has ended: an `https` address without user information and fragment.
    #[schemars(length(max = 2048), extend("format" = "uri"))]
    pub(super) callback_url: Option<String>,
}

/// Make a branch, and push it.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "CreateBranchRequest")]
pub(super) struct WireCreateBranch {
    /// The session: letters, digits, `.`, `_` and `-`, beginning with a letter or digit, without `..`.
    #[schemars(length(min = 1, max = 128))]
    pub(super) session_id: String,
    /// What the branch is for; its name is made from it.
    #[schemars(length(max = 65536))]
    pub(super) user_request: String,
    /// The branch to start from; the session's own when absent.
    #[schemars(length(max = 200))]
    pub(super) base_branch: Option<String>,
    /// The repository to clone first when the session does not exist.
    #[schemars(length(max = 2048))]
    pub(super) repo_url: Option<String>,
    /// The name, where the caller chooses it.
    #[schemars(length(max = 200))]
    pub(super) branch_name: Option<String>,
    /// The credential for the LLM.
    #[schemars(with = "Option<String>", extend("format" = "password"))]
    pub(super) claude_credentials: Option<SecretString>,
    /// The token for the git host, as `accessToken` of a clone.
    #[schemars(with = "Option<String>", extend("format" = "password"))]
    pub(super) github_access_token: Option<SecretString>,
    /// `true` when absent.
    pub(super) push: Option<bool>,
    /// The contents of Git LFS too, where this clones `repoUrl` first.
    pub(super) lfs: Option<bool>,
    /// Where the gateway says that the job has ended: an `https` address without user information and fragment.
    #[schemars(length(max = 2048), extend("format" = "uri"))]
    pub(super) callback_url: Option<String>,
}

/// Commit the worktree, and push it.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "CommitAndPushRequest")]
pub(super) struct WireCommitAndPush {
    /// The session: letters, digits, `.`, `_` and `-`, beginning with a letter or digit, without `..`.
    #[schemars(length(min = 1, max = 128))]
    pub(super) session_id: String,
    /// The credential for the LLM.
    #[schemars(with = "Option<String>", extend("format" = "password"))]
    pub(super) claude_credentials: Option<SecretString>,
    /// The token for the git host, as `accessToken` of a clone.
    #[schemars(with = "Option<String>", extend("format" = "password"))]
    pub(super) github_access_token: Option<SecretString>,
    /// The user on whose behalf the service asks; kept in the session's history.
    #[schemars(length(max = 256))]
    pub(super) user_id: Option<String>,
    /// The commit message, where the caller writes it.
    #[schemars(length(min = 1, max = 65536))]
    pub(super) message: Option<String>,
    /// Mayfly's own identity when absent.
    pub(super) author: Option<WireAuthor>,
    /// `true` when absent.
    pub(super) push: Option<bool>,
    /// Where the gateway says that the job has ended: an `https` address without user information and fragment.
    #[schemars(length(max = 2048), extend("format" = "uri"))]
    pub(super) callback_url: Option<String>,
}

/// Who wrote a change.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Author")]
pub(super) struct WireAuthor {
    #[schemars(length(min = 1, max = 256))]
    pub(super) name: String,
    #[schemars(length(min = 1, max = 256))]
    pub(super) email: String,
}

/// Change files in the worktree: exactly one of `patch` and `files`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "ApplyChangesRequest")]
pub(super) struct WireApplyChanges {
    /// The session: letters, digits, `.`, `_` and `-`, beginning with a letter or digit, without `..`.
    #[schemars(length(min = 1, max = 128))]
    pub(super) session_id: String,
    /// A unified diff, as `git diff` writes it.
    pub(super) patch: Option<String>,
    /// Whole files, each path once.
    #[schemars(length(max = 10_000))]
    pub(super) files: Option<Vec<WireFileChange>>,
    /// Where the gateway says that the job has ended: an `https` address without user information and fragment.
    #[schemars(length(max = 2048), extend("format" = "uri"))]
    pub(super) callback_url: Option<String>,
}

/// What becomes of one file: exactly one of `content`, `contentBase64` and `delete`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "FileToChange")]
pub(super) struct WireFileChange {
    /// The file, relative to the repository's root.
    #[schemars(length(min = 1, max = 4095))]
    pub(super) path: String,
    /// The whole new content; of a link, its target.
    pub(super) content: Option<String>,
    /// The same in Base64.
    pub(super) content_base64: Option<String>,
    /// `true`: the file goes.
    pub(super) delete: Option<bool>,
    /// The new mode; otherwise the file keeps its own.
    #[schemars(regex(pattern = "^(100644|100755|120000)$"))]
    pub(super) mode: Option<String>,
}

impl TryFrom<WireCloneRepository> for CloneRepository {
    type Error = InvalidRequest;
    fn try_from(wire: WireCloneRepository) -> Result<Self, InvalidRequest> {
        let history = match (wire.depth.map(NonZeroU32::new), wire.unshallow) {
            (None, None | Some(false)) => History::Chosen,
            (None, Some(true)) => History::Whole,
            (Some(None), _) => {
                return Err(InvalidRequest::new(
                    "depth",
                    "is 0; `unshallow` asks for all commits",
                ));
            }
            (Some(_), Some(true)) => {
                return Err(InvalidRequest::new(
                    "unshallow",
                    "asks for all commits, and `depth` for some; leave one out",
                ));
            }
            (Some(Some(depth)), _) if depth.get() <= limits::MAX_DEPTH => History::Depth(depth),
            (Some(Some(_)), _) => return Err(InvalidRequest::new("depth", "is more than 1000000")),
        };
        Ok(Self {
            session_id: parsed("sessionId", &wire.session_id)?,
            repo_url: parsed("repoUrl", &wire.repo_url)?,
            branch: optional("branch", wire.branch.as_deref())?,
            access_token: secret("accessToken", wire.access_token)?,
            commit: optional("commit", wire.commit.as_deref())?,
            history,
            lfs: wire.lfs.unwrap_or(false),
            callback_url: optional("callbackUrl", wire.callback_url.as_deref())?,
        })
    }
}

impl TryFrom<WireCreateBranch> for CreateBranch {
    type Error = InvalidRequest;
    fn try_from(wire: WireCreateBranch) -> Result<Self, InvalidRequest> {
        let lfs = wire.lfs.unwrap_or(false);
        if lfs && wire.repo_url.is_none() {
            return Err(InvalidRequest::new(
                "lfs",
                "is about the clone of `repoUrl`, which is not there; send both, or leave it out",
            ));
        }
        Ok(Self {
            lfs,
            session_id: parsed("sessionId", &wire.session_id)?,
            user_request: text("userRequest", wire.user_request, limits::MAX_USER_REQUEST_BYTES)?,
            base_branch: optional("baseBranch", wire.base_branch.as_deref())?,
            repo_url: optional("repoUrl", wire.repo_url.as_deref())?,
            branch_name: optional("branchName", wire.branch_name.as_deref())?,
            llm_credential: secret("claudeCredentials", wire.claude_credentials)?,
            access_token: secret("githubAccessToken", wire.github_access_token)?,
            push: wire.push.unwrap_or(true),
            callback_url: optional("callbackUrl", wire.callback_url.as_deref())?,
        })
    }
}

impl TryFrom<WireCommitAndPush> for CommitAndPush {
    type Error = InvalidRequest;
    fn try_from(wire: WireCommitAndPush) -> Result<Self, InvalidRequest> {
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
            session_id: parsed("sessionId", &wire.session_id)?,
            llm_credential: secret("claudeCredentials", wire.claude_credentials)?,
            access_token: secret("githubAccessToken", wire.github_access_token)?,
            user_id,
            message,
            author,
            push: wire.push.unwrap_or(true),
            callback_url: optional("callbackUrl", wire.callback_url.as_deref())?,
        })
    }
}

impl TryFrom<WireAuthor> for Author {
    type Error = InvalidRequest;
    fn try_from(wire: WireAuthor) -> Result<Self, InvalidRequest> {
        Ok(Self {
            name: identity("author.name", wire.name)?,
            email: identity("author.email", wire.email)?,
        })
    }
}

impl TryFrom<WireApplyChanges> for ApplyChanges {
    type Error = InvalidRequest;
    fn try_from(wire: WireApplyChanges) -> Result<Self, InvalidRequest> {
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
            session_id: parsed("sessionId", &wire.session_id)?,
            changes,
            callback_url: optional("callbackUrl", wire.callback_url.as_deref())?,
        })
    }
}

fn file_changes(files: Vec<WireFileChange>) -> Result<Vec<FileChange>, InvalidRequest> {
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

fn file_change(name: &str, wire: WireFileChange) -> Result<FileChange, InvalidRequest> {
    let path = parsed(&format!("{name}.path"), &wire.path)?;
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
