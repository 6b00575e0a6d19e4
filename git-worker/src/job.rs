//! The jobs, a file each, and what their beginnings share.

pub(crate) mod apply_changes;
pub(crate) mod clone_repository;
pub(crate) mod commit_and_push;
pub(crate) mod create_branch;

use mayfly_git::remote::{Credential, Remote};
use mayfly_protocol::{ErrorCode, RepoUrl, SecretString, SessionId};
use mayfly_session::{Session, SessionStore};
use serde::Serialize;
use serde_json::Value;

use crate::failure::JobError;

/// What a job says when it is done, as it goes into the manifest and the event.
fn told(answer: &impl Serialize) -> Value {
    serde_json::to_value(answer).expect("an answer has text keys only")
}

/// Loads a session that must exist.
async fn load_existing(sessions: &SessionStore, id: &SessionId) -> Result<Session, JobError> {
    sessions.load(id).await?.ok_or_else(|| {
        JobError::new(
            ErrorCode::SessionNotFound,
            format!("session `{id}` does not exist; clone a repository into it first"),
        )
    })
}

/// What the remote holds against a job may be what another job of the session has just done there: then that is what the client is told.
async fn or_conflict(sessions: &SessionStore, session: &Session, error: JobError) -> JobError {
    let id = &session.manifest.session_id;
    match sessions.load(id).await {
        Ok(Some(now)) if now.manifest == session.manifest => error,
        Ok(_) => JobError::new(
            ErrorCode::SessionConflict,
            format!(
                "session `{id}` was saved by another job in the meantime; nothing of this job was saved, so send it again"
            ),
        ),
        Err(_) => error,
    }
}

/// Refuses a repository other than the one that the session was made from.
fn require_same_repository(session: &Session, asked: &RepoUrl) -> Result<(), JobError> {
    let own = &session.manifest.repo_url;
    if own.identity() == asked.identity() {
        return Ok(());
    }
    let id = &session.manifest.session_id;
    Err(JobError::new(
        ErrorCode::SessionRepoMismatch,
        format!("session `{id}` holds {own}, not {asked}; use another session id for another repository"),
    ))
}

pub(crate) fn remote(url: &RepoUrl, token: Option<&SecretString>) -> Remote {
    Remote {
        url: url.clone(),
        credential: token.map(Credential::from_token),
    }
}
