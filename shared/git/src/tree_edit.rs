//! Edits a tree: only the folders on changed paths are read, and only those are written again.
//!
//! This module knows what may stand where in a tree, and must not know patches or requests.

use std::collections::BTreeMap;

use bstr::{BStr, BString, ByteSlice};
use mayfly_protocol::{ObjectId, TreeId};

use crate::object::ObjectKind;
use crate::scratch::{Scratch, ScratchError};
use crate::tree::{self, SUBMODULE, TreeEntry};

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    /// A file or a link.
    Blob(TreeEntry),
    Folder,
    Submodule,
    /// A component before the last is not a folder.
    Behind(Obstacle),
}

/// What stands in the way of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obstacle {
    File,
    Link,
    Submodule,
}

/// A tree that is being edited.
pub(crate) struct TreeEditor<'a> {
    scratch: &'a Scratch,
    root: Folder,
}

struct Folder {
    entries: BTreeMap<BString, Node>,
    /// The tree that the folder was read from, as long as nothing in it changed.
    unchanged: Option<TreeId>,
}

enum Node {
    /// As it stands in the tree.
    Entry(TreeEntry),
    /// A folder that was looked into.
    Open(Folder),
}

impl<'a> TreeEditor<'a> {
    pub(crate) fn open(scratch: &'a Scratch, tree: &TreeId) -> Result<Self, ScratchError> {
        Ok(Self {
            scratch,
            root: Folder::read(scratch, tree)?,
        })
    }

    /// What stands at `path`, which must be a valid path.
    pub(crate) fn look(&mut self, path: &[u8]) -> Result<Found, ScratchError> {
        let (mut folder, mut names) = (&mut self.root, path.split_str("/").peekable());
        while let Some(name) = names.next() {
            let is_last = names.peek().is_none();
            match folder.entries.get(name.as_bstr()) {
                None => return Ok(Found::Nothing),
                Some(Node::Entry(entry)) if !entry.is_folder() => {
                    return Ok(if is_last {
                        found(*entry)
                    } else {
                        Found::Behind(obstacle(entry))
                    });
                }
                Some(_) if is_last => return Ok(Found::Folder),
                Some(_) => {}
            }
            match folder.enter(self.scratch, name)? {
                Some(below) => folder = below,
                None => return Ok(Found::Nothing),
            }
        }
        Ok(Found::Folder)
    }

    /// Removes what stands at `path`, and the folders that have nothing else in them.
    pub(crate) fn remove(&mut self, path: &[u8]) -> Result<(), ScratchError> {
        self.root.remove(self.scratch, path)
    }

    /// Puts an entry at `path`; folders on the way are made. The caller has looked: nothing but folders stands on the way.
    pub(crate) fn put(&mut self, path: &[u8], entry: TreeEntry) -> Result<(), ScratchError> {
        let (mut folder, mut rest) = (&mut self.root, path);
        while let Some((name, below)) = rest.split_once_str("/") {
            folder.unchanged = None;
            let node = folder
                .entries
                .entry(name.into())
                .or_insert_with(|| Node::Open(Folder::empty()));
            (folder, rest) = (node.open(self.scratch)?, below);
        }
        folder.unchanged = None;
        folder.entries.insert(rest.into(), Node::Entry(entry));
        Ok(())
    }

    /// Writes the changed folders and gives the tree's id.
    pub(crate) fn finish(self) -> Result<TreeId, ScratchError> {
        match self.root.write(self.scratch)? {
            Some(id) => Ok(id),
            None => self.scratch.write(ObjectKind::Tree, b""),
        }
    }
}

impl Scratch {
    /// The tree without these paths, and without the folders in which nothing else is.
    pub fn without<'a>(
        &self,
        tree: &TreeId,
        paths: impl IntoIterator<Item = &'a BStr>,
    ) -> Result<TreeId, ScratchError> {
        let mut editor = TreeEditor::open(self, tree)?;
        for path in paths {
            editor.remove(path)?;
        }
        editor.finish()
    }
}

