//! A damaged session: the damage is announced, what came from the remote is brought again, and the job begins anew.
//!
//! What a session has of its own is nowhere else. Where that is lost the job ends with `session_damaged` and says what is lost; an older
//! state is never given instead.

use std::num::NonZeroU32;

use mayfly_git::fetch::{self, Destination, FetchRequest, Fetched};
use mayfly_git::remote::Remote;
use mayfly_protocol::{CommitId, ErrorCode, ObjectId, RepoUrl, SecretString, SessionId, TreeId};
use mayfly_session::{Manifest, PackEntry, PackKind, SessionStore};
use mayfly_worker::JobContext;
use serde_json::json;

use crate::GitWorker;
use crate::failure::JobError;
use crate::job::remote;
use crate::receive::report;
use crate::workspace::Workspace;

/// What a job that is cancelled after the repair leaves behind.
const REPAIRED: &str = "the session was rebuilt, and is otherwise as it was before the job";

/// What a job says of its session.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) session: &'a SessionId,
    pub(crate) url: Option<&'a RepoUrl>,
    pub(crate) token: Option<&'a SecretString>,
}

/// Mends what a job found damaged, so that it can begin anew; an error says why that is not possible.
pub(crate) async fn repair(
    worker: &GitWorker,
    asked: Asked<'_>,
    error: JobError,
    context: &JobContext,
) -> Result<(), JobError> {
    let sessions = worker.sessions(context);
    let session = sessions.load(asked.session).await?;
    let own = session.as_ref().map(|session| &session.manifest);
    if let Some(url) = own.map(|manifest| &manifest.repo_url).or(asked.url) {
        sessions.forget_known(url, error.damaged_pack()).await;
    }
    let Some(session) = session else {
        announce(context, &error, "cloning without what other sessions brought");
        return Ok(());
    };
    let is_listed = |pack: ObjectId| listed(&session.manifest).any(|entry| entry.hash == pack);
    if error.damaged_pack().is_some_and(|pack| !is_listed(pack)) {
        announce(context, &error, "going on without what other sessions brought");
        return Ok(());
    }
    announce(context, &error, "rebuilding the session");
    let repair = Repair {
        worker,
        sessions: &sessions,
        context,
        from: remote(&session.manifest.repo_url, asked.token),
    };
    let (manifest, source) = match repair.rebuild(&session.manifest, &error).await {
        Ok(rebuilt) => rebuilt,
        Err(cause) if cause.code() == ErrorCode::Cancelled => return Err(cause),
        Err(cause) => return Err(beyond_repair(&error, &cause, asked.token.is_some())),
    };
    worker.gate.enter()?;
    sessions.save(Some(&session), manifest).await?;
    worker.gate.leave(REPAIRED, &context.cancel)?;
    let detail = json!({"code": ErrorCode::SessionDamaged, "rebuiltFrom": source});
    let message = format!("Session rebuilt from {source}; nothing of it is lost");
    context.events.note(message, detail);
    Ok(())
}

fn announce(context: &JobContext, error: &JobError, step: &str) {
    tracing::warn!(job.id = %context.job_id, %error, "a session is damaged");
    let detail = json!({"code": ErrorCode::SessionDamaged, "pack": error.damaged_pack()});
    context.events.note(format!("{error}; {step}"), detail);
}

fn beyond_repair(error: &JobError, cause: &JobError, has_token: bool) -> JobError {
    let advice = match (cause.code(), has_token) {
        (ErrorCode::SessionDamaged, _) => {
            "what is lost is the session's own, and nowhere else; clone into another session to go on from the remote"
        }
        (_, false) => "pull with a token that may read the repository: that rebuilds it",
        (_, true) => "what the remote has may come yet: try again when it answers",
    };
    let text = format!("{error}; it could not be rebuilt ({cause}); {advice}");
    let is_final = cause.code() == ErrorCode::SessionDamaged;
    JobError::new(ErrorCode::SessionDamaged, text).retryable(!is_final && cause.code().is_retryable())
}

/// The packs that a manifest lists, for the session and for its intent.
fn listed(manifest: &Manifest) -> impl Iterator<Item = &PackEntry> {
    let intended = manifest.intent.iter().flat_map(|intent| &intent.packs);
    manifest.packs.iter().chain(intended)
}

/// Whether jobs of the session made it: it is nowhere else, but for what was pushed.
fn is_own(entry: &PackEntry) -> bool {
    matches!(entry.kind, PackKind::Job | PackKind::Past)
}

/// Whether history may be lost with it that nothing of the session shows to be missing.
fn is_of_history(entry: &PackEntry) -> bool {
    matches!(entry.kind, PackKind::Base | PackKind::Past)
}

/// The rebuilding of one session.
struct Repair<'a> {
    worker: &'a GitWorker,
    sessions: &'a SessionStore,
    context: &'a JobContext,
    from: Remote,
}

