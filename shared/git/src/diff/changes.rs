//! Which paths differ between two trees. No file is read.

use std::collections::BTreeMap;

use bstr::{BString, ByteSlice};
use mayfly_protocol::TreeId;

use crate::scratch::{Scratch, ScratchError};
use crate::tree::{EXECUTABLE, FILE, TreeEntry};

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
    /// Its content or its mode is another.
    Modified,
    /// It was a file and is a link or a submodule now, or the like.
    TypeChanged,
}

/// One path that differs. Folders are not listed, but what is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeChange {
    /// The path.
    pub path: BString,
    /// What happened to it.
    pub kind: ChangeKind,
    /// What stood there before.
    pub old: Option<TreeEntry>,
    /// What stands there now.
    pub new: Option<TreeEntry>,
}

/// The two sides of one path.
type Sides = (Option<TreeEntry>, Option<TreeEntry>);

impl Scratch {
    /// The paths that differ between two trees, in order; `None` is the empty tree. More than `max` are
    /// [`ScratchError::TooMany`].
    pub fn changes(
        &self,
        old: Option<&TreeId>,
        new: &TreeId,
        max: usize,
    ) -> Result<Vec<TreeChange>, ScratchError> {
        let mut changes = Vec::new();
        let mut open = vec![(BString::default(), old.copied(), Some(*new))];
        let mut looked = 0;
        while let Some((path, old, new)) = open.pop() {
            looked += 1;
            self.check_object_count(looked)?;
            if old == new {
                continue;
            }
            for (name, (old, new)) in self.names(old, new)? {
                let path = if path.is_empty() {
                    name
                } else {
                    [&path[..], b"/", &name].concat().into()
                };
                let folder =
                    |side: Option<TreeEntry>| side.filter(TreeEntry::is_folder).map(|entry| entry.id);
                let file = |side: Option<TreeEntry>| side.filter(|entry| !entry.is_folder());
                changes.extend(change(&path, file(old), file(new)));
                if folder(old) != folder(new) {
                    open.push((path, folder(old), folder(new)));
                }
            }
            if changes.len() > max {
                return Err(ScratchError::TooMany {
                    what: "changed files",
                    max,
                });
            }
        }
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(changes)
    }

    fn names(
        &self,
        old: Option<TreeId>,
        new: Option<TreeId>,
    ) -> Result<BTreeMap<BString, Sides>, ScratchError> {
        let mut names = BTreeMap::<BString, Sides>::new();
        if let Some(old) = old {
            self.each_entry(&old, |entry| {
                names.insert(entry.name.to_owned(), (Some(entry.entry()), None));
                Ok(())
            })?;
        }
        if let Some(new) = new {
            self.each_entry(&new, |entry| {
                match names.get_mut(entry.name) {
                    Some(sides) => sides.1 = Some(entry.entry()),
                    None => drop(names.insert(entry.name.to_owned(), (None, Some(entry.entry())))),
                }
                Ok(())
            })?;
        }
        names.retain(|_, (old, new)| old != new);
        Ok(names)
    }
}

fn change(path: &BString, old: Option<TreeEntry>, new: Option<TreeEntry>) -> Option<TreeChange> {
    let is_file = |entry: TreeEntry| matches!(entry.mode, FILE | EXECUTABLE);
    let kind = match (old, new) {
        (None, None) => return None,
        (None, Some(_)) => ChangeKind::Added,
        (Some(_), None) => ChangeKind::Deleted,
        (Some(old), Some(new)) if old.mode == new.mode || (is_file(old) && is_file(new)) => {
            ChangeKind::Modified
        }
        _ => ChangeKind::TypeChanged,
    };
    Some(TreeChange {
        path: path.as_bstr().to_owned(),
        kind,
        old,
        new,
    })
}
