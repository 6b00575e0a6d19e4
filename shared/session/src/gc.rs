//! Collection of garbage: sessions that are not used any more, packs that nothing lists, outcomes and uploads of long ago.
//!
//! It runs beside jobs, beside other collections, and may be killed anywhere. What makes that safe: only that is removed which can never be needed
//! again, so that it does not matter how late a removal is carried out, how often, and by how many. The argument stands in the decision record
//! "Removal without locks"; `decide` holds the rules, as functions of what was found. Ages are measured by the clock of the storage alone.
//!
//! This module must not know HTTP, workers or git hosts.

mod act;
mod decide;
mod report;
mod survey;

use std::sync::Arc;
use std::time::Duration;

use mayfly_storage::{InvalidKey, Key, ObjectStore, Precondition, StorageError};
use time::OffsetDateTime;

pub use report::{GcLine, GcSubject, GcSummary};

use act::Collection;

/// What the clocks of workers and of the storage may be apart, and what a request may be late.
const SLACK: Duration = Duration::from_secs(10 * 60);
/// A deletion of a session that is so old is taken for broken off, and taken up.
const ABANDONED_AFTER: Duration = Duration::from_secs(10 * 60);
/// Where the last collection is noted, and the storage asked for its time.
const LAST_RUN: &str = "gc/last-run.json";

/// What may be removed, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcPolicy {
    /// How long after its last use a session is deleted; `None`: never.
    pub session_ttl: Option<Duration>,
    /// How long what nothing lists is kept: longer than any job that could still list it.
    pub grace: Duration,
    /// How long outcomes of jobs are kept; `None`: for ever.
    pub outcome_retention: Option<Duration>,
    /// The longest time that a job may take, its end after SIGTERM counted.
    pub longest_job: Duration,
}

impl Default for GcPolicy {
    fn default() -> Self {
        const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
        Self {
            session_ttl: Some(WEEK),
            grace: Duration::from_secs(6 * 3600),
            outcome_retention: Some(WEEK),
            longest_job: Duration::from_secs(1800 + 30),
        }
    }
}

/// A policy that would remove what a running job needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting} is {}, and must be {} at least: {reason}", humantime::format_duration(*is), humantime::format_duration(*least))]
pub struct InvalidPolicy {
    setting: &'static str,
    is: Duration,
    least: Duration,
    reason: &'static str,
}

impl GcPolicy {
    /// Refuses what would not be safe.
    pub fn check(&self) -> Result<(), InvalidPolicy> {
        let least = self.longest_job.saturating_add(SLACK);
        require(
            "GC_GRACE",
            Some(self.grace),
            least,
            "the longest job and ten minutes for clocks that differ",
        )?;
        let reason = "the grace for what nothing lists";
        require("SESSION_TTL", self.session_ttl, self.grace, reason)?;
        require("OUTCOME_RETENTION", self.outcome_retention, self.grace, reason)
    }
}

fn require(
    setting: &'static str,
    is: Option<Duration>,
    least: Duration,
    reason: &'static str,
) -> Result<(), InvalidPolicy> {
    match is {
        Some(is) if is < least => Err(InvalidPolicy {
            setting,
            is,
            least,
            reason,
        }),
        _ => Ok(()),
    }
}

/// A collection that did not come to its end. What it removed is gone, and the next one goes on.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// The settings would not be safe.
    #[error("nothing is collected with these settings")]
    Policy(#[from] InvalidPolicy),
    /// The storage could not be looked through.
    #[error(
        "the storage could not be looked through; what was removed until then is gone, and the next collection goes on"
    )]
    Storage(#[from] StorageError),
    /// A name makes no storage key.
    #[error("a place in the storage has no name")]
    Key(#[from] InvalidKey),
    /// The note of the collection is not in the listing that follows it.
    #[error(
        "the storage does not list `{LAST_RUN}`, which was just written; a storage whose listings lag is not collected"
    )]
    StaleListing,
}

/// Removes what is needed no more from one storage, of all its tenants.
#[derive(Debug, Clone)]
pub struct Gc {
    storage: Arc<dyn ObjectStore>,
    policy: GcPolicy,
}

impl Gc {
    /// A collection by this policy, which is checked.
    pub fn new(storage: Arc<dyn ObjectStore>, policy: GcPolicy) -> Result<Self, InvalidPolicy> {
        policy.check()?;
        Ok(Self { storage, policy })
    }

    /// Removes what is needed no more, and tells of each thing.
    pub async fn run(&self, tell: &mut (dyn FnMut(&GcLine) + Send)) -> Result<GcSummary, GcError> {
        let now = self.note_run().await?;
        self.collection(now, false).all(tell).await
    }

    /// Tells what [`Self::run`] would remove, and writes nothing. Ages are measured by this machine's clock.
    pub async fn dry_run(&self, tell: &mut (dyn FnMut(&GcLine) + Send)) -> Result<GcSummary, GcError> {
        self.collection(OffsetDateTime::now_utc(), true).all(tell).await
    }

    /// [`Self::run`], unless a collection began within `interval` before: so that of several gateways one does the work. Two that begin at
    /// the same moment do no harm.
    pub async fn run_unless_recent(
        &self,
        interval: Duration,
        tell: &mut (dyn FnMut(&GcLine) + Send),
    ) -> Result<Option<GcSummary>, GcError> {
        let last = self.last_run().await?;
        if last.is_some_and(|last| OffsetDateTime::now_utc() < last + interval) {
            return Ok(None);
        }
        self.run(tell).await.map(Some)
    }

    fn collection(&self, now: OffsetDateTime, is_dry: bool) -> Collection<'_> {
        Collection::new(&self.storage, &self.policy, now, is_dry)
    }

    /// Notes that a collection begins, and gives the storage's time of that.
    async fn note_run(&self) -> Result<OffsetDateTime, GcError> {
        let key: Key = LAST_RUN.parse()?;
        let body = b"{\"formatVersion\":1}".to_vec();
        self.storage.put(&key, body.into(), Precondition::None).await?;
        self.last_run().await?.ok_or(GcError::StaleListing)
    }

    async fn last_run(&self) -> Result<Option<OffsetDateTime>, GcError> {
        let found = self.storage.list(LAST_RUN).await?;
        Ok(found.first().map(|object| object.modified.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_would_take_from_running_jobs_are_refused() {
        let good = GcPolicy::default();
        assert_eq!(good.check(), Ok(()));
        let text = |policy: GcPolicy| policy.check().unwrap_err().to_string();
        let short = Duration::from_secs(60);
        insta::assert_snapshot!(text(GcPolicy { grace: short, ..good.clone() }), @"GC_GRACE is 1m, and must be 40m 30s at least: the longest job and ten minutes for clocks that differ");
        insta::assert_snapshot!(text(GcPolicy { session_ttl: Some(short), ..good.clone() }), @"SESSION_TTL is 1m, and must be 6h at least: the grace for what nothing lists");
        insta::assert_snapshot!(text(GcPolicy { outcome_retention: Some(short), ..good.clone() }), @"OUTCOME_RETENTION is 1m, and must be 6h at least: the grace for what nothing lists");
        let never = GcPolicy {
            session_ttl: None,
            outcome_retention: None,
            ..good
        };
        assert_eq!(never.check(), Ok(()));
    }
}
