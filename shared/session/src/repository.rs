//! What a tenant's sessions know of one repository together, so that the next clone of it fetches only what is new.
//!
//! It is a hint, and never the only copy of anything: without it a clone is merely larger. It is shown to nobody: a clone
//! asks the remote for its refs with the caller's own token before it uses any of this.
//!
//! Packs that no session lists any more are *retired* here before they are removed: from then on no clone learns of them from this document, and
//! none gives them back to it.

use std::collections::BTreeMap;

use mayfly_protocol::{CommitId, ObjectId, RepoUrl, TreeId};
use mayfly_storage::{Precondition, StorageError, Version};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::key;
use crate::manifest::{Manifest, PackEntry, PackKind};
use crate::store::SessionStore;

const FORMAT_VERSION: u32 = 1;
/// The largest document that is read, in bytes.
pub(crate) const MAX_BYTES: u64 = 1024 * 1024;
/// Packs after which the list begins anew with those of the last clone: each pull adds one.
const MAX_PACKS: usize = 32;
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
            format_version: FORMAT_VERSION,
            repository,
            tips: BTreeMap::new(),
            packs: Vec::new(),
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
            tips: BTreeMap::new(),
            packs: Vec::new(),
            ..self.clone()
        }
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

    /// Learns what a session holds after a clone or pull of one of its branches.
    fn learn(&mut self, full_ref: String, tip: KnownTip, packs: &[PackEntry]) {
        let added = packs.iter().filter(|pack| !self.packs.contains(pack)).count();
        if self.packs.len() + added > MAX_PACKS || self.tips.len() >= MAX_TIPS {
            self.tips.clear();
            self.packs.clear();
        }
        for pack in packs {
            if !self.packs.contains(pack) {
                self.packs.push(pack.clone());
            }
        }
        self.tips.insert(full_ref, tip);
    }
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

    /// Remembers the packs of a session that holds its branch with full history. To fail is logged, and nothing else.
    pub async fn remember(&self, manifest: &Manifest, tree: TreeId) {
        let is_whole = manifest.shallow.is_empty() && manifest.fetched.depth.is_none();
        let trees = manifest.packs.iter().find(|pack| pack.kind == PackKind::Trees);
        let (true, Some(commit), Some(trees)) = (is_whole, manifest.head, trees) else {
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
        let packs: Vec<_> = manifest
            .packs
            .iter()
            .filter(|pack| pack.kind == PackKind::Base)
            .cloned()
            .collect();
        for _ in 0..ATTEMPTS {
            match self.try_remember(manifest, tip.clone(), &packs).await {
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
        packs: &[PackEntry],
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
        if packs
            .iter()
            .chain([&tip.trees])
            .any(|pack| known.is_retired(pack))
        {
            return Ok(());
        }
        known.learn(manifest.branch.to_ref(), tip, packs);
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
mod tests {
    use super::*;
    use crate::manifest::PackScope;

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
            known.learn("refs/heads/main".into(), tip(number), &packs);
            assert!(known.packs.len() <= MAX_PACKS);
            assert!(packs.iter().all(|pack| known.packs.contains(pack)));
            assert_eq!(known.tip(tip(number).commit), Some(&tip(number)));
        }
        assert!(begun_anew > 1);
    }
}
