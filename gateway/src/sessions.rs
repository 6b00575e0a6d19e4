//! What sessions hold, for the routes: within bounds of its own, so that readers never slow jobs down.
//!
//! What is stored is known to `mayfly-session` alone; this module bounds it in time, in number and in place on the disk, and gives every failure
//! its code.

pub(crate) mod archive_stream;

use std::collections::HashSet;
use std::error::Error;
use std::future::{Future, ready};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use mayfly_protocol::{ErrorCode, Refusal, SessionId, TenantId};
use mayfly_session::view::{SessionView, ViewError, ViewLimits};
use mayfly_session::{
    DeleteError, Deleted, ListError, LoadError, Manifest, PinError, SessionPage, SessionStore,
};
use mayfly_storage::ObjectStore;
use mayfly_telemetry::task;
use mayfly_tmp_folder::TmpFolder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::error_text::with_causes;

/// A deletion that is so many times older than it may be is taken for broken off.
const ABANDONED_FACTOR: u32 = 4;

/// Pins that are looked for at the same time.
const PINS_AT_ONCE: usize = 16;

/// Where sessions are read from, and the bounds on reading them.
#[derive(Debug, Clone)]
pub struct SessionsConfig {
    /// The storage in which workers keep sessions.
    pub storage: Arc<dyn ObjectStore>,
    /// Where the scratch folders of readers are made.
    pub tmp_dir: PathBuf,
    /// The bounds on what one reader reads.
    pub view: ViewLimits,
    /// Lists, files and diffs that are made at the same time; with more, a request is refused with `rate_limited`.
    pub reads_at_once: usize,
    /// Archives that are made at the same time; with more, a request is refused with `rate_limited`.
    pub archives_at_once: usize,
    /// What `Retry-After` says with `rate_limited`.
    pub retry_after: Duration,
    /// How long it may take until a list, a file or a diff is there.
    pub read_timeout: Duration,
    /// How long it may take until an archive begins: all packs are downloaded and checked until then.
    pub prepare_timeout: Duration,
    /// How long a client may take no byte of an archive; then it is broken off.
    pub stall_timeout: Duration,
    /// How long a deletion may take; one that is not done then goes on with the next request to delete.
    pub deletion_timeout: Duration,
}

impl SessionsConfig {
    /// The defaults, with sessions in this storage and scratch folders in this folder.
    pub fn new(storage: Arc<dyn ObjectStore>, tmp_dir: PathBuf) -> Self {
        Self {
            storage,
            tmp_dir,
            view: ViewLimits::default(),
            reads_at_once: 16,
            archives_at_once: 2,
            retry_after: Duration::from_secs(2),
            read_timeout: Duration::from_secs(60),
            prepare_timeout: Duration::from_secs(10 * 60),
            stall_timeout: Duration::from_secs(60),
            deletion_timeout: Duration::from_secs(2 * 60),
        }
    }

    /// The first setting that is 0.
    pub(crate) fn zero(&self) -> Option<&'static str> {
        let numbers = [
            ("sessions.reads_at_once", self.reads_at_once),
            ("sessions.archives_at_once", self.archives_at_once),
        ];
        let times = [
            ("sessions.read_timeout", self.read_timeout),
            ("sessions.prepare_timeout", self.prepare_timeout),
            ("sessions.stall_timeout", self.stall_timeout),
            ("sessions.deletion_timeout", self.deletion_timeout),
        ];
        let number = numbers.iter().find(|(_, value)| *value == 0).map(|it| it.0);
        number.or_else(|| times.iter().find(|(_, value)| value.is_zero()).map(|it| it.0))
    }
}

/// What sessions hold.
pub(crate) struct Sessions {
    config: SessionsConfig,
    reads: Arc<Semaphore>,
    archives: Arc<Semaphore>,
    tasks: TaskTracker,
}

/// A session that is looked at. Its scratch folder goes, and its place is given back, when it is dropped.
pub(crate) struct Look {
    pub(crate) view: SessionView,
    place: Place,
}

/// A reader's place, with its scratch folder.
pub(crate) struct Place {
    _folder: TmpFolder,
    _permit: OwnedSemaphorePermit,
}

impl Look {
    /// The place by itself, for what outlives the view.
    pub(crate) fn into_place(self) -> Place {
        self.place
    }
}

impl Sessions {
    pub(crate) fn new(config: SessionsConfig) -> Self {
        Self {
            reads: Arc::new(Semaphore::new(config.reads_at_once)),
            archives: Arc::new(Semaphore::new(config.archives_at_once)),
            tasks: TaskTracker::new(),
            config,
        }
    }

    pub(crate) fn config(&self) -> &SessionsConfig {
        &self.config
    }

    /// The tasks that outlive a request.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Waits until nothing is read or deleted any more. Connections are closed before.
    pub(crate) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(crate) fn store(&self, tenant: TenantId) -> SessionStore {
        SessionStore::new(Arc::clone(&self.config.storage), tenant)
    }

    /// A place for something that is read at once.
    pub(crate) fn reading(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.permit(&self.reads)
    }

    fn permit(&self, places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(places).try_acquire_owned().map_err(|_| {
            let seconds = self.config.retry_after.as_secs().max(1);
            let text = "as many sessions are being read as may be at the same time; come back later";
            Refusal::new(ErrorCode::RateLimited, text).with_retry_after(seconds)
        })
    }

