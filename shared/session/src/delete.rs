//! Deleting a session, beside jobs and other deletions that may run.
//!
//! Stores cannot delete under a condition, but they can replace under one. So the manifest is first replaced, by compare-and-swap, by a mark that
//! the session is being deleted: from then on a job that is under way loses its own swap, and none can make the session anew. Then the session's
//! own packs go, and the mark goes last. A deletion that broke off leaves the mark, and is taken up by the next one.

use std::time::Duration;

use mayfly_protocol::event::timestamp;
use mayfly_protocol::{ErrorCode, JobId, SessionId};
use mayfly_storage::{Precondition, StorageError};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::key;
use crate::manifest::FORMAT_VERSION;
use crate::store::{LoadError, SessionStore, storage_code};

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
}

impl DeletionMark {
    fn new(session: &SessionId, at: OffsetDateTime) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            session_id: session.clone(),
            deletion: Deletion {
                id: JobId::new_now(),
                at,
            },
        }
    }

    /// The mark, where this is one.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// What a deletion removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deleted {
    /// Objects, the manifest among them.
    pub objects: usize,
    /// Bytes of the session's own packs.
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
        let storage_error = |source| match source {
            StorageError::PreconditionFailed { .. } => DeleteError::Conflict {
                session: session.clone(),
            },
            source => DeleteError::Storage {
                session: session.clone(),
                source,
            },
        };
        let key = key::manifest(&self.tenant, session).map_err(|source| LoadError::Key {
            session: session.clone(),
            source,
        })?;
        let mark = serde_json::to_vec(&DeletionMark::new(session, now)).unwrap_or_default();
        let swap = Precondition::IfMatch(found.version);
        self.storage
            .put(&key, mark.into(), swap)
            .await
            .map_err(storage_error)?;
        let mut deleted = self.delete_packs(session).await.map_err(storage_error)?;
        self.storage.delete(&key).await.map_err(storage_error)?;
        deleted.objects += 1;
        Ok(Some(deleted))
    }

    async fn delete_packs(&self, session: &SessionId) -> Result<Deleted, StorageError> {
        let mut deleted = Deleted::default();
        for object in self
            .storage
            .list(&key::session_packs(&self.tenant, session))
            .await?
        {
            self.storage.delete(&object.key).await?;
            deleted.objects += 1;
            deleted.bytes += object.bytes;
        }
        Ok(deleted)
    }
}
