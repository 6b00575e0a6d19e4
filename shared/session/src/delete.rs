//! Deleting a session, beside jobs and other deletions that may run.
//!
//! Stores cannot delete under a condition, but they can replace under one. So the manifest is first replaced, by compare-and-swap, by a mark that
//! the session is being deleted: from then on a job that is under way loses its own swap, and none can make the session anew. Then the session's
//! own objects go, and the mark goes last. A deletion that broke off leaves the mark, and is taken up by the next one.
//!
//! A session that expires goes the same way, but for one step before: its first mark holds the manifest, which is put back where the session turns
//! out to be pinned. Whoever pins writes the pin and then looks for the manifest; whoever expires takes the manifest and then looks for the pin; so one
//! of the two sees the other.

use std::time::Duration;

use mayfly_protocol::event::timestamp;
use mayfly_protocol::{ErrorCode, JobId, SessionId};
use mayfly_storage::{Key, Precondition, StorageError, Version};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::key;
use crate::manifest::{FORMAT_VERSION, Manifest};
use crate::store::{LoadError, SaveError, Session, SessionStore, storage_code};

/// A deletion that took longer leaves its mark for another to take up. Those who take one up wait longer before they do.
const HELD_UP: Duration = Duration::from_secs(4 * 60);

/// What stands in the manifest's place while a session is being deleted.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DeletionMark {
    format_version: u32,
    session_id: SessionId,
    deletion: Deletion,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Deletion {
    /// Tells two deletions apart: of racing ones, the swap lets one through.
    id: JobId,
    #[serde(with = "timestamp")]
    at: OffsetDateTime,
    /// What the session held, while it may still be put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    was: Option<Box<Manifest>>,
}

impl DeletionMark {
    fn new(session: &SessionId, was: Option<Manifest>) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            session_id: session.clone(),
            deletion: Deletion {
                id: JobId::new_now(),
                at: OffsetDateTime::now_utc(),
                was: was.map(Box::new),
            },
        }
    }

    /// The mark, where this is one.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// What the session held, while it may still be put back.
    pub(crate) fn manifest(&self) -> Option<&Manifest> {
        self.deletion.was.as_deref()
    }

    /// The manifest that is to be put back if the session is pinned.
    pub(crate) fn into_manifest(self) -> Option<Manifest> {
        self.deletion.was.map(|manifest| *manifest)
    }
}

/// What a deletion removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deleted {
    /// Objects, the manifest among them.
    pub objects: usize,
    /// Bytes of the session's own packs and whatever else it has by itself.
    pub bytes: u64,
}

/// Why a session was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// What is stored could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A job saved the session in the meantime, or another deletion began; nothing was deleted.
    #[error(
        "session `{session}` was changed in the meantime, and nothing of it was deleted; look at what it holds now, and delete it again"
    )]
    Conflict {
        /// The session.
        session: SessionId,
    },
    /// Another deletion is under way.
    #[error("session `{session}` is being deleted already; should it not go, try again in some minutes")]
    UnderWay {
        /// The session.
        session: SessionId,
    },
    /// The mark makes no JSON; the session is as it was.
    #[error("the deletion of session `{session}` could not be written down")]
    Encode {
        /// The session.
        session: SessionId,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// What was to be kept after all could not be put back.
    #[error(
        "session `{session}` is pinned, and could not be put back from its deletion; the next collection does so"
    )]
    PutBack {
        /// The session.
        session: SessionId,
        /// Why.
        #[source]
        source: SaveError,
    },
    /// The storage failed. The session is as it was, or it is gone for jobs, and its packs go with the next try.
    #[error("session `{session}` could not be deleted whole from object storage; delete it again")]
    Storage {
        /// The session.
        session: SessionId,
        /// How.
        #[source]
        source: StorageError,
    },
}

impl DeleteError {
    /// The code for clients.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Load(error) => error.code(),
            Self::Conflict { .. } => ErrorCode::SessionConflict,
            Self::UnderWay { .. } => ErrorCode::SessionBusy,
            Self::Encode { .. } => ErrorCode::Internal,
            Self::PutBack { source, .. } => source.code(),
            Self::Storage { source, .. } => storage_code(source),
        }
    }
}

