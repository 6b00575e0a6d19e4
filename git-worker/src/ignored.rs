//! Files of the worktree that the repository's ignore rules exclude and that are not tracked: never in a commit, and in the session only within a limit.
//!
//! The rules are those of the worktree itself. What is in the tree of the head is tracked, and no rule concerns it.

use std::collections::HashSet;

use bstr::{BString, ByteSlice};
use mayfly_git::diff::TreeChange;
use mayfly_git::rules::{MAX_RULE_FILE_BYTES, RuleFiles, RuleKind};
use mayfly_git::scratch::{Scratch, ScratchError, TreeEntry};
use mayfly_git::tree::shown;
use mayfly_protocol::{ErrorCode, ObjectId, TreeId, answer};
use mayfly_session::Manifest;

use crate::failure::JobError;
use crate::workspace::Workspace;

/// Paths that are named to the client; the others are counted.
const MAX_NAMED: usize = 10;

/// What a worktree holds that no commit takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ignored {
    files: Vec<(BString, TreeEntry)>,
    /// The worktree without these files.
    pub(crate) committable: TreeId,
}

impl Ignored {
    /// Nothing that is ignored.
    pub(crate) fn none(worktree: TreeId) -> Self {
        Self {
            files: Vec::new(),
            committable: worktree,
        }
    }

    /// The tree `to` with these files of `worktree`, for a session that moves there and has nothing else of its own.
    pub(crate) async fn carry(
        &self,
        workspace: &Workspace,
        manifest: &Manifest,
        (worktree, to): (TreeId, TreeId),
    ) -> Result<TreeId, JobError> {
        if self.files.is_empty() {
            return Ok(to);
        }
        let base = self.committable;
        let merged = workspace.with_trees(manifest, move |scratch| {
            scratch.merge_worktree(&base, &worktree, &to)
        });
        merged.await
    }

    /// What the client is told; nothing where there is nothing to tell.
    pub(crate) fn told(&self) -> Option<answer::Ignored> {
        told(self.files.iter().map(|it| &it.0))
    }

    /// The same in words.
    pub(crate) fn words(&self) -> Option<String> {
        words("Left out of the commit", self.files.iter().map(|it| &it.0))
    }
}

/// Finds what the rules of the worktree exclude of what is not in `base`, the tree of the head.
pub(crate) async fn find(
    workspace: &Workspace,
    manifest: &Manifest,
    (base, worktree): (TreeId, TreeId),
    max_changes: usize,
) -> Result<Ignored, JobError> {
    let none = Ignored::none(worktree);
    if base == worktree {
        return Ok(none);
    }
    let changes = workspace.changes(manifest, (base, worktree), max_changes).await?;
    let new: Vec<_> = changes.into_iter().filter_map(untracked).collect();
    let Some(rules) = rules(workspace, manifest, worktree, RuleKind::Ignore, &new).await? else {
        return Ok(none);
    };
    let found = workspace.with(move |scratch| {
        let paths = new.iter().map(|it| it.0.clone()).collect();
        let ignored: HashSet<_> = scratch.ignored(&rules, paths)?.into_iter().collect();
        let files: Vec<_> = new.into_iter().filter(|it| ignored.contains(&it.0)).collect();
        let committable = scratch.without(&worktree, files.iter().map(|it| it.0.as_bstr()))?;
        Ok::<_, ScratchError>(Ignored { files, committable })
    });
    found.await
}

/// The rules that concern these paths, with their blobs here; `None` where there are none.
pub(crate) async fn rules(
    workspace: &Workspace,
    manifest: &Manifest,
    tree: TreeId,
    kind: RuleKind,
    files: &[(BString, TreeEntry)],
) -> Result<Option<RuleFiles>, JobError> {
    let paths: Vec<BString> = files.iter().map(|it| it.0.clone()).collect();
    let rules = workspace.with(move |scratch| {
        let paths = paths.iter().map(|path| path.as_bstr());
        scratch.rule_files(&tree, kind, paths)
    });
    let rules = rules.await?;
    bring(workspace, manifest, &rules).await?;
    Ok(Some(rules).filter(|rules| !rules.is_empty()))
}

