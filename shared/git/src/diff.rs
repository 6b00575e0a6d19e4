//! What changed between two trees: which files, how many lines, and as much of the text as fits a budget.
//!
//! A file that is absent, too large or binary is no error: it is counted as changed, without lines.
//! This module must not know what the diff is for.

mod changes;
mod patch;
mod text;

use std::collections::{HashMap, HashSet};

use bstr::{BString, ByteSlice};
use mayfly_protocol::{ObjectId, TreeId};

pub use changes::{ChangeKind, TreeChange};
pub use patch::UnifiedPatch;

use crate::scratch::{Scratch, ScratchError};
use crate::tree::{SUBMODULE, TreeEntry};
use text::Lines;

/// Bounds on a diff. What is beyond them is counted, and left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffBudget {
    /// Changed files at which the diff gives up with an error.
    pub max_changes: usize,
    /// Files that are listed.
    pub max_files: usize,
    /// Bytes of one side of a file; a larger one counts as binary.
    pub max_blob_bytes: u64,
    /// Bytes of all sides that are read; files beyond count as binary.
    pub max_read_bytes: u64,
    /// Bytes of the text of one file.
    pub max_file_text_bytes: usize,
    /// Bytes of the text of all files.
    pub max_text_bytes: usize,
    /// Unchanged lines round a change.
    pub context_lines: u32,
}

impl Default for DiffBudget {
    fn default() -> Self {
        Self {
            max_changes: 100_000,
            max_files: 1_000,
            max_blob_bytes: 1024 * 1024,
            max_read_bytes: 64 * 1024 * 1024,
            max_file_text_bytes: 16 * 1024,
            max_text_bytes: 128 * 1024,
            context_lines: 3,
        }
    }
}

/// What changed between two trees.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DiffSummary {
    /// Changed files; a file that only moved is one.
    pub files_changed: usize,
    /// Lines added in all files that could be compared.
    pub insertions: u64,
    /// Lines removed in all files that could be compared.
    pub deletions: u64,
    /// The files, by path, as many as the budget allows.
    pub files: Vec<FileDiff>,
    /// Changed files that are not in `files`.
    pub omitted_files: usize,
    /// Bytes of hunks that are in no file's `text`.
    pub omitted_bytes: u64,
}

/// What changed in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDiff {
    /// Its path; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// Its path as it is.
    pub raw_path: BString,
    /// Where it was, when it moved and is otherwise the same; `kind` is then [`ChangeKind::Modified`].
    pub old_path: Option<String>,
    /// What happened to it.
    pub kind: ChangeKind,
    /// What stood there before, or where it was when it moved.
    pub old: Option<TreeEntry>,
    /// What stands there now.
    pub new: Option<TreeEntry>,
    /// Lines added.
    pub insertions: u64,
    /// Lines removed.
    pub deletions: u64,
    /// Whether there are no lines to compare: it is binary, too large or not here.
    pub binary: bool,
    /// Its hunks in unified form, cut at the end of a line where they do not fit the budget.
    pub text: Option<String>,
    /// Bytes of hunks that are not in `text`.
    pub omitted_bytes: u64,
}

/// A change, and where the file was before if it moved.
struct Change<'a> {
    change: &'a TreeChange,
    old_path: Option<&'a TreeChange>,
}

/// What is left of a budget.
struct Left {
    text: usize,
    read: u64,
}

impl Scratch {
    /// Compares two trees; `None` is the empty one.
    pub fn diff(
        &self,
        old: Option<&TreeId>,
        new: &TreeId,
        budget: &DiffBudget,
    ) -> Result<DiffSummary, ScratchError> {
        let changes = self.changes(old, new, budget.max_changes)?;
        let changes = pair_moves(&changes);
        let mut summary = DiffSummary {
            files_changed: changes.len(),
            ..DiffSummary::default()
        };
        let mut left = Left {
            text: budget.max_text_bytes,
            read: budget.max_read_bytes,
        };
        for change in &changes {
            let lines = self.compare(change, budget, &mut left)?;
            summary.add(change, lines, budget, &mut left);
        }
        Ok(summary)
    }

    /// The old contents that [`Self::diff`] would read, at most `max` of them; files that only moved are not among them.
    pub fn blobs_needed_for_diff(changes: &[TreeChange], max: usize) -> Vec<ObjectId> {
        let compared = pair_moves(changes);
        let old = compared.iter().filter(|it| it.is_compared());
        let old = old.filter_map(|it| it.change.old.filter(TreeEntry::is_blob));
        let mut blobs: Vec<_> = old.map(|entry| entry.id).take(max).collect();
        blobs.sort_unstable();
        blobs.dedup();
        blobs
    }

    /// The contents of both sides that [`Self::diff`] would read, in the order in which it does, each once.
    pub fn all_blobs_needed_for_diff(changes: &[TreeChange]) -> Vec<ObjectId> {
        let compared = pair_moves(changes);
        let sides = compared.iter().filter(|it| it.is_compared());
        let sides = sides.flat_map(|it| [it.change.old, it.change.new]).flatten();
        let mut seen = HashSet::new();
        let blobs = sides.filter(TreeEntry::is_blob).map(|entry| entry.id);
        blobs.filter(|id| seen.insert(*id)).collect()
    }

