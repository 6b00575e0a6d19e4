//! Changes a worktree, which is a tree object: by whole files, or by a patch.
//!
//! Patches are read and applied here and not by a git library: libgit2 reads the whole tree for any patch, inflates
//! what a binary patch holds without bound, and finds places for hunks that `git apply` would refuse.
//! This module must not know requests beyond their checked parts, nor where the objects come from.

mod binary;
mod files;
mod header;
mod hunks;
mod names;
mod patch;
mod sequence;

use mayfly_protocol::path::InvalidPath;
use mayfly_protocol::request::FileChange;
use mayfly_protocol::{ErrorCode, ObjectId, RepoPath, TreeId};

use crate::scratch::{Scratch, ScratchError};
use crate::tree::shown;
use crate::tree_check::must_not_be_a_link;
use crate::tree_edit::Obstacle;

/// Bounds on the changes of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyLimits {
    /// Files that are changed.
    pub max_files: usize,
    /// Bytes of one file, before and after the change.
    pub max_file_bytes: u64,
    /// Bytes of all changed files after the change.
    pub max_total_bytes: u64,
    /// Bytes of a symbolic link's target.
    pub max_link_bytes: usize,
}

impl Default for ApplyLimits {
    fn default() -> Self {
        Self {
            max_files: 10_000,
            max_file_bytes: 64 * 1024 * 1024,
            max_total_bytes: 256 * 1024 * 1024,
            max_link_bytes: 4095,
        }
    }
}

/// What came of the changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The worktree with the changes.
    pub tree: TreeId,
    /// Files that are not as they were; a renamed one counts once.
    pub files_changed: usize,
}

/// A file that a patch names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchedFile {
    /// The file that is changed, deleted, renamed or copied; `None` for a new one.
    pub old_path: Option<RepoPath>,
    /// The file that comes of it; `None` for a deleted one.
    pub new_path: Option<RepoPath>,
}

/// Why a path may not be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// The path itself.
    #[error("{0}")]
    Invalid(InvalidPath),
    /// It begins with a slash.
    #[error("is absolute")]
    Absolute,
    /// It is not UTF-8 where only such paths can be given.
    #[error("is not UTF-8")]
    NotUtf8,
    /// A component before the last is a symbolic link.
    #[error("leads through a symbolic link")]
    ThroughLink,
    /// A component before the last is a submodule.
    #[error("leads into a submodule")]
    IntoSubmodule,
    /// A component before the last is a file.
    #[error("uses a file as a folder")]
    ThroughFile,
    /// It is a submodule, which is not a file.
    #[error("is a submodule")]
    Submodule,
    /// It would become a link that git reads.
    #[error("is read by git, and must not be a symbolic link")]
    ReadByGit,
    /// The target of a link is empty, too long or has a NUL.
    #[error("would be a symbolic link whose target is empty, too long or has a NUL")]
    Target,
}

/// Changes could not be applied; nothing came of any of them.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A path leads where no change may go.
    #[error("the path `{path}` {fault}")]
    PathRefused {
        /// The path, with odd characters escaped.
        path: String,
        /// Why it is refused.
        fault: PathFault,
    },
    /// The changes do not fit what is there.
    #[error("`{path}` {reason}")]
    Conflict {
        /// The path, with odd characters escaped.
        path: String,
        /// What does not fit.
        reason: String,
    },
    /// The patch cannot be read.
    #[error("the patch cannot be read at line {line}: {reason}")]
    Invalid {
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        reason: &'static str,
    },
    /// There is more than allowed.
    #[error("the changes have more than {max} {what}; make smaller ones")]
    TooLarge {
        /// What is counted.
        what: &'static str,
        /// The limit.
        max: u64,
    },
    /// The content of a patched file is not here.
    #[error("the content of `{path}` was not loaded; a file this large can only be replaced whole")]
    NotLoaded {
        /// The path, with odd characters escaped.
        path: String,
    },
    /// The trees cannot be read, or the new one cannot be made.
    #[error("the changes cannot be applied")]
    Scratch(#[from] ScratchError),
}

