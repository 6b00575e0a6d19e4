//! Carrying out what was decided, thing by thing. What fails is told, and left to the next collection.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use mayfly_protocol::{SessionId, TenantId};
use mayfly_storage::{Key, ObjectStore, Precondition, StorageError};
use time::OffsetDateTime;

use super::decide::{self, Found, Reason, RepositoryPlan, SessionStep};
use super::report::{GcLine, GcSubject, GcSummary};
use super::survey::{self, Content, LfsSurveyError, SurveyedRepository, SurveyedSession, TenantUsage, Usage};
use super::{GcError, GcPolicy};
use crate::delete::{DeleteError, Deleted};
use crate::key;
use crate::lfs::ListError;
use crate::repository::{KnownRepository, RetiredPack};
use crate::store::SessionStore;

/// Sessions that are looked at, and objects that are removed, at the same time.
const AT_ONCE: usize = 8;

type Tell<'a> = &'a mut (dyn FnMut(&GcLine) + Send);

/// One run through a storage.
pub(super) struct Collection<'a> {
    storage: &'a Arc<dyn ObjectStore>,
    policy: &'a GcPolicy,
    /// The storage's time when it began.
    now: OffsetDateTime,
    is_dry: bool,
}

impl<'a> Collection<'a> {
    pub(super) fn new(
        storage: &'a Arc<dyn ObjectStore>,
        policy: &'a GcPolicy,
        now: OffsetDateTime,
        is_dry: bool,
    ) -> Self {
        Self {
            storage,
            policy,
            now,
            is_dry,
        }
    }

    pub(super) async fn all(&self, tell: Tell<'_>) -> Result<GcSummary, GcError> {
        let mut summary = GcSummary::default();
        for tenant in survey::tenants(&**self.storage).await? {
            let store = SessionStore::new(Arc::clone(self.storage), tenant);
            let mut told = |lines: Vec<GcLine>| {
                for line in &lines {
                    summary.count(line);
                    tell(line);
                }
            };
            let seen = self.tenant(&store, &mut told).await?;
            summary.sessions_seen += seen;
        }
        for line in self.uploads().await? {
            summary.count(&line);
            tell(&line);
        }
        Ok(summary)
    }

    /// Goes through what one tenant has; gives the number of its sessions.
    async fn tenant(
        &self,
        store: &SessionStore,
        told: &mut (dyn FnMut(Vec<GcLine>) + Send),
    ) -> Result<u64, GcError> {
        let prefix = key::sessions(&store.tenant);
        let names = survey::folders(&**self.storage, &prefix).await?;
        let ids: Vec<SessionId> = names.iter().filter_map(|name| name.parse().ok()).collect();
        let (mut usage, mut all_readable) = (TenantUsage::default(), true);
        let count = ids.len() as u64;
        let mut sessions = stream::iter(ids)
            .map(|id| self.session(store, id))
            .buffered(AT_ONCE);
        while let Some((of_session, lines)) = sessions.try_next().await? {
            all_readable &= lines.iter().all(|line| line.subject != GcSubject::Kept);
            of_session.into_iter().for_each(|it| usage.add(it));
            told(lines);
        }
        drop(sessions);
        let prefix = key::repositories(&store.tenant);
        if all_readable {
            for id in survey::folders(&**self.storage, &prefix).await? {
                told(self.repository(store, &id, &usage).await?);
            }
        } else {
            told(vec![kept(
                prefix,
                0,
                "a session cannot be read, and it is not known which packs it lists",
            )]);
        }
        self.outcomes(&store.tenant, told).await?;
        Ok(count)
    }

    async fn session(
        &self,
        store: &SessionStore,
        id: SessionId,
    ) -> Result<(Option<Usage>, Vec<GcLine>), GcError> {
        let surveyed = survey::session(store, &id).await?;
        let SurveyedSession {
            content,
            facts,
            bytes,
            usage,
        } = surveyed;
        let folder = key::session_folder(&store.tenant, &id);
        if let Content::Unreadable(reason) = &content {
            let reason = format!("it cannot be read: {reason}");
            return Ok((usage, vec![kept(folder, bytes, &reason)]));
        }
        let mut lines = Vec::new();
        let mut objects = Vec::new();
        let mut whole = None;
        for step in decide::session(&facts, self.policy, self.now) {
            match step {
                SessionStep::Remove(object, reason) => objects.push((object, reason)),
                SessionStep::Expire(reason) | SessionStep::FinishDeletion(reason) => whole = Some(reason),
            }
        }
        if let Some(reason) = whole {
            let planned = line(GcSubject::Session, folder, bytes, &reason);
            lines.extend(self.end_session(store, &id, content, planned).await);
        }
        lines.extend(self.remove(GcSubject::SessionObject, objects).await);
        Ok((usage, lines))
    }

