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
    /// The sessions that follow `after` in the order of their keys (that of the bytes of `<id>/`), as many as `limit`, with their manifests.
    ///
    /// What a session holds is not listed for it: a page costs a request for each thousand names or fewer, and a read for each manifest.
    pub async fn page(
        &self,
        after: Option<&SessionId>,
        limit: NonZeroUsize,
    ) -> Result<SessionPage, ListError> {
        let prefix = key::sessions(&self.tenant);
        let mut position = after.map(|after| format!("{prefix}{after}/"));
        let mut page = SessionPage {
            sessions: Vec::new(),
            next: None,
        };
        while let Some(wanted) = NonZeroUsize::new(limit.get().saturating_sub(page.sessions.len())) {
            let names = self
                .storage
                .list_folder(&prefix, position.as_deref(), wanted)
                .await;
            let names = names.map_err(ListError)?;
            let ids: Vec<SessionId> = names
                .folders
                .iter()
                .filter_map(|folder| key::session_of_folder(&self.tenant, folder))
                .collect();
            page.next = ids.last().cloned().or(page.next);
            page.sessions.extend(self.load_all(ids).await);
            position = names.next;
            if position.is_none() {
                page.next = None;
                break;
            }
        }
        Ok(page)
    }

    /// A session that went away since it was listed is left out.
    async fn load_all(&self, ids: Vec<SessionId>) -> Vec<(SessionId, Result<Session, LoadError>)> {
        let loads = ids.into_iter().map(|id| async move {
            let session = self.load(&id).await.transpose()?;
            Some((id, session))
        });
        stream::iter(loads)
            .buffered(READ_AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await
    }
}
