//! Merges two trees by whole paths: what only one side changed is taken, what both changed differently is a conflict.
//!
//! No file is read: this is how uncommitted changes go along when a session moves to a newer commit.

use std::collections::BTreeMap;

use bstr::BString;
use mayfly_protocol::limits::MAX_PATH_DEPTH;
use mayfly_protocol::{ErrorCode, TreeId};

use crate::object::ObjectKind;
use crate::scratch::{Scratch, ScratchError};
use crate::tree::{self, TreeEntry, shown};

/// Conflicting paths that an error names.
const MAX_NAMED_CONFLICTS: usize = 20;

/// Two trees could not be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// Both sides changed these paths, each in its own way.
    #[error("both sides changed {}; commit the changes, or undo them", named(paths, *more))]
    Conflict {
        /// The paths, with odd characters escaped; at most 20.
        paths: Vec<String>,
        /// Conflicting paths beyond those.
        more: usize,
    },
    /// The trees cannot be read, or the merged one cannot be made.
    #[error("the trees cannot be merged")]
    Scratch(#[from] ScratchError),
}

impl MergeError {
    /// The code for clients.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Conflict { .. } => ErrorCode::PullConflict,
            Self::Scratch(error) => error.code(),
        }
    }
}

fn named(paths: &[String], more: usize) -> String {
    let list = paths
        .iter()
        .map(|path| format!("`{path}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if more == 0 {
        list
    } else {
        format!("{list} and {more} more")
    }
}

/// One name in the three trees.
#[derive(Debug, Clone, Copy, Default)]
struct Three {
    base: Option<TreeEntry>,
    ours: Option<TreeEntry>,
    theirs: Option<TreeEntry>,
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Base,
    Ours,
    Theirs,
}

impl Three {
    fn side(&mut self, side: Side) -> &mut Option<TreeEntry> {
        match side {
            Side::Base => &mut self.base,
            Side::Ours => &mut self.ours,
            Side::Theirs => &mut self.theirs,
        }
    }

    fn map(self, part: impl Fn(TreeEntry) -> bool) -> Self {
        let pick = |side: Option<TreeEntry>| side.filter(|entry| part(*entry));
        Self {
            base: pick(self.base),
            ours: pick(self.ours),
            theirs: pick(self.theirs),
        }
    }

    /// The outcome where at most one side changed, or both did the same.
    fn settled(self) -> Option<Option<TreeEntry>> {
        let Self { base, ours, theirs } = self;
        if ours == theirs || theirs == base {
            Some(ours)
        } else if ours == base {
            Some(theirs)
        } else {
            None
        }
    }
}

impl Scratch {
    /// Merges by whole paths: the tree that has what `ours` and `theirs` each changed since `base`.
    pub fn merge_worktree(
        &self,
        base: &TreeId,
        ours: &TreeId,
        theirs: &TreeId,
    ) -> Result<TreeId, MergeError> {
        let entry = |id: &TreeId| {
            Some(TreeEntry {
                mode: tree::FOLDER,
                id: *id,
            })
        };
        let roots = Three {
            base: entry(base),
            ours: entry(ours),
            theirs: entry(theirs),
        };
        let mut merge = Merge {
            scratch: self,
            path: BString::default(),
            depth: 0,
            conflicts: Vec::new(),
            more: 0,
        };
        let merged = merge.folders(roots)?;
        if !merge.conflicts.is_empty() {
            return Err(MergeError::Conflict {
                paths: merge.conflicts,
                more: merge.more,
            });
        }
        match merged {
            Some(entry) if entry.id != TreeId::EMPTY_TREE => Ok(entry.id),
            _ => Ok(self.write(ObjectKind::Tree, b"")?),
        }
    }
}

struct Merge<'a> {
    scratch: &'a Scratch,
    path: BString,
    depth: usize,
    conflicts: Vec<String>,
    more: usize,
}

impl Merge<'_> {
    /// Merges folders of one path, where a missing one counts as empty; `None`: nothing is left.
    fn folders(&mut self, three: Three) -> Result<Option<TreeEntry>, ScratchError> {
        if let Some(settled) = three.settled() {
            return Ok(settled);
        }
        if self.depth > MAX_PATH_DEPTH {
            return Err(ScratchError::TooMany {
                what: "levels of folders",
                max: MAX_PATH_DEPTH,
            });
        }
        let mut merged = Vec::new();
        for (name, three) in self.names(three)? {
            let before = self.path.len();
            if before > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name);
            self.depth += 1;
            merged.extend(self.name(three)?.map(|entry| (name, entry)));
            self.depth -= 1;
            self.path.truncate(before);
        }
        if merged.is_empty() || !self.conflicts.is_empty() {
            return Ok(None);
        }
        let id = self.scratch.write(ObjectKind::Tree, &tree::to_bytes(merged))?;
        Ok(Some(TreeEntry {
            mode: tree::FOLDER,
            id,
        }))
    }

    /// Merges what stands under one name: its file and its folder each for itself, as a file may have become a folder.
    fn name(&mut self, three: Three) -> Result<Option<TreeEntry>, ScratchError> {
        let files = three.map(|entry| !entry.is_folder());
        let folder = self.folders(three.map(|entry| entry.is_folder()))?;
        match (files.settled(), folder) {
            (Some(None), folder) => Ok(folder),
            (Some(file), None) => Ok(file),
            _ => {
                self.conflict();
                Ok(None)
            }
        }
    }

    fn conflict(&mut self) {
        if self.conflicts.len() < MAX_NAMED_CONFLICTS {
            self.conflicts.push(shown(&self.path));
        } else {
            self.more += 1;
        }
    }

    fn names(&self, three: Three) -> Result<BTreeMap<BString, Three>, ScratchError> {
        let mut names = BTreeMap::<BString, Three>::new();
        for (folder, side) in [
            (three.base, Side::Base),
            (three.ours, Side::Ours),
            (three.theirs, Side::Theirs),
        ] {
            let Some(folder) = folder else { continue };
            self.scratch.each_entry(&folder.id, |entry| {
                let three = names.entry(entry.name.to_owned()).or_default();
                *three.side(side) = Some(entry.entry());
                Ok(())
            })?;
        }
        Ok(names)
    }
}