/// Brings the blobs of rules here.
pub(crate) async fn bring(
    workspace: &Workspace,
    manifest: &Manifest,
    rules: &RuleFiles,
) -> Result<(), JobError> {
    let blobs = rules.blobs();
    workspace
        .require_files(manifest, blobs.clone(), MAX_RULE_FILE_BYTES)
        .await?;
    let too_large = workspace.with(move |scratch| {
        let is_readable = |id: &ObjectId| {
            scratch
                .blob_size(id)
                .is_ok_and(|bytes| bytes <= MAX_RULE_FILE_BYTES)
        };
        Ok::<_, JobError>(blobs.into_iter().find(|id| !is_readable(id)))
    });
    match too_large.await? {
        None => Ok(()),
        Some(blob) => {
            let path = rules.path_of(&blob);
            let text = format!(
                "`{path}` has more than {MAX_RULE_FILE_BYTES} bytes, so its rules cannot be read; make it smaller"
            );
            Err(JobError::new(ErrorCode::ObjectTooLarge, text))
        }
    }
}

/// What became of the ignored files of a worktree that is to be saved.
pub(crate) struct Saved {
    /// The worktree with those that are kept.
    pub(crate) worktree: TreeId,
    left_out: Vec<BString>,
}

impl Saved {
    pub(crate) fn told(&self) -> Option<answer::Ignored> {
        told(self.left_out.iter())
    }

    pub(crate) fn words(&self) -> Option<String> {
        words("Left out", self.left_out.iter())
    }
}

/// Takes out of the worktree what it may not keep: ignored files stay, in the order of their paths, as long as all that stay fit the limit.
/// What is left out is not stored either.
pub(crate) async fn save(
    workspace: &Workspace,
    manifest: &Manifest,
    (ignored, worktree): (Ignored, TreeId),
    max_bytes: u64,
) -> Result<Saved, JobError> {
    if ignored.files.is_empty() {
        return Ok(Saved {
            worktree,
            left_out: Vec::new(),
        });
    }
    if max_bytes > 0 {
        let blobs = ignored.files.iter().map(|it| it.1.id).collect();
        workspace.require_files(manifest, blobs, max_bytes).await?;
    }
    let saved = workspace.with(move |scratch| {
        let mut left = max_bytes;
        let (mut left_out, files) = (Vec::new(), ignored.files);
        for (path, entry) in files {
            match size(scratch, &entry).filter(|bytes| max_bytes > 0 && *bytes <= left) {
                Some(bytes) => left -= bytes,
                None => left_out.push(path),
            }
        }
        let worktree = scratch.without(&worktree, left_out.iter().map(|path| path.as_bstr()))?;
        scratch.keep_only(&worktree)?;
        Ok::<_, ScratchError>(Saved { worktree, left_out })
    });
    saved.await
}

/// `None` for what is not here, because it is larger than all that may be kept.
fn size(scratch: &Scratch, entry: &TreeEntry) -> Option<u64> {
    match entry.is_blob() {
        true => scratch.blob_size(&entry.id).ok(),
        false => Some(0),
    }
}

/// What stands where nothing stood.
fn untracked(change: TreeChange) -> Option<(BString, TreeEntry)> {
    match (change.old, change.new) {
        (None, Some(new)) => Some((change.path, new)),
        _ => None,
    }
}

fn told<'a>(paths: impl ExactSizeIterator<Item = &'a BString>) -> Option<answer::Ignored> {
    let count = paths.len();
    let paths = paths.take(MAX_NAMED).map(|path| shown(path)).collect();
    (count > 0).then_some(answer::Ignored { count, paths })
}

fn words<'a>(what: &str, paths: impl ExactSizeIterator<Item = &'a BString>) -> Option<String> {
    let count = paths.len();
    let named: Vec<_> = paths.take(MAX_NAMED).map(|path| shown(path)).collect();
    let more = if count > named.len() { ", …" } else { "" };
    let files = if count == 1 { "file" } else { "files" };
    (count > 0).then(|| {
        format!(
            "{what}: {count} {files} that the repository's ignore rules exclude ({}{more})",
            named.join(", ")
        )
    })
}
