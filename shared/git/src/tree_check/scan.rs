//! Looks at the entries of one tree.
//!
//! Source of the classes: `fsck_tree` and `verify_ordered` in git's `fsck.c`.

use std::cmp::Ordering;

use bstr::{BStr, BString, ByteSlice};
use mayfly_protocol::TreeId;
use mayfly_protocol::path::{check_component, is_dot_gitmodules};

use super::{TreeCheckError, TreeFault};
use crate::tree::{EntryRef, FOLDER, LINK, SUBMODULE, entries, name_order};

/// The bits of a mode that say what kind of entry it is, and those of a file. The permissions of old files are harmless: git reads
/// them as one of two.
const KIND: u32 = 0o170_000;
const ANY_FILE: u32 = 0o100_000;
/// Files besides `.gitmodules` that git reads, none of which a change may make a link.
const READ_BY_GIT: [&[u8]; 3] = [b".gitattributes", b".gitignore", b".mailmap"];

/// A folder in a tree.
pub(super) struct Subtree {
    pub(super) name: BString,
    pub(super) id: TreeId,
}

/// What stands in one tree.
pub(super) struct Scanned {
    pub(super) entries: u64,
    pub(super) longest_name: usize,
    pub(super) subtrees: Vec<Subtree>,
}

/// Checks the entries of the tree with these bytes, which stands at `path`.
pub(super) fn scan(bytes: &[u8], path: &[u8]) -> Result<Scanned, TreeCheckError> {
    let fault = |name: &BStr, fault| {
        let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
        TreeCheckError::unsafe_at(&[path, separator, name].concat(), fault)
    };
    let mut read: Vec<EntryRef<'_>> = Vec::new();
    for entry in entries(bytes) {
        let entry = entry.map_err(|_| TreeCheckError::unsafe_at(path, TreeFault::Unreadable))?;
        check_entry(&entry).map_err(|kind| fault(entry.name, kind))?;
        if let Some(before) = read.last() {
            check_order(before, &entry).map_err(|kind| fault(entry.name, kind))?;
        }
        read.push(entry);
    }
    if let Some(name) = file_and_folder(&read) {
        return Err(fault(name, TreeFault::Duplicate));
    }
    let folders = read.iter().filter(|entry| entry.is_folder());
    Ok(Scanned {
        entries: read.len() as u64,
        longest_name: read.iter().map(|entry| entry.name.len()).max().unwrap_or(0),
        subtrees: folders
            .map(|entry| Subtree {
                name: entry.name.to_owned(),
                id: entry.id,
            })
            .collect(),
    })
}

fn check_entry(entry: &EntryRef<'_>) -> Result<(), TreeFault> {
    check_component(entry.name).map_err(TreeFault::Name)?;
    if entry.raw_mode & KIND != ANY_FILE && !matches!(entry.raw_mode, LINK | FOLDER | SUBMODULE) {
        return Err(TreeFault::Mode(entry.raw_mode));
    }
    if entry.id.is_zero() {
        return Err(TreeFault::NullId);
    }
    // Like git, what others have committed as a link is only refused where it could lead to a command: `.gitmodules`.
    if entry.raw_mode == LINK && is_dot_gitmodules(entry.name) {
        return Err(TreeFault::Link);
    }
    Ok(())
}

/// Whether git, or a file system for it, would take this name for a file that it obeys: no change may make a link of it.
pub(crate) fn must_not_be_a_link(name: &[u8]) -> bool {
    is_dot_gitmodules(name) || READ_BY_GIT.iter().any(|read| name.eq_ignore_ascii_case(read))
}

fn check_order(before: &EntryRef<'_>, entry: &EntryRef<'_>) -> Result<(), TreeFault> {
    if before.name == entry.name {
        return Err(TreeFault::Duplicate);
    }
    match name_order((before.name, before.is_folder()), (entry.name, entry.is_folder())) {
        Ordering::Less => Ok(()),
        _ => Err(TreeFault::Order),
    }
}

/// A name that is both a file's and a folder's. Other names can stand between them (`a`, `a.b`, `a/`).
fn file_and_folder<'a>(sorted: &[EntryRef<'a>]) -> Option<&'a BStr> {
    let is_file = |name: &BStr| {
        let at = sorted.binary_search_by(|e| name_order((e.name, e.is_folder()), (name, false)));
        at.is_ok_and(|at| sorted[at].name == name)
    };
    sorted
        .iter()
        .find(|entry| entry.is_folder() && is_file(entry.name))
        .map(|entry| entry.name.as_bstr())
}
