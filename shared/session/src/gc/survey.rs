//! Looking at what is stored: listings and manifests become the facts that [`super::decide`] judges.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use mayfly_protocol::lfs::LfsId;
use mayfly_protocol::{SessionId, TenantId};
use mayfly_storage::{InvalidKey, Key, ObjectMeta, ObjectStore, StorageError, Version};
use time::OffsetDateTime;
use time::macros::datetime;

use super::GcError;
use super::decide::{Found, KnownFacts, RepositoryFacts, SessionFacts, Standing};
use crate::delete::DeletionMark;
use crate::key;
use crate::lfs::{self, LfsWeek, ListError};
use crate::manifest::{Manifest, PackEntry, PackScope};
use crate::repository::{self, KnownRepository};
use crate::store::{LoadError, Session, SessionStore};

/// Names that are asked for at once.
const PAGE: NonZeroUsize = NonZeroUsize::new(1000).unwrap();

/// The names of the folders directly below a prefix that ends with `/`.
pub(super) async fn folders(storage: &dyn ObjectStore, prefix: &str) -> Result<Vec<String>, StorageError> {
    let (mut names, mut position) = (Vec::new(), None);
    loop {
        let page = storage.list_folder(prefix, position.as_deref(), PAGE).await?;
        let below = page.folders.iter().filter_map(|folder| {
            let name = folder.strip_prefix(prefix)?.strip_suffix('/')?;
            Some(name.to_owned())
        });
        names.extend(below);
        position = page.next;
        if position.is_none() {
            return Ok(names);
        }
    }
}

/// One page of the objects directly below a prefix that ends with `/`, and where the next one begins.
pub(super) async fn objects(
    storage: &dyn ObjectStore,
    prefix: &str,
    after: Option<String>,
) -> Result<(Vec<Found>, Option<String>), StorageError> {
    let page = storage.list_folder(prefix, after.as_deref(), PAGE).await?;
    Ok((page.objects.into_iter().map(found).collect(), page.next))
}

fn found(meta: ObjectMeta) -> Found {
    Found {
        key: meta.key,
        bytes: meta.bytes,
        modified: meta.modified.into(),
    }
}

/// What stands under a session's name, with the fence for changing it.
pub(super) enum Content {
    Nothing,
    Live(Box<Session>),
    Marked(DeletionMark, Version),
    Unreadable(String),
}

/// A session, and which packs of its repository it lists.
pub(super) struct SurveyedSession {
    pub(super) content: Content,
    pub(super) facts: SessionFacts,
    pub(super) bytes: u64,
    pub(super) usage: Option<Usage>,
}

/// What of a repository a session names: packs, and lists of Git LFS contents.
pub(super) struct Usage {
    repository: String,
    packs: BTreeSet<String>,
    lfs_lists: BTreeSet<(LfsWeek, LfsId)>,
}

impl Usage {
    fn of(manifest: &Manifest) -> Self {
        Self {
            repository: key::repository_key(&manifest.repo_url),
            packs: names(manifest, PackScope::Repository),
            lfs_lists: lfs_lists(manifest).collect(),
        }
    }
}

fn lfs_lists(manifest: &Manifest) -> impl Iterator<Item = (LfsWeek, LfsId)> {
    let lists = manifest.lfs.iter().flat_map(|lfs| &lfs.lists);
    lists.map(|list| (list.week, list.hash))
}

/// The names of the packs of a scope that a manifest lists.
fn names(manifest: &Manifest, scope: PackScope) -> BTreeSet<String> {
    let entries: &mut dyn Iterator<Item = &PackEntry> = &mut manifest.listed_packs();
    entries
        .filter(|entry| entry.scope == scope)
        .map(key::pack_name)
        .collect()
}

/// Looks at a session: first at its manifest, then at its objects. A pack that the manifest had ceased to list is then seen with the mark of that;
/// what a job has stored since is as young as can be.
pub(super) async fn session(store: &SessionStore, id: &SessionId) -> Result<SurveyedSession, GcError> {
    let folder = key::session_folder(&store.tenant, id);
    let manifest_key = key::manifest(&store.tenant, id)?;
    let content = content(store, id).await;
    let mut objects: Vec<Found> = store
        .storage
        .list(&folder)
        .await?
        .into_iter()
        .map(found)
        .collect();
    let manifest = objects.iter().position(|object| object.key == manifest_key);
    let manifest = manifest.map(|at| objects.swap_remove(at));
    let written = manifest.as_ref().map(|found| found.modified);
    let bytes = objects.iter().chain(&manifest).map(|object| object.bytes).sum();
    let (standing, usage) = judge(store, &content, written)?;
    Ok(SurveyedSession {
        content,
        facts: SessionFacts { standing, objects },
        bytes,
        usage,
    })
}

async fn content(store: &SessionStore, id: &SessionId) -> Content {
    match store.read(id).await {
        Ok(None) => Content::Nothing,
        Ok(Some(object)) => match DeletionMark::parse(&object.bytes) {
            Some(mark) => Content::Marked(mark, object.version),
            None => match crate::store::parse(id, &object.bytes) {
                Ok(manifest) => Content::Live(Box::new(Session::from_parts(manifest, object.version))),
                Err(reason) => Content::Unreadable(reason),
            },
        },
        Err(LoadError::Storage { source, .. }) => Content::Unreadable(source.to_string()),
        Err(error) => Content::Unreadable(error.to_string()),
    }
}

