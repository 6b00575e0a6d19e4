//! A pack that has just come from a remote: its trees of one commit are read once, by gix, and kept in memory.
//!
//! libgit2 keeps up to 16 MiB of a large pack's objects to build others on, whatever is asked of it; the trees themselves are far smaller.

use std::collections::HashSet;

use mayfly_protocol::CommitId;
use tokio_util::sync::CancellationToken;

use super::commit::parse_commit;
use super::{Scratch, ScratchError};
use crate::local_packs::LocalPacks;
use crate::object::ObjectKind;
use crate::pack::PackFiles;
use crate::tree;
use crate::tree_check::TreeSource as _;

/// The most bytes of trees that are kept; what is beyond them is read from the pack.
const MAX_KEPT_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes of objects that are held while others are built on them.
const CACHE_BYTES: usize = 2 * 1024 * 1024;

impl Scratch {
    /// Adds a pack that was received for this commit.
    pub fn add_received_pack(&self, pack: &PackFiles, commit: &CommitId) -> Result<(), ScratchError> {
        self.keep_trees(pack, commit)?;
        self.add_pack(pack)
    }

    /// Keeps the trees of a commit, as far as they are in the pack and can be read. What is wrong with others, those will say who need them.
    fn keep_trees(&self, pack: &PackFiles, commit: &CommitId) -> Result<(), ScratchError> {
        let never = CancellationToken::new();
        let max = self.limits.max_object_bytes;
        let Ok(packs) = LocalPacks::open_with_cache(std::slice::from_ref(pack), max, CACHE_BYTES, &never)
        else {
            return Ok(());
        };
        let Ok(content) = packs.read(commit, ObjectKind::Commit, max) else {
            return Ok(());
        };
        let Ok(info) = parse_commit(commit, &content) else {
            return Ok(());
        };
        let most = MAX_KEPT_BYTES.min(self.limits.max_new_bytes / 4);
        let mut kept = 0;
        let mut seen = HashSet::from([info.tree]);
        let mut open = vec![info.tree];
        while let Some(id) = open.pop() {
            let Ok(content) = packs.tree(&id, most) else {
                continue;
            };
            kept += content.len() as u64;
            if kept > most || seen.len() > self.limits.max_objects {
                break;
            }
            for entry in tree::entries(&content).map_while(Result::ok) {
                if entry.is_folder() && seen.insert(entry.id) {
                    open.push(entry.id);
                }
            }
            self.add_object(ObjectKind::Tree, &content)?;
        }
        Ok(())
    }
}
