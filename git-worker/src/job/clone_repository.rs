//! `/clone-repository`: make a session from a repository, or bring one up to date by fast-forward.

use mayfly_git::remote::Remote;
use mayfly_protocol::answer::{ClonedRepository, LfsMoved};
use mayfly_protocol::request::CloneRepository;
use mayfly_protocol::{BranchName, CommitId, ErrorCode, JobKind, Stage, TreeId};
use mayfly_session::{Manifest, Session, SessionStore};
use mayfly_worker::JobContext;
use serde_json::{Value, json};

use super::{remote, require_same_repository, told};
use crate::GitWorker;
use crate::failure::JobError;
use crate::ignored::{self, Ignored};
use crate::lfs::Lfs;
use crate::receive::{Commit, Received, Tip, Wanted, in_units, receive};
use crate::repeat::{done_before, shut_out_earlier};
use crate::workspace::Workspace;

pub(crate) async fn run(
    worker: &GitWorker,
    job: CloneRepository,
    context: &JobContext,
) -> Result<Value, JobError> {
    let events = &context.events;
    let sessions = worker.sessions(context);
    events.stage(Stage::DownloadingSession, "Checking for existing session...");
    let mut session = sessions.load(&job.session_id).await?;
    if let Some(found) = session.take() {
        if let Some(data) = done_before(&found, JobKind::CloneRepository, context)? {
            return Ok(data);
        }
        session = Some(shut_out_earlier(&sessions, found, context).await?);
    }
    let from = remote(&job.repo_url, job.access_token.as_ref());
    let wanted = Wanted {
        branch: job.branch.clone(),
        commit: job.commit,
        history: job.history,
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
    let before = session.as_ref().map(|session| &session.manifest);
    let contents = fetch_lfs(
        worker,
        &sessions,
        (&job, &from, Stage::Cloning),
        (before, &mut manifest),
        context,
    )
    .await?;
    tell_extent(&manifest, &received, context);
    events.stage(Stage::Uploading, "Uploading to storage...");
    manifest.record(
        context.job_id.clone(),
        JobKind::CloneRepository,
        None,
        context.accepted_at,
    );
    let data = told(&completed(&manifest, pulled, &received, contents));
    manifest.answer(data.clone());
    worker.gate.enter()?;
    sessions.save(session.as_ref(), manifest).await?;
    Ok(data)
}

/// Tells how much came, and how much of the history the session has.
fn tell_extent(manifest: &Manifest, received: &Received, context: &JobContext) {
    let size = in_units(received.received_bytes);
    let fetched = &manifest.fetched;
    let extent = match fetched.depth {
        None => "all history".to_owned(),
        Some(depth) => format!("depth {depth}"),
    };
    context.events.detail(
        Stage::Cloned,
        format!(
            "Received {} objects ({size}); the session has {extent}: {}",
            received.objects, fetched.reason
        ),
        json!({"depth": fetched.depth, "fetchedBecause": fetched.reason}),
    );
}

/// Fetches what Git LFS has for the worktree, in a session that has it or is to have it from now on.
pub(super) async fn fetch_lfs(
    worker: &GitWorker,
    sessions: &SessionStore,
    (job, from, stage): (&CloneRepository, &Remote, Stage),
    (before, manifest): (Option<&Manifest>, &mut Manifest),
    context: &JobContext,
) -> Result<Option<LfsMoved>, JobError> {
    let has_all = |before: &Manifest| before.lfs.is_some() && before.worktree == manifest.worktree;
    if !job.lfs && manifest.lfs.is_none() {
        return Ok(None);
    }
    if before.is_some_and(has_all) {
        return Ok(Some(LfsMoved::default()));
    }
    let workspace = Workspace::create_below(worker, sessions, context, "lfs").await?;
    let lfs = Lfs {
        worker,
        workspace: &workspace,
        sessions,
        context,
    };
    lfs.fetch(manifest, (from, stage)).await.map(Some)
}

fn completed(
    manifest: &Manifest,
    pulled: bool,
    received: &Received,
    lfs: Option<LfsMoved>,
) -> ClonedRepository {
    ClonedRepository {
        session_id: manifest.session_id.clone(),
        generation: manifest.generation,
        repo_url: manifest.repo_url.clone(),
        branch: manifest.branch.clone(),
        head_sha: manifest.head,
        pulled,
        shallow: !manifest.shallow.is_empty(),
        depth: manifest.fetched.depth,
        filter: manifest.fetched.filter.clone(),
        fetched_because: manifest.fetched.reason.clone(),
        objects: received.objects,
        received_bytes: received.received_bytes,
        lfs,
    }
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
    let asked = wanted.commit;
    let workspace = Workspace::create(worker, sessions, context).await?;
    let mut manifest = Manifest::new(
        job.session_id.clone(),
        job.repo_url.clone(),
        placeholder_branch(wanted.branch.as_ref())?,
        context.accepted_at,
    );
    let mut received = receive(
        worker,
        &workspace,
        sessions,
        &mut manifest,
        (remote, wanted),
        (context, stage),
    )
    .await?;
    manifest.branch = received.branch.clone();
    if let Some(asked) = asked.filter(|_| manifest.fetched.depth.is_none()) {
        require_on_branch(&workspace, &manifest, &received.branch, asked).await?;
    }
    if let Tip::Other(commit) = &received.tip {
        stand_at(&mut manifest, &received.branch, commit);
        manifest.worktree = commit.tree;
        received.brought.folded = workspace.fold_received(&mut manifest).await?;
        sessions.remember(&manifest, commit.tree, &received.brought).await;
    }
    Ok((manifest, received))
}

/// Refuses a commit that the branch does not reach: what is committed on it could never be pushed to the branch.
async fn require_on_branch(
    workspace: &Workspace,
    manifest: &Manifest,
    branch: &BranchName,
    commit: CommitId,
) -> Result<(), JobError> {
    let Some(tip) = manifest.remote_tip(branch) else {
        return Ok(());
    };
    if workspace.is_ancestor(manifest, commit, tip).await? {
        return Ok(());
    }
    let text =
        format!("commit {commit} is not in the history of branch `{branch}`; name the branch that has it");
    Err(JobError::new(ErrorCode::CommitNotFound, text))
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
pub(super) fn stand_at(manifest: &mut Manifest, branch: &BranchName, commit: &Commit) {
    manifest.head = Some(commit.id);
    manifest.upstream = Some(commit.id);
    manifest.branch = branch.clone();
    manifest.replace_trees(commit.trees.clone());
}

/// Leaves a session where it is: the remote has its head, on this branch.
pub(super) fn stand_still(manifest: &mut Manifest, branch: &BranchName) {
    manifest.branch = branch.clone();
    manifest.upstream = manifest.head;
}

async fn pull(
    worker: &GitWorker,
    sessions: &SessionStore,
    session: &Session,
    (remote, wanted): (&Remote, Wanted),
    context: &JobContext,
) -> Result<(Manifest, Received), JobError> {
    let mut manifest = session.manifest.clone();
    let other_branch = wanted
        .branch
        .as_ref()
        .is_some_and(|branch| *branch != manifest.branch);
    let moves = wanted.commit.is_some() || other_branch;
    let asked = wanted.commit;
    let wanted = Wanted {
        branch: Some(wanted.branch.unwrap_or_else(|| manifest.branch.clone())),
        ..wanted
    };
    let workspace = Workspace::create(worker, sessions, context).await?;
    let stage = (context, Stage::Cloning);
    let mut received = receive(
        worker,
        &workspace,
        sessions,
        &mut manifest,
        (remote, wanted),
        stage,
    )
    .await?;
    if let Some(asked) = asked {
        require_on_branch(&workspace, &manifest, &received.branch, asked).await?;
    }
    let tip = match &received.tip {
        Tip::Unborn => return Ok((manifest, received)),
        Tip::Head => {
            stand_still(&mut manifest, &received.branch);
            return Ok((manifest, received));
        }
        Tip::Other(commit) => commit.clone(),
    };
    let before = (&session.manifest, &manifest);
    let (base, standing, ignored) = compare(worker, &workspace, before, &tip, moves).await?;
    match decide(standing) {
        Ok(Step::Stay) => manifest.branch = received.branch.clone(),
        Ok(Step::Advance) => {
            manifest.worktree = merge(&workspace, &manifest, base, tip.tree).await?;
            stand_at(&mut manifest, &received.branch, &tip);
            workspace.upload_new_objects(&mut manifest, Some(tip.id)).await?;
        }
        Ok(Step::Move) => {
            let worktree = (manifest.worktree, tip.tree);
            manifest.worktree = ignored.carry(&workspace, &manifest, worktree).await?;
            stand_at(&mut manifest, &received.branch, &tip);
            workspace.upload_new_objects(&mut manifest, Some(tip.id)).await?;
        }
        Err(code) => return Err(refused(code, &manifest, &received.branch)),
    }
    received.brought.folded = workspace.fold_received(&mut manifest).await?;
    sessions.remember(&manifest, tip.tree, &received.brought).await;
    Ok((manifest, received))
}

/// Compares the session with what was received; gives the tree of its head and its ignored files too.
async fn compare(
    worker: &GitWorker,
    workspace: &Workspace,
    (before, manifest): (&Manifest, &Manifest),
    tip: &Commit,
    moves: bool,
) -> Result<(TreeId, Standing, Ignored), JobError> {
    let max_changes = worker.config.limits.diff.max_changes;
    let Some(head) = manifest.head else {
        let standing = Standing {
            fast_forward: true,
            ..Standing::default()
        };
        return Ok((TreeId::EMPTY_TREE, standing, Ignored::none(manifest.worktree)));
    };
    let base = workspace.commit_tree(before, head).await?;
    let ignored = ignored::find(workspace, manifest, (base, manifest.worktree), max_changes).await?;
    let unpushed = manifest.has_unpushed_head();
    // Only where it decides something: it may have to read history out of the storage.
    let fast_forward = !moves && !unpushed && workspace.is_ancestor(manifest, head, tip.id).await?;
    let standing = Standing {
        tip_is_upstream: manifest.upstream == Some(tip.id),
        unpushed,
        dirty: ignored.committable != base,
        moves,
        fast_forward,
    };
    Ok((base, standing, ignored))
}

async fn merge(
    workspace: &Workspace,
    manifest: &Manifest,
    base: TreeId,
    theirs: TreeId,
) -> Result<TreeId, JobError> {
    let ours = manifest.worktree;
    workspace
        .with_trees(manifest, move |scratch| {
            scratch.merge_worktree(&base, &ours, &theirs)
        })
        .await
}

/// How a session stands to the remote's branch.
#[derive(Debug, Clone, Copy, Default)]
struct Standing {
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
