//! `/commit-and-push`: make a commit of the worktree, with the caller's message or a written one, and push it.

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{Either, select};
use mayfly_git::diff::{DiffSummary, TreeChange};
use mayfly_git::push::SendPack;
use mayfly_git::remote::Remote;
use mayfly_git::scratch::{Scratch, Signature};
use mayfly_protocol::answer::{Committed, LfsMoved};
use mayfly_protocol::request::CommitAndPush;
use mayfly_protocol::{CommitId, ErrorCode, JobKind, Stage, TreeId};
use mayfly_session::{Intent, Manifest, Session, SessionStore};
use mayfly_worker::JobContext;
use serde_json::Value;

use super::{load_existing, or_conflict, remote, told};
use crate::GitWorker;
use crate::failure::JobError;
use crate::ignored::{self, Ignored};
use crate::lfs::Lfs;
use crate::message::change_summary;
use crate::publish::{self, Publication};
use crate::repeat::{done_before, shut_out_earlier};
use crate::workspace::Workspace;

pub(crate) async fn run(
    worker: &GitWorker,
    job: CommitAndPush,
    context: &JobContext,
) -> Result<Value, JobError> {
    let events = &context.events;
    events.stage(Stage::Preparing, "Preparing credentials...");
    let sessions = worker.sessions(context);
    events.stage(Stage::DownloadingSession, "Downloading session...");
    let session = load_existing(&sessions, &job.session_id).await?;
    if let Some(data) = done_before(&session, JobKind::CommitAndPush, context)? {
        return Ok(data);
    }
    let session = shut_out_earlier(&sessions, session, context).await?;
    let mut manifest = session.manifest.clone();
    let from = remote(&manifest.repo_url, job.access_token.as_ref());
    let task = Task::of(worker, &job, context);
    let Opened {
        workspace,
        mut content,
        connection,
    } = open(task, &sessions, &manifest, &from).await?;
    let resumed = connection
        .as_ref()
        .and_then(|it| publish::settle(&mut manifest, it.refs(), &context.job_id));

    if (manifest.head, manifest.worktree) != (session.manifest.head, session.manifest.worktree) {
        content = content_of(worker, &workspace, &manifest).await?;
    }
    content.tell(context);
    let summary = summarise(worker, &workspace, &manifest, &content).await?;
    let made = if content.tree() == content.base {
        None
    } else {
        events.stage(
            Stage::ChangesDetected,
            format!("{} files changed", summary.files_changed),
        );
        let what = (content.tree(), &summary);
        Some(make_commit(task, &workspace, &mut manifest, what, resumed).await?)
    };
    let (fenced, pushed) = match (connection, manifest.head) {
        (Some(connection), Some(head)) => {
            let chosen_by = made.as_ref().map_or("caller", |made| made.chosen_by.as_str());
            let swap = (session, &mut manifest);
            let (fenced, sent) = push(task, &workspace, swap, (connection, &from), (head, chosen_by)).await?;
            (fenced, Some(sent))
        }
        _ => (session, None),
    };
    events.stage(Stage::Uploading, "Uploading to storage...");
    manifest.record(
        context.job_id.clone(),
        JobKind::CommitAndPush,
        job.user_id.clone(),
        context.accepted_at,
    );
    let data = told(&completed(&manifest, made.as_ref(), (&content, &summary), pushed));
    manifest.answer(data.clone());
    worker.gate.enter()?;
    sessions.save(Some(&fenced), manifest).await?;
    Ok(data)
}

/// What a commit begins with.
struct Opened {
    workspace: Workspace,
    content: Content,
    /// Where something is to be pushed.
    connection: Option<SendPack>,
}

/// Brings here what is compared, and asks the remote for its refs at the same time. Whether its answer is needed, and whether it may fail the
/// job, is known when there is something to push.
async fn open(
    task: Task<'_>,
    sessions: &SessionStore,
    manifest: &Manifest,
    from: &Remote,
) -> Result<Opened, JobError> {
    let Task { worker, job, context } = task;
    let preparing = async {
        let workspace = Workspace::open(worker, sessions, manifest, context).await?;
        let message = "Analyzing changes...";
        context.events.stage(Stage::Analyzing, message);
        let content = content_of(worker, &workspace, manifest).await?;
        Ok::<_, JobError>((workspace, content))
    };
    let (preparing, asking) = (preparing.boxed(), publish::connect(worker, from, context).boxed());
    let first = match job.push {
        true => select(preparing, asking).await,
        false => Either::Left((preparing.await, asking)),
    };
    let ((workspace, content), asked) = match first {
        Either::Left((prepared, asking)) => (prepared?, Either::Left(asking)),
        Either::Right((asked, preparing)) => (preparing.await?, Either::Right(asked)),
    };
    let has_changes = content.tree() != content.base;
    let connection = match job.push && (has_changes || manifest.has_unpushed_head()) {
        false => None,
        true => Some(match asked {
            Either::Left(asking) => asking.await?,
            Either::Right(asked) => asked?,
        }),
    };
    Ok(Opened {
        workspace,
        content,
        connection,
    })
}

