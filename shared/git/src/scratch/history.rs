//! History: which commits lead to which, and which objects a remote lacks.

use std::cell::OnceCell;
use std::collections::HashSet;

use mayfly_protocol::{CommitId, ObjectId, TreeId};

use super::commit::parse_commit;
use super::{Scratch, ScratchError};
use crate::tree::{FOLDER, SUBMODULE, TreeEntry};

/// A walk back through history from one commit in search of another, which stops where commits are not here and goes on when they are given.
#[derive(Debug)]
pub struct HistoryWalk {
    sought: CommitId,
    /// Commits that are taken to have no parents.
    ends: HashSet<CommitId>,
    seen: HashSet<CommitId>,
    open: Vec<CommitId>,
    is_met: bool,
}

/// Where a walk stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalkStep {
    /// The commit was met.
    Met,
    /// All history was walked without meeting it.
    Ended,
    /// It goes on through these commits, which are not here. Those that are not given to [`HistoryWalk::take`] end it there.
    Lacks(Vec<CommitId>),
}

impl HistoryWalk {
    /// A walk from `from` back to `sought`, which itself need not be here.
    pub fn new(sought: CommitId, from: CommitId, shallow: &[CommitId]) -> Self {
        Self {
            sought,
            ends: shallow.iter().copied().collect(),
            seen: HashSet::from([from]),
            open: vec![from],
            is_met: sought == from,
        }
    }

    /// Walks on through the commits that are here.
    pub fn step(&mut self, scratch: &Scratch) -> Result<WalkStep, ScratchError> {
        let mut lacks = Vec::new();
        while let Some(id) = self.open.pop()
            && !self.is_met
        {
            if self.ends.contains(&id) {
                continue;
            }
            if !scratch.has(&id) {
                lacks.push(id);
                continue;
            }
            self.follow(scratch.commit_info(&id)?.parents);
            scratch.check_commit_count(self.seen.len())?;
        }
        Ok(match (self.is_met, lacks.is_empty()) {
            (true, _) => WalkStep::Met,
            (false, true) => WalkStep::Ended,
            (false, false) => WalkStep::Lacks(lacks),
        })
    }

    /// Takes the content of a commit that was lacking.
    pub fn take(&mut self, id: &CommitId, content: &[u8]) -> Result<(), ScratchError> {
        let info = parse_commit(id, content)?;
        self.follow(info.parents);
        Ok(())
    }

    fn follow(&mut self, parents: Vec<CommitId>) {
        for parent in parents {
            self.is_met |= parent == self.sought;
            if self.seen.insert(parent) {
                self.open.push(parent);
            }
        }
    }
}

impl Scratch {
    /// The objects that a remote with the `known` commits lacks of `new`: the commits back to known ones, or to ones that are
    /// not here, with those of their trees and blobs that their parents' trees do not have.
    ///
    /// A tree or blob that is lacking and is not here is [`ScratchError::Missing`]. One that merely moved in the tree is not
    /// lacking, though it is not here.
    pub fn objects_to_send(&self, new: &CommitId, known: &[CommitId]) -> Result<Vec<ObjectId>, ScratchError> {
        let (commits, boundary) = self.commits_to_send(new, known)?;
        let mut sending = Sending::new(self, boundary, None);
        for commit in commits {
            sending.add_commit(&commit)?;
        }
        Ok(sending.objects)
    }

    /// What is not here and [`Self::objects_to_send`] would look at, as far as that can be told from what is here. Not all of it need exist: what a
    /// commit is compared with may be left out by a shallow fetch.
    pub fn missing_to_send(&self, new: &CommitId, known: &[CommitId]) -> Result<Vec<ObjectId>, ScratchError> {
        let mut missing: Vec<ObjectId> = known.iter().filter(|id| !self.has(id)).copied().collect();
        let (mut seen, mut open) = (HashSet::from([*new]), vec![*new]);
        while let Some(id) = open.pop() {
            if known.contains(&id) {
                continue;
            }
            if !self.has(&id) {
                missing.push(id);
                continue;
            }
            let parents = self.commit_info(&id)?.parents;
            open.extend(parents.into_iter().filter(|parent| seen.insert(*parent)));
            self.check_commit_count(seen.len())?;
        }
        if !missing.is_empty() {
            return Ok(missing);
        }
        let (commits, boundary) = self.commits_to_send(new, known)?;
        let mut sending = Sending::new(self, boundary, Some(Vec::new()));
        for commit in commits {
            sending.add_commit(&commit)?;
        }
        Ok(sending.missing.unwrap_or_default())
    }

    /// Commits to send, newest first, and the trees of the commits that they stand on, as far as those are here.
    fn commits_to_send(
        &self,
        new: &CommitId,
        known: &[CommitId],
    ) -> Result<(Vec<CommitId>, Vec<TreeId>), ScratchError> {
        let known: HashSet<CommitId> = known.iter().copied().collect();
        let mut seen = HashSet::from([*new]);
        let (mut open, mut send, mut stops) = (vec![*new], Vec::new(), known.clone());
        while let Some(id) = open.pop() {
            if known.contains(&id) || (id != *new && !self.has(&id)) {
                stops.insert(id);
                continue;
            }
            send.push(id);
            open.extend(
                self.commit_info(&id)?
                    .parents
                    .into_iter()
                    .filter(|parent| seen.insert(*parent)),
            );
            self.check_commit_count(seen.len())?;
        }
        let mut boundary = Vec::new();
        for stop in stops.into_iter().filter(|stop| self.has(stop)) {
            boundary.push(self.commit_tree(&stop)?);
        }
        Ok((send, boundary))
    }

