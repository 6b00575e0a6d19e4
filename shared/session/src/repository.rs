//! What a tenant's sessions know of one repository together, so that the next clone of it fetches only what is new.
//!
//! It is a hint, and never the only copy of anything: without it a clone is merely larger. It is shown to nobody: a clone
//! asks the remote for its refs with the caller's own token before it uses any of this.
//!
//! Small packs that a session has *folded* into one leave the document; their names stay in it for a while, so that other sessions which list
//! them take up the one that holds all of them, and do not bring them back.
//!
//! Packs that no session lists any more are *retired* here before they are removed: from then on no clone learns of them from this document, and
//! none gives them back to it.

use std::collections::BTreeMap;

use mayfly_protocol::{CommitId, ObjectId, RepoUrl, TreeId};
use mayfly_storage::{Precondition, StorageError, Version};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::key;
use crate::manifest::{Manifest, PackEntry, PackKind, PackScope};
use crate::pack_name::PackName;
use crate::store::SessionStore;

/// The newest version of the format; the first one knows nothing of folded packs, and is written where there are none.
const FORMAT_VERSION: u32 = 2;
/// The largest document that is read, in bytes.
pub(crate) const MAX_BYTES: u64 = 1024 * 1024;
/// Packs after which the list begins anew with those of the last clone. Small ones are folded long before, so only many large ones come to that.
const MAX_PACKS: usize = 64;
/// Names of folded packs that are remembered; a session that lists one of before folds it by itself.
const MAX_FOLDED: usize = 256;
/// Branches that are remembered.
const MAX_TIPS: usize = 256;
/// How often a lost race is tried again; to lose them all costs nothing but the hint.
const ATTEMPTS: usize = 4;

/// The packs of a repository that are in storage, and what they reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KnownRepository {
    format_version: u32,
    /// The repository's address, without `.git`; `None` where nothing but retired packs is known of it.
    repository: Option<String>,
    /// The branches as last seen at the remote, by full ref; the packs hold each commit and all that it reaches.
    pub tips: BTreeMap<String, KnownTip>,
    /// The packs that came from the remote.
    pub packs: Vec<PackEntry>,
    /// Names of packs all objects of which are in those that are listed here, the newest at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    folded: Vec<PackName>,
    /// Packs that are to be removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) retired: Vec<RetiredPack>,
}

/// A pack that no session listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RetiredPack {
    /// The name of its two objects, without their endings.
    pub(crate) name: String,
    /// A time at which no clone could learn of it any more.
    #[serde(with = "mayfly_protocol::event::timestamp")]
    pub(crate) at: OffsetDateTime,
}

/// A commit whose trees have been checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KnownTip {
    /// The commit.
    pub commit: CommitId,
    /// Its tree.
    pub tree: TreeId,
    /// The small pack of both.
    pub trees: PackEntry,
}

/// The document has a format that this build does not know.
#[derive(Debug, thiserror::Error)]
#[error("it has format {0}; this build reads {FORMAT_VERSION}")]
pub(crate) struct NewerFormat(u32);

impl KnownRepository {
    pub(crate) fn new(repository: Option<String>) -> Self {
        Self {
            format_version: 1,
            repository,
            tips: BTreeMap::new(),
            packs: Vec::new(),
            folded: Vec::new(),
            retired: Vec::new(),
        }
    }

