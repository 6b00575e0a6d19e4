//! The objects that are looked at: a scratch repository, and the packs in storage for what it lacks.

use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use mayfly_git::scratch::{ObjectKind, Scratch, ScratchError};
use mayfly_protocol::{ObjectId, TreeId};

use super::{SessionView, ViewError};
use crate::manifest::PackEntry;
use crate::packed::PackedObjects;
use crate::packs::damaged;

/// Objects that are read by range at the same time.
const READ_AT_ONCE: usize = 8;

/// An object by range: `None` where it is larger than allowed.
pub(super) type Ranged = Option<(ObjectKind, Vec<u8>)>;

/// A scratch repository, with the packs that its missing objects are read from.
pub(super) struct Objects<'a> {
    view: &'a SessionView,
    scratch: Arc<Mutex<Scratch>>,
    packs: PackedObjects,
}

impl<'a> Objects<'a> {
    /// An empty scratch repository, which knows the empty tree as git does.
    pub(super) async fn open(view: &'a SessionView) -> Result<Self, ViewError> {
        let (folder, limits) = (view.folder.join("repository"), view.limits.scratch.clone());
        let made = mayfly_telemetry::task::blocking(move || {
            let scratch = Scratch::create(&folder, limits)?;
            scratch.add_object(ObjectKind::Tree, b"")?;
            Ok(scratch)
        });
        let scratch = made.await.map_err(|source| view.unreadable(source))?;
        Ok(Self {
            view,
            scratch: Arc::new(Mutex::new(scratch)),
            packs: PackedObjects::new(view.sessions.clone()),
        })
    }

    /// Downloads packs into the scratch repository.
    pub(super) async fn download<'b>(
        &self,
        entries: impl Iterator<Item = &'b PackEntry>,
    ) -> Result<(), ViewError> {
        let folder = self.view.folder.join("packs");
        let made = folder.clone();
        mayfly_telemetry::task::blocking(move || std::fs::create_dir_all(&made))
            .await
            .map_err(|source| {
                self.view.unreadable(ScratchError::Io {
                    doing: "make the folder",
                    path: folder.clone(),
                    source,
                })
            })?;
        for entry in entries {
            let sessions = &self.view.sessions;
            let files = sessions
                .download_pack(&self.view.manifest, entry, &folder)
                .await?;
            self.with(move |scratch| scratch.add_pack(&files)).await?;
        }
        Ok(())
    }

    /// Does blocking work on the scratch repository.
    pub(super) async fn with<T, F>(&self, work: F) -> Result<T, ViewError>
    where
        T: Send + 'static,
        F: FnOnce(&Scratch) -> Result<T, ScratchError> + Send + 'static,
    {
        self.try_with(work)
            .await
            .map_err(|source| self.view.unreadable(source))
    }

    pub(super) async fn try_with<T, F>(&self, work: F) -> Result<T, ScratchError>
    where
        T: Send + 'static,
        F: FnOnce(&Scratch) -> Result<T, ScratchError> + Send + 'static,
    {
        let scratch = Arc::clone(&self.scratch);
        let outcome = mayfly_telemetry::task::blocking(move || {
            work(&scratch.lock().unwrap_or_else(PoisonError::into_inner))
        });
        outcome.await
    }

    /// The scratch repository, for whoever goes on with it alone.
    pub(super) fn into_scratch(self) -> Option<Scratch> {
        let scratch = Arc::into_inner(self.scratch)?;
        Some(scratch.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads an object out of the packs in storage; one that none of them has is damage.
    pub(super) async fn read(&self, id: &ObjectId, max_bytes: u64) -> Result<Ranged, ViewError> {
        let mut found = self.packs.read(&self.view.manifest, &[*id], max_bytes).await?;
        match found.objects.pop() {
            Some((_, kind, content)) => Ok(Some((kind, content))),
            None if found.absent.is_empty() => Ok(None),
            None => Err(self.absent(id)),
        }
    }

    fn absent(&self, id: &ObjectId) -> ViewError {
        let reason = format!("object {id} is in none of its packs");
        damaged(&self.view.manifest, None, reason).into()
    }

    /// Brings trees or commits here.
    pub(super) async fn require(&self, ids: Vec<ObjectId>) -> Result<(), ViewError> {
        let max = self.view.limits.max_tree_bytes;
        let found = self.packs.read(&self.view.manifest, &ids, max).await?;
        if let Some(id) = found.absent.first() {
            return Err(self.absent(id));
        }
        let is_read = |id: &ObjectId| found.objects.iter().any(|(read, ..)| read == id);
        if found.objects.len() < ids.len()
            && let Some(id) = ids.iter().find(|id| !is_read(id))
        {
            return Err(self.view.object_too_large(*id, max));
        }
        self.with(move |scratch| {
            let mut objects = found.objects.iter();
            objects.try_for_each(|(_, kind, content)| scratch.add_object(*kind, content).map(drop))
        })
        .await
    }

    /// Brings a tree, and all trees below it, here.
    pub(super) async fn require_trees(&self, tree: TreeId) -> Result<(), ViewError> {
        loop {
            let missing = self.with(move |scratch| scratch.missing_trees(&tree)).await?;
            if missing.is_empty() {
                return Ok(());
            }
            self.require(missing).await?;
        }
    }

    /// Brings those of the contents here that are not, as far as they are not too large; at most `max_total` bytes, and the one that reaches that.
    pub(super) async fn bring_blobs(
        &self,
        ids: Vec<ObjectId>,
        max_bytes: u64,
        max_total: u64,
    ) -> Result<(), ViewError> {
        let missing = self.with(move |scratch| {
            let missing = ids.into_iter().filter(|id| !scratch.has(id));
            Ok(missing.collect::<Vec<_>>())
        });
        let missing = missing.await?;
        let max_blobs = self.view.limits.max_diff_blobs;
        let reads = missing.into_iter().take(max_blobs);
        let reads = reads.map(|id| async move { self.read(&id, max_bytes).await });
        let mut found = stream::iter(reads).buffered(READ_AT_ONCE);
        let mut total = 0;
        while let Some(found) = found.try_next().await? {
            let Some((kind, content)) = found else { continue };
            total += content.len() as u64;
            self.with(move |scratch| scratch.add_object(kind, &content).map(drop))
                .await?;
            if total > max_total {
                break;
            }
        }
        Ok(())
    }
}

impl SessionView {
    pub(super) fn unreadable(&self, source: ScratchError) -> ViewError {
        ViewError::Repository {
            session: self.manifest.session_id.clone(),
            source,
        }
    }

    pub(super) fn object_too_large(&self, id: ObjectId, max: u64) -> ViewError {
        ViewError::ObjectTooLarge {
            session: self.manifest.session_id.clone(),
            id,
            max,
        }
    }

    /// Refuses to download more than so many bytes.
    pub(super) fn check_packs<'a>(
        &self,
        entries: impl Iterator<Item = &'a PackEntry>,
        max: u64,
    ) -> Result<(), ViewError> {
        let sizes = entries.map(|entry| entry.pack_bytes.saturating_add(entry.index_bytes));
        let bytes = sizes.fold(0, u64::saturating_add);
        if bytes > max {
            return Err(ViewError::TooLarge {
                session: self.manifest.session_id.clone(),
                what: "packs",
                bytes,
                max,
            });
        }
        Ok(())
    }
}
