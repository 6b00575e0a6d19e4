//! What this gateway tells the others of its jobs, and hears of theirs, where gateways have more in common than a storage.
//!
//! Nothing here is needed for a job to come to its end: while the others cannot be reached, jobs go on as they do at a gateway that is alone. This module
//! must not know how gateways reach one another.

mod keeper;
mod sealed;
mod shelter;
mod tail;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mayfly_coordination::{Change, Coordination, InLine, JobRef, Owner};
use mayfly_protocol::{JobId, TenantId};
use mayfly_queue::Lane;
use mayfly_session::GatewayId;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::jobs::{Job, JobView};
pub(crate) use keeper::Keeper;
pub(crate) use sealed::KeptJob;
pub use sealed::{InvalidWaitingJobsKeys, WaitingJobsKeys};
pub(crate) use shelter::Shelter;
pub(crate) use tail::Tail;

/// Jobs that have ended, and whose sessions' lines they could not leave yet; beyond them, lines find out by this gateway's end.
const MOST_UNSAID: usize = 100_000;

/// What is waited for of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Topic {
    /// Its turn.
    Turn,
    /// Its events.
    Events,
    /// Its end, wanted by a client of another gateway.
    Cancel,
}

/// This gateway among the others.
#[derive(Debug)]
pub(crate) struct Exchange {
    coordination: Arc<dyn Coordination>,
    owner: Owner,
    interval: Duration,
    keys: Option<WaitingJobsKeys>,
    wanted: Mutex<HashMap<(JobRef, Topic), watch::Sender<()>>>,
    unsaid: Mutex<HashMap<JobId, InLine>>,
}

/// Something that is waited for; dropped, it is no longer.
#[derive(Debug)]
struct Interest {
    exchange: Arc<Exchange>,
    key: (JobRef, Topic),
    changed: Option<watch::Receiver<()>>,
}

impl Interest {
    /// Waits for the next change. Nothing is lost when the future is dropped.
    async fn changed(&mut self) {
        if let Some(changed) = &mut self.changed {
            // The sender stays for as long as there is a receiver.
            let _gone = changed.changed().await;
        }
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        drop(self.changed.take());
        let mut wanted = self.exchange.wanted();
        if wanted
            .get(&self.key)
            .is_some_and(|sender| sender.receiver_count() == 0)
        {
            wanted.remove(&self.key);
        }
    }
}

impl Exchange {
    pub(crate) fn new(
        coordination: Arc<dyn Coordination>,
        gateway: &GatewayId,
        interval: Duration,
        keys: Option<WaitingJobsKeys>,
    ) -> Self {
        Self {
            keys,
            coordination,
            owner: Owner::new(&gateway.to_string()),
            interval,
            wanted: Mutex::default(),
            unsaid: Mutex::default(),
        }
    }

    /// Whether the other gateways can be told anything now.
    pub(crate) fn is_available(&self) -> bool {
        self.coordination.is_available()
    }

    /// Says that this gateway lives, and hears of the others, for as long as the future is polled.
    pub(crate) async fn run(&self) {
        tokio::join!(self.coordination.run(), self.hear(), self.beat());
    }

    async fn hear(&self) {
        let mut changes = self.coordination.changes();
        loop {
            match changes.recv().await {
                Ok(change) => self.wake(change),
                Err(RecvError::Lagged(_)) => self.wake(Change::Everything),
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    /// What fails here is said where the connection is kept, and done again at the next beat.
    async fn beat(&self) {
        loop {
            if self.coordination.beat(&self.owner).await.is_ok() {
                self.say_unsaid().await;
            }
            sleep(self.interval).await;
        }
    }

    async fn say_unsaid(&self) {
        let unsaid: Vec<InLine> = self.unsaid().values().cloned().collect();
        for place in unsaid {
            if self.coordination.leave(&self.owner, &place).await.is_err() {
                return;
            }
            self.unsaid().remove(&place.job.job);
        }
    }

    fn wake(&self, change: Change) {
        let wanted = self.wanted();
        let tell = |job, topic| {
            if let Some(sender) = wanted.get(&(job, topic)) {
                sender.send_replace(());
            }
        };
        match change {
            Change::Turn(job) => tell(job, Topic::Turn),
            Change::Events(job) => tell(job, Topic::Events),
            Change::Cancel(job) => tell(job, Topic::Cancel),
            Change::Everything => {
                let missed = wanted.iter().filter(|((_, topic), _)| *topic != Topic::Cancel);
                missed.for_each(|(_, sender)| {
                    sender.send_replace(());
                });
            }
        }
    }

    fn interest(self: &Arc<Self>, job: &JobRef, topic: Topic) -> Interest {
        let key = (job.clone(), topic);
        let changed = self.wanted().entry(key.clone()).or_default().subscribe();
        Interest {
            exchange: Arc::clone(self),
            key,
            changed: Some(changed),
        }
    }

    /// Takes an ended job out of its session's line, now or as soon as that can be said.
    async fn leave(&self, place: InLine) {
        if self.coordination.leave(&self.owner, &place).await.is_ok() {
            return;
        }
        let mut unsaid = self.unsaid();
        if unsaid.len() < MOST_UNSAID {
            unsaid.insert(place.job.job.clone(), place);
        }
    }

    /// A job as the gateway that has it tells it.
    pub(crate) async fn view(&self, tenant: &TenantId, job: &JobId) -> Option<JobView> {
        let job = JobRef {
            tenant: tenant.clone(),
            job: job.clone(),
        };
        let record = self.coordination.record(&job).await.ok()??;
        serde_json::from_slice(&record).ok()
    }

    /// The newest jobs of a tenant, as the gateways that have them tell them; none where nobody can be asked.
    pub(crate) async fn views(&self, tenant: &TenantId) -> Vec<JobView> {
        let records = self.coordination.records(tenant).await.unwrap_or_default();
        let views = records.iter().map(|record| serde_json::from_slice(record));
        views.filter_map(Result::ok).collect()
    }

    /// What is kept of a job whose gateway is gone; it is then here, and nowhere else.
    pub(crate) async fn take_over(&self, job: &Job) -> Option<KeptJob> {
        let keys = self.keys.as_ref()?;
        let sealed = self.coordination.take_shelter(&job_ref(job)).await.ok()??;
        let opened = keys.open(&job.lane.tenant, &job.id, &sealed);
        if opened.is_none() {
            tracing::warn!(job.id = %job.id, "what was kept of a job cannot be opened; gateways of one fleet have one WAITING_JOBS_KEY");
        }
        opened
    }

    /// Keeps nothing of a job that is over. What cannot be taken away goes after its time.
    async fn forget(&self, job: &JobRef) {
        if self.keys.is_some() {
            let _gone = self.coordination.take_shelter(job).await;
        }
    }

    /// Whether a job of the session runs or waits at any gateway, as far as that is known.
    pub(crate) async fn is_busy(&self, lane: &Lane) -> bool {
        let asked = self.coordination.is_busy(&lane.tenant, &lane.session).await;
        asked.unwrap_or(false)
    }

    fn wanted(&self) -> MutexGuard<'_, HashMap<(JobRef, Topic), watch::Sender<()>>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unsaid(&self) -> MutexGuard<'_, HashMap<JobId, InLine>> {
        self.unsaid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn job_ref(job: &Job) -> JobRef {
    JobRef {
        tenant: job.lane.tenant.clone(),
        job: job.id.clone(),
    }
}