impl ApplyError {
    /// The code for clients.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::PathRefused { .. } => ErrorCode::PathRefused,
            Self::Conflict { .. } => ErrorCode::PatchConflict,
            Self::Invalid { .. } => ErrorCode::PatchInvalid,
            Self::TooLarge { .. } | Self::NotLoaded { .. } => ErrorCode::ChangesTooLarge,
            Self::Scratch(error) => error.code(),
        }
    }

    fn refused(path: &[u8], fault: PathFault) -> Self {
        Self::PathRefused {
            path: shown(path),
            fault,
        }
    }

    fn behind(path: &[u8], obstacle: Obstacle) -> Self {
        let fault = match obstacle {
            Obstacle::File => PathFault::ThroughFile,
            Obstacle::Link => PathFault::ThroughLink,
            Obstacle::Submodule => PathFault::IntoSubmodule,
        };
        Self::refused(path, fault)
    }

    fn conflict(path: &[u8], reason: impl Into<String>) -> Self {
        Self::Conflict {
            path: shown(path),
            reason: reason.into(),
        }
    }
}

impl Scratch {
    /// Writes and deletes whole files. All deletions come before all writings, so a file may give way to a folder.
    pub fn apply_files(
        &self,
        worktree: &TreeId,
        changes: &[FileChange],
        limits: &ApplyLimits,
    ) -> Result<Applied, ApplyError> {
        files::apply(self, worktree, changes, limits)
    }

    /// Applies a patch as `git apply` does: at the place that its lines fit exactly, or not at all. The contents of the files
    /// that it changes must be here (see [`Self::patched_blobs`]).
    pub fn apply_patch(
        &self,
        worktree: &TreeId,
        patch: &str,
        limits: &ApplyLimits,
    ) -> Result<Applied, ApplyError> {
        sequence::apply(self, worktree, &patch::parse(patch.as_bytes())?, limits)
    }

    /// The files that a patch names, each path checked. Paths that are not UTF-8 are refused here.
    pub fn patch_paths(patch: &str) -> Result<Vec<PatchedFile>, ApplyError> {
        let checked = |path: Option<&[u8]>| path.map(utf8_path).transpose();
        let files = patch::parse(patch.as_bytes())?;
        let named = files.iter().map(|file| {
            Ok(PatchedFile {
                old_path: checked(file.old_path())?,
                new_path: checked(file.new_path())?,
            })
        });
        named.collect()
    }

    /// The blobs that [`Self::apply_patch`] needs of this worktree and that are not here, whatever the paths are written in.
    pub fn patched_blobs(&self, worktree: &TreeId, patch: &str) -> Result<Vec<ObjectId>, ApplyError> {
        let mut blobs = Vec::new();
        for file in &patch::parse(patch.as_bytes())? {
            if let Some(path) = file.old_path().filter(|_| file.needs_content())
                && let Some(entry) = self.entry(worktree, path)?
                && entry.is_blob()
                && !self.has(&entry.id)
                && !blobs.contains(&entry.id)
            {
                blobs.push(entry.id);
            }
        }
        Ok(blobs)
    }
}

fn utf8_path(path: &[u8]) -> Result<RepoPath, ApplyError> {
    let text = std::str::from_utf8(path).map_err(|_| ApplyError::refused(path, PathFault::NotUtf8))?;
    text.parse()
        .map_err(|invalid| ApplyError::refused(path, PathFault::Invalid(invalid)))
}

/// A link may say anything, as it is never followed; but it must be like a link, and not be one that git reads.
fn check_link(path: &[u8], target: &[u8], limits: &ApplyLimits) -> Result<(), ApplyError> {
    check_link_name(path)?;
    if target.is_empty() || target.len() > limits.max_link_bytes || target.contains(&0) {
        return Err(ApplyError::refused(path, PathFault::Target));
    }
    Ok(())
}

fn check_link_name(path: &[u8]) -> Result<(), ApplyError> {
    let name = path.rsplit(|&b| b == b'/').next().unwrap_or_default();
    if must_not_be_a_link(name) {
        Err(ApplyError::refused(path, PathFault::ReadByGit))
    } else {
        Ok(())
    }
}
