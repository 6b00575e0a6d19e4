//! Adds up what a checkout would write, from the headers of the objects alone.
//!
//! A tree that stands at many paths is looked into once and counted as often as it stands there. The tree was checked
//! before, so its depth is bounded. This module must not know the disk.

use std::collections::HashMap;

use bstr::BString;
use mayfly_protocol::TreeId;

use super::{CheckoutError, CheckoutLimits, LinkFault};
use crate::local_packs::LocalPacks;
use crate::scratch::ScratchError;
use crate::tree::{EntryRef, FOLDER, LINK, SUBMODULE, entries, shown};
use crate::tree_check::TreeSource as _;

/// Bytes of a link's target: `PATH_MAX` of Linux with its NUL.
const MAX_LINK_BYTES: u64 = 4095;

struct Sizes<'a> {
    packs: &'a LocalPacks<'a>,
    limits: &'a CheckoutLimits,
    max_tree_bytes: u64,
    /// Bytes below each tree that was looked into.
    known: HashMap<TreeId, u64>,
    path: BString,
}

/// Whether the files below `tree` are there and within the limits.
pub(super) fn check(
    packs: &LocalPacks<'_>,
    tree: &TreeId,
    limits: &CheckoutLimits,
    max_tree_bytes: u64,
) -> Result<(), CheckoutError> {
    let mut sizes = Sizes {
        packs,
        limits,
        max_tree_bytes,
        known: HashMap::new(),
        path: BString::default(),
    };
    sizes.tree(tree).map(drop)
}

impl Sizes<'_> {
    fn tree(&mut self, id: &TreeId) -> Result<u64, CheckoutError> {
        if let Some(bytes) = self.known.get(id) {
            return Ok(*bytes);
        }
        let tree = self.packs.tree(id, self.max_tree_bytes);
        let tree = tree.map_err(|error| self.failed(error))?;
        let mut sum = 0_u64;
        for entry in entries(&tree) {
            let entry = entry.map_err(|malformed| self.failed(ScratchError::malformed(id, malformed)))?;
            sum = sum.saturating_add(self.entry(&entry)?);
            if sum > self.limits.max_bytes {
                let max = self.limits.max_bytes;
                return Err(CheckoutError::TooManyBytes { max });
            }
        }
        self.known.insert(*id, sum);
        Ok(sum)
    }

    fn entry(&mut self, entry: &EntryRef<'_>) -> Result<u64, CheckoutError> {
        let before = self.path.len();
        if before > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(entry.name);
        let bytes = match entry.entry().mode {
            FOLDER => self.tree(&entry.id)?,
            SUBMODULE => 0,
            LINK => self.link(entry)?,
            _ => self.blob(entry)?,
        };
        self.path.truncate(before);
        Ok(bytes)
    }

    fn link(&self, entry: &EntryRef<'_>) -> Result<u64, CheckoutError> {
        let bytes = self.blob(entry)?;
        let max = MAX_LINK_BYTES;
        let fault = match bytes {
            0 => LinkFault::Empty,
            _ if bytes > max => LinkFault::TooLong { max },
            _ => return Ok(bytes),
        };
        let path = shown(&self.path);
        Err(CheckoutError::Link { path, fault })
    }

    fn blob(&self, entry: &EntryRef<'_>) -> Result<u64, CheckoutError> {
        let bytes = self.packs.blob_bytes(&entry.id, self.limits.max_file_bytes);
        bytes.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: ScratchError) -> CheckoutError {
        CheckoutError::from_object(self.path.as_ref(), error)
    }
}
