//! The gateways that share a storage: each says that it lives, and takes over the jobs of one that does not any more.
//!
//! No clock is compared: a gateway is gone when its sign of life stays the same for the lease, as seen from here, or when it has none, as one that ended in order.
//! Who takes over is settled by compare-and-swap on the sign. This module must not know what becomes of a job.

mod kept_sessions;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::ready;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use mayfly_session::{GatewayId, OpenJob, OpenJobError, OpenJobs, SignOfLife};
use mayfly_storage::Version;
use tokio::time::{Instant, sleep, timeout};

use crate::open_record::OwnJobs;
use crate::peers::kept_sessions::KeptSessions;
use crate::state::Gateway;
use crate::watch;

/// Jobs that are taken over at the same moment.
const AT_ONCE: usize = 16;

/// The gateways that share the storage with this one.
pub(crate) struct Peers {
    gateway: Arc<Gateway>,
    archive: OpenJobs,
    me: GatewayId,
    beat: u64,
    version: Option<Version>,
    seen: HashMap<GatewayId, Seen>,
    kept: KeptSessions,
}

/// The sign of another gateway, and since when it has been the same.
#[derive(Debug, Clone)]
struct Seen {
    sign: Option<SignOfLife>,
    since: Instant,
}

/// What is to be done about another gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It lives, or somebody else takes over from it.
    Leave,
    /// It is gone: its jobs are anybody's.
    Claim,
    /// It is gone, and this gateway is its heir.
    GoOn,
}

/// Judges a gateway by its sign. `is_gone` tells of other gateways what this function told of them.
fn judge(seen: &Seen, me: &GatewayId, lease: Duration, is_gone: impl Fn(&GatewayId) -> bool) -> Verdict {
    let Some(sign) = &seen.sign else {
        return Verdict::Claim;
    };
    match &sign.heir {
        Some(heir) if heir == me => Verdict::GoOn,
        Some(heir) if is_gone(heir) => Verdict::Claim,
        Some(_) => Verdict::Leave,
        None if seen.since.elapsed() >= lease => Verdict::Claim,
        None => Verdict::Leave,
    }
}

impl Peers {
    /// Those of this gateway, where it has a storage.
    pub(crate) fn of(gateway: &Arc<Gateway>) -> Option<Self> {
        let OwnJobs {
            archive, gateway: me, ..
        } = gateway.own_jobs.clone()?;
        Some(Self {
            gateway: Arc::clone(gateway),
            archive,
            me,
            beat: 0,
            version: None,
            seen: HashMap::new(),
            kept: KeptSessions::default(),
        })
    }

    /// Says for the first time that this gateway lives, and learns which sessions are busy: before it takes a job.
    pub(crate) async fn enter(&mut self) {
        self.say().await;
        let looking = KeptSessions::look(&self.archive, &self.me, &self.gateway.dispatcher);
        match timeout(self.gateway.config.gateway_lease, looking).await {
            Ok(Ok(kept)) => self.kept = kept,
            Ok(Err(error)) => warn(&error, "which sessions other gateways have jobs in is not known"),
            Err(_) => tracing::warn!("which sessions other gateways have jobs in is not known in time"),
        }
    }

    /// Says that this gateway lives, and looks after the others, for as long as the future is polled.
    pub(crate) async fn run(&mut self) {
        loop {
            if let Err(error) = self.look().await {
                warn(&error, "the other gateways could not be looked at");
            }
            sleep(self.gateway.config.beat_interval).await;
            self.say().await;
        }
    }

    /// Says that this gateway has ended: whoever looks takes over at once what it has left.
    pub(crate) async fn depart(&self) {
        let patience = self.gateway.config.outcome_timeout;
        match timeout(patience, self.archive.remove_sign(&self.me)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn(
                &error,
                "the end of this gateway is not said; others find out by its lease",
            ),
            Err(_) => {
                tracing::warn!("the end of this gateway is not said in time; others find out by its lease");
            }
        }
    }

    async fn say(&mut self) {
        let patience = self.gateway.config.gateway_lease;
        match timeout(patience, self.beat()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn(&error, "that this gateway lives could not be said"),
            Err(_) => tracing::warn!("that this gateway lives could not be said in time"),
        }
    }

    async fn beat(&mut self) -> Result<(), OpenJobError> {
        self.beat += 1;
        let sign = SignOfLife::of_beat(self.beat);
        let over = self.version.take();
        self.version = self.archive.write_sign(&self.me, &sign, over).await?;
        if self.version.is_none() {
            // A write whose answer was lost, or an heir: what it took over it keeps, and what comes from now on is ours.
            let found = self.archive.sign(&self.me).await?;
            if found.as_ref().is_some_and(|(sign, _)| sign.heir.is_some()) {
                tracing::error!("another gateway thought this one gone, and has taken over its jobs");
            }
            let over = found.map(|(_, version)| version);
            self.version = self.archive.write_sign(&self.me, &sign, over).await?;
        }
        Ok(())
    }

