//! A job's scratch repository: the session's small packs, and whatever else the job has to read, object by object.

mod fold;
mod sending;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bstr::BString;
use mayfly_git::apply::ApplyError;
use mayfly_git::diff::TreeChange;
use mayfly_git::pack::PackFiles;
use mayfly_git::pack_reader::Found;
use mayfly_git::scratch::{HistoryWalk, MergeError, Scratch, ScratchError, WalkStep};
use mayfly_protocol::{CommitId, ErrorCode, ObjectId, TreeId};
use mayfly_session::{Manifest, PackEntry, PackKind, PackedObjects, SessionStore};
use mayfly_worker::JobContext;

use crate::GitWorker;
use crate::failure::JobError;

/// The largest tree object or commit that is read by range, in bytes.
const MAX_TREE_BYTES: u64 = 64 * 1024 * 1024;

/// A scratch repository, with the session that its missing objects are read from.
pub(crate) struct Workspace {
    scratch: Arc<Mutex<Scratch>>,
    folder: PathBuf,
    sessions: SessionStore,
    packed: PackedObjects,
    /// Bytes of a pack that is read whole.
    whole_bytes: u64,
    /// The packs that were brought here, by their checksums.
    here: Mutex<HashMap<String, PackFiles>>,
}

impl Workspace {
    /// Makes an empty scratch repository in the job's folder.
    pub(crate) async fn create(
        worker: &GitWorker,
        sessions: &SessionStore,
        context: &JobContext,
    ) -> Result<Self, JobError> {
        Self::create_in(worker, sessions, context.scratch.clone()).await
    }

    /// Makes an empty scratch repository in a folder below the job's.
    pub(crate) async fn create_below(
        worker: &GitWorker,
        sessions: &SessionStore,
        context: &JobContext,
        name: &str,
    ) -> Result<Self, JobError> {
        Self::create_in(worker, sessions, context.scratch.join(name)).await
    }

    async fn create_in(
        worker: &GitWorker,
        sessions: &SessionStore,
        folder: PathBuf,
    ) -> Result<Self, JobError> {
        let (repository, limits) = (folder.join("repository"), worker.config.limits.scratch.clone());
        let scratch = mayfly_telemetry::task::blocking(move || Scratch::create(&repository, limits)).await?;
        Ok(Self {
            scratch: Arc::new(Mutex::new(scratch)),
            folder,
            packed: PackedObjects::new(sessions.clone()),
            sessions: sessions.clone(),
            whole_bytes: worker.config.limits.max_whole_pack_bytes,
            here: Mutex::default(),
        })
    }

    /// Makes a scratch repository with the session's small packs.
    pub(crate) async fn open(
        worker: &GitWorker,
        sessions: &SessionStore,
        manifest: &Manifest,
        context: &JobContext,
    ) -> Result<Self, JobError> {
        let workspace = Self::create(worker, sessions, context).await?;
        workspace.add_small_packs(manifest).await?;
        Ok(workspace)
    }

    /// Brings the session's small packs here.
    pub(crate) async fn add_small_packs(&self, manifest: &Manifest) -> Result<(), JobError> {
        let small = manifest
            .listed_packs()
            .filter(|entry| entry.is_read_whole(self.whole_bytes));
        let small: Vec<PackEntry> = small.cloned().collect();
        self.bring_packs(manifest, &small).await.map(drop)
    }

    /// Brings the session's small packs here, and the pack of its trees however large it is: for work that reads all of them.
    pub(crate) async fn add_packs_of_trees(&self, manifest: &Manifest) -> Result<(), JobError> {
        self.add_small_packs(manifest).await?;
        let trees = manifest
            .packs
            .iter()
            .filter(|entry| entry.kind == PackKind::Trees);
        let trees: Vec<PackEntry> = trees.cloned().collect();
        self.bring_packs(manifest, &trees).await.map(drop)
    }

    /// Does blocking work on the scratch repository.
    pub(crate) async fn with<T, E, F>(&self, work: F) -> Result<T, JobError>
    where
        T: Send + 'static,
        E: Send + 'static,
        JobError: From<E>,
        F: FnOnce(&Scratch) -> Result<T, E> + Send + 'static,
    {
        let scratch = Arc::clone(&self.scratch);
        let outcome = mayfly_telemetry::task::blocking(move || {
            let scratch = scratch.lock().unwrap_or_else(PoisonError::into_inner);
            work(&scratch)
        });
        outcome.await.map_err(JobError::from)
    }

    /// Makes a folder of its own for files of the job.
    pub(crate) async fn subfolder(&self, name: &str) -> Result<PathBuf, JobError> {
        let folder = self.folder.join(name);
        let made = folder.clone();
        mayfly_telemetry::task::blocking(move || std::fs::create_dir_all(&made))
            .await
            .map_err(|error| {
                JobError::new(
                    disk_code(&error),
                    format!("no scratch folder could be made: {error}"),
                )
            })?;
        Ok(folder)
    }

    pub(crate) async fn add_pack(&self, pack: PackFiles) -> Result<(), JobError> {
        let added = pack.clone();
        self.with(move |scratch| scratch.add_pack(&added)).await?;
        self.note_pack(pack);
        Ok(())
    }

