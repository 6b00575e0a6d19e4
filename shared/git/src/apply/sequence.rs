//! Applies the parts of a patch, one file after the other, to a tree.
//!
//! As in git, a rename or a copy takes what the tree has, a change takes what an earlier part of the patch made of the file,
//! and nothing is written before all parts fit. Source: `check_patch_list` and `write_out_results` in git's `apply.c`.

use std::collections::{BTreeMap, HashSet};

use mayfly_protocol::{ObjectId, TreeId};

use super::binary::BadBinary;
use super::hunks::{self, Effort, Misfit};
use super::patch::{Body, FilePatch, Kind};
use super::{Applied, ApplyError, ApplyLimits, PathFault, check_link, check_link_name};
use crate::object::ObjectKind;
use crate::scratch::{Scratch, ScratchError};
use crate::tree::{FILE, LINK, TreeEntry};
use crate::tree_edit::{Found, TreeEditor};

/// What a patch makes of a path.
enum State {
    Gone,
    File(File),
}

#[derive(Clone)]
struct File {
    mode: u32,
    content: Content,
}

#[derive(Clone)]
enum Content {
    /// As it is in the tree; it need not be here.
    Kept(ObjectId),
    New(Vec<u8>),
}

struct Sequence<'a> {
    scratch: &'a Scratch,
    limits: &'a ApplyLimits,
    editor: TreeEditor<'a>,
    states: BTreeMap<&'a [u8], State>,
    /// Paths that some part of the patch deletes or renames.
    leaving: HashSet<&'a [u8]>,
    /// Paths that were renamed: they and their new names are one changed file.
    renamed: HashSet<&'a [u8]>,
    effort: Effort,
    /// Bytes of all new contents.
    total: u64,
}

