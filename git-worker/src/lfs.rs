//! Git LFS in a session: contents are fetched after a clone or a pull, made when files change, and sent before a push.
//!
//! Which files are concerned is what `.gitattributes` of the worktree say (`filter=lfs`); where their contents are is the repository's own address.
//! This module must not know the wire of the batch API.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

use bstr::{BString, ByteSlice};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use mayfly_git::diff::TreeChange;
use mayfly_git::remote::Remote;
use mayfly_git::rules::RuleKind;
use mayfly_git::scratch::{Scratch, ScratchError, TreeEntry};
use mayfly_git::tree::{EXECUTABLE, FILE, shown};
use mayfly_lfs::{Download, LfsClient};
use mayfly_protocol::answer::LfsMoved;
use mayfly_protocol::lfs::{LfsId, LfsPointer, MAX_POINTER_BYTES};
use mayfly_protocol::{CommitId, ErrorCode, ObjectId, Stage, TreeId};
use mayfly_session::{LfsEntry, LfsOrigin, LfsWeek, Manifest, SessionStore};
use mayfly_worker::JobContext;
use sha2::{Digest, Sha256};

use crate::GitWorker;
use crate::failure::JobError;
use crate::ignored;
use crate::receive::in_units;
use crate::workspace::Workspace;

/// What every part of it needs.
#[derive(Clone, Copy)]
pub(crate) struct Lfs<'a> {
    pub(crate) worker: &'a GitWorker,
    pub(crate) workspace: &'a Workspace,
    pub(crate) sessions: &'a SessionStore,
    pub(crate) context: &'a JobContext,
}