fn judge(
    store: &SessionStore,
    content: &Content,
    written: Option<OffsetDateTime>,
) -> Result<(Standing, Option<Usage>), GcError> {
    // What went or came between the two looks is as young as can be.
    let since = written.unwrap_or(datetime!(9999-12-31 23:59:59 UTC));
    Ok(match content {
        Content::Nothing => (Standing::Absent, None),
        Content::Unreadable(_) => (Standing::Unreadable, None),
        Content::Marked(mark, _) => (Standing::Marked { since }, mark.manifest().map(Usage::of)),
        Content::Live(session) => {
            let manifest = &session.manifest;
            let standing = Standing::Live {
                saved: since,
                pin: key::pin(&store.tenant, manifest)?,
                packs: names(manifest, PackScope::Session),
            };
            (standing, Some(Usage::of(manifest)))
        }
    })
}

/// What of the tenant's repositories is named by sessions.
#[derive(Default)]
pub(super) struct TenantUsage {
    by_repository: BTreeMap<String, RepositoryUsage>,
}

#[derive(Default)]
struct RepositoryUsage {
    packs: BTreeSet<String>,
    lfs_lists: BTreeSet<(LfsWeek, LfsId)>,
}

impl TenantUsage {
    pub(super) fn add(&mut self, usage: Usage) {
        let of_repository = self.by_repository.entry(usage.repository).or_default();
        of_repository.packs.extend(usage.packs);
        of_repository.lfs_lists.extend(usage.lfs_lists);
    }
}

/// Why it is not known which contents of Git LFS are named.
#[derive(Debug, thiserror::Error)]
pub(super) enum LfsSurveyError {
    #[error(transparent)]
    List(#[from] ListError),
    #[error(transparent)]
    Key(#[from] InvalidKey),
}

/// The keys of all that sessions name of a repository's contents of Git LFS, as far as it is among these objects.
pub(super) async fn named_lfs(
    store: &SessionStore,
    (id, usage): (&str, &TenantUsage),
    objects: &[Found],
) -> Result<BTreeSet<Key>, LfsSurveyError> {
    let folder = format!("{}{id}/", key::repositories(&store.tenant));
    let there: BTreeSet<&Key> = objects.iter().map(|object| &object.key).collect();
    let mut named = BTreeSet::new();
    let lists = usage.by_repository.get(id).map(|usage| &usage.lfs_lists);
    for (week, hash) in lists.into_iter().flatten() {
        let list = key::lfs_list_in(&folder, *week, hash)?;
        for entry in lfs::read_list(&*store.storage, &list, hash).await? {
            let content = key::lfs_content_in(&folder, entry.week, &entry.oid)?;
            if there.contains(&content) {
                named.insert(content);
            }
        }
        named.insert(list);
    }
    Ok(named)
}

/// The packs of one repository, with the document of what is known of it.
pub(super) struct SurveyedRepository {
    pub(super) key: Key,
    pub(super) known: Option<(KnownRepository, Version)>,
    pub(super) facts: RepositoryFacts,
    /// Its lists and contents of Git LFS.
    pub(super) lfs: Vec<Found>,
}

/// Looks at a repository: first at what is known of it, then at its objects, so that the listing tells a time at which the document was written
/// already. `None` where a newer build wrote the document.
pub(super) async fn repository(
    store: &SessionStore,
    id: &str,
    usage: &TenantUsage,
) -> Result<Option<SurveyedRepository>, GcError> {
    let folder = format!("{}{id}/", key::repositories(&store.tenant));
    let known_key: Key = format!("{folder}known.json").parse()?;
    let read = store.storage.get(&known_key, repository::MAX_BYTES).await;
    let document = match read {
        Ok(object) => match KnownRepository::parse(&object.bytes) {
            Ok(known) => Some((
                known.unwrap_or_else(|| KnownRepository::new(None)),
                object.version,
            )),
            Err(_) => return Ok(None),
        },
        Err(StorageError::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let listing = store.storage.list(&folder).await?;
    let mut objects: Vec<Found> = listing.into_iter().map(found).collect();
    let listed = objects.iter().find(|object| object.key == known_key);
    let known = document
        .as_ref()
        .zip(listed)
        .map(|((known, _), listed)| KnownFacts {
            listed: known.listed().map(key::pack_name).collect(),
            retired: known
                .retired
                .iter()
                .map(|retired| (retired.name.clone(), retired.at))
                .collect(),
            written: listed.modified,
            bytes: listed.bytes,
        });
    let lfs = objects.iter().filter(|object| object.lfs_week().is_some());
    let lfs = lfs.cloned().collect();
    objects.retain(|object| object.pack_name().is_some());
    let in_use = usage.by_repository.get(id);
    let facts = RepositoryFacts {
        objects,
        has_sessions: in_use.is_some(),
        in_use: in_use.map(|usage| usage.packs.clone()).unwrap_or_default(),
        known,
    };
    Ok(Some(SurveyedRepository {
        key: known_key,
        known: document,
        facts,
        lfs,
    }))
}

/// The tenants that have anything stored.
pub(super) async fn tenants(storage: &dyn ObjectStore) -> Result<Vec<TenantId>, StorageError> {
    let names = folders(storage, key::TENANTS).await?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}
