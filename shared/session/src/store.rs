//! Loading and saving manifests, by compare-and-swap.

use std::collections::HashSet;
use std::sync::Arc;

use mayfly_git::pack::PackLimits;
use mayfly_protocol::{ErrorCode, InvalidId, ObjectId, SessionId, TenantId};
use mayfly_storage::{InvalidKey, Object, ObjectStore, Precondition, StorageError, Version};

use crate::delete::DeletionMark;
use crate::key;
use crate::manifest::{FORMAT_VERSION, Manifest, PackEntry, PackScope};
use crate::pack_name::PackName;

/// The largest manifest that is read or written, in bytes.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;

/// The sessions of one tenant.
#[derive(Debug, Clone)]
pub struct SessionStore {
    pub(crate) storage: Arc<dyn ObjectStore>,
    pub(crate) tenant: TenantId,
    pub(crate) pack_limits: PackLimits,
}

/// A session as it was loaded or saved, with the fence for the next save.
#[derive(Debug, Clone)]
pub struct Session {
    /// What the session holds.
    pub manifest: Manifest,
    version: Version,
}

impl Session {
    pub(crate) fn from_parts(manifest: Manifest, version: Version) -> Self {
        Self { manifest, version }
    }

    pub(crate) fn into_parts(self) -> (Manifest, Version) {
        (self.manifest, self.version)
    }
}

/// Why a session, or an object of it, could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// What is stored cannot be what was saved.
    #[error("session `{session}` is damaged: {reason}")]
    Damaged {
        /// The session.
        session: SessionId,
        /// What is wrong, and where.
        reason: String,
        /// The pack that is damaged or missing, where it is one.
        pack: Option<ObjectId>,
    },
    /// The session is being deleted.
    #[error(
        "session `{session}` is being deleted; try again when it is gone, or delete it again if that was broken off"
    )]
    Deleting {
        /// The session.
        session: SessionId,
    },
    /// The storage failed.
    #[error("session `{session}` could not be read from object storage")]
    Storage {
        /// The session.
        session: SessionId,
        /// How.
        #[source]
        source: StorageError,
    },
    /// The id makes no storage key.
    #[error("session `{session}` has no place in object storage")]
    Key {
        /// The session.
        session: SessionId,
        /// Why.
        #[source]
        source: InvalidKey,
    },
}

/// Why a session, or a pack of it, was not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// Another job saved first; this one's changes are not in the session.
    #[error(
        "session `{session}` was saved by another job in the meantime; nothing of this job was saved, so send it again"
    )]
    Conflict {
        /// The session.
        session: SessionId,
    },
    /// The manifest has grown past its limit.
    #[error(
        "the manifest of session `{session}` has {bytes} bytes, more than the {MAX_MANIFEST_BYTES} that one may have"
    )]
    TooLarge {
        /// The session.
        session: SessionId,
        /// Its size.
        bytes: u64,
    },
    /// The storage failed.
    #[error("session `{session}` could not be saved to object storage")]
    Storage {
        /// The session.
        session: SessionId,
        /// How.
        #[source]
        source: StorageError,
    },
    /// The id makes no storage key.
    #[error("session `{session}` has no place in object storage")]
    Key {
        /// The session.
        session: SessionId,
        /// Why.
        #[source]
        source: InvalidKey,
    },
    /// The manifest makes no JSON; the stored one is as it was.
    #[error("the manifest of session `{session}` could not be written down")]
    Encode {
        /// The session.
        session: SessionId,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A pack is not named by a checksum.
    #[error("a pack of session `{session}` is not named by its checksum")]
    PackName {
        /// The session.
        session: SessionId,
        /// Why.
        #[source]
        source: InvalidId,
    },
}

impl LoadError {
    /// The code for clients.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Damaged { .. } => ErrorCode::SessionDamaged,
            Self::Deleting { .. } => ErrorCode::SessionBusy,
            Self::Storage { source, .. } => storage_code(source),
            Self::Key { .. } => ErrorCode::Internal,
        }
    }

    /// The pack that is damaged or missing, where that is why.
    pub fn damaged_pack(&self) -> Option<ObjectId> {
        match self {
            Self::Damaged { pack, .. } => *pack,
            _ => None,
        }
    }
}

impl SaveError {
    /// The code for clients.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Conflict { .. } => ErrorCode::SessionConflict,
            Self::TooLarge { .. } => ErrorCode::ChangesTooLarge,
            Self::Storage { source, .. } => storage_code(source),
            Self::Key { .. } | Self::Encode { .. } | Self::PackName { .. } => ErrorCode::Internal,
        }
    }
}

/// What a failure of the storage means to a client.
pub(crate) fn storage_code(error: &StorageError) -> ErrorCode {
    match error {
        StorageError::Denied { .. } => ErrorCode::StorageDenied,
        StorageError::DiskFull { .. } => ErrorCode::DiskFull,
        StorageError::NotFound { .. } | StorageError::TooLarge { .. } => ErrorCode::SessionDamaged,
        StorageError::PreconditionFailed { .. } => ErrorCode::SessionConflict,
        _ => ErrorCode::StorageUnavailable,
    }
}

impl SessionStore {
    /// The sessions of this tenant in this storage.
    pub fn new(storage: Arc<dyn ObjectStore>, tenant: TenantId) -> Self {
        Self {
            storage,
            tenant,
            pack_limits: PackLimits::default(),
        }
    }