/// What there is to commit.
struct Content {
    /// The tree of the head.
    base: TreeId,
    ignored: Ignored,
}

impl Content {
    /// The tree of the commit: the worktree without what is ignored.
    fn tree(&self) -> TreeId {
        self.ignored.committable
    }

    fn tell(&self, context: &JobContext) {
        if let Some(words) = self.ignored.words() {
            context.events.stage(Stage::Analyzing, words);
        }
    }
}

async fn content_of(
    worker: &GitWorker,
    workspace: &Workspace,
    manifest: &Manifest,
) -> Result<Content, JobError> {
    let base = head_tree(workspace, manifest).await?;
    let max_changes = worker.config.limits.diff.max_changes;
    let ignored = ignored::find(workspace, manifest, (base, manifest.worktree), max_changes).await?;
    Ok(Content { base, ignored })
}

/// `pushed` is what was sent to Git LFS besides.
fn completed(
    manifest: &Manifest,
    made: Option<&Made>,
    (content, summary): (&Content, &DiffSummary),
    pushed: Option<LfsMoved>,
) -> Committed {
    Committed {
        session_id: manifest.session_id.clone(),
        generation: manifest.generation,
        branch: manifest.branch.clone(),
        committed: made.is_some(),
        commit_sha: manifest.head,
        message: made.map(|made| made.message.clone()),
        message_source: made.map(|made| made.chosen_by.clone()),
        files_changed: summary.files_changed,
        insertions: summary.insertions,
        deletions: summary.deletions,
        pushed: pushed.is_some(),
        lfs: manifest.lfs.as_ref().map(|_| pushed.unwrap_or_default()),
        ignored: content.ignored.told(),
    }
}

async fn head_tree(workspace: &Workspace, manifest: &Manifest) -> Result<TreeId, JobError> {
    match manifest.head {
        None => Ok(TreeId::EMPTY_TREE),
        Some(head) => workspace.commit_tree(manifest, head).await,
    }
}

/// Compares what is to be committed with the head; the old sides of changed files are read one by one, within bounds.
async fn summarise(
    worker: &GitWorker,
    workspace: &Workspace,
    manifest: &Manifest,
    content: &Content,
) -> Result<DiffSummary, JobError> {
    let (base, worktree) = (content.base, content.tree());
    let limits = worker.config.limits.clone();
    let max_files = limits.diff.max_changes;
    let changes: Vec<TreeChange> = workspace.changes(manifest, (base, worktree), max_files).await?;
    let old = Scratch::blobs_needed_for_diff(&changes, limits.max_diff_blobs);
    workspace
        .require_files(manifest, old, limits.diff.max_blob_bytes)
        .await?;
    workspace
        .with(move |scratch| scratch.diff(Some(&base), &worktree, &limits.diff))
        .await
}

/// What the parts of a commit need of the job.
#[derive(Clone, Copy)]
struct Task<'a> {
    worker: &'a GitWorker,
    job: &'a CommitAndPush,
    context: &'a JobContext,
}

impl<'a> Task<'a> {
    fn of(worker: &'a GitWorker, job: &'a CommitAndPush, context: &'a JobContext) -> Self {
        Self { worker, job, context }
    }
}

/// A commit that was made.
struct Made {
    message: String,
    chosen_by: String,
}

/// Commits the worktree, and stands the session on the commit; an earlier attempt's commit is taken up instead of made again.
async fn make_commit(
    task: Task<'_>,
    workspace: &Workspace,
    manifest: &mut Manifest,
    (tree, summary): (TreeId, &DiffSummary),
    resumed: Option<Intent>,
) -> Result<Made, JobError> {
    let events = &task.context.events;
    events.stage(Stage::GeneratingMessage, "Generating commit message...");
    if let Some(intent) = resumed
        && let Some(made) = take_up(workspace, manifest, tree, &intent).await?
    {
        events.stage(
            Stage::Committing,
            format!("Taking up commit {} of an earlier attempt", intent.commit),
        );
        return Ok(made);
    }
    let (message, chosen_by) = match &task.job.message {
        Some(message) => (message.clone(), "caller".to_owned()),
        None => write_message(task, summary).await,
    };
    events.stage(Stage::Committing, "Creating commit...");
    let parents = manifest.head.into_iter().collect::<Vec<_>>();
    let (author, committer) = signatures(task);
    let text = message.clone();
    let commit = workspace
        .with(move |scratch| scratch.commit(&tree, &parents, &author, &committer, &text))
        .await?;
    manifest.head = Some(commit);
    let upstream = match task.job.push {
        true => manifest.head,
        false => manifest.upstream,
    };
    workspace.upload_new_objects(manifest, upstream).await?;
    Ok(Made { message, chosen_by })
}