    /// Deletes a session; `None` where it was used in the meantime, or is pinned after all.
    async fn end_session(
        &self,
        store: &SessionStore,
        id: &SessionId,
        content: Content,
        planned: GcLine,
    ) -> Option<GcLine> {
        if self.is_dry {
            return Some(planned);
        }
        let ended: Result<Option<Deleted>, DeleteError> = match content {
            Content::Nothing | Content::Unreadable(_) => return None,
            Content::Live(session) => store.expire(*session).await,
            Content::Marked(mark, version) => match mark.into_manifest() {
                Some(was) => store.finish_expiry(was, version).await,
                None => store.delete_found(id, version).await.map(Some),
            },
        };
        match ended {
            Ok(Some(_)) => Some(planned),
            Ok(None) | Err(DeleteError::Conflict { .. }) => None,
            Err(error) => Some(failed(planned, &error)),
        }
    }

    async fn repository(
        &self,
        store: &SessionStore,
        id: &str,
        usage: &TenantUsage,
    ) -> Result<Vec<GcLine>, GcError> {
        let folder = format!("{}{id}/", key::repositories(&store.tenant));
        let Some(surveyed) = survey::repository(store, id, usage).await? else {
            return Ok(vec![kept(
                folder,
                0,
                "a newer build wrote what is known of the repository",
            )]);
        };
        let plan = decide::repository(&surveyed.facts, self.policy, self.now);
        let mut lines = self.rewrite_known(&surveyed, &plan).await;
        lines.extend(self.lfs(store, (id, usage), surveyed.lfs).await?);
        lines.extend(self.remove(GcSubject::RepositoryObject, plan.remove).await);
        if let (Some(reason), Some(known)) = (plan.drop_known, &surveyed.facts.known) {
            let object = Found {
                key: surveyed.key,
                bytes: known.bytes,
                modified: known.written,
            };
            lines.extend(
                self.remove(GcSubject::RepositoryObject, vec![(object, reason)])
                    .await,
            );
        }
        Ok(lines)
    }

    /// Removes the lists and contents of Git LFS that no session of a repository names.
    async fn lfs(
        &self,
        store: &SessionStore,
        (id, usage): (&str, &TenantUsage),
        objects: Vec<Found>,
    ) -> Result<Vec<GcLine>, GcError> {
        if !decide::has_closed_lfs(&objects, self.policy, self.now) {
            return Ok(Vec::new());
        }
        let named = match survey::named_lfs(store, (id, usage), &objects).await {
            Ok(named) => named,
            Err(LfsSurveyError::List(ListError::Storage(error))) if error.is_transient() => {
                return Err(error.into());
            }
            Err(error) => {
                let folder = format!("{}{id}/lfs/", key::repositories(&store.tenant));
                let bytes = objects.iter().map(|object| object.bytes).sum();
                let reason = format!("it is not known which contents sessions name: {error}");
                return Ok(vec![kept(folder, bytes, &reason)]);
            }
        };
        let unnamed = decide::lfs(objects, &named, self.policy, self.now);
        Ok(self.remove(GcSubject::LfsObject, unnamed).await)
    }

    /// Swaps the document of what is known; where a job was faster, the next collection looks again.
    async fn rewrite_known(&self, surveyed: &SurveyedRepository, plan: &RepositoryPlan) -> Vec<GcLine> {
        if !plan.changes_known() {
            return Vec::new();
        }
        let lines = known_lines(surveyed, plan);
        if self.is_dry {
            return lines;
        }
        let (mut known, precondition) = match &surveyed.known {
            Some((known, version)) => (known.clone(), Precondition::IfMatch(version.clone())),
            None => (KnownRepository::new(None), Precondition::IfAbsent),
        };
        let written = surveyed.facts.known.as_ref().map_or(self.now, |it| it.written);
        apply(plan, &mut known, written.max(self.now));
        let body = match serde_json::to_vec_pretty(&known) {
            Ok(body) => body,
            Err(error) => return all_failed(lines, &error),
        };
        match self.storage.put(&surveyed.key, body.into(), precondition).await {
            Ok(_) => lines,
            Err(StorageError::PreconditionFailed { .. }) => Vec::new(),
            Err(error) => all_failed(lines, &error),
        }
    }

