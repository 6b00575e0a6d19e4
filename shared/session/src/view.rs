//! What a session holds, for whoever may look: a file, a diff, the whole worktree. Nothing here changes a session.
//!
//! A file is read by range out of the packs. A diff downloads the small packs, and reads what they lack by range. An archive downloads every pack:
//! it reads every file of the worktree, and one request for each of them would cost a store far more than the packs do; the disk that it takes is
//! bounded by [`ViewLimits::max_archive_pack_bytes`]. What is missing or damaged is an error, never an empty answer.
//! This module must not know HTTP.

mod archive;
mod diff;
mod error;
mod file;
mod objects;

use std::path::PathBuf;

use mayfly_git::diff::DiffBudget;
use mayfly_git::scratch::ScratchLimits;

pub use archive::{Archive, ArchiveError};
pub use diff::{ChangedFile, FileChange, SessionDiff};
pub use error::ViewError;
pub use file::{FileContent, LfsPart};
pub use mayfly_git::diff::UnifiedPatch;

use crate::manifest::Manifest;
use crate::store::SessionStore;

/// The bounds on what is read to show a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewLimits {
    /// Bytes of one tree or commit that is read by range.
    pub max_tree_bytes: u64,
    /// Bytes of a file that is shown by itself.
    pub max_file_bytes: u64,
    /// Bytes of the packs that a diff downloads.
    pub max_diff_pack_bytes: u64,
    /// Contents that a diff reads by range; files beyond count as binary.
    pub max_diff_blobs: usize,
    /// What a diff compares and shows.
    pub diff: DiffBudget,
    /// Bytes of the packs that an archive downloads.
    pub max_archive_pack_bytes: u64,
    /// Files and folders of an archive.
    pub max_archive_entries: usize,
    /// Bytes of all files of an archive.
    pub max_archive_bytes: u64,
    /// Bytes of one file of an archive, which is held in memory.
    pub max_archive_file_bytes: u64,
    /// What the scratch repository keeps in memory and walks through.
    pub scratch: ScratchLimits,
}

impl Default for ViewLimits {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            max_tree_bytes: 64 * MIB,
            max_file_bytes: 32 * MIB,
            max_diff_pack_bytes: 1024 * MIB,
            max_diff_blobs: 2000,
            diff: DiffBudget {
                max_file_text_bytes: 256 * 1024,
                max_text_bytes: 1024 * 1024,
                ..DiffBudget::default()
            },
            max_archive_pack_bytes: 8 * 1024 * MIB,
            max_archive_entries: 1_000_000,
            max_archive_bytes: 16 * 1024 * MIB,
            max_archive_file_bytes: 512 * MIB,
            scratch: ScratchLimits::default(),
        }
    }
}

/// A session that is looked at.
#[derive(Debug)]
pub struct SessionView {
    sessions: SessionStore,
    manifest: Manifest,
    limits: ViewLimits,
    folder: PathBuf,
}

impl SessionStore {
    /// Looks at what a manifest names. `folder` is an empty folder for scratch files, which the caller removes.
    pub fn view(&self, manifest: Manifest, limits: ViewLimits, folder: PathBuf) -> SessionView {
        SessionView {
            sessions: self.clone(),
            manifest,
            limits,
            folder,
        }
    }
}

impl SessionView {
    /// The manifest that is looked at.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}