/// Takes up the commit of an earlier attempt at this job, if it is a commit of this very tree.
async fn take_up(
    workspace: &Workspace,
    manifest: &mut Manifest,
    tree: TreeId,
    intent: &Intent,
) -> Result<Option<Made>, JobError> {
    let commit = intent.commit;
    let info = workspace
        .with(move |scratch| scratch.commit_info(&commit))
        .await?;
    if info.tree != tree {
        return Ok(None);
    }
    for entry in &intent.packs {
        manifest.add_pack(entry.clone());
    }
    manifest.head = Some(commit);
    Ok(Some(Made {
        message: info.message.trim_end().to_owned(),
        chosen_by: intent.chosen_by.clone(),
    }))
}

async fn write_message(task: Task<'_>, summary: &DiffSummary) -> (String, String) {
    let (namer, context) = (&task.worker.namer, task.context);
    let change = change_summary(summary);
    let named = namer
        .commit_message(&change, task.job.llm_credential.as_ref(), &context.cancel)
        .await;
    if let Some(reason) = &named.fallback_reason {
        tracing::info!(job.id = %context.job_id, reason, "the commit message is written by rule");
    }
    (named.value, named.source.as_str().to_owned())
}

/// The author and the committer, at the time that the job was accepted: so a repeated attempt makes the same commit.
fn signatures(task: Task<'_>) -> (Signature, Signature) {
    let seconds = task.context.accepted_at.unix_timestamp();
    let signature = |name: &str, email: &str| Signature {
        name: name.to_owned(),
        email: email.to_owned(),
        seconds,
        offset_minutes: 0,
    };
    let identity = &task.worker.config.identity;
    let committer = signature(&identity.name, &identity.email);
    let author = match &task.job.author {
        Some(author) => signature(&author.name, &author.email),
        None => committer.clone(),
    };
    (author, committer)
}

/// Sends what Git LFS has of the head, pushes it, and writes into the manifest that it is there. The session that comes back is the one to
/// make the final save on.
async fn push(
    task: Task<'_>,
    workspace: &Workspace,
    (session, manifest): (Session, &mut Manifest),
    (connection, from): (SendPack, &Remote),
    (head, chosen_by): (CommitId, &str),
) -> Result<(Session, LfsMoved), JobError> {
    let Task { worker, context, .. } = task;
    let sessions = worker.sessions(context);
    let message = format!("Pushing {}...", manifest.branch);
    context.events.stage(Stage::Pushing, message);
    let publication = prepare_push(context, workspace, &session, manifest, (head, chosen_by)).await?;
    if let Err(error) = require_expected_tip(&connection, &publication.intent, manifest.upstream) {
        return Err(or_conflict(&sessions, &session, error).await);
    }
    let lfs = Lfs {
        worker,
        workspace,
        sessions: &sessions,
        context,
    };
    let sent = lfs.send(manifest, head, from).await?;
    publish::complete(manifest, &publication.intent);
    let to = (connection, from);
    let fenced = publish::publish(worker, &sessions, session, to, publication, context).await?;
    Ok((fenced, sent))
}

/// Packs what the remote lacks, and says what is going to be pushed and with which packs the session keeps it.
async fn prepare_push(
    context: &JobContext,
    workspace: &Workspace,
    before: &Session,
    manifest: &Manifest,
    (head, chosen_by): (CommitId, &str),
) -> Result<Publication, JobError> {
    let pack: Bytes = workspace.pack_for_remote(manifest, head).await?;
    let expected = manifest.remote_tip(&manifest.branch);
    let manifests = (&before.manifest, manifest);
    let intent = publish::intend(context, manifests, &manifest.branch, (expected, head), chosen_by);
    Ok(Publication { intent, pack })
}

/// Refuses before anything is sent where the remote's branch is not where the session last saw it, or where the session stands at an
/// older commit of it: not every remote refuses a push that undoes what came after.
fn require_expected_tip(
    connection: &SendPack,
    intent: &Intent,
    upstream: Option<CommitId>,
) -> Result<(), JobError> {
    let actual = connection.refs().branch(&intent.branch);
    if actual == Some(intent.commit) {
        return Ok(());
    }
    if actual == intent.expected {
        return match actual {
            Some(tip) if Some(tip) != upstream => Err(JobError::new(
                ErrorCode::NotFastForward,
                format!(
                    "the session stands at an older commit of `{}`, whose tip is {tip}; create a branch for what is committed there",
                    intent.branch
                ),
            )),
            _ => Ok(()),
        };
    }
    let at = |commit: Option<CommitId>| commit.map_or_else(|| "absent".to_owned(), |id| format!("at {id}"));
    Err(JobError::new(
        ErrorCode::NotFastForward,
        format!(
            "the remote's branch `{}` is {}, not {} where the session last saw it; pull, then commit again",
            intent.branch,
            at(actual),
            at(intent.expected)
        ),
    ))
}
