//! The requests as they come: every field unchecked, unknown and doubled ones refused by serde; and the way from there to checked ones.

use std::num::NonZeroU32;

use base64::Engine as _;
use secrecy::SecretString;
use serde::Deserialize;

use super::field::{identity, optional, parsed, secret, text};
use super::{
    ApplyChanges, Author, Changes, CloneRepository, CommitAndPush, CreateBranch, FileAction, FileChange,
    FileMode, History, InvalidRequest,
};
use crate::limits;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct WireCloneRepository {
    pub(super) session_id: String,
    pub(super) repo_url: String,
    pub(super) branch: Option<String>,
    pub(super) access_token: Option<SecretString>,
    pub(super) commit: Option<String>,
    pub(super) depth: Option<u32>,
    pub(super) unshallow: Option<bool>,
    pub(super) lfs: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct WireCreateBranch {
    pub(super) session_id: String,
    pub(super) user_request: String,
    pub(super) base_branch: Option<String>,
    pub(super) repo_url: Option<String>,
    pub(super) branch_name: Option<String>,
    pub(super) claude_credentials: Option<SecretString>,
    pub(super) github_access_token: Option<SecretString>,
    pub(super) push: Option<bool>,
    pub(super) lfs: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct WireCommitAndPush {
    pub(super) session_id: String,
    pub(super) claude_credentials: Option<SecretString>,
    pub(super) github_access_token: Option<SecretString>,
    pub(super) user_id: Option<String>,
    pub(super) message: Option<String>,
    pub(super) author: Option<WireAuthor>,
    pub(super) push: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct WireAuthor {
    pub(super) name: String,
    pub(super) email: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct WireApplyChanges {
    pub(super) session_id: String,
    pub(super) patch: Option<String>,
    pub(super) files: Option<Vec<WireFileChange>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct WireFileChange {
    pub(super) path: String,
    pub(super) content: Option<String>,
    pub(super) content_base64: Option<String>,
    pub(super) delete: Option<bool>,
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