impl Lfs<'_> {
    /// Fetches the contents of the worktree that the session does not have; those that the tenant has are not moved again.
    pub(crate) async fn fetch(
        self,
        manifest: &mut Manifest,
        (remote, stage): (&Remote, Stage),
    ) -> Result<LfsMoved, JobError> {
        let known = self.sessions.lfs_entries(manifest, None).await?;
        let known: HashSet<ObjectId> = known.into_keys().collect();
        let entries = self.unknown_pointers(manifest, known).await?;
        let mut missing = Vec::new();
        for pointer in entries.iter().map(LfsEntry::pointer).collect::<BTreeSet<_>>() {
            if !self.has_content(manifest, &pointer).await? {
                missing.push(pointer);
            }
        }
        let moved = moved_of(&missing);
        if !missing.is_empty() {
            let size = in_units(moved.bytes);
            let words = format!("Fetching {} Git LFS objects ({size})", moved.objects);
            self.context.events.stage(stage, words);
            self.download(manifest, &missing, remote).await?;
        }
        let origin = (LfsOrigin::Remote, self.week());
        self.sessions.add_lfs_entries(manifest, entries, origin).await?;
        Ok(moved)
    }

    /// The week in which the job stores things: that in which this attempt began, so that a week is over for all jobs soon after its end.
    fn week(self) -> LfsWeek {
        LfsWeek::of(self.context.started_at)
    }

    /// Whether the content is stored in this week, also by a copy from the week before.
    async fn has_content(self, manifest: &Manifest, pointer: &LfsPointer) -> Result<bool, JobError> {
        let folder = self.workspace.subfolder("lfs-copies").await?;
        let place = (pointer, self.week());
        Ok(self
            .sessions
            .take_up_lfs_content(manifest, place, &folder)
            .await?)
    }

    /// Stores a file, which was held against its pointer and is not needed afterwards.
    async fn store(self, manifest: &Manifest, pointer: &LfsPointer, file: PathBuf) -> Result<(), JobError> {
        let place = (&pointer.id, self.week());
        Ok(self.sessions.put_lfs_file(manifest, place, file).await?)
    }

    /// The pointers of the worktree, in files that Git LFS cares for, whose blobs are not among these.
    async fn unknown_pointers(
        self,
        manifest: &Manifest,
        known: HashSet<ObjectId>,
    ) -> Result<Vec<LfsEntry>, JobError> {
        let (worktree, max) = (manifest.worktree, self.worker.config.limits.tree.max_entries);
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        self.workspace.add_packs_of_trees(manifest).await?;
        self.workspace.require_tree(manifest, worktree).await?;
        let rules = self
            .workspace
            .with(move |scratch| scratch.all_rule_files(&worktree, RuleKind::Attributes, max));
        let rules = rules.await?;
        ignored::bring(self.workspace, manifest, &rules).await?;
        let blobs = self.workspace.with(move |scratch| {
            let files = files(scratch, &worktree, max)?;
            let paths = files.iter().map(|it| it.0.clone()).collect();
            let paths: HashSet<BString> = scratch.lfs_paths(&rules, paths)?.into_iter().collect();
            let blobs = files
                .into_iter()
                .filter(|it| paths.contains(&it.0))
                .map(|it| it.1);
            let blobs: BTreeSet<ObjectId> = blobs.filter(|blob| !known.contains(blob)).collect();
            Ok::<_, ScratchError>(blobs.into_iter().collect::<Vec<_>>())
        });
        let blobs = blobs.await?;
        self.workspace
            .require_files(manifest, blobs.clone(), MAX_POINTER_BYTES)
            .await?;
        let week = self.week();
        let entries = self.workspace.with(move |scratch| {
            let entries = blobs.into_iter().filter_map(|blob| {
                let text = scratch.blob(&blob, MAX_POINTER_BYTES).ok()?;
                let LfsPointer { id, bytes } = LfsPointer::parse(&text)?;
                Some(LfsEntry {
                    blob,
                    oid: id,
                    size: bytes,
                    week,
                })
            });
            Ok::<_, JobError>(entries.collect())
        });
        entries.await
    }

    async fn download(
        self,
        manifest: &Manifest,
        missing: &[LfsPointer],
        remote: &Remote,
    ) -> Result<(), JobError> {
        let limits = &self.worker.config.limits.lfs;
        let client = LfsClient::new(&self.worker.client, remote, limits, &self.context.cancel);
        let folder = self.workspace.subfolder("lfs").await?;
        let downloads = client.downloads(missing, &manifest.branch.to_ref()).await?;
        let transfers = downloads
            .into_iter()
            .map(|download| self.take(manifest, client, download, folder.clone()));
        let transfers = stream::iter(transfers).buffer_unordered(limits.transfers_at_once);
        transfers.try_collect::<()>().await
    }

    async fn take(
        self,
        manifest: &Manifest,
        client: LfsClient<'_>,
        download: Download,
        folder: PathBuf,
    ) -> Result<(), JobError> {
        let pointer = download.pointer();
        let file = folder.join(pointer.id.to_string());
        client.fetch(&download, &file).await?;
        self.store(manifest, &pointer, file).await
    }

    /// Puts pointers into the worktree for what was changed in files that Git LFS cares for, and stores their contents.
    ///
    /// In a session without Git LFS such a change is refused: as it is, it would be committed as an ordinary file, which every client of the
    /// repository that has Git LFS would then complain about.
    pub(crate) async fn clean(
        self,
        manifest: &mut Manifest,
        (before, after): (TreeId, TreeId),
    ) -> Result<TreeId, JobError> {
        let raw = self.raw_files(manifest, (before, after)).await?;
        let Some((first, _)) = raw.first() else {
            return Ok(after);
        };
        if manifest.lfs.is_none() {
            return Err(JobError::new(
                ErrorCode::LfsNotEnabled,
                format!(
                    "`.gitattributes` give `{}` to Git LFS, and session `{}` was cloned without it; clone into it again with `lfs: true`, or change other files",
                    shown(first),
                    manifest.session_id
                ),
            ));
        }
        let (week, mut pointers) = (self.week(), Vec::new());
        for (path, content) in raw {
            let content = Bytes::from(content);
            let pointer = pointer_of(content.clone()).await;
            self.sessions
                .put_lfs_content(manifest, (&pointer.id, week), content)
                .await?;
            pointers.push((path, pointer));
        }
        let cleaned = self.workspace.with(move |scratch| {
            let texts = pointers
                .iter()
                .map(|(path, pointer)| (path.as_bstr(), pointer.to_text()));
            let (tree, blobs) = scratch.with_files(&after, texts)?;
            scratch.keep_only(&tree)?;
            let entries = blobs
                .into_iter()
                .zip(&pointers)
                .map(|(blob, (_, pointer))| LfsEntry {
                    blob,
                    oid: pointer.id,
                    size: pointer.bytes,
                    week,
                });
            Ok::<_, ScratchError>((tree, entries.collect::<Vec<_>>()))
        });
        let (tree, entries) = cleaned.await?;
        self.sessions
            .add_lfs_entries(manifest, entries, (LfsOrigin::Job, week))
            .await?;
        Ok(tree)
    }

    /// The changed files that Git LFS cares for and that hold neither a pointer nor nothing, with their contents.
    async fn raw_files(
        self,
        manifest: &Manifest,
        (before, after): (TreeId, TreeId),
    ) -> Result<Vec<(BString, Vec<u8>)>, JobError> {
        let limits = &self.worker.config.limits;
        let max_bytes = limits.max_patched_file_bytes;
        let changes = self
            .workspace
            .changes(manifest, (before, after), limits.diff.max_changes)
            .await?;
        let changed: Vec<_> = changes.into_iter().filter_map(changed_file).collect();
        let rules = ignored::rules(self.workspace, manifest, after, RuleKind::Attributes, &changed).await?;
        let Some(rules) = rules else {
            return Ok(Vec::new());
        };
        let cared_for = self.workspace.with(move |scratch| {
            let paths = changed.iter().map(|it| it.0.clone()).collect();
            let paths: HashSet<BString> = scratch.lfs_paths(&rules, paths)?.into_iter().collect();
            let files = changed.into_iter().filter(|it| paths.contains(&it.0));
            Ok::<_, ScratchError>(files.collect::<Vec<_>>())
        });
        let cared_for = cared_for.await?;
        let blobs = cared_for.iter().map(|it| it.1.id).collect();
        self.workspace.require_files(manifest, blobs, max_bytes).await?;
        let raw = self.workspace.with(move |scratch| {
            let mut raw = Vec::new();
            for (path, entry) in cared_for {
                let content = scratch.blob(&entry.id, max_bytes)?;
                // An empty file is its own pointer.
                if !content.is_empty() && !LfsPointer::is_meant(&content) {
                    raw.push((path, content));
                }
            }
            Ok::<_, ScratchError>(raw)
        });
        raw.await
    }

    /// Sends the contents that jobs of the session made and that a push of `head` speaks of, as far as the remote lacks them.
    pub(crate) async fn send(
        self,
        manifest: &Manifest,
        head: CommitId,
        remote: &Remote,
    ) -> Result<LfsMoved, JobError> {
        let made = self.sessions.lfs_entries(manifest, Some(LfsOrigin::Job)).await?;
        if made.is_empty() {
            return Ok(LfsMoved::default());
        }
        let sent = self.workspace.objects_to_send(manifest, head).await?;
        let entries = sent.into_iter().filter_map(|blob| made.get(&blob));
        let entries: BTreeMap<LfsPointer, &LfsEntry> =
            entries.map(|entry| (entry.pointer(), entry)).collect();
        let pointers: Vec<_> = entries.keys().copied().collect();
        if pointers.is_empty() {
            return Ok(LfsMoved::default());
        }
        let limits = &self.worker.config.limits.lfs;
        let client = LfsClient::new(&self.worker.client, remote, limits, &self.context.cancel);
        let uploads = client.uploads(&pointers, &manifest.branch.to_ref()).await?;
        let wanted: Vec<_> = uploads.iter().map(mayfly_lfs::Upload::pointer).collect();
        let moved = moved_of(&wanted);
        for upload in &uploads {
            if let Some(entry) = entries.get(&upload.pointer()) {
                let content = self.sessions.lfs_content(manifest, entry).await?;
                client.send_content(upload, content).await?;
            }
        }
        if moved.objects > 0 {
            let words = format!(
                "Sent {} Git LFS objects ({})",
                moved.objects,
                in_units(moved.bytes)
            );
            self.context.events.stage(Stage::Pushing, words);
        }
        Ok(moved)
    }
}

