//! Moving a branch of the remote, so that it happens once: the intent is saved before the push, and settled after it.

use bytes::Bytes;
use mayfly_git::push::{PushError, RefUpdate, SendPack};
use mayfly_git::refs::RemoteRefs;
use mayfly_git::remote::Remote;
use mayfly_protocol::{BranchName, CommitId, JobId};
use mayfly_session::{Intent, Manifest, Session, SessionStore};
use mayfly_worker::JobContext;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::GitWorker;
use crate::failure::JobError;
use crate::gate;

/// What a cancelled job leaves behind whose push was sent and not answered.
const IN_DOUBT: &str = "its push was sent, and whether the remote took it is not known yet; the session is as it was before the job, and its next job finds out";

/// What is to be pushed.
pub(crate) struct Publication {
    pub(crate) intent: Intent,
    /// The objects that the remote lacks, as a pack; an empty pack where it has them all.
    pub(crate) pack: Bytes,
}

/// Asks the remote for its refs, as one who is going to push.
pub(crate) async fn connect(
    worker: &GitWorker,
    remote: &Remote,
    context: &JobContext,
) -> Result<SendPack, JobError> {
    let limits = &worker.config.limits.transfer;
    Ok(SendPack::connect(&worker.client, remote, limits, &context.cancel).await?)
}

/// Settles what an earlier attempt, or an earlier job that was lost, had announced.
///
/// What it did at the remote becomes part of the session. Its intent is given back when it is this very job's own, to be
/// pushed again instead of made again.
pub(crate) fn settle(manifest: &mut Manifest, refs: &RemoteRefs, job: &JobId) -> Option<Intent> {
    let intent = manifest.intent.take()?;
    // Its objects were here whenever a job asked what there is to store, so the session may stand on them.
    for entry in &intent.packs {
        manifest.add_pack(entry.clone());
    }
    if intent.base != manifest.head {
        return None;
    }
    if intent.job_id == *job {
        return Some(intent);
    }
    let was_done = refs.branch(&intent.branch) == Some(intent.commit);
    let is_untouched = manifest.worktree == intent.base_worktree;
    if was_done && is_untouched {
        complete(manifest, &intent);
    } else if was_done && intent.worktree == intent.base_worktree {
        // The commit left the workspace as it was, and later changes were made in it: they stay.
        let newer = manifest.worktree;
        complete(manifest, &intent);
        manifest.worktree = newer;
    }
    None
}

/// Writes into the manifest that the intent was carried out.
pub(crate) fn complete(manifest: &mut Manifest, intent: &Intent) {
    manifest.branch = intent.branch.clone();
    manifest.head = Some(intent.commit);
    manifest.upstream = Some(intent.commit);
    manifest.worktree = intent.worktree;
    manifest.refs.insert(intent.branch.to_ref(), intent.commit);
    for entry in &intent.packs {
        manifest.add_pack(entry.clone());
    }
    manifest.intent = None;
}

/// Announces the intent, and pushes. The session that comes back is the one to make the final save on.
pub(crate) async fn publish(
    worker: &GitWorker,
    sessions: &SessionStore,
    session: Session,
    (connection, remote): (SendPack, &Remote),
    publication: Publication,
    context: &JobContext,
) -> Result<Session, JobError> {
    let Publication { intent, pack } = publication;
    if connection.refs().branch(&intent.branch) == Some(intent.commit) {
        return Ok(session);
    }
    let mut announced = session.manifest.clone();
    announced.intent = Some(intent.clone());
    worker.gate.enter()?;
    let announced = sessions.save(Some(&session), announced).await?;
    if context.cancel.is_cancelled() {
        withdraw(sessions, &announced, session.manifest).await;
        return Err(gate::cancelled(gate::AS_BEFORE));
    }
    let update = RefUpdate {
        name: intent.branch.to_ref(),
        old: intent.expected,
        new: intent.commit,
    };
    let Err(error) = connection.push(&update, pack, &context.cancel).await else {
        return Ok(announced);
    };
    match outcome(worker, remote, &error, &intent, context).await {
        Outcome::Done => Ok(announced),
        Outcome::NotDone => {
            withdraw(sessions, &announced, session.manifest).await;
            Err(error.into())
        }
        Outcome::Unknown if context.cancel.is_cancelled() => Err(gate::cancelled(IN_DOUBT)),
        Outcome::Unknown => Err(error.into()),
    }
}

/// What became of a push that ended in an error. Whatever the error says, the remote's refs know better: a proxy may have lost
/// patience with a push that went through, and a job that is stopped does not hear the answer.
enum Outcome {
    Done,
    NotDone,
    /// The intent stays in the manifest, so that the next job finds out.
    Unknown,
}

async fn outcome(
    worker: &GitWorker,
    remote: &Remote,
    error: &PushError,
    intent: &Intent,
    context: &JobContext,
) -> Outcome {
    if matches!(error, PushError::Stale { .. } | PushError::BadName) {
        return Outcome::NotDone;
    }
    let is_refused = matches!(
        error,
        PushError::NotFastForward { .. } | PushError::Rejected { .. }
    );
    let connection = look_again(worker, remote, context).await;
    let tip = connection.map(|it| it.refs().branch(&intent.branch));
    match tip {
        // A new branch that was refused to us, and stands at our commit, is another job's: many branch off one commit.
        _ if is_refused && intent.expected.is_none() => Outcome::NotDone,
        Some(tip) if tip == Some(intent.commit) => Outcome::Done,
        _ if is_refused => Outcome::NotDone,
        // A remote that was left before its answer may still be at it.
        Some(tip) if tip == intent.expected && !context.cancel.is_cancelled() => Outcome::NotDone,
        _ => Outcome::Unknown,
    }
}

/// The remote's refs after the push; of a cancelled job too, within a bound.
async fn look_again(worker: &GitWorker, remote: &Remote, context: &JobContext) -> Option<SendPack> {
    let limits = &worker.config.limits;
    let unstopped = CancellationToken::new();
    let looking = SendPack::connect(&worker.client, remote, &limits.transfer, &unstopped);
    tokio::pin!(looking);
    tokio::select! {
        biased;
        found = &mut looking => return found.ok(),
        () = context.cancel.cancelled() => {}
    }
    timeout(limits.settle_timeout, looking).await.ok()?.ok()
}

/// Puts the manifest back as it was. Where that fails the intent stays, which the next job settles.
async fn withdraw(sessions: &SessionStore, announced: &Session, before: Manifest) {
    let id = before.session_id.clone();
    if let Err(error) = sessions.save(Some(announced), before).await {
        tracing::warn!(session.id = %id, %error, "the intent of a refused push could not be withdrawn");
    }
}

/// The intent of a job to move a branch of the remote from `expected` to `commit`, and the session from `before` to `after`.
pub(crate) fn intend(
    context: &JobContext,
    (before, after): (&Manifest, &Manifest),
    branch: &BranchName,
    (expected, commit): (Option<CommitId>, CommitId),
    chosen_by: &str,
) -> Intent {
    let packs = after.packs.iter().filter(|entry| !before.packs.contains(entry));
    Intent {
        job_id: context.job_id.clone(),
        attempt: context.attempt,
        branch: branch.clone(),
        expected,
        commit,
        base: before.head,
        base_worktree: before.worktree,
        worktree: after.worktree,
        packs: packs.cloned().collect(),
        chosen_by: chosen_by.to_owned(),
    }
}
