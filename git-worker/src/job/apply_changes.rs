//! `/apply-changes`: change files in a session's worktree, by a patch or by whole files.

use mayfly_git::apply::Applied;
use mayfly_protocol::answer::AppliedChanges;
use mayfly_protocol::request::{ApplyChanges, Changes};
use mayfly_protocol::{JobKind, Stage, TreeId};
use mayfly_session::Manifest;
use mayfly_worker::JobContext;
use serde_json::Value;

use super::{load_existing, told};
use crate::GitWorker;
use crate::failure::JobError;
use crate::ignored::{self, Saved};
use crate::lfs::Lfs;
use crate::repeat::{done_before, shut_out_earlier};
use crate::workspace::Workspace;

pub(crate) async fn run(
    worker: &GitWorker,
    job: ApplyChanges,
    context: &JobContext,
) -> Result<Value, JobError> {
    let events = &context.events;
    events.stage(Stage::Preparing, "Checking the changes...");
    let sessions = worker.sessions(context);
    events.stage(Stage::DownloadingSession, "Downloading session...");
    let session = load_existing(&sessions, &job.session_id).await?;
    if let Some(data) = done_before(&session, JobKind::ApplyChanges, context)? {
        return Ok(data);
    }
    let session = shut_out_earlier(&sessions, session, context).await?;
    let mut manifest = session.manifest.clone();
    let workspace = Workspace::open(worker, &sessions, &manifest, context).await?;

    events.stage(Stage::ApplyingChanges, "Applying changes...");
    let applied = apply(worker, &workspace, &manifest, job.changes).await?;
    let saved = keep_within_limit(worker, &workspace, &manifest, applied.tree).await?;
    if let Some(words) = saved.words() {
        events.stage(Stage::ApplyingChanges, words);
    }
    let lfs = Lfs {
        worker,
        workspace: &workspace,
        sessions: &sessions,
        context,
    };
    manifest.worktree = lfs
        .clean(&mut manifest, (session.manifest.worktree, saved.worktree))
        .await?;

    events.stage(Stage::Uploading, "Uploading to storage...");
    let upstream = manifest.upstream;
    workspace.upload_new_objects(&mut manifest, upstream).await?;
    manifest.record(
        context.job_id.clone(),
        JobKind::ApplyChanges,
        None,
        context.accepted_at,
    );
    let data = told(&AppliedChanges {
        session_id: manifest.session_id.clone(),
        generation: manifest.generation,
        files_changed: applied.files_changed,
        worktree: manifest.worktree,
        ignored: saved.told(),
    });
    manifest.answer(data.clone());
    worker.gate.enter()?;
    sessions.save(Some(&session), manifest).await?;
    Ok(data)
}

/// Takes out what the ignore rules exclude and the session does not keep.
async fn keep_within_limit(
    worker: &GitWorker,
    workspace: &Workspace,
    manifest: &Manifest,
    worktree: TreeId,
) -> Result<Saved, JobError> {
    let limits = &worker.config.limits;
    let base = match manifest.head {
        None => TreeId::EMPTY_TREE,
        Some(head) => workspace.commit_tree(manifest, head).await?,
    };
    let found = ignored::find(workspace, manifest, (base, worktree), limits.diff.max_changes).await?;
    ignored::save(workspace, manifest, (found, worktree), limits.keep_ignored_bytes).await
}

async fn apply(
    worker: &GitWorker,
    workspace: &Workspace,
    manifest: &Manifest,
    changes: Changes,
) -> Result<Applied, JobError> {
    let (worktree, limits) = (manifest.worktree, worker.config.limits.apply.clone());
    match changes {
        Changes::Files(files) => {
            let paths = files.iter().map(|file| file.path.as_str().into()).collect();
            workspace.require_paths(manifest, worktree, paths).await?;
            workspace
                .with_trees(manifest, move |scratch| {
                    scratch.apply_files(&worktree, &files, &limits)
                })
                .await
        }
        Changes::Patch(patch) => {
            let patch = std::sync::Arc::new(patch);
            let text = std::sync::Arc::clone(&patch);
            let old = workspace
                .with_trees(manifest, move |scratch| scratch.patched_blobs(&worktree, &text))
                .await?;
            workspace
                .require_files(manifest, old, worker.config.limits.max_patched_file_bytes)
                .await?;
            workspace
                .with_trees(manifest, move |scratch| {
                    scratch.apply_patch(&worktree, &patch, &limits)
                })
                .await
        }
    }
}
