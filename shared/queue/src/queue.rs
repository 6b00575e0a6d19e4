//! The jobs that wait, and those that run: who is let in, who is next, and where one stands.
//!
//! All but positions takes logarithmic time. [`Queue::next`] is the only place that chooses.

mod admit;
mod hold;
mod place;
mod resume;
mod waiting;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use mayfly_protocol::{SessionId, TenantId};

use crate::departures::{ComeBack, Departures};
use crate::kind::{PerKind, WorkerKind};
use crate::tenant::{Served, Standing, Tenant};

pub use place::{Position, WaitReason};
pub use waiting::TenantWaiting;

/// One choice in this many may go to the tenant that was served longest ago, and that has waited for too long.
const AGED_EVERY: u32 = 4;
/// What a tenant owes beyond the others is at most the price of this many jobs of mean length: a job of many hours does not shut it out.
const MOST_OWED_JOBS: u32 = 16;
/// How long a job is thought to take before any has ended.
const FIRST_GUESS: Duration = Duration::from_secs(1);
/// A job that ended moves the mean by this part of the difference.
const MEAN_PART: f64 = 1.0 / 16.0;

/// The place of a job in the order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// The session whose jobs run one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lane {
    /// Whose session it is.
    pub tenant: TenantId,
    /// The session.
    pub session: SessionId,
}

/// The bounds of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSettings {
    /// Jobs that may wait for each kind of worker; a tenant that has less than its share of them is let in up to twice as many.
    pub capacity: usize,
    /// A tenant with a job to run that was not served for so long goes before those that have paid less, in one choice of four.
    pub aging: Duration,
    /// What a client is told that comes to a full queue.
    pub come_back: ComeBack,
}

/// What is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullOf {
    /// As many jobs wait for this kind of worker as may.
    Queue,
    /// As many jobs of this tenant wait as may.
    Tenant,
}

/// A job is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} jobs are waiting, which is as many as may")]
pub struct QueueFull {
    /// What is full.
    pub of: FullOf,
    /// The jobs that wait there.
    pub waiting: usize,
    /// When there will be room, by how fast jobs leave.
    pub come_back: Duration,
}

#[derive(Debug)]
struct Entry {
    kind: WorkerKind,
    lane: Lane,
    admitted_at: Duration,
    /// It waits for jobs that this queue does not have.
    is_held: bool,
    run: Option<Run>,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    started_at: Duration,
    /// What was paid for it at its start, in virtual time.
    paid: u64,
    /// By how much its tenant's account rose, which may have been behind.
    raised: u64,
    number: u64,
    /// When its tenant was served before.
    served_before: Served,
    fair_choices_before: u32,
}

#[derive(Debug, Default)]
struct LaneState {
    running: Option<Ticket>,
    waiting: BTreeSet<Ticket>,
    held: BTreeSet<Ticket>,
}

impl LaneState {
    fn is_empty(&self) -> bool {
        self.running.is_none() && self.waiting.is_empty() && self.held.is_empty()
    }
}

#[derive(Debug)]
struct KindState {
    waiting: usize,
    /// The weights of the tenants that have jobs waiting.
    weight: u64,
    /// What the tenant had paid that was chosen last: newcomers begin there.
    virtual_time: u64,
    /// Of each tenant that may run a job, the first.
    ready: BTreeSet<Standing>,
    /// The same, by when the tenant was served.
    unserved: BTreeSet<(u64, Ticket)>,
    fair_choices: u32,
    mean: Duration,
    departures: Departures,
}

/// The jobs that wait, and those that run.
#[derive(Debug)]
pub struct Queue {
    settings: QueueSettings,
    last: u64,
    choices: u64,
    entries: HashMap<Ticket, Entry>,
    lanes: HashMap<Lane, LaneState>,
    tenants: HashMap<TenantId, Tenant>,
    kinds: PerKind<KindState>,
}

impl Queue {
    /// An empty queue.
    pub fn new(settings: QueueSettings) -> Self {
        Self {
            settings,
            last: 0,
            choices: 0,
            entries: HashMap::new(),
            lanes: HashMap::new(),
            tenants: HashMap::new(),
            kinds: PerKind::new(|_| KindState {
                waiting: 0,
                weight: 0,
                virtual_time: 0,
                ready: BTreeSet::new(),
                unserved: BTreeSet::new(),
                fair_choices: 0,
                mean: FIRST_GUESS,
                departures: Departures::default(),
            }),
        }
    }

    /// Takes the job that is next among those for which a worker is free; it runs from now on.
    pub fn next(
        &mut self,
        is_free: impl Fn(WorkerKind) -> bool,
        now: Duration,
    ) -> Option<(Ticket, WorkerKind)> {
        let free = WorkerKind::ALL.iter().filter(|kind| is_free(**kind));
        let firsts = free.filter_map(|kind| Some((self.choose(*kind, now)?, *kind)));
        let (ticket, kind) = firsts.min()?;
        self.start(ticket, now);
        Some((ticket, kind))
    }