impl Repair<'_> {
    /// The manifest of the same session over packs that are whole, and where they are from.
    async fn rebuild(
        &self,
        damaged: &Manifest,
        error: &JobError,
    ) -> Result<(Manifest, &'static str), JobError> {
        let whole = self.whole_own_packs(damaged).await?;
        let mut kept = damaged.clone();
        kept.packs
            .retain(|entry| entry.kind == PackKind::Base || whole.contains(&entry.hash));
        // Without its packs an intent cannot be taken up; whether it was carried out, a pull finds out.
        kept.intent = kept
            .intent
            .filter(|intent| intent.packs.iter().all(|entry| whole.contains(&entry.hash)));
        let hits_base = |pack| listed(damaged).any(|entry| entry.hash == pack && is_of_history(entry));
        // Where no pack is named, something is missing in all of them.
        if error.damaged_pack().is_some_and(|pack| !hits_base(pack)) {
            match self.complete(kept.clone(), "local").await {
                Ok(manifest) => return Ok((manifest, "its other packs")),
                Err(error) if error.code() != ErrorCode::SessionDamaged => return Err(error),
                Err(_) => {}
            }
        }
        let fetched = self.fetch_again(damaged).await?;
        kept.packs.retain(is_own);
        if let Some(pack) = &fetched.pack {
            let entry = self.sessions.upload_pack(&kept, pack, PackKind::Base).await?;
            kept.packs.insert(0, entry);
        }
        let (upstream, tip) = (damaged.upstream, fetched.refs.branch(&fetched.branch));
        let has_tip = damaged.fetched.depth.is_none();
        kept.refs
            .retain(|_, commit| Some(*commit) == upstream || (has_tip && Some(*commit) == tip));
        kept.shallow = fetched.shallow;
        let manifest = self.complete(kept, "refetched").await?;
        Ok((manifest, "the remote"))
    }

    /// The packs of the session's own that can be read, and its trees pack never: that one is made anew.
    async fn whole_own_packs(&self, manifest: &Manifest) -> Result<Vec<ObjectId>, JobError> {
        let workspace = self.workspace("own").await?;
        let folder = workspace.subfolder("packs").await?;
        let mut whole = Vec::new();
        for entry in listed(manifest).filter(|entry| is_own(entry)) {
            match self.sessions.download_pack(manifest, entry, &folder).await {
                Ok(_) => whole.push(entry.hash),
                Err(error) if error.code() == ErrorCode::SessionDamaged => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(whole)
    }

    /// Fetches what the session stands on at the remote, as if nothing were known of it.
    async fn fetch_again(&self, manifest: &Manifest) -> Result<Fetched, JobError> {
        let Some(upstream) = manifest.upstream else {
            let text = format!("session `{}` has nothing of the remote", manifest.session_id);
            return Err(JobError::new(ErrorCode::SessionDamaged, text));
        };
        let workspace = self.workspace("fetched").await?;
        let folder = workspace.subfolder("packs").await?;
        let is_seen = manifest.remote_tip(&manifest.branch).is_some();
        let request = FetchRequest {
            branch: is_seen.then(|| manifest.branch.clone()),
            commit: Some(upstream),
            depth: manifest.fetched.depth.and_then(NonZeroU32::new),
            ..FetchRequest::default()
        };
        let stage = self.context.events.stage_or_first();
        let progress = report(self.context.events.clone(), stage, self.from.credential.clone());
        let (client, limits) = (&self.worker.client, &self.worker.config.limits.transfer);
        let cancel = &self.context.cancel;
        let into = Destination {
            folder: &folder,
            copy: None,
        };
        Ok(fetch::fetch(client, &self.from, &request, into, limits, progress, cancel).await?)
    }

    /// Sees that everything that the session needs is in these packs, and writes its trees pack anew.
    async fn complete(&self, mut manifest: Manifest, folder: &str) -> Result<Manifest, JobError> {
        let workspace = self.workspace(folder).await?;
        manifest.packs.retain(|entry| entry.kind != PackKind::Trees);
        workspace.add_small_packs(&manifest).await?;
        let of_jobs = manifest.packs.iter().filter(|entry| entry.kind == PackKind::Job);
        let of_jobs: Vec<PackEntry> = of_jobs.cloned().collect();
        workspace.bring_packs(&manifest, &of_jobs).await?;
        if let Some(upstream) = manifest.upstream {
            workspace.require_trees(&manifest, upstream).await?;
            let into = workspace.subfolder("trees").await?;
            let trees = workspace
                .with(move |scratch| scratch.write_trees_pack(&upstream, &into))
                .await?;
            let entry = self
                .sessions
                .upload_pack(&manifest, &trees, PackKind::Trees)
                .await?;
            manifest.replace_trees(entry);
        }
        if let Some(head) = manifest.head {
            workspace.require_trees(&manifest, head).await?;
            self.require_unpushed(&workspace, &manifest, head).await?;
        }
        workspace.require_tree(&manifest, manifest.worktree).await?;
        self.require_files(&workspace, &manifest, manifest.worktree)
            .await?;
        Ok(manifest)
    }

    /// The commits that the remote lacks, and all that they brought.
    async fn require_unpushed(
        &self,
        workspace: &Workspace,
        manifest: &Manifest,
        head: CommitId,
    ) -> Result<(), JobError> {
        if manifest.has_unpushed_head() {
            workspace.pack_for_remote(manifest, head).await?;
        }
        Ok(())
    }

    async fn require_files(
        &self,
        workspace: &Workspace,
        manifest: &Manifest,
        tree: TreeId,
    ) -> Result<(), JobError> {
        match workspace.first_absent_file(manifest, tree, Vec::new()).await? {
            None => Ok(()),
            Some(id) => {
                let text = format!("file {id} of its workspace is in none of its packs");
                Err(JobError::new(ErrorCode::SessionDamaged, text))
            }
        }
    }

    /// A scratch repository of its own: what was brought before may be damaged.
    async fn workspace(&self, name: &str) -> Result<Workspace, JobError> {
        Workspace::create_below(
            self.worker,
            self.sessions,
            self.context,
            &format!("repair-{name}"),
        )
        .await
    }
}
