//! `/clone-repository`: make a session from a repository, or bring one up to date by fast-forward.

use mayfly_git::remote::Remote;
use mayfly_protocol::request::CloneRepository;
use mayfly_protocol::{BranchName, ErrorCode, JobKind, Stage, TreeId};
use mayfly_session::{Manifest, Session, SessionStore};
use mayfly_worker::JobContext;
use serde_json::{Value, json};

use super::{remote, require_same_repository};
use crate::GitWorker;
use crate::failure::JobError;
use crate::receive::{Received, Wanted, in_units, receive};
use crate::workspace::Workspace;

pub(crate) async fn run(
    worker: &GitWorker,
    job: CloneRepository,
    context: &JobContext,
) -> Result<Value, JobError> {
    let events = &context.events;
    let sessions = worker.sessions(context);
    events.stage(Stage::DownloadingSession, "Checking for existing session...");
    let session = sessions.load(&job.session_id).await?;
    let from = remote(&job.repo_url, job.access_token.as_ref());
    let wanted = Wanted {
        branch: job.branch.clone(),
        commit: job.commit,
        depth: job.depth,
    };
    let pulled = session.is_some();
    let (mut manifest, received) = match &session {
        Some(session) => {
            require_same_repository(session, &job.repo_url)?;
            events.stage(Stage::SessionFound, "Session found; pulling");
            events.stage(Stage::Cloning, "Fetching changes...");
            pull(worker, &sessions, session, (&from, wanted), context).await?
        }
        None => {
            events.stage(Stage::NewSession, "No session yet; cloning");
            events.stage(Stage::Cloning, "Cloning repository...");
            let draft = Draft {
                job: &job,
                remote: &from,
                wanted,
                stage: Stage::Cloning,
            };
            clone_into_new(worker, &sessions, draft, context).await?
        }
    };
    let size = in_units(received.received_bytes);
    events.stage(
        Stage::Cloned,
        format!("Received {} objects ({size})", received.objects),
    );
    events.stage(Stage::Uploading, "Uploading to storage...");
    manifest.record(
        context.job_id.clone(),
        JobKind::CloneRepository,
        None,
        context.accepted_at,
    );
    worker.gate.enter()?;
    let saved = sessions.save(session.as_ref(), manifest).await?;
    Ok(completed(&saved.manifest, pulled, &received))
}

fn completed(manifest: &Manifest, pulled: bool, received: &Received) -> Value {
    json!({
        "sessionId": manifest.session_id,
        "generation": manifest.generation,
        "repoUrl": manifest.repo_url,
        "branch": manifest.branch,
        "headSha": manifest.head,
        "pulled": pulled,
        "shallow": !manifest.shallow.is_empty(),
        "objects": received.objects,
        "receivedBytes": received.received_bytes,
    })
}

/// A clone that is to make a session.
pub(super) struct Draft<'a> {
    pub(super) job: &'a CloneRepository,
    pub(super) remote: &'a Remote,
    pub(super) wanted: Wanted,
    pub(super) stage: Stage,
}

/// Clones into a session that does not exist; the manifest is complete, and not saved.
pub(super) async fn clone_into_new(
    worker: &GitWorker,
    sessions: &SessionStore,
    draft: Draft<'_>,
    context: &JobContext,
) -> Result<(Manifest, Received), JobError> {
    let Draft {
        job,
        remote,
        wanted,
        stage,
    } = draft;
    let depth = wanted.depth;
    let workspace = Workspace::create(worker, sessions, context).await?;
    let mut manifest = Manifest::new(
        job.session_id.clone(),
        job.repo_url.clone(),
        placeholder_branch(wanted.branch.as_ref())?,
        context.accepted_at,
    );
    let received = receive(
        worker,
        &workspace,
        sessions,
        &mut manifest,
        (remote, wanted),
        (context, stage),
    )
    .await?;
    manifest.branch = received.branch.clone();
    if let Some(depth) = depth {
        manifest.fetched.depth = Some(depth.get());
        "the caller's `depth`".clone_into(&mut manifest.fetched.reason);
    }
    if let Some((_, tree)) = received.tip {
        stand_at(&mut manifest, &received);
        manifest.worktree = tree;
    }
    Ok((manifest, received))
}

/// The branch of a manifest until the remote has said which one it is.
fn placeholder_branch(asked: Option<&BranchName>) -> Result<BranchName, JobError> {
    match asked {
        Some(branch) => Ok(branch.clone()),
        None => "main"
            .parse()
            .map_err(|error| JobError::new(ErrorCode::Internal, format!("{error}"))),
    }
}

/// Moves a session without commits of its own to what was received; the worktree is the caller's to set.
pub(super) fn stand_at(manifest: &mut Manifest, received: &Received) {
    let commit = received.tip.map(|(commit, _)| commit);
    manifest.head = commit;
    manifest.upstream = commit;
    manifest.branch = received.branch.clone();
    if let Some(entry) = received.trees.clone() {
        manifest.replace_trees(entry);
    }
}