    fn check_commit_count(&self, count: usize) -> Result<(), ScratchError> {
        let max = self.limits.max_commits;
        if count > max {
            Err(ScratchError::TooMany { what: "commits", max })
        } else {
            Ok(())
        }
    }

    pub(super) fn is_readable_tree(&self, id: &TreeId) -> bool {
        *id == TreeId::EMPTY_TREE || self.has(id)
    }
}

struct Sending<'a> {
    scratch: &'a Scratch,
    /// Trees of commits that the remote has.
    boundary: Vec<TreeId>,
    /// All that is in them; read only where something is not here and may be there.
    at_boundary: OnceCell<HashSet<ObjectId>>,
    seen: HashSet<ObjectId>,
    objects: Vec<ObjectId>,
    /// What is not here, where it is to be told instead of refused.
    missing: Option<Vec<ObjectId>>,
}

impl<'a> Sending<'a> {
    fn new(scratch: &'a Scratch, boundary: Vec<TreeId>, missing: Option<Vec<ObjectId>>) -> Self {
        Self {
            scratch,
            boundary,
            at_boundary: OnceCell::new(),
            seen: HashSet::new(),
            objects: Vec::new(),
            missing,
        }
    }

    fn add_commit(&mut self, commit: &CommitId) -> Result<(), ScratchError> {
        let info = self.scratch.commit_info(commit)?;
        self.objects.push(*commit);
        let mut beside = Vec::new();
        for parent in info.parents.iter().filter(|parent| self.scratch.has(parent)) {
            beside.push(self.scratch.commit_tree(parent)?);
        }
        // Pairs of a tree to send and the parents' trees at the same path.
        let mut open = vec![(
            TreeEntry {
                mode: FOLDER,
                id: info.tree,
            },
            beside,
        )];
        while let Some((entry, beside)) = open.pop() {
            if beside.contains(&entry.id) || !self.seen.insert(entry.id) {
                continue;
            }
            if self.is_passed_over(&entry, &beside)? {
                continue;
            }
            self.objects.push(entry.id);
            if entry.is_folder() {
                self.add_entries(&entry.id, &beside, &mut open)?;
            }
            self.scratch.check_object_count(self.seen.len())?;
        }
        Ok(())
    }

    fn add_entries(
        &self,
        tree: &TreeId,
        beside: &[TreeId],
        open: &mut Vec<(TreeEntry, Vec<TreeId>)>,
    ) -> Result<(), ScratchError> {
        let mut old = std::collections::HashMap::<_, Vec<TreeEntry>>::new();
        for other in beside.iter().filter(|other| self.scratch.is_readable_tree(other)) {
            self.scratch.each_entry(other, |entry| {
                old.entry(entry.name.to_owned()).or_default().push(entry.entry());
                Ok(())
            })?;
        }
        self.scratch.each_entry(tree, |entry| {
            let (new, olds) = (
                entry.entry(),
                old.get(entry.name).map(Vec::as_slice).unwrap_or_default(),
            );
            if new.mode != SUBMODULE && !olds.iter().any(|old| old.id == new.id) {
                let folders = olds.iter().filter(|old| old.is_folder());
                open.push((new, folders.map(|old| old.id).collect()));
            }
            Ok(())
        })
    }

    /// Whether an entry is not to be looked at: the remote has it, or something has to come here before, which is noted.
    fn is_passed_over(&mut self, entry: &TreeEntry, beside: &[TreeId]) -> Result<bool, ScratchError> {
        let scratch = self.scratch;
        let mut absent = beside
            .iter()
            .filter(|tree| !scratch.is_readable_tree(tree))
            .peekable();
        if let Some(missing) = &mut self.missing
            && entry.is_folder()
            && absent.peek().is_some()
        {
            missing.extend(absent);
            return Ok(true);
        }
        match (self.is_known_elsewhere(entry), &mut self.missing) {
            (Err(ScratchError::Missing { id }), Some(missing)) => {
                missing.push(id);
                Ok(true)
            }
            (known, _) => known,
        }
    }

    /// Whether an object that is not here is in a tree that the remote has.
    fn is_known_elsewhere(&self, entry: &TreeEntry) -> Result<bool, ScratchError> {
        if self.scratch.has(&entry.id) {
            return Ok(false);
        }
        if self.at_boundary.get().is_none() {
            let ids = self.ids_at_boundary()?;
            self.at_boundary.get_or_init(|| ids);
        }
        let is_known = self.at_boundary.get().is_some_and(|ids| ids.contains(&entry.id));
        if is_known {
            Ok(true)
        } else {
            Err(ScratchError::Missing { id: entry.id })
        }
    }

    fn ids_at_boundary(&self) -> Result<HashSet<ObjectId>, ScratchError> {
        let mut ids = HashSet::new();
        let mut open = self.boundary.clone();
        while let Some(tree) = open.pop() {
            if !ids.insert(tree) || !self.scratch.is_readable_tree(&tree) {
                continue;
            }
            self.scratch.each_entry(&tree, |entry| {
                if entry.is_folder() {
                    open.push(entry.id);
                } else if entry.entry().mode != SUBMODULE {
                    ids.insert(entry.id);
                }
                Ok(())
            })?;
            self.scratch.check_object_count(ids.len())?;
        }
        Ok(ids)
    }
}