    async fn look(&mut self) -> Result<(), OpenJobError> {
        let mut signs = HashMap::new();
        for other in self.archive.gateways().await? {
            if other == self.me {
                continue;
            }
            let found = match self.archive.sign(&other).await {
                Ok(found) => found,
                // Nobody can say any more that it lives.
                Err(OpenJobError::Damaged { key }) => {
                    tracing::warn!(%key, "a gateway's sign of life is damaged, and is removed");
                    self.archive.discard(&key).await?;
                    None
                }
                Err(error) => return Err(error),
            };
            signs.insert(other, found);
        }
        self.remember(&signs);
        self.kept.update(&signs);
        if self.gateway.draining.is_cancelled() {
            return Ok(());
        }
        for (other, found) in signs {
            let is_gone = |gateway: &GatewayId| self.is_gone(gateway);
            let lease = self.gateway.config.gateway_lease;
            match judge(&self.seen[&other], &self.me, lease, is_gone) {
                Verdict::Leave => {}
                Verdict::GoOn => {
                    self.take_over(&other).await?;
                    self.kept.release(&other);
                }
                Verdict::Claim => {
                    let (sign, over) = found.map_or((SignOfLife::of_beat(0), None), |(sign, version)| {
                        (sign, Some(version))
                    });
                    let sign = sign.inherited_by(self.me.clone());
                    if self.archive.write_sign(&other, &sign, over).await?.is_some() {
                        tracing::info!(gateway.id = %other, "takes over from a gateway that is gone");
                        self.take_over(&other).await?;
                        self.kept.release(&other);
                    }
                }
            }
        }
        Ok(())
    }

    fn remember(&mut self, signs: &HashMap<GatewayId, Option<(SignOfLife, Version)>>) {
        let now = Instant::now();
        let mut seen = HashMap::new();
        for (other, found) in signs {
            let sign = found.as_ref().map(|(sign, _)| sign.clone());
            let since = match self.seen.get(other) {
                Some(before) if before.sign == sign => before.since,
                _ => now,
            };
            seen.insert(other.clone(), Seen { sign, since });
        }
        self.seen = seen;
    }

    /// One that is not listed has left nothing, and is gone.
    fn is_gone(&self, gateway: &GatewayId) -> bool {
        let lease = self.gateway.config.gateway_lease;
        match self.seen.get(gateway) {
            Some(Seen {
                sign: Some(sign),
                since,
            }) => sign.heir.is_some() || since.elapsed() >= lease,
            Some(Seen { sign: None, .. }) | None => *gateway != self.me,
        }
    }

    /// Moves the jobs of a gateway that is gone to this one's, and carries them on.
    async fn take_over(&self, other: &GatewayId) -> Result<(), OpenJobError> {
        let found = self.archive.of(other).await?;
        let moving = stream::iter(found).map(async |found| match found {
            Ok(job) => self.inherit(other, job).await,
            Err(key) => {
                tracing::warn!(%key, "what is known of a job that is not over is damaged, and is removed");
                self.archive.discard(&key).await
            }
        });
        moving
            .buffer_unordered(AT_ONCE)
            .try_for_each(|()| ready(Ok(())))
            .await?;
        self.take_over_webhooks(other).await?;
        self.archive.remove_sign(other).await
    }

    /// Moves what a gateway that is gone owes to receivers to this one, and sees to it.
    async fn take_over_webhooks(&self, other: &GatewayId) -> Result<(), OpenJobError> {
        for found in self.archive.webhooks_of(other).await? {
            match found {
                Ok(owed) => {
                    self.archive.write_webhook(&self.me, &owed).await?;
                    self.archive
                        .remove_webhook(other, &owed.tenant, &owed.job_id)
                        .await?;
                    self.gateway.webhooks.inherit(&self.gateway, owed);
                }
                Err(key) => {
                    tracing::warn!(%key, "what is known of a webhook that is owed is damaged, and is removed");
                    self.archive.discard(&key).await?;
                }
            }
        }
        Ok(())
    }

    async fn inherit(&self, other: &GatewayId, job: OpenJob) -> Result<(), OpenJobError> {
        // It may be there already, from a time before that was cut short.
        self.archive.write(&self.me, &job, None).await?;
        self.archive.remove(other, &job.tenant, &job.job_id).await?;
        watch::inherit(&self.gateway, job);
        Ok(())
    }
}

fn warn(error: &OpenJobError, what: &str) {
    let error = error as &(dyn std::error::Error + 'static);
    tracing::warn!(error, "{what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn who_is_gone_and_whose_its_jobs_are() {
        let (me, heir) = (GatewayId::new_now(), GatewayId::new_now());
        let now = Instant::now();
        tokio::time::advance(LEASE).await;
        let later = Instant::now();
        let alive = Some(SignOfLife::of_beat(1));
        let inherited = |by: &GatewayId| Some(SignOfLife::of_beat(1).inherited_by(by.clone()));
        for (sign, since, heir_is_gone, expected) in [
            (None, later, false, Verdict::Claim),
            (alive.clone(), later, false, Verdict::Leave),
            (alive, now, false, Verdict::Claim),
            (inherited(&me), now, false, Verdict::GoOn),
            (inherited(&heir), now, false, Verdict::Leave),
            (inherited(&heir), now, true, Verdict::Claim),
        ] {
            let seen = Seen { sign, since };
            let verdict = judge(&seen, &me, LEASE, |_| heir_is_gone);
            assert_eq!(verdict, expected, "{seen:?}, {heir_is_gone}");
        }
    }
}
