//! Packs of a scratch repository: those that are added, and those that are written from it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;

use bstr::{BString, ByteSlice};
use git2::PackBuilder;
use mayfly_protocol::{CommitId, ObjectId, TreeId};

use super::{Scratch, ScratchError, git_error};
use crate::object::{ObjectKind, to_oid};
use crate::pack::PackFiles;
use crate::tree::TreeEntry;

/// The mode of the pack files that are written here.
const PACK_FILE_MODE: u32 = 0o600;

impl Scratch {
    /// Adds a pack with its index: hard-linked into the scratch folder, or copied where that is another file system.
    pub fn add_pack(&self, pack: &PackFiles) -> Result<(), ScratchError> {
        if pack.hash.parse::<ObjectId>().is_err() {
            return Err(ScratchError::PackName {
                name: pack.hash.clone(),
            });
        }
        let folder = self.objects.join("pack");
        // The index comes last: a pack is looked for where an index is.
        for (from, suffix) in [(&pack.pack, "pack"), (&pack.index, "idx")] {
            let to = folder.join(format!("pack-{}.{suffix}", pack.hash));
            link_or_copy(from, &to).map_err(|source| ScratchError::Io {
                doing: "add the pack",
                path: from.clone(),
                source,
            })?;
        }
        self.odb.refresh().map_err(git_error("read its packs"))
    }

    /// Writes a small pack of a commit and all trees of its tree, without files.
    pub fn write_trees_pack(&self, commit: &CommitId, into: &Path) -> Result<PackFiles, ScratchError> {
        let tree = self.commit_tree(commit)?;
        let mut builder = self.builder()?;
        insert(&mut builder, commit, None)?;
        self.walk_trees(&tree, |id, path| insert(&mut builder, id, Some(path)))?;
        write_files(builder, into)
    }

    /// Writes all objects that this job made as a pack; `None` when it made none.
    pub fn write_new_pack(&self, into: &Path) -> Result<Option<PackFiles>, ScratchError> {
        let made = self.made.borrow();
        if made.new.is_empty() {
            return Ok(None);
        }
        let mut builder = self.builder()?;
        for id in &made.new {
            insert(&mut builder, id, None)?;
        }
        write_files(builder, into).map(Some)
    }

    /// Forgets what this job made and the tree does not hold: it is no part of [`Self::write_new_pack`].
    pub fn keep_only(&self, tree: &TreeId) -> Result<(), ScratchError> {
        let new: HashSet<ObjectId> = self.made.borrow().new.iter().copied().collect();
        let mut kept = HashSet::new();
        let mut open: Vec<_> = new.get(tree).copied().into_iter().collect();
        while let Some(id) = open.pop() {
            kept.insert(id);
            self.each_entry(&id, |entry| {
                // What an object of before holds is stored with it.
                if new.contains(&entry.id) && !kept.contains(&entry.id) {
                    if entry.is_folder() {
                        open.push(entry.id);
                    } else {
                        kept.insert(entry.id);
                    }
                }
                Ok(())
            })?;
        }
        self.made.borrow_mut().new.retain(|id| kept.contains(id));
        Ok(())
    }

    /// Packs these objects, each of which must be here, into one self-contained pack.
    pub fn pack_objects(&self, ids: &[ObjectId]) -> Result<Vec<u8>, ScratchError> {
        let mut builder = self.builder()?;
        for id in ids {
            self.header(id)?;
            insert(&mut builder, id, None)?;
        }
        let mut pack = git2::Buf::new();
        builder.write_buf(&mut pack).map_err(git_error("write a pack"))?;
        Ok(pack.to_vec())
    }

