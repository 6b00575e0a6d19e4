//! Sessions as JSON.

use std::collections::HashSet;

use mayfly_protocol::event::timestamp;
use mayfly_protocol::{CommitId, Generation, Refusal, SessionId, TreeId};
use mayfly_session::{Deleted, HistoryEntry, LoadError, Manifest, PackEntry, Session, SessionPage};
use schemars::JsonSchema;
use serde::Serialize;

use crate::sessions::refusal;

/// One page of sessions.
#[derive(Serialize, JsonSchema)]
pub(in crate::routes) struct SessionList {
    sessions: Vec<Listed>,
    /// What `after` is for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<SessionId>,
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum Listed {
    Readable(Box<SessionSummary>),
    Unreadable(Unreadable),
}

/// A session that is there and cannot be read.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Unreadable {
    session_id: SessionId,
    #[serde(flatten)]
    refusal: Refusal,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionSummary {
    session_id: SessionId,
    generation: Generation,
    repo_url: String,
    branch: String,
    head_sha: Option<CommitId>,
    /// The newest commit below the head that the remote is known to have.
    upstream_sha: Option<CommitId>,
    has_unpushed_commits: bool,
    worktree: TreeId,
    shallow: bool,
    pinned: bool,
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    #[schemars(extend("format" = "date-time"))]
    updated_at: String,
    pack_count: usize,
    pack_bytes: u64,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct SessionDetail<'a> {
    #[serde(flatten)]
    summary: SessionSummary,
    depth: Option<u32>,
    fetched_because: &'a str,
    packs: &'a [PackEntry],
    history: &'a [HistoryEntry],
    #[serde(skip_serializing_if = "Option::is_none")]
    push_under_way: Option<PushUnderWay<'a>>,
}

/// A push that was begun, and of which it is not known yet whether it was done.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PushUnderWay<'a> {
    job_id: &'a str,
    branch: &'a str,
    commit_sha: CommitId,
}

/// Whether a session is kept however long it is not used.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct Pinned {
    pub(super) session_id: SessionId,
    pub(super) pinned: bool,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct Removed {
    session_id: SessionId,
    deleted: bool,
    objects: usize,
    bytes: u64,
}

impl SessionList {
    /// A page, with those of its sessions that are pinned.
    pub(super) fn new(page: SessionPage, pinned: &HashSet<SessionId>) -> Self {
        let sessions = page.sessions.into_iter();
        Self {
            next: page.next,
            sessions: sessions.map(|session| listed(session, pinned)).collect(),
        }
    }
}

fn listed(
    (session_id, session): (SessionId, Result<Session, LoadError>),
    pinned: &HashSet<SessionId>,
) -> Listed {
    match session {
        Ok(session) => {
            let is_pinned = pinned.contains(&session_id);
            Listed::Readable(Box::new(SessionSummary::new(&session.manifest, is_pinned)))
        }
        Err(error) => Listed::Unreadable(Unreadable {
            session_id,
            refusal: refusal(&error),
        }),
    }
}

impl SessionSummary {
    fn new(manifest: &Manifest, pinned: bool) -> Self {
        let sizes = manifest.packs.iter().map(|pack| pack.pack_bytes);
        Self {
            session_id: manifest.session_id.clone(),
            generation: manifest.generation,
            repo_url: manifest.repo_url.to_string(),
            branch: manifest.branch.to_string(),
            head_sha: manifest.head,
            upstream_sha: manifest.upstream,
            has_unpushed_commits: manifest.has_unpushed_head(),
            worktree: manifest.worktree,
            shallow: !manifest.shallow.is_empty(),
            pinned,
            created_at: timestamp::format(manifest.created_at),
            updated_at: timestamp::format(manifest.updated_at),
            pack_count: manifest.packs.len(),
            pack_bytes: sizes.fold(0, u64::saturating_add),
        }
    }
}

impl<'a> SessionDetail<'a> {
    pub(super) fn new(manifest: &'a Manifest, pinned: bool) -> Self {
        Self {
            summary: SessionSummary::new(manifest, pinned),
            depth: manifest.fetched.depth,
            fetched_because: &manifest.fetched.reason,
            packs: &manifest.packs,
            history: &manifest.history,
            push_under_way: manifest.intent.as_ref().map(|intent| PushUnderWay {
                job_id: intent.job_id.as_str(),
                branch: intent.branch.as_str(),
                commit_sha: intent.commit,
            }),
        }
    }
}

impl Removed {
    pub(super) fn new(session_id: SessionId, deleted: Deleted) -> Self {
        Self {
            session_id,
            deleted: true,
            objects: deleted.objects,
            bytes: deleted.bytes,
        }
    }
}
