//! Pins: a session that has one is kept however long it is not used.
//!
//! A pin is an object of its own beside the manifest, and not a field of it: to swap the manifest from the side would make a job that runs at that
//! moment lose its save. How it meets a session that expires just then stands at [`crate::delete`].

use mayfly_protocol::event::timestamp;
use mayfly_protocol::{ErrorCode, SessionId};
use mayfly_storage::{InvalidKey, Key, Precondition, StorageError};
use serde::Serialize;
use time::OffsetDateTime;

use crate::key;
use crate::manifest::Manifest;
use crate::store::{LoadError, SessionStore, storage_code};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pin {
    format_version: u32,
    #[serde(with = "timestamp")]
    pinned_at: OffsetDateTime,
}

/// Why a session was not pinned, or let go.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The session could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The pin makes no JSON.
    #[error("the pin of session `{session}` could not be written down")]
    Encode {
        /// The session.
        session: SessionId,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The storage failed; to try again does no harm.
    #[error("the pin of session `{session}` could not be changed in object storage; try again")]
    Storage {
        /// The session.
        session: SessionId,
        /// How.
        #[source]
        source: StorageError,
    },
}

impl PinError {
    /// The code for clients.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Load(error) => error.code(),
            Self::Encode { .. } => ErrorCode::Internal,
            Self::Storage { source, .. } => storage_code(source),
        }
    }
}

impl SessionStore {
    /// Pins a session; `false` where there is none. One that is pinned stays so.
    pub async fn pin(&self, session: &SessionId) -> Result<bool, PinError> {
        let Some(found) = self.load(session).await? else {
            return Ok(false);
        };
        let pin = Pin {
            format_version: 1,
            pinned_at: OffsetDateTime::now_utc(),
        };
        let body = serde_json::to_vec(&pin).map_err(|source| PinError::Encode {
            session: session.clone(),
            source,
        })?;
        let key = self.pin_key(&found.manifest)?;
        let put = self.storage.put(&key, body.into(), Precondition::None).await;
        put.map_err(|source| PinError::Storage {
            session: session.clone(),
            source,
        })?;
        // After the pin is there, a session that is there does not expire any more; and a pin without one holds nothing.
        let now = self.load(session).await?;
        Ok(now.is_some_and(|now| now.manifest.created_at == found.manifest.created_at))
    }

    /// Takes the pin of a session away; `false` where there is no session. One that is not pinned stays so.
    pub async fn unpin(&self, session: &SessionId) -> Result<bool, PinError> {
        let Some(found) = self.load(session).await? else {
            return Ok(false);
        };
        let key = self.pin_key(&found.manifest)?;
        let deleted = self.storage.delete(&key).await;
        deleted.map_err(|source| PinError::Storage {
            session: session.clone(),
            source,
        })?;
        Ok(true)
    }

    /// Whether the session that this is the manifest of is pinned.
    pub async fn is_pinned(&self, manifest: &Manifest) -> Result<bool, LoadError> {
        let head = self.storage.head(&self.pin_key(manifest)?).await;
        head.map(|found| found.is_some())
            .map_err(|source| LoadError::Storage {
                session: manifest.session_id.clone(),
                source,
            })
    }

    fn pin_key(&self, manifest: &Manifest) -> Result<Key, LoadError> {
        key::pin(&self.tenant, manifest).map_err(|source: InvalidKey| LoadError::Key {
            session: manifest.session_id.clone(),
            source,
        })
    }
}
