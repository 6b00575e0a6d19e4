//! The worktree against the head: per file, or as one unified diff.

use mayfly_git::diff::{ChangeKind, DiffSummary, FileDiff, UnifiedPatch};
use mayfly_git::scratch::Scratch;
use mayfly_git::tree::TreeEntry;
use mayfly_protocol::{CommitId, Generation, SessionId, TreeId};
use schemars::JsonSchema;
use serde::Serialize;

use super::objects::Objects;
use super::{SessionView, ViewError};
use crate::manifest::{MAX_WHOLE_BYTES, PackKind};

/// The worktree against the head, file by file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionDiff {
    /// The session.
    pub session_id: SessionId,
    /// The save that is shown.
    pub generation: Generation,
    /// The commit that the worktree is compared with; `None` where there is none.
    pub head_sha: Option<CommitId>,
    /// The tree that is the worktree.
    pub worktree: TreeId,
    /// Changed files; a file that only moved is one.
    pub files_changed: usize,
    /// Lines added in all files that could be compared.
    pub insertions: u64,
    /// Lines removed in all files that could be compared.
    pub deletions: u64,
    /// The files, by path, as many as are shown.
    pub files: Vec<ChangedFile>,
    /// Changed files that are not in `files`.
    pub omitted_files: usize,
    /// Bytes of hunks that are in no file's `text`.
    pub omitted_bytes: u64,
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileChange {
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
    /// Its content or its mode is another.
    Modified,
    /// It is the same in another place.
    Renamed,
    /// It was a file and is a link or a submodule now, or the like.
    TypeChanged,
}

/// What changed in one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangedFile {
    /// Its path; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// Its path with every byte that is not plain as `%xx`, ready to stand in an address.
    pub path_encoded: String,
    /// Where it was, when it moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_path: Option<String>,
    /// What happened to it.
    pub change: FileChange,
    /// Its mode before, six octal digits; `None` when it is new.
    pub old_mode: Option<String>,
    /// Its mode now; `None` when it is gone.
    pub new_mode: Option<String>,
    /// Lines added.
    pub insertions: u64,
    /// Lines removed.
    pub deletions: u64,
    /// Whether there are no lines to compare: it is binary, or larger than what is compared.
    pub binary: bool,
    /// Its hunks in unified form, cut at the end of a line where they do not fit; bytes that are not UTF-8 are replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Bytes of its hunks that are not in `text`.
    pub omitted_bytes: u64,
}

impl SessionView {
    /// Compares the worktree with the head, file by file.
    pub async fn diff(&self) -> Result<SessionDiff, ViewError> {
        let (objects, head_tree) = self.sides().await?;
        let (worktree, budget) = (self.manifest.worktree, self.limits.diff.clone());
        let summary = objects.with(move |scratch| scratch.diff(Some(&head_tree), &worktree, &budget));
        Ok(self.shown(summary.await?))
    }

    /// Compares the worktree with the head as one unified diff.
    pub async fn patch(&self) -> Result<UnifiedPatch, ViewError> {
        let (objects, head_tree) = self.sides().await?;
        let (worktree, budget) = (self.manifest.worktree, self.limits.diff.clone());
        objects
            .with(move |scratch| scratch.patch(Some(&head_tree), &worktree, &budget))
            .await
    }

    /// A scratch repository with all that a comparison reads, and the tree of the head.
    async fn sides(&self) -> Result<(Objects<'_>, TreeId), ViewError> {
        let small = || {
            let packs = self.manifest.packs.iter();
            // All trees of the head are compared, so their pack is read whole however large it is.
            packs.filter(|entry| entry.kind == PackKind::Trees || entry.is_read_whole(MAX_WHOLE_BYTES))
        };
        self.check_packs(small(), self.limits.max_diff_pack_bytes)?;
        let objects = Objects::open(self).await?;
        objects.download(small()).await?;
        let head_tree = match self.manifest.head {
            None => TreeId::EMPTY_TREE,
            Some(head) => self.tree_of(&objects, head).await?,
        };
        let worktree = self.manifest.worktree;
        objects.require_trees(head_tree).await?;
        objects.require_trees(worktree).await?;
        let budget = &self.limits.diff;
        let max_changes = budget.max_changes;
        let needed = objects.with(move |scratch| {
            let changes = scratch.changes(Some(&head_tree), &worktree, max_changes)?;
            Ok(Scratch::all_blobs_needed_for_diff(&changes))
        });
        objects
            .bring_blobs(needed.await?, budget.max_blob_bytes, budget.max_read_bytes)
            .await?;
        Ok((objects, head_tree))
    }

    async fn tree_of(&self, objects: &Objects<'_>, head: CommitId) -> Result<TreeId, ViewError> {
        if !objects.with(move |scratch| Ok(scratch.has(&head))).await? {
            objects.require(vec![head]).await?;
        }
        objects.with(move |scratch| scratch.commit_tree(&head)).await
    }

    fn shown(&self, summary: DiffSummary) -> SessionDiff {
        SessionDiff {
            session_id: self.manifest.session_id.clone(),
            generation: self.manifest.generation,
            head_sha: self.manifest.head,
            worktree: self.manifest.worktree,
            files_changed: summary.files_changed,
            insertions: summary.insertions,
            deletions: summary.deletions,
            files: summary.files.into_iter().map(changed_file).collect(),
            omitted_files: summary.omitted_files,
            omitted_bytes: summary.omitted_bytes,
        }
    }
}

fn changed_file(file: FileDiff) -> ChangedFile {
    let mode = |side: Option<TreeEntry>| side.map(|entry| format!("{:06o}", entry.mode));
    ChangedFile {
        path_encoded: encoded(&file.raw_path),
        path: file.path,
        change: match file.kind {
            ChangeKind::Added => FileChange::Added,
            ChangeKind::Deleted => FileChange::Deleted,
            ChangeKind::Modified if file.old_path.is_some() => FileChange::Renamed,
            ChangeKind::Modified => FileChange::Modified,
            ChangeKind::TypeChanged => FileChange::TypeChanged,
        },
        old_path: file.old_path,
        old_mode: mode(file.old),
        new_mode: mode(file.new),
        insertions: file.insertions,
        deletions: file.deletions,
        binary: file.binary,
        text: file.text,
        omitted_bytes: file.omitted_bytes,
    }
}

/// A path for an address: the unreserved characters of RFC 3986 and slashes stay, every other byte becomes `%xx`.
fn encoded(path: &[u8]) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let encode = |byte: &u8| match *byte {
        plain if is_plain(plain) => char::from(plain).to_string(),
        other => format!("%{other:02X}"),
    };
    path.iter().map(encode).collect()
}
