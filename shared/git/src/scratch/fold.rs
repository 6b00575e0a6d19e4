//! Writes packs anew: those of jobs as two, what whoever goes on from here reads and the rest; those of a remote as one.

use std::collections::HashSet;
use std::path::Path;

use git2::PackBuilder;
use mayfly_protocol::{CommitId, ObjectId, TreeId};

use super::packs::{insert, write_files};
use super::{Scratch, ScratchError};
use crate::object::ObjectKind;
use crate::pack::PackFiles;

const SHA1: gix_hash::Kind = gix_hash::Kind::Sha1;

/// Where whoever comes next goes on from.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// The commit that it stands on.
    pub head: Option<CommitId>,
    /// The newest commit in the head's history that the remote has.
    pub upstream: Option<CommitId>,
    /// The tree that is the workspace.
    pub worktree: TreeId,
}

/// What packs were written anew as. No object is in both, and each is in one of them.
#[derive(Debug)]
pub struct Folded {
    /// What whoever goes on reads: commits that the remote lacks with all that they brought, the newest that it has, all trees of these and of
    /// the workspace, and files of the workspace that the remote lacks.
    pub next: Option<PackFiles>,
    /// The rest.
    pub past: Option<PackFiles>,
}

/// Packs that can be done without, but for one.
#[derive(Debug)]
pub struct Joined {
    /// The checksums of the packs.
    pub of: Vec<String>,
    /// What holds all their objects: one of them, or a pack that was written anew.
    pub into: PackFiles,
}

impl Scratch {
    /// Writes all objects of these packs, which have to be here, and those that this job made, as two packs.
    pub fn fold(
        &self,
        packs: &[PackFiles],
        standing: &Standing,
        into: &Path,
    ) -> Result<Folded, ScratchError> {
        let mut ids = self.made.borrow().new.clone();
        for pack in packs {
            ids.extend(ids_of(pack)?);
        }
        self.check_object_count(ids.len())?;
        let mut among = HashSet::with_capacity(ids.len());
        ids.retain(|id| among.insert(*id));
        let next = Needed::by(self, &among, standing)?;
        ids.retain(|id| !next.contains(id));
        let mut in_order: Vec<ObjectId> = next.into_iter().collect();
        in_order.sort_unstable();
        Ok(Folded {
            next: self.write_pack(&in_order, into)?,
            past: self.write_pack(&ids, into)?,
        })
    }

    /// Sees to it that one pack holds all objects of those of these packs, which have to be here, that together unpack to no more than
    /// `max_unpacked_bytes`; `None` where these are fewer than two.
    pub fn join(
        &self,
        packs: &[PackFiles],
        max_unpacked_bytes: u64,
        into: &Path,
    ) -> Result<Option<Joined>, ScratchError> {
        let (mut taken, mut ids, mut unpacked) = (Vec::new(), Vec::new(), 0_u64);
        for pack in packs {
            let of_pack = ids_of(pack)?;
            let together = unpacked.saturating_add(self.unpacked_bytes(&of_pack)?);
            if together <= max_unpacked_bytes {
                unpacked = together;
                taken.push((of_pack.len(), pack));
                ids.extend(of_pack);
            }
        }
        let Some((most, largest)) = taken.iter().max_by_key(|(objects, _)| objects) else {
            return Ok(None);
        };
        if taken.len() < 2 {
            return Ok(None);
        }
        self.check_object_count(ids.len())?;
        let among: HashSet<ObjectId> = ids.iter().copied().collect();
        let into = match among.len() == *most {
            true => (*largest).clone(),
            false => {
                let mut builder = self.builder()?;
                self.insert_by_name(&mut builder, &ids, &among)?;
                write_files(builder, into)?
            }
        };
        let of = taken.iter().map(|(_, pack)| pack.hash.clone()).collect();
        Ok(Some(Joined { of, into }))
    }