    /// Trees below `tree`, itself included, that are not here, as far as they are named by trees that are and can be read.
    /// What is wrong with one that cannot is for [`Self::check_tree`] to say.
    pub fn missing_trees(&self, tree: &TreeId) -> Result<Vec<TreeId>, ScratchError> {
        let mut missing = Vec::new();
        let mut seen = HashSet::from([*tree]);
        let mut open = vec![*tree];
        while let Some(id) = open.pop() {
            if id == TreeId::EMPTY_TREE {
                continue;
            }
            if !self.has(&id) {
                missing.push(id);
                continue;
            }
            let read = self.each_entry(&id, |entry| {
                if entry.is_folder() && seen.insert(entry.id) {
                    open.push(entry.id);
                }
                Ok(())
            });
            match read {
                Ok(()) | Err(ScratchError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
            self.check_object_count(seen.len())?;
        }
        Ok(missing)
    }

    /// The files and links of a tree, all trees of which are here, that are not here themselves and do not stand at the same path in one of the
    /// `complete` trees either. Of those only what is here is looked at. Submodules are not looked for.
    pub fn absent_files(&self, tree: &TreeId, complete: &[TreeId]) -> Result<Vec<ObjectId>, ScratchError> {
        let mut absent = Vec::new();
        let mut seen = HashSet::new();
        let mut open = vec![(*tree, complete.to_vec())];
        while let Some((id, beside)) = open.pop() {
            if beside.contains(&id) || !seen.insert(id) {
                continue;
            }
            let mut old = HashMap::<_, Vec<TreeEntry>>::new();
            for other in beside.iter().filter(|other| self.has(other)) {
                self.each_entry(other, |entry| {
                    old.entry(entry.name.to_owned()).or_default().push(entry.entry());
                    Ok(())
                })?;
            }
            self.each_entry(&id, |entry| {
                let olds = old.get(entry.name).map(Vec::as_slice).unwrap_or_default();
                if entry.is_submodule() || olds.iter().any(|old| old.id == entry.id) {
                    return Ok(());
                }
                if entry.is_folder() {
                    let folders = olds.iter().filter(|old| old.is_folder());
                    open.push((entry.id, folders.map(|old| old.id).collect()));
                } else if seen.insert(entry.id) && !self.has(&entry.id) {
                    absent.push(entry.id);
                }
                Ok(())
            })?;
            self.check_object_count(seen.len())?;
        }
        Ok(absent)
    }

    /// Trees that are not here and that a comparison of two trees has to look into, as far as those that are here tell.
    pub fn missing_to_compare(&self, old: &TreeId, new: &TreeId) -> Result<Vec<TreeId>, ScratchError> {
        let (mut missing, mut looked) = (Vec::new(), 0);
        let mut open = vec![(Some(*old), Some(*new))];
        while let Some((old, new)) = open.pop() {
            looked += 1;
            self.check_object_count(looked)?;
            if old == new {
                continue;
            }
            let absent = [old, new]
                .into_iter()
                .flatten()
                .filter(|id| !self.is_readable_tree(id));
            let before = missing.len();
            missing.extend(absent);
            if missing.len() > before {
                continue;
            }
            let mut folders = BTreeMap::<BString, (Option<TreeId>, Option<TreeId>)>::new();
            for (tree, is_new) in [(old, false), (new, true)] {
                let Some(tree) = tree.filter(|id| *id != TreeId::EMPTY_TREE) else {
                    continue;
                };
                self.each_entry(&tree, |entry| {
                    if entry.is_folder() {
                        let sides = folders.entry(entry.name.to_owned()).or_default();
                        *(if is_new { &mut sides.1 } else { &mut sides.0 }) = Some(entry.id);
                    }
                    Ok(())
                })?;
            }
            open.extend(folders.into_values());
        }
        missing.sort_unstable();
        missing.dedup();
        Ok(missing)
    }

    /// Trees that are not here and that stand on the way to these paths of a tree, the next of each way.
    pub fn missing_on_paths(&self, tree: &TreeId, paths: &[BString]) -> Result<Vec<TreeId>, ScratchError> {
        let mut missing = HashSet::new();
        for path in paths {
            let mut at = *tree;
            let mut names = path.split_str("/").peekable();
            while let Some(name) = names.next() {
                if !self.is_readable_tree(&at) {
                    missing.insert(at);
                    break;
                }
                let below = self.entry(&at, name)?.filter(TreeEntry::is_folder);
                match below.filter(|_| names.peek().is_some()) {
                    Some(folder) => at = folder.id,
                    None => break,
                }
            }
        }
        Ok(missing.into_iter().collect())
    }

    /// Calls `visit` for each tree below `tree`, itself included, once, with a path at which it stands.
    fn walk_trees(
        &self,
        tree: &TreeId,
        mut visit: impl FnMut(&TreeId, &[u8]) -> Result<(), ScratchError>,
    ) -> Result<(), ScratchError> {
        let mut seen = HashSet::from([*tree]);
        let mut open = vec![(*tree, BString::default())];
        while let Some((id, path)) = open.pop() {
            if id == TreeId::EMPTY_TREE {
                // Git knows it everywhere, and need not send it.
                self.keep(ObjectKind::Tree, b"")?;
            }
            visit(&id, &path)?;
            self.each_entry(&id, |entry| {
                if entry.is_folder() && seen.insert(entry.id) {
                    let below = if path.is_empty() {
                        Vec::new()
                    } else {
                        [&path[..], b"/"].concat()
                    };
                    open.push((entry.id, [&below[..], entry.name].concat().into()));
                }
                Ok(())
            })?;
            self.check_object_count(seen.len())?;
        }
        Ok(())
    }

    pub(crate) fn check_object_count(&self, count: usize) -> Result<(), ScratchError> {
        let max = self.limits.max_objects;
        if count > max {
            Err(ScratchError::TooMany { what: "objects", max })
        } else {
            Ok(())
        }
    }

    pub(super) fn builder(&self) -> Result<PackBuilder<'_>, ScratchError> {
        self.repository.packbuilder().map_err(git_error("begin a pack"))
    }
}

/// The path sorts objects of one name together, so that they become deltas of each other; a path that C cannot hold is left out.
pub(super) fn insert(
    builder: &mut PackBuilder<'_>,
    id: &ObjectId,
    path: Option<&[u8]>,
) -> Result<(), ScratchError> {
    let name = path
        .and_then(|path| std::str::from_utf8(path).ok())
        .filter(|path| !path.contains('\0'));
    builder
        .insert_object(to_oid(id), name)
        .map_err(|error| super::read_error(*id, &error))
}

pub(super) fn write_files(mut builder: PackBuilder<'_>, into: &Path) -> Result<PackFiles, ScratchError> {
    builder
        .write(into, PACK_FILE_MODE)
        .map_err(git_error("write a pack"))?;
    let name = builder
        .name()
        .map_err(git_error("name a pack"))?
        .unwrap_or_default();
    let hash = name.to_owned();
    let (pack, index) = (
        into.join(format!("pack-{hash}.pack")),
        into.join(format!("pack-{hash}.idx")),
    );
    Ok(PackFiles {
        pack_bytes: file_bytes(&pack)?,
        index_bytes: file_bytes(&index)?,
        objects: u32::try_from(builder.written()).unwrap_or(u32::MAX),
        pack,
        index,
        hash,
    })
}

fn file_bytes(path: &Path) -> Result<u64, ScratchError> {
    fs::metadata(path)
        .map(|data| data.len())
        .map_err(|source| ScratchError::Io {
            doing: "look at the pack",
            path: path.to_owned(),
            source,
        })
}

fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        // Packs are named by their content: one of this name is this one.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(_) => fs::copy(from, to).map(drop),
    }
}