    /// Reads the document; an error where it is of a format that a newer build wrote, `None` where it is damaged.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>, NewerFormat> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Format {
            format_version: u32,
        }
        match serde_json::from_slice::<Format>(bytes) {
            Ok(Format { format_version }) if format_version > FORMAT_VERSION => {
                Err(NewerFormat(format_version))
            }
            _ => Ok(serde_json::from_slice(bytes).ok()),
        }
    }

    /// The packs that clones are told of.
    pub(crate) fn listed(&self) -> impl Iterator<Item = &PackEntry> {
        self.packs.iter().chain(self.tips.values().map(|tip| &tip.trees))
    }

    /// The same with nothing that clones are told of; retired packs stay so.
    pub(crate) fn emptied(&self) -> Self {
        Self {
            retired: self.retired.clone(),
            ..Self::new(self.repository.clone())
        }
    }

    /// Whether all objects of this pack are in those that clones are told of, and it is not one of them.
    pub fn has_folded(&self, pack: &PackEntry) -> bool {
        self.folded.contains(&pack.name)
    }

    fn is_retired(&self, pack: &PackEntry) -> bool {
        let name = key::pack_name(pack);
        self.retired.iter().any(|retired| retired.name == name)
    }

    /// The tip that is this commit, whatever its branch.
    pub fn tip(&self, commit: CommitId) -> Option<&KnownTip> {
        self.tips.values().find(|tip| tip.commit == commit)
    }

    fn is_worth_it(&self) -> bool {
        self.packs.len() < MAX_PACKS
    }

    /// Lists the packs in a session's manifest, in place of those of its own that were folded into them.
    pub fn list_in(&self, manifest: &mut Manifest) {
        manifest.packs.retain(|pack| !self.has_folded(pack));
        for pack in &self.packs {
            manifest.add_pack(pack.clone());
        }
    }

    /// Learns what a session holds after a clone or pull of one of its branches.
    fn learn(&mut self, full_ref: String, tip: KnownTip, held: &Held<'_>) {
        let folded = held.brought.folded.as_ref();
        if let Some(folded) = folded.filter(|folded| self.lists_several(&folded.of)) {
            self.replace(folded);
        }
        let is_used = self.is_worth_it();
        if let Some(seen) = self.tip(tip.commit).filter(|_| is_used).cloned() {
            // Another session was first. Its packs do as well, and of two for the same objects one is enough.
            if self.tips.len() < MAX_TIPS {
                self.tips.insert(full_ref, seen);
            }
            return;
        }
        let knows = |commit: &CommitId| self.tip(*commit).is_some();
        let have = held.brought.have.as_ref().filter(|_| is_used);
        let knows_rest = have.is_some_and(|have| have.iter().all(knows));
        if !knows_rest && held.has_own {
            return;
        }
        let mut needed = &held.brought.packs;
        if !knows_rest {
            needed = &held.packs;
            folded.into_iter().for_each(|folded| self.replace(folded));
        }
        if self.packs.len() + self.lacking(needed).len() > MAX_PACKS || self.tips.len() >= MAX_TIPS {
            if held.has_own {
                return;
            }
            *self = self.emptied();
            needed = &held.packs;
        }
        self.packs.extend(self.lacking(needed));
        self.tips.insert(full_ref, tip);
    }

    fn lists_several(&self, packs: &[PackEntry]) -> bool {
        self.packs.iter().filter(|pack| packs.contains(pack)).count() > 1
    }

    /// Those of the packs that are not listed, and have something that is not in one that is.
    fn lacking(&self, packs: &[PackEntry]) -> Vec<PackEntry> {
        let lacks = |pack: &&PackEntry| !self.packs.contains(pack) && !self.has_folded(pack);
        packs.iter().filter(lacks).cloned().collect()
    }

    /// Lists one pack in place of those that it holds all of.
    fn replace(&mut self, folded: &FoldedPacks) {
        self.format_version = FORMAT_VERSION;
        self.packs.retain(|pack| !folded.of.contains(pack));
        if !self.packs.contains(&folded.into) {
            self.packs.push(folded.into.clone());
        }
        let is_named = |name: &PackName| {
            folded
                .of
                .iter()
                .chain([&folded.into])
                .any(|pack| pack.name == *name)
        };
        self.folded.retain(|name| !is_named(name));
        self.folded.extend(folded.of.iter().map(|pack| pack.name.clone()));
        let surplus = self.folded.len().saturating_sub(MAX_FOLDED);
        self.folded.drain(..surplus);
    }
}

/// What a clone or pull brought to a session.
#[derive(Debug, Default)]
pub struct Brought {
    /// The commits that the remote was told of: it sent what they do not reach. `None` where they do not have all that they reach themselves.
    pub have: Option<Vec<CommitId>>,
    /// The packs that it sent, whether the session lists them still or has folded them.
    pub packs: Vec<PackEntry>,
    /// What the session folded.
    pub folded: Option<FoldedPacks>,
}

/// Packs of the remote that a session has ceased to list, since another holds all their objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldedPacks {
    /// The packs.
    pub of: Vec<PackEntry>,
    /// The one that holds all of them.
    pub into: PackEntry,
}

/// What a session has of the remote.
struct Held<'a> {
    /// Its packs.
    packs: Vec<PackEntry>,
    /// Whether it has packs of its own as well: what it pushed itself came from there, and is in none of these.
    has_own: bool,
    brought: &'a Brought,
}

impl SessionStore {
    /// What is known of the repository; a document that cannot be read counts as none, and so does one whose packs have become so many
    /// that a new clone is better.
    pub async fn known_repository(&self, url: &RepoUrl) -> Option<KnownRepository> {
        self.read_known(url)
            .await
            .map(|(known, _)| known)
            .filter(KnownRepository::is_worth_it)
    }