    fn unpacked_bytes(&self, ids: &[ObjectId]) -> Result<u64, ScratchError> {
        ids.iter().try_fold(0_u64, |sum, id| {
            self.header(id).map(|(_, bytes)| sum.saturating_add(bytes))
        })
    }

    /// Puts objects into a pack, those that a tree among them names with that name: versions of one file become deltas of each other.
    fn insert_by_name(
        &self,
        builder: &mut PackBuilder<'_>,
        ids: &[ObjectId],
        among: &HashSet<ObjectId>,
    ) -> Result<(), ScratchError> {
        for id in ids {
            if self.header(id)?.0 == ObjectKind::Tree {
                self.each_entry(id, |entry| match among.contains(&entry.id) {
                    true => insert(builder, &entry.id, Some(entry.name)),
                    false => Ok(()),
                })?;
            }
        }
        ids.iter().try_for_each(|id| insert(builder, id, None))
    }

    /// Writes these objects as a pack; `None` where there are none.
    fn write_pack(&self, ids: &[ObjectId], into: &Path) -> Result<Option<PackFiles>, ScratchError> {
        if ids.is_empty() {
            return Ok(None);
        }
        let mut builder = self.builder()?;
        for id in ids {
            insert(&mut builder, id, None)?;
        }
        write_files(builder, into).map(Some)
    }
}

/// The objects of a pack, in the order in which they stand there.
fn ids_of(pack: &PackFiles) -> Result<Vec<ObjectId>, ScratchError> {
    let index = gix_pack::index::File::at(&pack.index, SHA1).map_err(|error| ScratchError::Io {
        doing: "read the index",
        path: pack.index.clone(),
        source: std::io::Error::other(error.to_string()),
    })?;
    let mut placed = Vec::new();
    for entry in index.iter() {
        if let Ok(id) = <[u8; 20]>::try_from(entry.oid.as_slice()) {
            placed.push((entry.pack_offset, ObjectId::from_bytes(id)));
        }
    }
    placed.sort_unstable();
    Ok(placed.into_iter().map(|(_, id)| id).collect())
}

/// Those of some objects that whoever goes on reads. Trees that are not among them are not looked into: what is below them is older.
struct Needed<'a> {
    scratch: &'a Scratch,
    among: &'a HashSet<ObjectId>,
    /// Files that the remote has.
    at_remote: HashSet<ObjectId>,
    ids: HashSet<ObjectId>,
}

impl<'a> Needed<'a> {
    fn by(
        scratch: &'a Scratch,
        among: &'a HashSet<ObjectId>,
        standing: &Standing,
    ) -> Result<HashSet<ObjectId>, ScratchError> {
        let mut needed = Self {
            scratch,
            among,
            at_remote: HashSet::new(),
            ids: HashSet::new(),
        };
        if let Some(upstream) = standing.upstream.filter(|id| among.contains(id)) {
            needed.ids.insert(upstream);
            needed.add_trees(scratch.commit_tree(&upstream)?, false)?;
        }
        let mut open: Vec<CommitId> = standing.head.into_iter().collect();
        while let Some(commit) = open.pop() {
            if !among.contains(&commit) || !needed.ids.insert(commit) {
                continue;
            }
            let info = scratch.commit_info(&commit)?;
            needed.add_trees(info.tree, true)?;
            open.extend(info.parents);
        }
        needed.add_trees(standing.worktree, true)?;
        Ok(needed.ids)
    }

    fn add_trees(&mut self, tree: TreeId, with_files: bool) -> Result<(), ScratchError> {
        let mut open = vec![tree];
        while let Some(id) = open.pop() {
            if !self.among.contains(&id) || !self.ids.insert(id) {
                continue;
            }
            let scratch = self.scratch;
            scratch.each_entry(&id, |entry| {
                if entry.is_folder() {
                    open.push(entry.id);
                } else if !with_files {
                    self.at_remote.insert(entry.id);
                } else if self.among.contains(&entry.id) && !self.at_remote.contains(&entry.id) {
                    self.ids.insert(entry.id);
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}
