//! Walks through everything that a tree holds, in git's order.

use bstr::BString;
use mayfly_protocol::path::check_path;
use mayfly_protocol::{ObjectId, TreeId};

use super::{Scratch, ScratchError};
use crate::object::ObjectKind;
use crate::tree::{TreeEntry, shown};

impl Scratch {
    /// Calls `visit` for each entry below a tree, a folder before what is in it. More than `max` entries are
    /// [`ScratchError::TooMany`]; a path that must not be made anywhere, and a mode that is none of the five, are damage.
    pub fn walk<E: From<ScratchError>>(
        &self,
        tree: &TreeId,
        max: usize,
        mut visit: impl FnMut(&[u8], &TreeEntry) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut open = Vec::new();
        self.open_folder(tree, b"", &mut open)?;
        let mut met = 0;
        while let Some((path, entry)) = open.pop() {
            met += 1;
            if met > max {
                return Err(ScratchError::TooMany { what: "files", max }.into());
            }
            check_entry(&path, &entry)?;
            visit(&path, &entry)?;
            if entry.is_folder() {
                self.open_folder(&entry.id, &path, &mut open)?;
            }
        }
        Ok(())
    }

    /// The entries of a folder, the first on top.
    fn open_folder(
        &self,
        tree: &TreeId,
        path: &[u8],
        open: &mut Vec<(BString, TreeEntry)>,
    ) -> Result<(), ScratchError> {
        if *tree == TreeId::EMPTY_TREE {
            return Ok(());
        }
        let start = open.len();
        self.each_entry(tree, |entry| {
            let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
            let below = [path, separator, entry.name].concat();
            open.push((below.into(), entry.entry()));
            Ok(())
        })?;
        open[start..].reverse();
        Ok(())
    }

    /// The size of a blob, without reading it.
    pub fn blob_size(&self, id: &ObjectId) -> Result<u64, ScratchError> {
        match self.header(id)? {
            (ObjectKind::Blob, bytes) => Ok(bytes),
            (kind, _) => Err(ScratchError::Damaged {
                id: *id,
                reason: format!("it is a {kind} where a blob should be"),
            }),
        }
    }

    /// Gives the content of a file, or the target of a link, of at most `max_bytes` to `read`, without another copy of it.
    pub fn with_blob<T>(
        &self,
        id: &ObjectId,
        max_bytes: u64,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, ScratchError> {
        let object = self.read_bounded(id, ObjectKind::Blob, max_bytes)?;
        Ok(read(object.data()))
    }
}

fn check_entry(path: &[u8], entry: &TreeEntry) -> Result<(), ScratchError> {
    let damaged = |reason: String| ScratchError::Damaged { id: entry.id, reason };
    check_path(path).map_err(|error| damaged(format!("the path `{}` {error}", shown(path))))?;
    let is_known = entry.is_folder() || entry.is_blob() || entry.is_submodule();
    if is_known {
        Ok(())
    } else {
        Err(damaged(format!(
            "the mode {:o} of `{}` is none of git's",
            entry.mode,
            shown(path)
        )))
    }
}