    /// Looks at a session, for what is read at once.
    pub(crate) async fn look(&self, tenant: TenantId, session: &SessionId) -> Result<Look, Refusal> {
        let permit = self.permit(&self.reads)?;
        self.look_from(permit, tenant, session).await
    }

    /// Looks at a session that is to be archived.
    pub(crate) async fn look_for_archive(
        &self,
        tenant: TenantId,
        session: &SessionId,
    ) -> Result<Look, Refusal> {
        let permit = self.permit(&self.archives)?;
        self.look_from(permit, tenant, session).await
    }

    async fn look_from(
        &self,
        permit: OwnedSemaphorePermit,
        tenant: TenantId,
        session: &SessionId,
    ) -> Result<Look, Refusal> {
        let store = self.store(tenant);
        let manifest = self.load(&store, session).await?;
        let tmp_dir = self.config.tmp_dir.clone();
        let folder = task::blocking(move || TmpFolder::make(&tmp_dir, "gateway-session"));
        let folder = folder.await.map_err(|error| no_folder(&error))?;
        Ok(Look {
            view: store.view(manifest, self.config.view.clone(), folder.path().to_owned()),
            place: Place {
                _folder: folder,
                _permit: permit,
            },
        })
    }

    /// The manifest of a session, which must exist.
    pub(crate) async fn load(&self, store: &SessionStore, session: &SessionId) -> Result<Manifest, Refusal> {
        let found = self.in_time(store.load(session)).await?;
        found
            .map(|found| found.manifest)
            .ok_or_else(|| not_found(session))
    }

    /// Waits for a read within its bound.
    pub(crate) async fn in_time<T, E>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, Refusal>
    where
        E: Coded,
    {
        within(self.config.read_timeout, work).await
    }

    /// Waits for an archive to begin within its bound.
    pub(crate) async fn prepared<T, E>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, Refusal>
    where
        E: Coded,
    {
        within(self.config.prepare_timeout, work).await
    }

    /// Those of a page's sessions that are pinned.
    pub(crate) async fn pinned(
        &self,
        store: &SessionStore,
        page: &SessionPage,
    ) -> Result<HashSet<SessionId>, LoadError> {
        let readable = page
            .sessions
            .iter()
            .filter_map(|(_, session)| session.as_ref().ok());
        let checks = readable.map(|session| async move {
            let is_pinned = store.is_pinned(&session.manifest).await?;
            Ok(is_pinned.then(|| session.manifest.session_id.clone()))
        });
        let checks: Vec<_> = checks.collect();
        let checked = stream::iter(checks).buffered(PINS_AT_ONCE);
        checked
            .try_filter_map(|pinned| ready(Ok(pinned)))
            .try_collect()
            .await
    }

    /// Pins a session, which must exist, or lets it go.
    pub(crate) async fn set_pin(
        &self,
        tenant: TenantId,
        session: &SessionId,
        pinned: bool,
    ) -> Result<(), Refusal> {
        let store = self.store(tenant);
        let is_there = match pinned {
            true => self.in_time(store.pin(session)).await?,
            false => self.in_time(store.unpin(session)).await?,
        };
        is_there.then_some(()).ok_or_else(|| not_found(session))
    }

    /// Deletes a session; it goes on whether the client waits for it or not.
    pub(crate) async fn delete(&self, tenant: TenantId, session: &SessionId) -> Result<Deleted, Refusal> {
        let bound = self.config.deletion_timeout;
        let (store, id) = (self.store(tenant), session.clone());
        let deletion = task::spawn(&self.tasks, async move {
            within(bound, store.delete(&id, bound * ABANDONED_FACTOR)).await
        });
        let deleted = deletion.await.map_err(|_| {
            let text = "the deletion failed by a defect of Mayfly; the gateway's log has the details";
            Refusal::new(ErrorCode::Internal, text)
        })??;
        deleted.ok_or_else(|| not_found(session))
    }
}

async fn within<T, E: Coded>(
    bound: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Refusal> {
    match timeout(bound, work).await {
        Ok(outcome) => outcome.map_err(|error| refusal(&error)),
        Err(_) => {
            let text = format!(
                "the object storage did not give what was asked for within {} seconds; try again later",
                bound.as_secs_f32()
            );
            Err(Refusal::new(ErrorCode::StorageUnavailable, text))
        }
    }
}

/// An error that knows its code.
pub(crate) trait Coded: Error + 'static {
    fn code(&self) -> ErrorCode;
}

macro_rules! coded {
    ($($error:ty),+) => {
        $(impl Coded for $error {
            fn code(&self) -> ErrorCode {
                self.code()
            }
        })+
    };
}

coded!(LoadError, ViewError, DeleteError, ListError, PinError);

/// The refusal for an error, with the texts of its causes.
pub(crate) fn refusal(error: &impl Coded) -> Refusal {
    let text = with_causes(error);
    let code = error.code();
    if code.status() >= 500 {
        tracing::warn!(code = code.as_str(), error = text, "a session could not be read");
    }
    Refusal::new(code, text)
}

fn not_found(session: &SessionId) -> Refusal {
    let text = format!("there is no session `{session}`; clone a repository into it first");
    Refusal::new(ErrorCode::SessionNotFound, text)
}

fn no_folder(error: &std::io::Error) -> Refusal {
    tracing::error!(%error, "no scratch folder could be made; is TMP_DIR there, and has it room?");
    let code = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorCode::DiskFull,
        _ => ErrorCode::Internal,
    };
    Refusal::new(
        code,
        "the gateway could not make a scratch folder; its log has the details",
    )
}