    async fn read_known(&self, url: &RepoUrl) -> Option<(KnownRepository, Version)> {
        let key = key::known_repository(&self.tenant, url).ok()?;
        let object = match self.storage.get(&key, MAX_BYTES).await {
            Ok(object) => object,
            Err(StorageError::NotFound { .. }) => return None,
            Err(error) => {
                tracing::warn!(repository = %url, %error, "what is known of a repository cannot be read");
                return None;
            }
        };
        let known = KnownRepository::parse(&object.bytes).ok()??;
        let fits = known.repository.as_deref() == Some(url.identity());
        fits.then_some((known, object.version))
    }

    /// Remembers the packs of a session that holds its branch with full history, as far as others need them. To fail is logged, and nothing else.
    pub async fn remember(&self, manifest: &Manifest, tree: TreeId, brought: &Brought) {
        let trees = manifest.packs.iter().find(|pack| pack.kind == PackKind::Trees);
        let (true, Some(commit), Some(trees)) = (manifest.has_all_history(), manifest.head, trees) else {
            return;
        };
        if manifest.remote_tip(&manifest.branch) != Some(commit) {
            return;
        }
        let tip = KnownTip {
            commit,
            tree,
            trees: trees.clone(),
        };
        let base = manifest.packs.iter().filter(|pack| pack.kind == PackKind::Base);
        let held = Held {
            packs: base.cloned().collect(),
            has_own: manifest.packs.iter().any(|pack| pack.scope == PackScope::Session),
            brought,
        };
        for _ in 0..ATTEMPTS {
            match self.try_remember(manifest, tip.clone(), &held).await {
                Ok(()) => return,
                Err(StorageError::PreconditionFailed { .. }) => {}
                Err(error) => {
                    tracing::warn!(repository = %manifest.repo_url, %error, "what is known of a repository was not saved");
                    return;
                }
            }
        }
    }

    /// Forgets all that is known of a repository if it names this pack, which is damaged or gone; without a pack, whatever it names.
    /// To fail is logged, and nothing else.
    pub async fn forget_known(&self, url: &RepoUrl, pack: Option<ObjectId>) {
        let Some((known, version)) = self.read_known(url).await else {
            return;
        };
        let names = |pack: ObjectId| {
            let trees = known.tips.values().map(|tip| &tip.trees);
            known.packs.iter().chain(trees).any(|entry| entry.hash == pack)
        };
        if pack.is_some_and(|pack| !names(pack)) {
            return;
        }
        let emptied = known.emptied();
        let (Ok(key), Ok(body)) = (
            key::known_repository(&self.tenant, url),
            serde_json::to_vec_pretty(&emptied),
        ) else {
            return;
        };
        let put = self
            .storage
            .put(&key, body.into(), Precondition::IfMatch(version));
        if let Err(error) = put.await {
            tracing::warn!(repository = %url, %error, "what is known of a repository was not forgotten");
        }
    }

    async fn try_remember(
        &self,
        manifest: &Manifest,
        tip: KnownTip,
        held: &Held<'_>,
    ) -> Result<(), StorageError> {
        let url = &manifest.repo_url;
        let Ok(key) = key::known_repository(&self.tenant, url) else {
            return Ok(());
        };
        let (found, precondition) = match self.storage.get(&key, MAX_BYTES).await {
            Ok(object) => match KnownRepository::parse(&object.bytes) {
                Ok(found) => (found, Precondition::IfMatch(object.version)),
                Err(_) => return Ok(()),
            },
            Err(StorageError::NotFound { .. }) => (None, Precondition::IfAbsent),
            Err(error) => return Err(error),
        };
        let mut known = found.unwrap_or_else(|| KnownRepository::new(None));
        let before = known.clone();
        known.repository = Some(url.identity().to_owned());
        if held
            .packs
            .iter()
            .chain([&tip.trees])
            .any(|pack| known.is_retired(pack))
        {
            return Ok(());
        }
        known.learn(manifest.branch.to_ref(), tip, held);
        if known == before {
            return Ok(());
        }
        let Ok(body) = serde_json::to_vec_pretty(&known) else {
            return Ok(());
        };
        self.storage.put(&key, body.into(), precondition).await.map(drop)
    }
}