    /// The same with limits of one's own to what the packs that are downloaded may hold.
    #[must_use]
    pub fn with_pack_limits(self, pack_limits: PackLimits) -> Self {
        Self { pack_limits, ..self }
    }

    /// Reads a session; `None` where there is none.
    pub async fn load(&self, session: &SessionId) -> Result<Option<Session>, LoadError> {
        let Some(object) = self.read(session).await? else {
            return Ok(None);
        };
        if DeletionMark::parse(&object.bytes).is_some() {
            return Err(LoadError::Deleting {
                session: session.clone(),
            });
        }
        let manifest = parse(session, &object.bytes).map_err(|reason| LoadError::Damaged {
            session: session.clone(),
            reason,
            pack: None,
        })?;
        Ok(Some(Session::from_parts(manifest, object.version)))
    }

    /// Reads what is stored under the manifest's key, whatever it is.
    pub(crate) async fn read(&self, session: &SessionId) -> Result<Option<Object>, LoadError> {
        let key = key::manifest(&self.tenant, session).map_err(|source| LoadError::Key {
            session: session.clone(),
            source,
        })?;
        match self.storage.get(&key, MAX_MANIFEST_BYTES).await {
            Ok(object) => Ok(Some(object)),
            Err(StorageError::NotFound { .. }) => Ok(None),
            Err(source) => Err(LoadError::Storage {
                session: session.clone(),
                source,
            }),
        }
    }

    /// Replaces the manifest that `previous` was loaded with, or makes the first one.
    ///
    /// The packs that it names must have been uploaded before. A save whose answer was lost is recognised as done.
    pub async fn save(&self, previous: Option<&Session>, manifest: Manifest) -> Result<Session, SaveError> {
        let session = manifest.session_id.clone();
        let key = key::manifest(&self.tenant, &session).map_err(|source| SaveError::Key {
            session: session.clone(),
            source,
        })?;
        let body = encode(&manifest)?;
        let precondition = match previous {
            Some(previous) => {
                self.mark_replaced(&previous.manifest, &manifest).await?;
                Precondition::IfMatch(previous.version.clone())
            }
            None => Precondition::IfAbsent,
        };
        match self.storage.put(&key, body.clone().into(), precondition).await {
            Ok(version) => Ok(Session { manifest, version }),
            Err(StorageError::PreconditionFailed { .. }) => self.recognise(manifest, &body).await,
            Err(source) => Err(SaveError::Storage { session, source }),
        }
    }

    /// Writes down, by the storage's clock, that packs of the session are about to be listed no more: who has learned of them may still read them.
    async fn mark_replaced(&self, before: &Manifest, after: &Manifest) -> Result<(), SaveError> {
        let session = &before.session_id;
        let own = |entry: &&PackEntry| entry.scope == PackScope::Session;
        let kept: HashSet<&PackName> = after.listed_packs().map(|entry| &entry.name).collect();
        let replaced: HashSet<&PackName> = before
            .listed_packs()
            .filter(own)
            .map(|entry| &entry.name)
            .collect();
        let marks = replaced.difference(&kept).map(|name| async {
            let key = key::replaced(&self.tenant, session, name).map_err(|source| SaveError::Key {
                session: session.clone(),
                source,
            })?;
            let put = self.storage.put(&key, Vec::new().into(), Precondition::None);
            put.await.map(drop).map_err(|source| SaveError::Storage {
                session: session.clone(),
                source,
            })
        });
        futures::future::try_join_all(marks).await.map(drop)
    }

    /// After a lost swap: either another job won, or this very save was done and only its answer was lost.
    async fn recognise(&self, manifest: Manifest, body: &[u8]) -> Result<Session, SaveError> {
        let session = manifest.session_id.clone();
        let key = key::manifest(&self.tenant, &session).map_err(|source| SaveError::Key {
            session: session.clone(),
            source,
        })?;
        match self.storage.get(&key, MAX_MANIFEST_BYTES).await {
            Ok(object) if object.bytes == body => Ok(Session {
                manifest,
                version: object.version,
            }),
            Ok(_) | Err(StorageError::NotFound { .. } | StorageError::TooLarge { .. }) => {
                Err(SaveError::Conflict { session })
            }
            Err(source) => Err(SaveError::Storage { session, source }),
        }
    }
}

fn encode(manifest: &Manifest) -> Result<Vec<u8>, SaveError> {
    let session = || manifest.session_id.clone();
    let body = serde_json::to_vec_pretty(manifest).map_err(|source| SaveError::Encode {
        session: session(),
        source,
    })?;
    let bytes = body.len() as u64;
    if bytes > MAX_MANIFEST_BYTES {
        Err(SaveError::TooLarge {
            session: session(),
            bytes,
        })
    } else {
        Ok(body)
    }
}

pub(crate) fn parse(session: &SessionId, bytes: &[u8]) -> Result<Manifest, String> {
    let value: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|error| format!("its manifest is not JSON ({error})"))?;
    match value.get("formatVersion").and_then(serde_json::Value::as_u64) {
        Some(version) if version == u64::from(FORMAT_VERSION) => {}
        Some(version) => {
            return Err(format!(
                "its manifest has format {version}; this build reads {FORMAT_VERSION}"
            ));
        }
        None => return Err("its manifest has no format version".to_owned()),
    }
    let manifest: Manifest = serde_json::from_value(value)
        .map_err(|error| format!("its manifest does not fit the format ({error})"))?;
    if manifest.session_id == *session {
        Ok(manifest)
    } else {
        Err(format!(
            "its manifest is that of session `{}`",
            manifest.session_id
        ))
    }
}
