//! A pack of the remote that goes to the storage while it arrives. Must not know where it comes from.

use bytes::Bytes;
use mayfly_git::fetch::{PackSink, SinkError};
use mayfly_git::pack::PackFiles;
use mayfly_protocol::SessionId;
use mayfly_storage::{Precondition, StorageError, Upload};

use crate::key::{self, PackKeys};
use crate::manifest::{Manifest, PackEntry, PackKind, PackScope};
use crate::pack_name::PackName;
use crate::packs;
use crate::store::{SaveError, SessionStore};

/// The pack of one fetch. Nothing of it is in the storage before [`IncomingPack::complete`]; dropped before that, it is discarded.
#[derive(Debug)]
pub struct IncomingPack {
    sessions: SessionStore,
    session: SessionId,
    name: PackName,
    keys: PackKeys,
    /// Begins with the first bytes: most fetches of a known repository bring none.
    upload: Option<Box<dyn Upload>>,
}

impl SessionStore {
    /// A place for the pack that a fetch brings to the repository of this session.
    pub fn incoming_pack(&self, manifest: &Manifest) -> Result<IncomingPack, SaveError> {
        let name = PackName::fresh();
        let keys = key::named_pack(&self.tenant, manifest, PackScope::Repository, &name);
        Ok(IncomingPack {
            sessions: self.clone(),
            session: manifest.session_id.clone(),
            name,
            keys: keys.map_err(|source| SaveError::Key {
                session: manifest.session_id.clone(),
                source,
            })?,
            upload: None,
        })
    }
}

impl IncomingPack {
    /// Ends the upload of the pack, uploads its index, and says how the manifest is to list both.
    pub async fn complete(mut self, files: &PackFiles) -> Result<PackEntry, SaveError> {
        let entry = packs::entry(&self.session, self.name.clone(), files, PackKind::Base)?;
        let stored = self.store(files).await;
        stored.map_err(|source| self.failed(source))?;
        Ok(entry)
    }

    async fn store(&mut self, files: &PackFiles) -> Result<(), StorageError> {
        let storage = self.sessions.storage.clone();
        let index = files.index.clone().into();
        if let Some(upload) = self.upload.take() {
            storage.put(&self.keys.index, index, Precondition::None).await?;
            let bytes = upload.complete().await?;
            debug_assert_eq!(bytes, files.pack_bytes, "the copy is the pack");
        }
        Ok(())
    }

    fn failed(&self, source: StorageError) -> SaveError {
        SaveError::Storage {
            session: self.session.clone(),
            source,
        }
    }

    async fn pass_on(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        let mut upload = match self.upload.take() {
            Some(upload) => upload,
            None => self.sessions.storage.upload(&self.keys.pack).await?,
        };
        let written = upload.write(bytes).await;
        self.upload = Some(upload);
        written
    }
}

#[async_trait::async_trait]
impl PackSink for IncomingPack {
    /// The failure inside is a [`SaveError`].
    async fn write(&mut self, bytes: Bytes) -> Result<(), SinkError> {
        let written = self.pass_on(bytes).await;
        written.map_err(|source| SinkError(Box::new(self.failed(source))))
    }
}
