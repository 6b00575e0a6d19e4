//! Which sessions there are.

use std::num::NonZeroUsize;

use futures::{StreamExt as _, stream};
use mayfly_protocol::SessionId;
use mayfly_storage::StorageError;

use crate::key;
use crate::store::{LoadError, Session, SessionStore};

/// Manifests that are read at the same time.
const READ_AT_ONCE: usize = 16;

/// Some of the sessions of a tenant, by id.
#[derive(Debug)]
pub struct SessionPage {
    /// Each session, or why it cannot be read.
    pub sessions: Vec<(SessionId, Result<Session, LoadError>)>,
    /// The id after which the next page begins; `None` where this is the last one.
    pub next: Option<SessionId>,
}

/// The sessions could not be listed.
#[derive(Debug, thiserror::Error)]
#[error("the sessions could not be listed from object storage")]
pub struct ListError(#[source] pub StorageError);

impl ListError {
    /// The code for clients.
    pub fn code(&self) -> mayfly_protocol::ErrorCode {
        crate::store::storage_code(&self.0)
    }
}

impl SessionStore {
    /// The sessions whose ids follow `after` in the order of bytes, as many as `limit`, with their manifests.
    ///
    /// The names of all the tenant's objects are listed for it, which a store gives in pages of about a thousand.
    pub async fn page(
        &self,
        after: Option<&SessionId>,
        limit: NonZeroUsize,
    ) -> Result<SessionPage, ListError> {
        let prefix = key::sessions(&self.tenant);
        let objects = self.storage.list(&prefix).await.map_err(ListError)?;
        let ids = objects
            .iter()
            .filter_map(|object| key::session_of_manifest(&self.tenant, &object.key));
        let mut ids: Vec<_> = ids
            .filter(|id| after.is_none_or(|after| id.as_str() > after.as_str()))
            .collect();
        ids.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        let has_more = ids.len() > limit.get();
        ids.truncate(limit.get());
        let next = ids.last().filter(|_| has_more).cloned();
        let loads = ids.into_iter().map(|id| async move {
            let session = self.load(&id).await.transpose()?;
            Some((id, session))
        });
        // A session that went away since it was listed is left out.
        let sessions = stream::iter(loads)
            .buffered(READ_AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await;
        Ok(SessionPage { sessions, next })
    }
}
