//! Whole files: each is written or deleted.

use mayfly_protocol::TreeId;
use mayfly_protocol::request::{FileAction, FileChange, FileMode};

use super::{Applied, ApplyError, ApplyLimits, PathFault, check_link};
use crate::object::ObjectKind;
use crate::scratch::{Scratch, ScratchError};
use crate::tree::{FILE, LINK, TreeEntry};
use crate::tree_edit::{Found, TreeEditor};

pub(super) fn apply(
    scratch: &Scratch,
    worktree: &TreeId,
    changes: &[FileChange],
    limits: &ApplyLimits,
) -> Result<Applied, ApplyError> {
    check_size(changes, limits)?;
    let mut editor = TreeEditor::open(scratch, worktree)?;
    let mut files_changed = 0;
    for change in changes {
        if change.action == FileAction::Delete {
            delete(&mut editor, change.path.as_str().as_bytes())?;
            files_changed += 1;
        }
    }
    for change in changes {
        if let FileAction::Write { content, mode } = &change.action {
            let path = change.path.as_str().as_bytes();
            files_changed += usize::from(write(scratch, &mut editor, (path, content, *mode), limits)?);
        }
    }
    Ok(Applied {
        tree: editor.finish()?,
        files_changed,
    })
}

fn check_size(changes: &[FileChange], limits: &ApplyLimits) -> Result<(), ApplyError> {
    if changes.len() > limits.max_files {
        return Err(ApplyError::TooLarge {
            what: "files",
            max: limits.max_files as u64,
        });
    }
    let mut total = 0u64;
    for change in changes {
        if let FileAction::Write { content, .. } = &change.action {
            let bytes = content.len() as u64;
            total = total.saturating_add(bytes);
            if bytes > limits.max_file_bytes {
                return Err(ApplyError::TooLarge {
                    what: "bytes in one file",
                    max: limits.max_file_bytes,
                });
            }
        }
    }
    if total > limits.max_total_bytes {
        return Err(ApplyError::TooLarge {
            what: "bytes in all files",
            max: limits.max_total_bytes,
        });
    }
    Ok(())
}

fn delete(editor: &mut TreeEditor<'_>, path: &[u8]) -> Result<(), ApplyError> {
    match editor.look(path)? {
        Found::Blob(_) => Ok(editor.remove(path)?),
        Found::Nothing => Err(ApplyError::conflict(
            path,
            "does not exist, and cannot be deleted",
        )),
        Found::Folder => Err(ApplyError::conflict(path, "is a folder; delete the files in it")),
        Found::Submodule => Err(ApplyError::refused(path, PathFault::Submodule)),
        Found::Behind(obstacle) => Err(ApplyError::behind(path, obstacle)),
    }
}

/// Writes one file; false where it was so already.
fn write(
    scratch: &Scratch,
    editor: &mut TreeEditor<'_>,
    (path, content, mode): (&[u8], &[u8], Option<FileMode>),
    limits: &ApplyLimits,
) -> Result<bool, ApplyError> {
    let before = match editor.look(path)? {
        Found::Nothing => None,
        Found::Blob(entry) => Some(entry),
        Found::Folder => {
            return Err(ApplyError::conflict(
                path,
                "is a folder, and cannot be written as a file",
            ));
        }
        Found::Submodule => return Err(ApplyError::refused(path, PathFault::Submodule)),
        Found::Behind(obstacle) => return Err(ApplyError::behind(path, obstacle)),
    };
    let mode = mode.map_or_else(|| before.map_or(FILE, |entry| entry.mode), FileMode::bits);
    if mode == LINK {
        check_link(path, content, limits)?;
    }
    let id = ObjectKind::Blob.hash(content);
    let id = id.map_err(|source| ScratchError::Git {
        doing: "hash a file",
        source,
    })?;
    let entry = TreeEntry { mode, id };
    if before == Some(entry) {
        return Ok(false);
    }
    if before.is_none_or(|before| before.id != id) {
        scratch.write(ObjectKind::Blob, content)?;
    }
    editor.put(path, entry)?;
    Ok(true)
}