/// What it comes to when these contents are moved.
fn moved_of(pointers: &[LfsPointer]) -> LfsMoved {
    LfsMoved {
        objects: pointers.len(),
        bytes: pointers
            .iter()
            .map(|pointer| pointer.bytes)
            .fold(0, u64::saturating_add),
    }
}

async fn pointer_of(content: Bytes) -> LfsPointer {
    let hashed = mayfly_telemetry::task::blocking(move || LfsPointer {
        id: LfsId::from_bytes(Sha256::digest(&content).into()),
        bytes: content.len() as u64,
    });
    hashed.await
}

/// All regular files of a tree.
fn files(scratch: &Scratch, tree: &TreeId, max: usize) -> Result<Vec<(BString, ObjectId)>, ScratchError> {
    let mut files = Vec::new();
    scratch.walk(tree, max, |path, entry| {
        if is_file(entry) {
            files.push((path.into(), entry.id));
        }
        Ok::<_, ScratchError>(())
    })?;
    Ok(files)
}

/// The regular file that a change left behind, unless its content is what it was.
fn changed_file(change: TreeChange) -> Option<(BString, TreeEntry)> {
    let new = change.new.filter(is_file)?;
    let is_as_it_was = change.old.is_some_and(|old| is_file(&old) && old.id == new.id);
    (!is_as_it_was).then_some((change.path, new))
}

fn is_file(entry: &TreeEntry) -> bool {
    matches!(entry.mode, FILE | EXECUTABLE)
}
