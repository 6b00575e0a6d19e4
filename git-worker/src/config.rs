//! What a git worker is told at its start.

use std::time::Duration;

use mayfly_git::apply::ApplyLimits;
use mayfly_git::diff::DiffBudget;
use mayfly_git::remote::TransferLimits;
use mayfly_git::scratch::ScratchLimits;
use mayfly_git::tree_check::TreeLimits;
use mayfly_lfs::LfsLimits;
use mayfly_session::MAX_WHOLE_BYTES;

/// The settings of a git worker.
#[derive(Debug, Clone, Default)]
pub struct GitWorkerConfig {
    /// Who commits, and who is the author where the caller names none.
    pub identity: Identity,
    /// The bounds on what a job may take in and make.
    pub limits: GitLimits,
}

/// A name and an e-mail address, as git records them.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The name.
    pub name: String,
    /// The e-mail address.
    pub email: String,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            name: "Mayfly".to_owned(),
            email: "mayfly@noreply.invalid".to_owned(),
        }
    }
}

/// The bounds on what a job may take in and make.
#[derive(Debug, Clone)]
pub struct GitLimits {
    /// On what comes from a remote.
    pub transfer: TransferLimits,
    /// On a clone of all history that the service chooses by itself; above them it is shallow.
    pub full_clone: FullCloneLimits,
    /// On the trees of a commit.
    pub tree: TreeLimits,
    /// On the objects that a job makes.
    pub scratch: ScratchLimits,
    /// On the changes of one `/apply-changes`.
    pub apply: ApplyLimits,
    /// On the diff that a commit message is written from.
    pub diff: DiffBudget,
    /// On what is fetched from Git LFS, and sent there.
    pub lfs: LfsLimits,
    /// Old versions of changed files that are read for a diff.
    pub max_diff_blobs: usize,
    /// Bytes of a file that a patch may change.
    pub max_patched_file_bytes: u64,
    /// Bytes of a pack of the session that is read whole; a larger one is read object by object.
    pub max_whole_pack_bytes: u64,
    /// Bytes of files that the repository's ignore rules exclude which a session keeps in its worktree; they are never committed.
    pub keep_ignored_bytes: u64,
    /// How long a cancelled job may ask the remote what became of its push.
    pub settle_timeout: Duration,
}

impl Default for GitLimits {
    fn default() -> Self {
        Self {
            transfer: TransferLimits::default(),
            full_clone: FullCloneLimits::default(),
            tree: TreeLimits::default(),
            scratch: ScratchLimits::default(),
            apply: ApplyLimits::default(),
            diff: DiffBudget::default(),
            lfs: LfsLimits::default(),
            max_diff_blobs: 500,
            max_patched_file_bytes: 64 * 1024 * 1024,
            max_whole_pack_bytes: MAX_WHOLE_BYTES,
            keep_ignored_bytes: 0,
            settle_timeout: Duration::from_secs(1),
        }
    }
}

/// The largest clone of all history that nobody asked for.
#[derive(Debug, Clone)]
pub struct FullCloneLimits {
    /// Objects of the pack, as its header says.
    pub max_objects: u32,
    /// Bytes of the pack, as they arrive.
    pub max_bytes: u64,
}

impl Default for FullCloneLimits {
    fn default() -> Self {
        Self {
            max_objects: 5_000_000,
            max_bytes: 2 << 30,
        }
    }
}