    /// The lines of a change; `None` where there are none to compare.
    fn compare(
        &self,
        change: &Change<'_>,
        budget: &DiffBudget,
        left: &mut Left,
    ) -> Result<Option<Lines>, ScratchError> {
        let TreeChange { old, new, kind, .. } = change.change;
        if !change.is_compared() {
            return Ok(Some(Lines::default()));
        }
        let Some(old) = self.side(*old, budget, left)? else {
            return Ok(None);
        };
        let Some(new) = self.side(*new, budget, left)? else {
            return Ok(None);
        };
        if *kind == ChangeKind::TypeChanged {
            // As in git: all of the one goes, and all of the other comes.
            let gone = text::compare(&old, b"", budget)?;
            return Ok(Some(gone.followed_by(&text::compare(b"", &new, budget)?)));
        }
        text::compare(&old, &new, budget).map(Some)
    }

    /// One side's content; `None` where it is binary, too large or not here.
    fn side(
        &self,
        entry: Option<TreeEntry>,
        budget: &DiffBudget,
        left: &mut Left,
    ) -> Result<Option<Vec<u8>>, ScratchError> {
        let content = match entry {
            None => return Ok(Some(Vec::new())),
            Some(TreeEntry { mode: SUBMODULE, id }) => {
                return Ok(Some(format!("Subproject commit {id}\n").into_bytes()));
            }
            Some(entry) => self.blob(&entry.id, budget.max_blob_bytes.min(left.read)),
        };
        match content {
            Ok(content) => {
                left.read = left.read.saturating_sub(content.len() as u64);
                Ok(Some(content).filter(|content| !text::is_binary(content)))
            }
            Err(ScratchError::Missing { .. } | ScratchError::TooLarge { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }
}

impl Change<'_> {
    /// Whether its two sides are read; where it only moved, or only its mode is new, they are not.
    fn is_compared(&self) -> bool {
        let TreeChange { old, new, kind, .. } = self.change;
        let has_lines = *kind == ChangeKind::TypeChanged || old.map(|old| old.id) != new.map(|new| new.id);
        self.old_path.is_none() && has_lines
    }

    fn old(&self) -> Option<TreeEntry> {
        self.old_path.map_or(self.change.old, |old| old.old)
    }
}

impl DiffSummary {
    fn add(&mut self, change: &Change<'_>, lines: Option<Lines>, budget: &DiffBudget, left: &mut Left) {
        let binary = lines.is_none();
        let mut lines = lines.unwrap_or_default();
        self.insertions += lines.insertions;
        self.deletions += lines.deletions;
        let is_listed = self.files.len() < budget.max_files;
        let room = if is_listed { left.text } else { 0 };
        lines.cut(room);
        left.text -= lines.text.len();
        let omitted_bytes = lines.all_bytes - lines.text.len() as u64;
        self.omitted_bytes += omitted_bytes;
        if !is_listed {
            self.omitted_files += 1;
            return;
        }
        let TreeChange { path, kind, new, .. } = change.change;
        self.files.push(FileDiff {
            path: path.to_str_lossy().into_owned(),
            raw_path: path.clone(),
            old_path: change.old_path.map(|old| old.path.to_str_lossy().into_owned()),
            kind: if change.old_path.is_some() {
                ChangeKind::Modified
            } else {
                *kind
            },
            old: change.old(),
            new: *new,
            insertions: lines.insertions,
            deletions: lines.deletions,
            binary,
            text: Some(lines.text)
                .filter(|text| !text.is_empty())
                .map(text::to_string),
            omitted_bytes,
        });
    }
}

/// Finds files that were deleted in one place and came up unchanged in another. A link that became a file is another thing, as for git.
fn pair_moves(changes: &[TreeChange]) -> Vec<Change<'_>> {
    let like = |entry: &TreeEntry| (entry.id, entry.is_link());
    let mut gone = HashMap::<(ObjectId, bool), Vec<usize>>::new();
    for (index, change) in changes.iter().enumerate().rev() {
        if let (Some(old), None) = (change.old.filter(TreeEntry::is_blob), change.new) {
            gone.entry(like(&old)).or_default().push(index);
        }
    }
    let mut from = HashMap::new();
    for (index, change) in changes
        .iter()
        .enumerate()
        .filter(|(_, change)| change.old.is_none())
    {
        let source = change
            .new
            .and_then(|new| gone.get_mut(&like(&new)))
            .and_then(Vec::pop);
        from.extend(source.map(|source| (index, source)));
    }
    let moved: HashSet<usize> = from.values().copied().collect();
    let kept = changes
        .iter()
        .enumerate()
        .filter(|(index, _)| !moved.contains(index));
    kept.map(|(index, change)| Change {
        change,
        old_path: from.get(&index).map(|at| &changes[*at]),
    })
    .collect()
}
