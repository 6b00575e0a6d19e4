//! Writes a checked tree into an open folder.

use std::fs::File;
use std::io::{self, Write as _};

use bstr::BString;
use mayfly_protocol::TreeId;
use tokio_util::sync::CancellationToken;

use super::folder::Folder;
use super::{CheckedOut, CheckoutError, CheckoutLimits, LinkFault};
use crate::local_packs::LocalPacks;
use crate::scratch::ScratchError;
use crate::tree::{EXECUTABLE, EntryRef, FOLDER, LINK, SUBMODULE, entries, shown};
use crate::tree_check::{TreeLimits, TreeSource as _};

/// Bytes that are written between two looks at the token.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;

struct Writer<'a, P> {
    packs: &'a LocalPacks<'a>,
    limits: &'a CheckoutLimits,
    max_tree_bytes: u64,
    cancel: &'a CancellationToken,
    progress: P,
    done: CheckedOut,
    path: BString,
}

/// Writes all that is below `tree`.
pub(super) fn write<P: FnMut(&CheckedOut)>(
    packs: &LocalPacks<'_>,
    tree: &TreeId,
    root: &Folder,
    (limits, tree_limits): (&CheckoutLimits, &TreeLimits),
    cancel: &CancellationToken,
    progress: P,
) -> Result<CheckedOut, CheckoutError> {
    let mut writer = Writer {
        packs,
        limits,
        max_tree_bytes: tree_limits.max_tree_bytes,
        cancel,
        progress,
        done: CheckedOut::default(),
        path: BString::default(),
    };
    writer.tree(tree, root)?;
    Ok(writer.done)
}

impl<P: FnMut(&CheckedOut)> Writer<'_, P> {
    fn tree(&mut self, id: &TreeId, folder: &Folder) -> Result<(), CheckoutError> {
        let tree = self.packs.tree(id, self.max_tree_bytes);
        let tree = tree.map_err(|error| self.unreadable(error))?;
        for entry in entries(&tree) {
            let entry = entry.map_err(|malformed| self.unreadable(ScratchError::malformed(id, malformed)))?;
            self.entry(&entry, folder)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &EntryRef<'_>, folder: &Folder) -> Result<(), CheckoutError> {
        if self.cancel.is_cancelled() {
            return Err(CheckoutError::Cancelled);
        }
        let before = self.path.len();
        if before > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(entry.name);
        match entry.entry().mode {
            FOLDER => self.folder(entry, folder)?,
            SUBMODULE => self.submodule(entry, folder)?,
            LINK => self.link(entry, folder)?,
            mode => self.file(entry, mode == EXECUTABLE, folder)?,
        }
        self.path.truncate(before);
        Ok(())
    }

    /// A folder that has nothing in it is none to git, and is left out.
    fn folder(&mut self, entry: &EntryRef<'_>, parent: &Folder) -> Result<(), CheckoutError> {
        if entry.id == TreeId::EMPTY_TREE {
            return Ok(());
        }
        let made = parent.make_folder(entry.name);
        let folder = made.map_err(|error| self.failed("make the folder", error))?;
        self.tree(&entry.id, &folder)
    }

    fn submodule(&mut self, entry: &EntryRef<'_>, parent: &Folder) -> Result<(), CheckoutError> {
        let made = parent.make_folder(entry.name);
        made.map_err(|error| self.failed("make the folder", error))?;
        self.done.submodules += 1;
        self.say();
        Ok(())
    }

    fn link(&mut self, entry: &EntryRef<'_>, parent: &Folder) -> Result<(), CheckoutError> {
        let target = self.blob(entry)?;
        if target.contains(&0) {
            let (path, fault) = (shown(&self.path), LinkFault::Nul);
            return Err(CheckoutError::Link { path, fault });
        }
        let made = parent.make_link(entry.name, &target);
        made.map_err(|error| self.failed("make the link", error))?;
        self.done.symlinks += 1;
        self.say();
        Ok(())
    }

    fn file(
        &mut self,
        entry: &EntryRef<'_>,
        is_executable: bool,
        parent: &Folder,
    ) -> Result<(), CheckoutError> {
        let content = self.blob(entry)?;
        let made = parent.make_file(entry.name, is_executable);
        let file = made.map_err(|error| self.failed("make the file", error))?;
        self.fill(file, &content)?;
        self.done.files += 1;
        self.done.bytes += content.len() as u64;
        self.say();
        Ok(())
    }

    fn fill(&self, mut file: File, content: &[u8]) -> Result<(), CheckoutError> {
        for chunk in content.chunks(CHUNK_BYTES) {
            if self.cancel.is_cancelled() {
                return Err(CheckoutError::Cancelled);
            }
            let written = file.write_all(chunk);
            written.map_err(|error| self.failed("write the file", error))?;
        }
        Ok(())
    }

    fn blob(&self, entry: &EntryRef<'_>) -> Result<Vec<u8>, CheckoutError> {
        let content = self.packs.blob(&entry.id, self.limits.max_file_bytes);
        content.map_err(|error| self.unreadable(error))
    }

    fn say(&mut self) {
        (self.progress)(&self.done);
    }

    fn unreadable(&self, error: ScratchError) -> CheckoutError {
        CheckoutError::from_object(self.path.as_ref(), error)
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> CheckoutError {
        CheckoutError::io(doing, &self.path, source)
    }
}