impl Scratch {
    /// The tree with other contents in files that it has, and the blobs of these; what stands at a path and is no file stays as it is, without a blob.
    pub fn with_files<'a>(
        &self,
        tree: &TreeId,
        files: impl IntoIterator<Item = (&'a BStr, String)>,
    ) -> Result<(TreeId, Vec<ObjectId>), ScratchError> {
        let mut editor = TreeEditor::open(self, tree)?;
        let mut blobs = Vec::new();
        for (path, content) in files {
            if let Found::Blob(entry) = editor.look(path)? {
                let id = self.write(ObjectKind::Blob, content.as_bytes())?;
                editor.put(path, TreeEntry { id, ..entry })?;
                blobs.push(id);
            }
        }
        Ok((editor.finish()?, blobs))
    }
}

fn found(entry: TreeEntry) -> Found {
    if entry.mode == SUBMODULE {
        Found::Submodule
    } else {
        Found::Blob(entry)
    }
}

fn obstacle(entry: &TreeEntry) -> Obstacle {
    match entry.mode {
        tree::LINK => Obstacle::Link,
        SUBMODULE => Obstacle::Submodule,
        _ => Obstacle::File,
    }
}

impl Node {
    /// The folder, read where it was not looked into before; what is no folder gives way to an empty one.
    fn open(&mut self, scratch: &Scratch) -> Result<&mut Folder, ScratchError> {
        if let Self::Entry(entry) = self {
            let folder = if entry.is_folder() {
                Folder::read(scratch, &entry.id)?
            } else {
                Folder::empty()
            };
            *self = Self::Open(folder);
        }
        match self {
            Self::Open(folder) => Ok(folder),
            Self::Entry(_) => unreachable!("it was opened above"),
        }
    }
}

impl Folder {
    fn empty() -> Self {
        Self {
            entries: BTreeMap::new(),
            unchanged: None,
        }
    }

    fn read(scratch: &Scratch, tree: &TreeId) -> Result<Self, ScratchError> {
        let mut entries = BTreeMap::new();
        scratch.each_entry(tree, |entry| {
            entries.insert(entry.name.to_owned(), Node::Entry(entry.entry()));
            Ok(())
        })?;
        Ok(Self {
            entries,
            unchanged: Some(*tree),
        })
    }

    /// The folder of this name, read where it was not looked into before; `None` where there is none.
    fn enter(&mut self, scratch: &Scratch, name: &[u8]) -> Result<Option<&mut Self>, ScratchError> {
        let Some(node) = self.entries.get_mut(name.as_bstr()) else {
            return Ok(None);
        };
        match node {
            Node::Entry(entry) if !entry.is_folder() => Ok(None),
            _ => node.open(scratch).map(Some),
        }
    }

    fn remove(&mut self, scratch: &Scratch, path: &[u8]) -> Result<(), ScratchError> {
        self.unchanged = None;
        let Some((name, below)) = path.split_once_str("/") else {
            self.entries.remove(path.as_bstr());
            return Ok(());
        };
        let Some(folder) = self.enter(scratch, name)? else {
            return Ok(());
        };
        folder.remove(scratch, below)?;
        if folder.entries.is_empty() {
            self.entries.remove(name.as_bstr());
        }
        Ok(())
    }

    /// `None`: nothing is in the folder, and git keeps no empty one.
    fn write(self, scratch: &Scratch) -> Result<Option<TreeId>, ScratchError> {
        if self.unchanged.is_some() {
            return Ok(self.unchanged);
        }
        let mut entries = Vec::with_capacity(self.entries.len());
        for (name, node) in self.entries {
            match node {
                Node::Entry(entry) => entries.push((name, entry)),
                Node::Open(folder) => {
                    let id = folder.write(scratch)?;
                    entries.extend(id.map(|id| {
                        (
                            name,
                            TreeEntry {
                                mode: tree::FOLDER,
                                id,
                            },
                        )
                    }));
                }
            }
        }
        if entries.is_empty() {
            return Ok(None);
        }
        scratch
            .write(ObjectKind::Tree, &tree::to_bytes(entries))
            .map(Some)
    }
}