impl SessionStore {
    /// Deletes a session, damaged or not; `None` where there is none. Packs that it shares with other sessions stay.
    ///
    /// A deletion that began longer than `abandoned_after` ago is taken for broken off and taken up; a caller stops waiting for its own one
    /// before that time.
    pub async fn delete(
        &self,
        session: &SessionId,
        abandoned_after: Duration,
    ) -> Result<Option<Deleted>, DeleteError> {
        let now = OffsetDateTime::now_utc();
        let Some(found) = self.read(session).await? else {
            return Ok(None);
        };
        let is_under_way = |mark: DeletionMark| now < mark.deletion.at + abandoned_after;
        if DeletionMark::parse(&found.bytes).is_some_and(is_under_way) {
            return Err(DeleteError::UnderWay {
                session: session.clone(),
            });
        }
        self.delete_found(session, found.version).await.map(Some)
    }

    /// Deletes a session that was not used for long; `None` where it turns out to be pinned, and stays.
    pub(crate) async fn expire(&self, found: Session) -> Result<Option<Deleted>, DeleteError> {
        let (manifest, version) = found.into_parts();
        let session = manifest.session_id.clone();
        let mark = DeletionMark::new(&session, Some(manifest.clone()));
        let marked = self.mark(&session, &mark, version).await?;
        self.finish_expiry(manifest, marked).await
    }

    /// The rest of [`Self::expire`], from its mark on.
    pub(crate) async fn finish_expiry(
        &self,
        was: Manifest,
        marked: Version,
    ) -> Result<Option<Deleted>, DeleteError> {
        if self.is_pinned(&was).await? {
            let session = was.session_id.clone();
            let fence = Session::from_parts(was.clone(), marked);
            return self
                .save(Some(&fence), was)
                .await
                .map(|_| None)
                .map_err(|source| DeleteError::PutBack { session, source });
        }
        self.delete_found(&was.session_id, marked).await.map(Some)
    }

    /// Deletes what stands under this version.
    ///
    /// What goes with it is listed before the swap: a deletion that is held up may go on when another has taken it up and the id is in use again, and
    /// these names are not. Then it leaves the mark alone, too.
    pub(crate) async fn delete_found(
        &self,
        session: &SessionId,
        version: Version,
    ) -> Result<Deleted, DeleteError> {
        let key = self.manifest_key(session)?;
        let failed = |source| DeleteError::Storage {
            session: session.clone(),
            source,
        };
        let folder = key::session_folder(&self.tenant, session);
        let contents = self.storage.list(&folder).await.map_err(failed)?;
        let mark = DeletionMark::new(session, None);
        self.mark(session, &mark, version).await?;
        let mut deleted = Deleted::default();
        for object in contents.iter().filter(|object| object.key != key) {
            self.storage.delete(&object.key).await.map_err(failed)?;
            deleted.objects += 1;
            deleted.bytes += object.bytes;
        }
        if OffsetDateTime::now_utc() > mark.deletion.at + HELD_UP {
            return Err(DeleteError::UnderWay {
                session: session.clone(),
            });
        }
        self.storage.delete(&key).await.map_err(failed)?;
        deleted.objects += 1;
        Ok(deleted)
    }

    async fn mark(
        &self,
        session: &SessionId,
        mark: &DeletionMark,
        version: Version,
    ) -> Result<Version, DeleteError> {
        let body = serde_json::to_vec(mark).map_err(|source| DeleteError::Encode {
            session: session.clone(),
            source,
        })?;
        let key = self.manifest_key(session)?;
        let marked = self
            .storage
            .put(&key, body.into(), Precondition::IfMatch(version));
        marked.await.map_err(|source| match source {
            StorageError::PreconditionFailed { .. } => DeleteError::Conflict {
                session: session.clone(),
            },
            source => DeleteError::Storage {
                session: session.clone(),
                source,
            },
        })
    }

    fn manifest_key(&self, session: &SessionId) -> Result<Key, DeleteError> {
        let key = key::manifest(&self.tenant, session).map_err(|source| LoadError::Key {
            session: session.clone(),
            source,
        });
        Ok(key?)
    }
}