#[cfg(test)]
#[path = "repository_tests.rs"]
mod by_chance;

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(number: u8) -> PackEntry {
        PackEntry {
            hash: ObjectId::from_bytes([number; 20]),
            name: format!("{number:032x}").try_into().unwrap(),
            kind: PackKind::Base,
            scope: PackScope::Repository,
            objects: 1,
            pack_bytes: 1,
            index_bytes: 1,
        }
    }

    fn tip(number: u8) -> KnownTip {
        let id = ObjectId::from_bytes([number; 20]);
        KnownTip {
            commit: id,
            tree: id,
            trees: pack(number),
        }
    }

    /// Has a session teach all its packs.
    fn teach_all(known: &mut KnownRepository, tip: KnownTip, packs: &[PackEntry]) {
        teach(known, tip, packs, &Brought::default());
    }

    fn teach(known: &mut KnownRepository, tip: KnownTip, packs: &[PackEntry], brought: &Brought) {
        let held = Held {
            packs: packs.to_vec(),
            has_own: false,
            brought,
        };
        known.learn("refs/heads/main".into(), tip, &held);
    }

    fn folded(of: &[PackEntry], into: PackEntry) -> Brought {
        Brought {
            folded: Some(FoldedPacks {
                of: of.to_vec(),
                into,
            }),
            ..Brought::default()
        }
    }

    /// What is known after some pulls on a first clone, with the packs of the session that did them.
    fn after_pulls(pulls: u8) -> (KnownRepository, Vec<PackEntry>) {
        let mut known = KnownRepository::new(Some("https://host/o/r".into()));
        let mut packs = Vec::new();
        for number in 0..=pulls {
            packs.push(pack(number));
            teach_all(&mut known, tip(number), &packs);
        }
        (known, packs)
    }

    #[test]
    fn folded_packs_leave_the_list_and_nobody_brings_them_back() {
        let (mut known, old) = after_pulls(3);
        let (first, of) = old.split_first().unwrap();
        let now = [first.clone(), pack(100)];
        teach(&mut known, tip(4), &now, &folded(of, pack(100)));
        assert_eq!(known.packs, now);
        assert!(of.iter().all(|pack| known.has_folded(pack)) && !known.has_folded(&now[1]));
        // A session that folded nothing has something new.
        teach_all(&mut known, tip(5), &[old.as_slice(), &[pack(5)]].concat());
        assert_eq!(known.packs, [first.clone(), pack(100), pack(5)]);
        // What was folded together is folded again.
        let brought = folded(&[pack(100), pack(5)], pack(101));
        teach(&mut known, tip(6), &[first.clone(), pack(101)], &brought);
        assert_eq!(known.packs, [first.clone(), pack(101)]);
        assert!(known.has_folded(&old[1]) && known.has_folded(&pack(100)));
        let emptied = known.emptied();
        assert!(!emptied.has_folded(&old[1]) && emptied.format_version == 1);
    }

    #[test]
    fn of_sessions_that_bring_or_fold_the_same_at_once_the_first_is_remembered() {
        let (mut known, old) = after_pulls(3);
        let (first, of) = old.split_first().unwrap();
        let fold = |by: u8| ([first.clone(), pack(by)], folded(of, pack(by)));
        let (packs, brought) = fold(100);
        teach(&mut known, tip(3), &packs, &brought);
        assert_eq!(known.packs, [first.clone(), pack(100)]);
        let once = known.clone();
        let (packs, brought) = fold(101);
        teach(&mut known, tip(3), &packs, &brought);
        teach_all(&mut known, tip(3), &old);
        assert_eq!(known, once);
        // With something new the second is needed too.
        let (packs, brought) = fold(102);
        teach(&mut known, tip(4), &packs, &brought);
        assert_eq!(known.packs, [first.clone(), pack(100), pack(102)]);
        // What was folded may turn out to hold all that it was folded with.
        let brought = folded(&[pack(100), pack(102)], old[1].clone());
        teach(&mut known, tip(4), &old[..2], &brought);
        assert_eq!(known.packs, old[..2]);
        assert!(!known.has_folded(&old[1]) && known.has_folded(&pack(100)));
    }

    #[test]
    fn where_the_rest_is_known_only_what_came_is_learned() {
        let (known, _) = after_pulls(3);
        let own = [pack(50), pack(51), pack(52)];
        let brought = |have: &[u8], folded: Option<FoldedPacks>| Brought {
            have: Some(have.iter().map(|number| tip(*number).commit).collect()),
            packs: vec![pack(52)],
            folded,
        };
        let after = |brought: &Brought| {
            let mut known = known.clone();
            teach(&mut known, tip(4), &own, brought);
            known.packs[4..].to_vec()
        };
        assert_eq!(after(&brought(&[3], None)), [pack(52)]);
        assert_eq!(after(&brought(&[], None)), [pack(52)]);
        // Something else was there as well, of which nothing is known.
        assert_eq!(after(&brought(&[3, 7], None)), own);
        // What is folded of packs that are not known stays the session's own.
        let of_own = folded(&own[1..], pack(53)).folded;
        assert_eq!(after(&brought(&[3], of_own.clone())), [pack(52)]);
        let mut known = known.clone();
        teach(&mut known, tip(4), &[pack(50), pack(53)], &brought(&[7], of_own));
        assert_eq!(known.packs[4..], [pack(53), pack(50)]);
        let of_known = folded(&[pack(1), pack(2), pack(52)], pack(53)).folded;
        let mut known = after_pulls(3).0;
        teach(
            &mut known,
            tip(4),
            &[pack(50), pack(53)],
            &brought(&[3], of_known),
        );
        assert_eq!(known.packs, [pack(0), pack(3), pack(53)]);
    }

    #[test]
    fn what_goes_on_from_what_a_session_made_is_learned_from_another() {
        let (mut known, _) = after_pulls(3);
        let before = known.clone();
        let teach = |known: &mut KnownRepository, have: u8, packs: &[PackEntry]| {
            let brought = Brought {
                have: Some(vec![tip(have).commit]),
                packs: vec![pack(60)],
                folded: None,
            };
            let held = Held {
                packs: packs.to_vec(),
                has_own: true,
                brought: &brought,
            };
            known.learn("refs/heads/main".into(), tip(60), &held);
        };
        teach(&mut known, 50, &[pack(0), pack(60)]);
        assert_eq!(known, before);
        teach(&mut known, 3, &[pack(0), pack(60)]);
        assert_eq!(known.packs[4..], [pack(60)]);
        // Nor does the list begin anew with what is not all.
        let mut full = before;
        full.packs.extend((100..160).map(pack));
        let was = full.clone();
        teach(&mut full, 3, &[pack(0), pack(60)]);
        assert_eq!(full, was);
    }

    #[test]
    fn names_of_folded_packs_are_bounded_and_do_not_survive_a_new_beginning() {
        let mut known = KnownRepository::new(Some("https://host/o/r".into()));
        let named = |number: u32| PackEntry {
            name: format!("{number:032x}").try_into().unwrap(),
            ..pack(0)
        };
        for number in 1..1000 {
            let (packs, of) = ([named(number)], [named(number - 1), named(number + 5000)]);
            let tip = tip(u8::try_from(number % 200).unwrap());
            teach(&mut known, tip, &packs, &folded(&of, named(number)));
            assert_eq!(known.packs, packs);
            assert!(known.folded.len() <= MAX_FOLDED && known.has_folded(&of[0]));
        }
        let many: Vec<PackEntry> = (1000..1070).map(named).collect();
        teach_all(&mut known, tip(250), &many);
        assert_eq!((known.packs.len(), known.is_worth_it()), (many.len(), false));
        assert!(known.folded.is_empty());
        // It is the same commit, and one pack for it.
        teach_all(&mut known, tip(250), &[named(2000)]);
        assert_eq!(known.packs, [named(2000)]);
    }

    #[test]
    fn documents_of_both_formats_are_read_and_newer_ones_are_not() {
        let (known, _) = after_pulls(1);
        let json = serde_json::to_value(&known).unwrap();
        assert_eq!(json["formatVersion"], 1);
        assert!(json.get("folded").is_none());
        let (mut with_folded, old) = after_pulls(2);
        teach(&mut with_folded, tip(3), &[pack(9)], &folded(&old, pack(9)));
        let json = serde_json::to_value(&with_folded).unwrap();
        let names = json["folded"].as_array().unwrap();
        assert_eq!((&json["formatVersion"], names.len()), (&2.into(), 3));
        for document in [known, with_folded] {
            let bytes = serde_json::to_vec(&document).unwrap();
            assert_eq!(KnownRepository::parse(&bytes).unwrap(), Some(document));
        }
        assert!(KnownRepository::parse(br#"{"formatVersion": 3}"#).is_err());
    }

    #[test]
    fn the_list_of_packs_is_bounded_and_never_loses_what_a_tip_needs() {
        let mut known = KnownRepository::new(Some("https://host/o/r".into()));
        let mut begun_anew = 0;
        for number in 0..200 {
            // As a clone does: it lists what is known and what it fetched, or everything in one pack.
            let mut packs = vec![pack(number)];
            if known.is_worth_it() {
                packs.extend(known.packs.clone());
            } else {
                begun_anew += 1;
            }
            teach_all(&mut known, tip(number), &packs);
            assert!(known.packs.len() <= MAX_PACKS);
            assert!(packs.iter().all(|pack| known.packs.contains(pack)));
            assert_eq!(known.tip(tip(number).commit), Some(&tip(number)));
        }
        assert!(begun_anew > 1);
    }
}
