//! Sessions that pull, push, fold and teach in an order by chance, on what they knew a while ago: nobody lacks a commit.

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;

use super::*;
use crate::manifest::MAX_WHOLE_BYTES;

/// Packs as sets of commits, which follow one another from 0.
#[derive(Default)]
struct World {
    commits: u8,
    contents: HashMap<PackName, BTreeSet<u8>>,
}

struct Member {
    manifest: Manifest,
    /// What it pushed itself, in packs of its own.
    own: BTreeSet<u8>,
    head: Option<u8>,
    /// What it has read of the document, and not used yet.
    read: Option<KnownRepository>,
}

fn id(commit: u8) -> CommitId {
    ObjectId::from_bytes([commit; 20])
}

fn fresh_manifest() -> Manifest {
    let (session, url) = ("s".parse().unwrap(), "https://host/o/r".parse().unwrap());
    let at = OffsetDateTime::UNIX_EPOCH;
    Manifest::new(session, url, "main".parse().unwrap(), at)
}

impl Member {
    fn new() -> Self {
        Self {
            manifest: fresh_manifest(),
            own: BTreeSet::new(),
            head: None,
            read: None,
        }
    }

    fn base(&self) -> Vec<PackEntry> {
        let base = self
            .manifest
            .packs
            .iter()
            .filter(|pack| pack.kind == PackKind::Base);
        base.cloned().collect()
    }
}

impl World {
    fn pack(&mut self, commits: BTreeSet<u8>) -> PackEntry {
        let name = PackName::fresh();
        let mut hash = [0; 20];
        hash[..16].copy_from_slice(&name.to_string().as_bytes()[..16]);
        self.contents.insert(name.clone(), commits);
        PackEntry {
            hash: ObjectId::from_bytes(hash),
            name,
            kind: PackKind::Base,
            scope: PackScope::Repository,
            objects: 1,
            pack_bytes: MAX_WHOLE_BYTES,
            index_bytes: 1,
        }
    }

    fn held<'a>(&self, packs: impl IntoIterator<Item = &'a PackEntry>) -> BTreeSet<u8> {
        let sets = packs.into_iter().map(|pack| &self.contents[&pack.name]);
        sets.flatten().copied().collect()
    }

    /// Fetches all that is new, folds where `folds` says so, and teaches.
    fn pull(&mut self, known: &mut KnownRepository, member: &mut Member, folds: usize) {
        let read = member.read.take().filter(KnownRepository::is_worth_it);
        let mut have: Vec<u8> = member.head.into_iter().collect();
        if let Some(read) = &read {
            have.extend(read.tips.values().map(|tip| tip.commit.as_bytes()[0]));
            read.list_in(&mut member.manifest);
        }
        let tip = self.commits;
        let first = have.iter().max().map_or(0, |most| most + 1);
        let new: BTreeSet<u8> = (first..=tip).collect();
        let mut brought = Brought {
            have: Some(have.into_iter().map(id).collect()),
            ..Brought::default()
        };
        if !new.is_empty() {
            brought.packs.push(self.pack(new));
            member.manifest.packs.extend(brought.packs.clone());
        }
        member.head = Some(tip);
        if member.base().len() > folds {
            brought.folded = self.fold(known, member, folds);
        }
        let held = Held {
            packs: member.base(),
            has_own: !member.own.is_empty(),
            brought: &brought,
        };
        let commit = id(tip);
        let trees = PackEntry {
            kind: PackKind::Trees,
            ..held.packs[0].clone()
        };
        let tip = KnownTip {
            commit,
            tree: commit,
            trees,
        };
        known.learn("refs/heads/main".into(), tip, &held);
    }

    fn fold(&mut self, known: &KnownRepository, member: &mut Member, folds: usize) -> Option<FoldedPacks> {
        if known.is_worth_it() {
            known.list_in(&mut member.manifest);
        }
        let mut of: Vec<PackEntry> = member.base().into_iter().rev().take(folds + 1).collect();
        let all = self.held(&of);
        let holder = of.iter().position(|pack| self.contents[&pack.name] == all);
        let into = match holder {
            Some(_) if of.len() < 2 => return None,
            Some(at) => of.remove(at),
            None => self.pack(all),
        };
        member.manifest.replace_packs(&of, [into.clone()]);
        Some(FoldedPacks { of, into })
    }

    fn check(&self, known: &KnownRepository, members: &[Member]) {
        let listed = self.held(&known.packs);
        for tip in known.tips.values() {
            assert!((0..=tip.commit.as_bytes()[0]).all(|commit| listed.contains(&commit)));
        }
        let folded = known.folded.iter().flat_map(|name| &self.contents[name]);
        assert!(folded.into_iter().all(|commit| listed.contains(commit)));
        for member in members {
            let packs = self.held(&member.base());
            let all = member.head.map_or(0..0, |head| 0..head + 1);
            assert!(
                all.into_iter()
                    .all(|commit| packs.contains(&commit) || member.own.contains(&commit))
            );
        }
    }
}

proptest! {
    #[test]
    fn whoever_teaches_folds_or_takes_up_nobody_lacks_a_commit(
        steps in prop::collection::vec((0..4_usize, 0..8_u8, 1..5_usize), 1..200),
    ) {
        let mut world = World::default();
        let mut known = KnownRepository::new(None);
        let mut members: Vec<Member> = (0..4).map(|_| Member::new()).collect();
        for (at, step, folds) in steps {
            let member = &mut members[at];
            match step {
                0 => world.commits += 1,
                1 if member.head == Some(world.commits) => {
                    world.commits += 1;
                    member.own.insert(world.commits);
                    member.head = Some(world.commits);
                }
                2 => member.read = Some(known.clone()),
                3 if folds == 1 => *member = Member::new(),
                4 if folds == 1 => known = known.emptied(),
                _ => world.pull(&mut known, member, folds),
            }
            world.check(&known, &members);
        }
    }
}
