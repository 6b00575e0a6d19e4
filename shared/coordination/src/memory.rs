//! Gateways of one process: the port in its plainest form, which the suite holds Redis against.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use mayfly_protocol::{SessionId, TenantId};
use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::port::{
    Change, Coordination, InLine, JobRef, Lifetimes, Lined, News, Numbered, Owner, RECORDS_KEPT, Unavailable,
};

/// Changes that a gateway may lag behind.
const CHANGES: usize = 1024;

/// What the gateways share.
#[derive(Debug)]
pub struct MemoryBoard {
    told: Mutex<Told>,
    changes: broadcast::Sender<Change>,
    lifetimes: Lifetimes,
}

#[derive(Debug, Default)]
struct Told {
    clock: u64,
    signs: HashMap<Owner, Instant>,
    lines: HashMap<(TenantId, SessionId), BTreeMap<(u64, JobRef), Owner>>,
    jobs: HashMap<TenantId, BTreeMap<(i64, JobRef), Job>>,
    sheltered: HashMap<JobRef, (Bytes, Instant)>,
}

#[derive(Debug, Default)]
struct Job {
    record: Bytes,
    events: BTreeMap<u64, Bytes>,
}

impl MemoryBoard {
    /// A board on which nothing stands. What is told of jobs stays as long as there is room.
    pub fn new(lifetimes: Lifetimes) -> Arc<Self> {
        Arc::new(Self {
            told: Mutex::default(),
            changes: broadcast::Sender::new(CHANGES),
            lifetimes,
        })
    }
}

/// A gateway's end of a [`MemoryBoard`].
#[derive(Debug, Clone)]
pub struct MemoryCoordination(Arc<MemoryBoard>);

impl MemoryCoordination {
    /// Another end of the board.
    pub fn of(board: &Arc<MemoryBoard>) -> Self {
        Self(Arc::clone(board))
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, change: Change) {
        // Nobody has to listen.
        let _listeners = self.0.changes.send(change);
    }
}

impl Told {
    fn job(&self, job: &JobRef) -> Option<&Job> {
        let mut of_tenant = self.jobs.get(&job.tenant)?.iter();
        of_tenant.find(|((_, it), _)| it == job).map(|(_, found)| found)
    }
}

#[async_trait]
impl Coordination for MemoryCoordination {
    async fn beat(&self, owner: &Owner) -> Result<(), Unavailable> {
        self.told().signs.insert(owner.clone(), Instant::now());
        Ok(())
    }

    async fn line_up(&self, owner: &Owner, place: &InLine) -> Result<Lined, Unavailable> {
        self.beat(owner).await?;
        let mut told = self.told();
        let Told {
            clock, signs, lines, ..
        } = &mut *told;
        *clock += 1;
        let now = *clock;
        let line = lines.entry(line_of(place)).or_default();
        let lives = |owner: &Owner| {
            signs
                .get(owner)
                .is_some_and(|at| at.elapsed() < self.0.lifetimes.owner)
        };
        line.retain(|(_, job), has_it| *job == place.job || lives(has_it));
        let there = line.keys().find(|(_, job)| *job == place.job).map(|(at, _)| *at);
        let since = there.or(place.since).unwrap_or(now);
        line.insert((since, place.job.clone()), owner.clone());
        let is_first = line.keys().next().is_some_and(|(_, first)| *first == place.job);
        Ok(Lined {
            since,
            is_first,
            is_new: there.is_none(),
        })
    }

    async fn leave(&self, owner: &Owner, place: &InLine) -> Result<(), Unavailable> {
        let mut told = self.told();
        let Some(line) = told.lines.get_mut(&line_of(place)) else {
            return Ok(());
        };
        let before = line.len();
        line.retain(|(_, job), has_it| *job != place.job || has_it != owner);
        let next = line.keys().next().map(|(_, job)| job.clone());
        let has_left = line.len() < before;
        if line.is_empty() {
            told.lines.remove(&line_of(place));
        }
        if let Some(next) = next.filter(|_| has_left) {
            self.say(Change::Turn(next));
        }
        Ok(())
    }

    async fn is_busy(&self, tenant: &TenantId, session: &SessionId) -> Result<bool, Unavailable> {
        let line = (tenant.clone(), session.clone());
        Ok(self.told().lines.contains_key(&line))
    }

    async fn publish(&self, job: &JobRef, news: &News<'_>) -> Result<u64, Unavailable> {
        let mut told = self.told();
        let of_tenant = told.jobs.entry(job.tenant.clone()).or_default();
        let found = of_tenant.entry((news.accepted_ms, job.clone())).or_default();
        let last = |found: &Job| found.events.keys().next_back().copied().unwrap_or(0);
        found.record = Bytes::copy_from_slice(news.record);
        let before = last(found);
        if before >= news.after {
            let later = news.events.iter().filter(|(id, _)| *id > before);
            found.events.extend(later.cloned());
        }
        let now = last(found);
        while of_tenant.len() > RECORDS_KEPT {
            of_tenant.pop_first();
        }
        self.say(Change::Events(job.clone()));
        Ok(now)
    }

    async fn events(&self, job: &JobRef, after: u64) -> Result<Vec<Numbered>, Unavailable> {
        let told = self.told();
        let events = told.job(job).map(|found| found.events.range(after + 1..));
        let events = events.into_iter().flatten();
        Ok(events.map(|(id, event)| (*id, event.clone())).collect())
    }

    async fn record(&self, job: &JobRef) -> Result<Option<Bytes>, Unavailable> {
        Ok(self.told().job(job).map(|found| found.record.clone()))
    }

    async fn records(&self, tenant: &TenantId) -> Result<Vec<Bytes>, Unavailable> {
        let told = self.told();
        let of_tenant = told
            .jobs
            .get(tenant)
            .into_iter()
            .flat_map(|jobs| jobs.values().rev());
        Ok(of_tenant.map(|found| found.record.clone()).collect())
    }

    async fn shelter(&self, job: &JobRef, what: &[u8], keep_for: Duration) -> Result<(), Unavailable> {
        let kept = (Bytes::copy_from_slice(what), Instant::now() + keep_for);
        self.told().sheltered.insert(job.clone(), kept);
        Ok(())
    }

    async fn take_shelter(&self, job: &JobRef) -> Result<Option<Bytes>, Unavailable> {
        let kept = self.told().sheltered.remove(job);
        Ok(kept
            .filter(|(_, until)| *until > Instant::now())
            .map(|(what, _)| what))
    }

    async fn ask_to_cancel(&self, job: &JobRef) -> Result<(), Unavailable> {
        self.say(Change::Cancel(job.clone()));
        Ok(())
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.0.changes.subscribe()
    }

    fn is_available(&self) -> bool {
        true
    }

    async fn run(&self) {
        std::future::pending::<()>().await;
    }
}

fn line_of(place: &InLine) -> (TenantId, SessionId) {
    (place.job.tenant.clone(), place.session.clone())
}