    /// Puts a running job that is to be begun again back where it stood; nothing was paid for it.
    pub fn put_back(&mut self, ticket: Ticket, now: Duration) {
        let Some(entry) = self.entries.get_mut(&ticket) else {
            return;
        };
        let Some(run) = entry.run.take() else { return };
        let (kind, lane) = (entry.kind, entry.lane.clone());
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.running = None;
        }
        let mut account = 0;
        if let Some(tenant) = self.tenants.get_mut(&lane.tenant) {
            tenant.running -= 1;
            let share = &mut tenant.shares[kind];
            account = share.paid.saturating_sub(run.raised);
            share.departures.take_back(now);
            if share.served.number == run.number {
                share.served = run.served_before;
            }
        }
        let state = &mut self.kinds[kind];
        state.departures.take_back(now);
        if run.number == self.choices {
            state.fair_choices = run.fair_choices_before;
        }
        self.wait(ticket);
        // Only now, since who is listed anew would be raised to where newcomers begin.
        if let Some(tenant) = self.tenants.get_mut(&lane.tenant) {
            tenant.shares[kind].paid = account;
        }
        self.list(kind, &lane.tenant);
    }

    /// Forgets a job, whether it waited or ran; the next one of its session may run.
    pub fn leave(&mut self, ticket: Ticket, now: Duration) {
        let Some(Entry { kind, lane, run, .. }) = self.entries.remove(&ticket) else {
            return;
        };
        match run {
            Some(run) => self.settle(kind, &lane.tenant, run, now),
            None => {
                self.stop_waiting(ticket, kind, &lane);
                self.count_departure(kind, &lane.tenant, now);
            }
        }
        if let Some(state) = self.lanes.get_mut(&lane) {
            if state.running == Some(ticket) {
                state.running = None;
            }
            if state.is_empty() {
                self.lanes.remove(&lane);
            }
        }
        self.offer_first(&lane);
        if self.entries.is_empty() {
            self.tenants.clear();
        }
    }

    /// The number of jobs that wait for this kind of worker.
    pub fn waiting(&self, kind: WorkerKind) -> usize {
        self.kinds[kind].waiting
    }

    /// Whether a job of the session runs or waits.
    pub fn is_busy(&self, lane: &Lane) -> bool {
        self.lanes.contains_key(lane)
    }

    /// Whether a job waits for nothing but a worker of this kind.
    pub fn wants_worker(&self, kind: WorkerKind) -> bool {
        !self.kinds[kind].ready.is_empty()
    }

    fn choose(&self, kind: WorkerKind, now: Duration) -> Option<Ticket> {
        let state = &self.kinds[kind];
        let fair = state.ready.first()?.head;
        let (_, longest) = *state.unserved.first()?;
        let is_aged =
            state.fair_choices + 1 >= AGED_EVERY && self.unserved_for(longest, now) > self.settings.aging;
        Some(if is_aged { longest } else { fair })
    }

    /// For how long a job's tenant could have been served, and was not.
    fn unserved_for(&self, head: Ticket, now: Duration) -> Duration {
        let entry = &self.entries[&head];
        let served = self.tenants[&entry.lane.tenant].shares[entry.kind].served;
        now.saturating_sub(entry.admitted_at.max(served.at))
    }

    fn start(&mut self, ticket: Ticket, now: Duration) {
        let Some(entry) = self.entries.get_mut(&ticket) else {
            return;
        };
        let (kind, lane) = (entry.kind, entry.lane.clone());
        self.choices += 1;
        let number = self.choices;
        let state = &mut self.kinds[kind];
        if let Some(tenant) = self.tenants.get_mut(&lane.tenant) {
            let share = &mut tenant.shares[kind];
            let fair_choices_before = state.fair_choices;
            let is_fair = state.ready.first().is_some_and(|first| first.head == ticket);
            state.fair_choices = if is_fair {
                state.fair_choices.saturating_add(1)
            } else {
                0
            };
            if is_fair {
                state.virtual_time = state.virtual_time.max(share.paid);
            }
            let paid = tenant.terms.weight.price(state.mean);
            // Who was put back behind the others' accounts has that place for one job, and not for a burst.
            let account = share.paid.max(state.virtual_time).saturating_add(paid);
            entry.run = Some(Run {
                started_at: now,
                paid,
                raised: account - share.paid,
                number,
                served_before: share.served,
                fair_choices_before,
            });
            share.paid = account;
            share.served = Served { number, at: now };
            tenant.running += 1;
        }
        self.stop_waiting(ticket, kind, &lane);
        if let Some(state) = self.lanes.get_mut(&lane) {
            state.running = Some(ticket);
        }
        self.count_departure(kind, &lane.tenant, now);
    }

    /// Puts the true price of a job that ended in the place of the guess.
    fn settle(&mut self, kind: WorkerKind, tenant: &TenantId, run: Run, now: Duration) {
        let took = now.saturating_sub(run.started_at);
        let state = &mut self.kinds[kind];
        if let Some(tenant) = self.tenants.get_mut(tenant) {
            tenant.running -= 1;
            let (weight, share) = (tenant.terms.weight, &mut tenant.shares[kind]);
            let price = weight.price(took);
            // Paid back is no more than brings the tenant to where a newcomer begins; owed no more than its bound.
            let least = share.paid.min(state.virtual_time);
            let most = state.virtual_time + weight.price(state.mean.saturating_mul(MOST_OWED_JOBS));
            share.paid = match price >= run.paid {
                true => (share.paid + (price - run.paid)).min(most.max(share.paid)),
                false => share.paid.saturating_sub(run.paid - price).max(least),
            };
        }
        let mean = state.mean.as_secs_f64();
        state.mean = Duration::from_secs_f64(mean + (took.as_secs_f64() - mean) * MEAN_PART);
        // The limit on running jobs is over all kinds.
        for kind in WorkerKind::ALL {
            self.list(*kind, tenant);
        }
    }

    fn wait(&mut self, ticket: Ticket) {
        let Entry {
            kind, lane, is_held, ..
        } = &self.entries[&ticket];
        let (kind, lane, is_held) = (*kind, lane.clone(), *is_held);
        self.kinds[kind].waiting += 1;
        if let Some(tenant) = self.tenants.get_mut(&lane.tenant) {
            tenant.shares[kind].waiting.insert(ticket);
        }
        let state = self.lanes.entry(lane.clone()).or_default();
        match is_held {
            true => state.held.insert(ticket),
            false => state.waiting.insert(ticket),
        };
        self.offer_first(&lane);
        for kind in WorkerKind::ALL {
            self.list(*kind, &lane.tenant);
        }
    }

    fn stop_waiting(&mut self, ticket: Ticket, kind: WorkerKind, lane: &Lane) {
        self.kinds[kind].waiting -= 1;
        if let Some(tenant) = self.tenants.get_mut(&lane.tenant) {
            tenant.shares[kind].waiting.remove(&ticket);
            tenant.shares[kind].runnable.remove(&ticket);
        }
        if let Some(state) = self.lanes.get_mut(lane) {
            state.waiting.remove(&ticket);
            state.held.remove(&ticket);
        }
        for kind in WorkerKind::ALL {
            self.list(*kind, &lane.tenant);
        }
    }

    fn count_departure(&mut self, kind: WorkerKind, tenant: &TenantId, now: Duration) {
        self.kinds[kind].departures.add(now);
        if let Some(tenant) = self.tenants.get_mut(tenant) {
            tenant.shares[kind].departures.add(now);
        }
    }

    /// Marks the first job of an idle lane as runnable. Arrivals come behind it, and what is put back came before: so none has to be unmarked
    /// but the one that a put-back job overtakes, and that one cannot be marked while its lane ran.
    fn offer_first(&mut self, lane: &Lane) {
        let Some(state) = self.lanes.get(lane) else { return };
        if state.running.is_some() {
            return;
        }
        let Some(first) = state.waiting.first().copied() else {
            return;
        };
        let kind = self.entries[&first].kind;
        if let Some(tenant) = self.tenants.get_mut(&lane.tenant)
            && tenant.shares[kind].runnable.insert(first)
        {
            self.list(kind, &lane.tenant);
        }
    }

    /// Lists a tenant anew among those that have a job to run.
    fn list(&mut self, kind: WorkerKind, tenant: &TenantId) {
        let (state, Some(tenant)) = (&mut self.kinds[kind], self.tenants.get_mut(tenant)) else {
            return;
        };
        let may_run = tenant.may_run();
        let weight = u64::from(u32::from(tenant.terms.weight));
        let share = &mut tenant.shares[kind];
        let counted = if share.waiting.is_empty() { 0 } else { weight };
        state.weight = state.weight - share.counted_weight + counted;
        share.counted_weight = counted;
        let before = share.listed.take();
        if let Some(before) = before {
            state.ready.remove(&before);
            state.unserved.remove(&(before.last_served, before.head));
        }
        let Some(head) = share.runnable.first().copied().filter(|_| may_run) else {
            return;
        };
        if before.is_none() {
            // Nobody saves up by having no job to run.
            share.paid = share.paid.max(state.virtual_time);
        }
        let standing = Standing {
            paid: share.paid,
            last_served: share.served.number,
            head,
        };
        state.ready.insert(standing);
        state.unserved.insert((standing.last_served, head));
        share.listed = Some(standing);
    }

    /// Forgets tenants that have no job and owe nothing.
    fn forget_idle(&mut self) {
        let kinds = &self.kinds;
        let owes = |tenant: &Tenant, kind: WorkerKind| tenant.shares[kind].paid > kinds[kind].virtual_time;
        self.tenants
            .retain(|_, tenant| !tenant.is_idle() || WorkerKind::ALL.iter().any(|kind| owes(tenant, *kind)));
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