    /// Adds a pack that was received for this commit.
    pub(crate) async fn add_received_pack(&self, pack: PackFiles, commit: CommitId) -> Result<(), JobError> {
        let added = pack.clone();
        self.with(move |scratch| scratch.add_received_pack(&added, &commit))
            .await?;
        self.note_pack(pack);
        Ok(())
    }

    fn note_pack(&self, pack: PackFiles) {
        if let Ok(hash) = pack.hash.parse() {
            self.packed.leave_out(hash);
        }
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        here.insert(pack.hash.clone(), pack);
    }

    /// The files of a stored pack that was brought here.
    fn pack_here(&self, entry: &PackEntry) -> Option<PackFiles> {
        let here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        here.get(&entry.hash.to_string()).cloned()
    }

    /// Does blocking work that reads trees which may not be here: what it lacks is read by range, and it begins anew.
    pub(crate) async fn with_trees<T, E, F>(&self, manifest: &Manifest, work: F) -> Result<T, JobError>
    where
        T: Send + 'static,
        E: Lacking + Send + 'static,
        JobError: From<E>,
        F: Fn(&Scratch) -> Result<T, E> + Send + Sync + 'static,
    {
        let work = Arc::new(work);
        loop {
            let again = Arc::clone(&work);
            let tried = self.with::<Result<T, E>, JobError, _>(move |scratch| Ok(again(scratch)));
            let outcome = tried.await?;
            match outcome {
                Err(error) => match error.lacking() {
                    Some(id) => self.require(manifest, vec![id], OWN).await?,
                    None => return Err(error.into()),
                },
                Ok(done) => return Ok(done),
            }
        }
    }

    /// Brings the trees on the way to some paths of a tree here.
    pub(crate) async fn require_paths(
        &self,
        manifest: &Manifest,
        tree: TreeId,
        paths: Vec<BString>,
    ) -> Result<(), JobError> {
        let paths = Arc::new(paths);
        loop {
            let ways = Arc::clone(&paths);
            let missing = self
                .with(move |scratch| scratch.missing_on_paths(&tree, &ways))
                .await?;
            if missing.is_empty() {
                return Ok(());
            }
            self.require(manifest, missing, OWN).await?;
        }
    }

    /// Brings those of the files that are not here out of the session's packs, as far as they are not too large.
    pub(crate) async fn require_files(
        &self,
        manifest: &Manifest,
        ids: Vec<ObjectId>,
        max_bytes: u64,
    ) -> Result<(), JobError> {
        match self.read_missing(manifest, ids, max_bytes).await?.first() {
            None => Ok(()),
            Some(id) => Err((OWN.absent)(*id)),
        }
    }

    /// Reads those of the objects that are not here out of the session's packs, as far as they are not too large, and gives those that no pack has.
    async fn read_missing(
        &self,
        manifest: &Manifest,
        ids: Vec<ObjectId>,
        max_bytes: u64,
    ) -> Result<Vec<ObjectId>, JobError> {
        let missing = self
            .with(move |scratch| {
                Ok::<_, JobError>(ids.into_iter().filter(|id| !scratch.has(id)).collect::<Vec<_>>())
            })
            .await?;
        if missing.is_empty() {
            return Ok(missing);
        }
        let Found { objects, absent } = self.packed.read(manifest, &missing, max_bytes).await?;
        self.with(move |scratch| {
            objects
                .iter()
                .try_for_each(|(_, kind, content)| scratch.add_object(*kind, content).map(drop))
        })
        .await?;
        Ok(absent)
    }

    /// Brings a commit and all its trees here, reading by range what a small pack does not hold.
    pub(crate) async fn require_trees(
        &self,
        manifest: &Manifest,
        commit: CommitId,
    ) -> Result<TreeId, JobError> {
        self.bring_trees(manifest, commit, OWN).await
    }

    /// The same for a commit that has just been received: what is wrong with it is the remote's fault.
    pub(crate) async fn require_received_trees(
        &self,
        manifest: &Manifest,
        commit: CommitId,
    ) -> Result<TreeId, JobError> {
        self.bring_trees(manifest, commit, RECEIVED).await
    }

    /// Brings a tree of the session's own, and all trees below it, here.
    pub(crate) async fn require_tree(&self, manifest: &Manifest, tree: TreeId) -> Result<(), JobError> {
        self.bring_tree(manifest, tree, OWN).await
    }

    /// The tree of a commit, which is read by range where no small pack holds it.
    pub(crate) async fn commit_tree(
        &self,
        manifest: &Manifest,
        commit: CommitId,
    ) -> Result<TreeId, JobError> {
        self.require(manifest, vec![commit], OWN).await?;
        self.with(move |scratch| scratch.commit_tree(&commit)).await
    }

    /// The paths that differ between two trees; trees that are not here are read by range, and only those that differ.
    pub(crate) async fn changes(
        &self,
        manifest: &Manifest,
        (old, new): (TreeId, TreeId),
        max: usize,
    ) -> Result<Vec<TreeChange>, JobError> {
        loop {
            let missing = self
                .with(move |scratch| scratch.missing_to_compare(&old, &new))
                .await?;
            if missing.is_empty() {
                break;
            }
            self.require(manifest, missing, OWN).await?;
        }
        self.with(move |scratch| scratch.changes(Some(&old), &new, max))
            .await
    }