    async fn outcomes(
        &self,
        tenant: &TenantId,
        told: &mut (dyn FnMut(Vec<GcLine>) + Send),
    ) -> Result<(), GcError> {
        self.outcomes_below(&key::jobs(tenant), told).await?;
        // A key stands for its job as long as the job's outcome is kept.
        self.outcomes_below(&key::idempotency(tenant), told).await
    }

    async fn outcomes_below(
        &self,
        prefix: &str,
        told: &mut (dyn FnMut(Vec<GcLine>) + Send),
    ) -> Result<(), GcError> {
        let mut position = None;
        loop {
            let (page, next) = survey::objects(&**self.storage, prefix, position).await?;
            let old = page.into_iter().filter_map(|found| {
                let reason = decide::outcome(&found, self.policy, self.now)?;
                Some((found, reason))
            });
            told(self.remove(GcSubject::Outcome, old.collect()).await);
            position = next;
            if position.is_none() {
                return Ok(());
            }
        }
    }

    /// Uploads of all tenants, and of nobody that is known.
    async fn uploads(&self) -> Result<Vec<GcLine>, GcError> {
        let mut lines = Vec::new();
        for unfinished in self.storage.unfinished().await? {
            let reason = decide::upload(unfinished.alive_at.into(), self.policy, self.now);
            let Some(reason) = reason else { continue };
            let key = unfinished.key.as_ref();
            let key = key.map_or_else(|| "(of an unknown object)".to_owned(), Key::to_string);
            let planned = line(GcSubject::Upload, key, unfinished.bytes.unwrap_or(0), &reason);
            let discarded = match self.is_dry {
                true => Ok(()),
                false => self.storage.discard(&unfinished).await,
            };
            lines.push(match discarded {
                Ok(()) => planned,
                Err(error) => failed(planned, &error),
            });
        }
        Ok(lines)
    }

    async fn remove(&self, subject: GcSubject, objects: Vec<(Found, Reason)>) -> Vec<GcLine> {
        let removals = objects.into_iter().map(|(found, reason)| async move {
            let planned = line(subject, found.key.to_string(), found.bytes, &reason);
            if self.is_dry {
                return planned;
            }
            match self.storage.delete(&found.key).await {
                Ok(()) => planned,
                Err(error) => failed(planned, &error),
            }
        });
        stream::iter(removals).buffered(AT_ONCE).collect().await
    }
}

/// Carries a plan over into the document.
fn apply(plan: &RepositoryPlan, known: &mut KnownRepository, at: OffsetDateTime) {
    if plan.forget.is_some() {
        *known = known.emptied();
    }
    known
        .retired
        .retain(|retired| !plan.strike.contains(&retired.name));
    let retired = plan.retire.iter().map(|name| RetiredPack {
        name: name.clone(),
        at,
    });
    known.retired.extend(retired);
}

fn known_lines(surveyed: &SurveyedRepository, plan: &RepositoryPlan) -> Vec<GcLine> {
    let forgotten = plan
        .forget
        .iter()
        .map(|reason| line(GcSubject::KnownRepository, surveyed.key.to_string(), 0, reason));
    let stem = |key: &Key| key.as_str().rsplit_once('.').map(|(stem, _)| stem.to_owned());
    let names: BTreeSet<&str> = plan.retire.iter().map(String::as_str).collect();
    let retired = names.into_iter().filter_map(|name| {
        let objects = surveyed.facts.objects.iter();
        let own: Vec<&Found> = objects.filter(|it| it.pack_name() == Some(name)).collect();
        Some(GcLine {
            subject: GcSubject::RetiredPack,
            key: stem(&own.first()?.key)?,
            bytes: own.iter().map(|found| found.bytes).sum(),
            reason: "no session lists it, and clones are not told of it".to_owned(),
            error: None,
        })
    });
    forgotten.chain(retired).collect()
}

fn line(subject: GcSubject, key: String, bytes: u64, reason: &Reason) -> GcLine {
    GcLine {
        subject,
        key,
        bytes,
        reason: reason.to_string(),
        error: None,
    }
}

fn kept(key: String, bytes: u64, reason: &str) -> GcLine {
    GcLine {
        subject: GcSubject::Kept,
        key,
        bytes,
        reason: reason.to_owned(),
        error: None,
    }
}

fn failed(planned: GcLine, error: &dyn Error) -> GcLine {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    GcLine {
        error: Some(text),
        ..planned
    }
}

fn all_failed(lines: Vec<GcLine>, error: &dyn Error) -> Vec<GcLine> {
    lines.into_iter().map(|line| failed(line, error)).collect()
}
