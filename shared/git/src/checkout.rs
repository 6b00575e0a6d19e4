//! Checks a tree out into a folder: the only place that makes files of what a repository holds.
//!
//! The repository is hostile. Its trees are checked, and files and bytes are counted as often as they stand there, before
//! anything is written. Then each file gets exactly the bytes of its blob: no attribute, filter or line ending is obeyed,
//! no submodule is fetched, and no link is followed. This module must not know whose tree it is, nor what becomes of the folder.

mod error;
mod folder;
mod sizes;
mod write;

use std::path::Path;

use mayfly_protocol::TreeId;
use tokio_util::sync::CancellationToken;

pub use crate::local_packs::OpenPackError;
pub use error::{CheckoutError, LinkFault};

use crate::local_packs::LocalPacks;
use crate::pack::PackFiles;
use crate::tree_check::{TreeLimits, check};
use folder::{EmptyAgain, Folder};

/// Bounds of one checkout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckoutLimits {
    /// Files, links, submodules and folders, each counted as often as it stands in the folder.
    pub max_files: u64,
    /// Bytes of all files and link targets, counted likewise.
    pub max_bytes: u64,
    /// Bytes of one file. It is held in memory while it is written.
    pub max_file_bytes: u64,
}

impl Default for CheckoutLimits {
    fn default() -> Self {
        Self {
            max_files: 1_000_000,
            max_bytes: 8 * 1024 * 1024 * 1024,
            max_file_bytes: 512 * 1024 * 1024,
        }
    }
}

/// What stands in the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckedOut {
    /// Files, without links.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Submodules, each an empty folder.
    pub submodules: u64,
}

/// Checks out `tree` from the packs into the empty folder `into`, which is left empty when that fails. It blocks.
///
/// The packs together hold all trees and files of the tree. Modes are those that git would give: 666 or 777 less the umask.
pub fn checkout(
    packs: &[PackFiles],
    tree: &TreeId,
    into: &Path,
    limits: &CheckoutLimits,
    cancel: &CancellationToken,
) -> Result<CheckedOut, CheckoutError> {
    checkout_with(packs, tree, into, limits, cancel, |_| {})
}

/// As [`checkout`], and says after each file, link and submodule what is there by then.
pub fn checkout_with(
    packs: &[PackFiles],
    tree: &TreeId,
    into: &Path,
    limits: &CheckoutLimits,
    cancel: &CancellationToken,
    progress: impl FnMut(&CheckedOut),
) -> Result<CheckedOut, CheckoutError> {
    let root = Folder::open_empty(into)?;
    let tree_limits = TreeLimits {
        max_entries: limits.max_files,
        ..TreeLimits::default()
    };
    let largest = limits.max_file_bytes.max(tree_limits.max_tree_bytes);
    let packs = LocalPacks::open(packs, largest, cancel)?;
    check(&packs, tree, &tree_limits).map_err(CheckoutError::from_check)?;
    sizes::check(&packs, tree, limits, tree_limits.max_tree_bytes)?;
    let guard = EmptyAgain::new(into);
    match write::write(&packs, tree, &root, (limits, &tree_limits), cancel, progress) {
        Ok(done) => {
            guard.keep();
            Ok(done)
        }
        Err(failure) => Err(guard.empty(failure)),
    }
}