    /// Sees that every file of a tree that has just been received is there: here, or in one of the packs. The `complete` trees are
    /// known to have all their files, so that only what differs from them is looked for.
    pub(crate) async fn require_received_files(
        &self,
        manifest: &Manifest,
        tree: TreeId,
        complete: Vec<TreeId>,
    ) -> Result<(), JobError> {
        match self.first_absent_file(manifest, tree, complete).await? {
            None => Ok(()),
            Some(id) => Err(not_sent(id)),
        }
    }

    /// A file of the tree that is neither here nor in one of the packs nor at its place in one of the `complete` trees.
    pub(crate) async fn first_absent_file(
        &self,
        manifest: &Manifest,
        tree: TreeId,
        complete: Vec<TreeId>,
    ) -> Result<Option<ObjectId>, JobError> {
        let absent = self.with(move |scratch| scratch.absent_files(&tree, &complete));
        Ok(self.packed.first_absent(manifest, absent.await?).await?)
    }

    /// Whether `old` is `new`, or is met on the way back from it to the session's boundary. Commits that are not here are read by range; one
    /// that no pack has ends the way.
    pub(crate) async fn is_ancestor(
        &self,
        manifest: &Manifest,
        old: CommitId,
        new: CommitId,
    ) -> Result<bool, JobError> {
        let mut walk = HistoryWalk::new(old, new, &manifest.shallow);
        loop {
            let stepped = self.with(move |scratch| walk.step(scratch).map(|step| (walk, step)));
            let (stopped, step) = stepped.await?;
            walk = stopped;
            match step {
                WalkStep::Met => return Ok(true),
                WalkStep::Ended => return Ok(false),
                WalkStep::Lacks(ids) => {
                    let commits = self.packed.read(manifest, &ids, MAX_TREE_BYTES).await?;
                    for (id, _, content) in commits.objects {
                        walk.take(&id, &content)?;
                    }
                }
            }
        }
    }

    async fn bring_trees(
        &self,
        manifest: &Manifest,
        commit: CommitId,
        blame: Blame,
    ) -> Result<TreeId, JobError> {
        self.require(manifest, vec![commit], blame).await?;
        let tree = self.with(move |scratch| scratch.commit_tree(&commit).map_err(blame.unreadable));
        let tree = tree.await?;
        self.bring_tree(manifest, tree, blame).await?;
        Ok(tree)
    }

    async fn bring_tree(&self, manifest: &Manifest, tree: TreeId, blame: Blame) -> Result<(), JobError> {
        loop {
            let missing = self.with(move |scratch| scratch.missing_trees(&tree).map_err(blame.unreadable));
            let missing = missing.await?;
            if missing.is_empty() {
                return Ok(());
            }
            self.require(manifest, missing, blame).await?;
        }
    }

    async fn require(&self, manifest: &Manifest, ids: Vec<ObjectId>, blame: Blame) -> Result<(), JobError> {
        let wanted = ids.clone();
        self.read_missing(manifest, ids, MAX_TREE_BYTES).await?;
        // What is too large counts as well: it cannot be done without.
        let absent = self
            .with(move |scratch| Ok::<_, JobError>(wanted.into_iter().find(|id| !scratch.has(id))))
            .await?;
        match absent {
            None => Ok(()),
            Some(id) => Err((blame.absent)(id)),
        }
    }
}

/// An error that may be only that an object is not here.
pub(crate) trait Lacking {
    /// The object.
    fn lacking(&self) -> Option<ObjectId>;
}

impl Lacking for ScratchError {
    fn lacking(&self) -> Option<ObjectId> {
        match self {
            Self::Missing { id } => Some(*id),
            _ => None,
        }
    }
}

impl Lacking for ApplyError {
    fn lacking(&self) -> Option<ObjectId> {
        match self {
            Self::Scratch(error) => error.lacking(),
            _ => None,
        }
    }
}

impl Lacking for MergeError {
    fn lacking(&self) -> Option<ObjectId> {
        match self {
            Self::Scratch(error) => error.lacking(),
            _ => None,
        }
    }
}

/// Whose fault it is that an object is not there, or is not what it should be.
#[derive(Clone, Copy)]
struct Blame {
    absent: fn(ObjectId) -> JobError,
    unreadable: fn(ScratchError) -> JobError,
}

const OWN: Blame = Blame {
    absent: |id| ScratchError::Missing { id }.into(),
    unreadable: JobError::from,
};
const RECEIVED: Blame = Blame {
    absent: not_sent,
    unreadable: JobError::of_received,
};

fn not_sent(id: ObjectId) -> JobError {
    let text =
        format!("object {id} is missing: the remote did not send it, and the session does not hold it");
    JobError::new(ErrorCode::RemoteProtocol, text)
}

fn disk_code(error: &std::io::Error) -> ErrorCode {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorCode::DiskFull,
        _ => ErrorCode::Internal,
    }
}