async fn pull(
    worker: &GitWorker,
    sessions: &SessionStore,
    session: &Session,
    (remote, wanted): (&Remote, Wanted),
    context: &JobContext,
) -> Result<(Manifest, Received), JobError> {
    let mut manifest = session.manifest.clone();
    let moves = wanted.commit.is_some()
        || wanted
            .branch
            .as_ref()
            .is_some_and(|branch| *branch != manifest.branch);
    let cuts_history = wanted.depth.is_some();
    let wanted = Wanted {
        branch: Some(wanted.branch.unwrap_or_else(|| manifest.branch.clone())),
        ..wanted
    };
    let workspace = Workspace::open(worker, sessions, &manifest, context).await?;
    let received = receive(
        worker,
        &workspace,
        sessions,
        &mut manifest,
        (remote, wanted),
        (context, Stage::Cloning),
    )
    .await?;
    let Some((tip, tree)) = received.tip else {
        return Ok((manifest, received));
    };
    let (base, state) = match manifest.head {
        None => (
            TreeId::EMPTY_TREE,
            Standing {
                fast_forward: true,
                ..Standing::default()
            },
        ),
        Some(head) => {
            let head_tree = workspace.require_trees(&session.manifest, head).await?;
            let shallow = manifest.shallow.clone();
            let is_ahead = workspace
                .with(move |scratch| scratch.is_ancestor_within(&head, &tip, &shallow))
                .await?;
            let state = Standing {
                tip_is_head: tip == head,
                tip_is_upstream: manifest.upstream == Some(tip),
                unpushed: manifest.has_unpushed_head(),
                dirty: manifest.worktree != head_tree,
                moves,
                fast_forward: is_ahead || cuts_history,
            };
            (head_tree, state)
        }
    };
    match decide(state) {
        Ok(Step::Stay) => manifest.branch = received.branch.clone(),
        Ok(Step::Advance) => {
            manifest.worktree = merge(&workspace, base, manifest.worktree, tree).await?;
            stand_at(&mut manifest, &received);
            workspace.upload_new_objects(&mut manifest).await?;
        }
        Ok(Step::Move) => {
            manifest.worktree = tree;
            stand_at(&mut manifest, &received);
        }
        Err(code) => return Err(refused(code, &manifest, &received.branch)),
    }
    Ok((manifest, received))
}

async fn merge(
    workspace: &Workspace,
    base: TreeId,
    ours: TreeId,
    theirs: TreeId,
) -> Result<TreeId, JobError> {
    workspace
        .with(move |scratch| scratch.merge_worktree(&base, &ours, &theirs))
        .await
}

/// How a session stands to the remote's branch.
#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    tip_is_head: bool,
    tip_is_upstream: bool,
    unpushed: bool,
    dirty: bool,
    /// Another branch or a certain commit is asked for.
    moves: bool,
    /// The head is an ancestor of the tip.
    fast_forward: bool,
}

/// What a pull does to the session.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Nothing: the session has all that the remote has.
    Stay,
    /// The head goes forward, and uncommitted changes go with it.
    Advance,
    /// The session stands at another commit; it has nothing of its own to lose.
    Move,
}

/// Decides what a pull does; what the session has of its own is never overwritten.
fn decide(state: Standing) -> Result<Step, ErrorCode> {
    match state {
        Standing {
            tip_is_head: true, ..
        } => Ok(Step::Stay),
        Standing {
            moves: true,
            dirty: true,
            ..
        } => Err(ErrorCode::WorktreeDirty),
        Standing {
            moves: true,
            unpushed: true,
            ..
        } => Err(ErrorCode::NotFastForward),
        Standing { moves: true, .. } => Ok(Step::Move),
        Standing {
            unpushed: true,
            tip_is_upstream: true,
            ..
        } => Ok(Step::Stay),
        Standing { unpushed: true, .. } => Err(ErrorCode::NotFastForward),
        Standing {
            fast_forward: true, ..
        } => Ok(Step::Advance),
        _ => Err(ErrorCode::NotFastForward),
    }
}

fn refused(code: ErrorCode, manifest: &Manifest, branch: &BranchName) -> JobError {
    let id = &manifest.session_id;
    let text = match code {
        ErrorCode::WorktreeDirty => format!(
            "session `{id}` has uncommitted changes on `{}`, which moving to `{branch}` would overwrite; commit them first",
            manifest.branch
        ),
        _ => format!(
            "session `{id}` cannot be fast-forwarded to the remote's `{branch}`: both have commits that the other lacks; \
             clone into another session, or push this one's commits to another branch"
        ),
    };
    JobError::new(code, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_never_overwrites_what_the_session_has_of_its_own() {
        let clean = Standing::default();
        for (state, step) in [
            (
                Standing {
                    tip_is_head: true,
                    dirty: true,
                    moves: true,
                    ..clean
                },
                Ok(Step::Stay),
            ),
            (
                Standing {
                    fast_forward: true,
                    ..clean
                },
                Ok(Step::Advance),
            ),
            (
                Standing {
                    fast_forward: true,
                    dirty: true,
                    ..clean
                },
                Ok(Step::Advance),
            ),
            (clean, Err(ErrorCode::NotFastForward)),
            (
                Standing {
                    unpushed: true,
                    tip_is_upstream: true,
                    ..clean
                },
                Ok(Step::Stay),
            ),
            (
                Standing {
                    unpushed: true,
                    fast_forward: true,
                    ..clean
                },
                Err(ErrorCode::NotFastForward),
            ),
            (Standing { moves: true, ..clean }, Ok(Step::Move)),
            (
                Standing {
                    moves: true,
                    dirty: true,
                    ..clean
                },
                Err(ErrorCode::WorktreeDirty),
            ),
            (
                Standing {
                    moves: true,
                    unpushed: true,
                    ..clean
                },
                Err(ErrorCode::NotFastForward),
            ),
        ] {
            assert_eq!(decide(state), step, "{state:?}");
        }
    }
}