pub(super) fn apply(
    scratch: &Scratch,
    worktree: &TreeId,
    files: &[FilePatch<'_>],
    limits: &ApplyLimits,
) -> Result<Applied, ApplyError> {
    if files.len() > limits.max_files {
        return Err(ApplyError::TooLarge {
            what: "files",
            max: limits.max_files as u64,
        });
    }
    let leaving = files
        .iter()
        .filter(|file| matches!(file.kind, Kind::Delete | Kind::Rename));
    let mut sequence = Sequence {
        scratch,
        limits,
        editor: TreeEditor::open(scratch, worktree)?,
        states: BTreeMap::new(),
        leaving: leaving.map(|file| file.old.as_slice()).collect(),
        renamed: HashSet::new(),
        effort: Effort::new(),
        total: 0,
    };
    for file in files {
        sequence.add(file)?;
    }
    sequence.finish()
}

impl<'a> Sequence<'a> {
    /// Works out what one part of the patch makes of its file.
    fn add(&mut self, patch: &'a FilePatch<'_>) -> Result<(), ApplyError> {
        let (before, from_patch) = match patch.kind {
            Kind::Create => (None, false),
            _ => self
                .before(patch)
                .map(|(file, from_patch)| (Some(file), from_patch))?,
        };
        if matches!(patch.kind, Kind::Create | Kind::Rename | Kind::Copy) {
            self.check_free(&patch.new)?;
        }
        let after = self.change(patch, before)?;
        if matches!(patch.kind, Kind::Delete | Kind::Rename) {
            // A file that another part put there meanwhile, as in `a` to `b` and `b` to `c`, stays.
            let is_taken = matches!(self.states.get(patch.old.as_slice()), Some(State::File(_)));
            if from_patch || !is_taken {
                self.states.insert(&patch.old, State::Gone);
            }
        }
        if patch.kind == Kind::Rename {
            self.renamed.insert(&patch.old);
        }
        if patch.kind != Kind::Delete {
            self.states.insert(&patch.new, State::File(after));
        }
        Ok(())
    }

    /// The file that is changed, and whether an earlier part of the patch made it so.
    fn before(&mut self, patch: &FilePatch<'_>) -> Result<(File, bool), ApplyError> {
        let path = patch.old.as_slice();
        let is_moved = matches!(patch.kind, Kind::Rename | Kind::Copy);
        let (file, from_patch) = match self.states.get(path).filter(|_| !is_moved) {
            Some(State::File(file)) => (file.clone(), true),
            Some(State::Gone) => {
                return Err(ApplyError::conflict(
                    path,
                    "is deleted by the patch before it is changed",
                ));
            }
            None => (self.in_tree(path)?, false),
        };
        match patch.old_mode {
            Some(LINK) if file.mode != LINK => Err(ApplyError::conflict(path, "is a file, not a link")),
            Some(mode) if mode != LINK && file.mode == LINK => {
                Err(ApplyError::conflict(path, "is a link, not a file"))
            }
            _ => Ok((file, from_patch)),
        }
    }

    fn in_tree(&mut self, path: &[u8]) -> Result<File, ApplyError> {
        match self.editor.look(path)? {
            Found::Blob(entry) => Ok(File {
                mode: entry.mode,
                content: Content::Kept(entry.id),
            }),
            Found::Nothing => Err(ApplyError::conflict(
                path,
                "does not exist, and the patch changes it",
            )),
            Found::Folder => Err(ApplyError::conflict(
                path,
                "is a folder, and the patch changes a file",
            )),
            Found::Submodule => Err(ApplyError::refused(path, PathFault::Submodule)),
            Found::Behind(obstacle) => Err(ApplyError::behind(path, obstacle)),
        }
    }

    /// Whether a file may come to stand here. Folders and what is behind files are judged at the end, as they may go.
    fn check_free(&mut self, path: &[u8]) -> Result<(), ApplyError> {
        match self.states.get(path) {
            Some(State::Gone) => return Ok(()),
            Some(State::File(_)) => return Err(ApplyError::conflict(path, "is made twice by the patch")),
            None => {}
        }
        match self.editor.look(path)? {
            Found::Blob(_) if !self.leaving.contains(path) => Err(ApplyError::conflict(
                path,
                "exists already, and the patch makes it",
            )),
            Found::Submodule => Err(ApplyError::refused(path, PathFault::Submodule)),
            _ => Ok(()),
        }
    }

    fn change(&mut self, patch: &FilePatch<'_>, before: Option<File>) -> Result<File, ApplyError> {
        let old_mode = before.as_ref().map_or(FILE, |file| file.mode);
        let mode = patch.new_mode.unwrap_or(old_mode);
        if before.is_some() && (mode == LINK) != (old_mode == LINK) {
            return Err(ApplyError::conflict(
                &patch.new,
                "can become a link, or stop being one, only by being made anew",
            ));
        }
        let content = match (&patch.body, before) {
            (Body::Same, None) => Content::New(Vec::new()),
            (Body::Same, Some(file)) if !patch.needs_content() => file.content,
            (_, before) => {
                let content = self.new_content(patch, before.map(|file| file.content))?;
                self.total = self.total.saturating_add(content.len() as u64);
                Content::New(content)
            }
        };
        if self.total > self.limits.max_total_bytes {
            let max = self.limits.max_total_bytes;
            return Err(ApplyError::TooLarge {
                what: "bytes in all files",
                max,
            });
        }
        let is_emptied = matches!(&content, Content::New(bytes) if bytes.is_empty());
        if patch.kind == Kind::Delete && !is_emptied {
            return Err(ApplyError::conflict(
                &patch.old,
                "has content that the patch does not delete",
            ));
        }
        Ok(File { mode, content })
    }

    fn new_content(&mut self, patch: &FilePatch<'_>, before: Option<Content>) -> Result<Vec<u8>, ApplyError> {
        let path = patch.old.as_slice();
        let max = self.limits.max_file_bytes;
        let too_large = || ApplyError::TooLarge {
            what: "bytes in one file",
            max,
        };
        if let Body::Binary(_) = patch.body {
            check_ids(patch, before.as_ref())?;
        }
        let old = match before {
            Some(content) if patch.needs_content() => self.read(path, content)?,
            _ => Vec::new(),
        };
        match &patch.body {
            Body::Same => Ok(old),
            Body::Text(hunks) => {
                hunks::apply(&old, hunks, max, &mut self.effort).map_err(|misfit| match misfit {
                    Misfit::Hunk(line) => {
                        let reason =
                            format!("is not what the patch expects (its hunk at line {line} does not fit)");
                        ApplyError::conflict(path, reason)
                    }
                    Misfit::TooLarge => too_large(),
                    Misfit::TooSlow => {
                        ApplyError::conflict(path, "has too many places where the patch nearly fits")
                    }
                })
            }
            Body::Binary(binary) => {
                let content = binary.apply(&old, max).map_err(|bad| match bad {
                    BadBinary::Damaged => ApplyError::conflict(path, "has a damaged binary patch"),
                    BadBinary::TooLarge => too_large(),
                })?;
                check_new_id(patch, &content)?;
                Ok(content)
            }
        }
    }

    fn read(&self, path: &[u8], content: Content) -> Result<Vec<u8>, ApplyError> {
        let id = match content {
            Content::New(bytes) => return Ok(bytes),
            Content::Kept(id) => id,
        };
        match self
            .scratch
            .read_bounded(&id, ObjectKind::Blob, self.limits.max_file_bytes)
        {
            Ok(object) => Ok(object.data().to_vec()),
            Err(ScratchError::Missing { .. }) => Err(ApplyError::NotLoaded {
                path: crate::tree::shown(path),
            }),
            Err(ScratchError::TooLarge { max, .. }) => Err(ApplyError::TooLarge {
                what: "bytes in one file",
                max,
            }),
            Err(other) => Err(other.into()),
        }
    }

    /// Edits the tree: first all that goes, then all that comes.
    fn finish(mut self) -> Result<Applied, ApplyError> {
        let mut files_changed = 0;
        for (path, _) in self
            .states
            .iter()
            .filter(|(_, state)| matches!(state, State::Gone))
        {
            if let Found::Blob(_) = self.editor.look(path)? {
                self.editor.remove(path)?;
                files_changed += usize::from(!self.renamed.contains(path));
            }
        }
        for (path, state) in std::mem::take(&mut self.states) {
            if let State::File(file) = state {
                files_changed += usize::from(self.put(path, &file)?);
            }
        }
        Ok(Applied {
            tree: self.editor.finish()?,
            files_changed,
        })
    }

    /// Puts one file into the tree; false where it was so already.
    fn put(&mut self, path: &[u8], file: &File) -> Result<bool, ApplyError> {
        let before = match self.editor.look(path)? {
            Found::Nothing => None,
            Found::Blob(entry) => Some(entry),
            Found::Folder => {
                return Err(ApplyError::conflict(
                    path,
                    "is a folder, and the patch makes a file of it",
                ));
            }
            Found::Submodule => return Err(ApplyError::refused(path, PathFault::Submodule)),
            Found::Behind(obstacle) => return Err(ApplyError::behind(path, obstacle)),
        };
        let id = match &file.content {
            Content::Kept(id) => {
                if file.mode == LINK {
                    check_link_name(path)?;
                }
                *id
            }
            Content::New(content) => {
                if file.mode == LINK {
                    check_link(path, content, self.limits)?;
                }
                self.scratch.write(ObjectKind::Blob, content)?
            }
        };
        let entry = TreeEntry { mode: file.mode, id };
        if before == Some(entry) {
            return Ok(false);
        }
        self.editor.put(path, entry)?;
        Ok(true)
    }
}

/// A binary patch fits one content only, and says which.
fn check_ids(patch: &FilePatch<'_>, before: Option<&Content>) -> Result<(), ApplyError> {
    let Some(ids) = patch.ids else {
        return Err(ApplyError::conflict(
            &patch.old,
            "has a binary patch without whole object ids; make it with `git diff --binary`",
        ));
    };
    let old = match before {
        None => ObjectId::ZERO,
        Some(Content::Kept(id)) => *id,
        Some(Content::New(content)) => hash(content)?,
    };
    if old == ids.old {
        Ok(())
    } else {
        Err(ApplyError::conflict(
            &patch.old,
            "is not what the binary patch expects",
        ))
    }
}

fn check_new_id(patch: &FilePatch<'_>, content: &[u8]) -> Result<(), ApplyError> {
    let said = patch.ids.map_or(ObjectId::ZERO, |ids| ids.new);
    if said == hash(content)? || (said.is_zero() && patch.kind == Kind::Delete) {
        Ok(())
    } else {
        Err(ApplyError::conflict(
            &patch.old,
            "has a damaged binary patch: its result is not the one it names",
        ))
    }
}

fn hash(content: &[u8]) -> Result<ObjectId, ScratchError> {
    ObjectKind::Blob
        .hash(content)
        .map_err(|source| ScratchError::Git {
            doing: "hash a file",
            source,
        })
}
