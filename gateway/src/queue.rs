//! The order in which jobs are given to workers: a pure structure, without clock, lock or I/O.
//!
//! First come, first served, with one exception: of each session one job runs, and its later jobs wait behind it in the order in which they came.
//! A job that no worker could take after all goes back to its old place. This module must not know workers, only whether one of a kind is free.
//!
//! The seam for tenants: [`Lane`] carries the tenant, and [`Queue::next`] is the only place that chooses.

use std::collections::{BTreeSet, HashMap};

use mayfly_protocol::{SessionId, TenantId};

use crate::fleet::{PerKind, WorkerKind};

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

/// As many jobs wait for this kind of worker as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} jobs are waiting, which is as many as may")]
pub struct QueueFull {
    /// The jobs that wait.
    pub waiting: usize,
}

/// Where a waiting job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// From 1: the jobs that wait for the same kind of worker, up to and with this one.
    pub number: usize,
    /// What it waits for.
    pub reason: WaitReason,
}

/// What a job waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitReason {
    /// A worker.
    NoFreeWorker,
    /// An earlier job of its session.
    SessionBusy,
}

#[derive(Debug)]
struct Entry {
    kind: WorkerKind,
    lane: Lane,
}

#[derive(Debug, Default)]
struct LaneState {
    running: Option<Ticket>,
    waiting: BTreeSet<Ticket>,
}

#[derive(Debug, Default)]
struct KindState {
    waiting: BTreeSet<Ticket>,
    /// Those of the waiting that nothing but the lack of a worker holds back.
    runnable: BTreeSet<Ticket>,
}

/// The jobs that wait, and those that run.
#[derive(Debug)]
pub struct Queue {
    capacity: usize,
    last: u64,
    entries: HashMap<Ticket, Entry>,
    lanes: HashMap<Lane, LaneState>,
    kinds: PerKind<KindState>,
}

impl Queue {
    /// An empty queue in which this many jobs may wait for each kind of worker.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            last: 0,
            entries: HashMap::new(),
            lanes: HashMap::new(),
            kinds: PerKind::new(|_| KindState::default()),
        }
    }

    /// Puts a job at the end.
    pub fn admit(&mut self, kind: WorkerKind, lane: Lane) -> Result<Ticket, QueueFull> {
        let waiting = self.waiting(kind);
        if waiting >= self.capacity {
            return Err(QueueFull { waiting });
        }
        self.last += 1;
        let ticket = Ticket(self.last);
        self.entries.insert(ticket, Entry { kind, lane });
        self.wait(ticket);
        Ok(ticket)
    }

    /// Takes the job that is next among those for which a worker is free; it runs from now on.
    pub fn next(&mut self, is_free: impl Fn(WorkerKind) -> bool) -> Option<(Ticket, WorkerKind)> {
        let first = |kind: WorkerKind| self.kinds[kind].runnable.first().map(|ticket| (*ticket, kind));
        let (ticket, kind) = WorkerKind::ALL
            .iter()
            .filter(|kind| is_free(**kind))
            .filter_map(|kind| first(*kind))
            .min()?;
        let lane = &self.entries[&ticket].lane;
        if let Some(state) = self.lanes.get_mut(lane) {
            state.waiting.remove(&ticket);
            state.running = Some(ticket);
        }
        self.kinds[kind].waiting.remove(&ticket);
        self.kinds[kind].runnable.remove(&ticket);
        Some((ticket, kind))
    }

    /// Puts a running job, which nobody touched, back where it stood.
    pub fn put_back(&mut self, ticket: Ticket) {
        let Some(entry) = self.entries.get(&ticket) else {
            return;
        };
        if let Some(state) = self
            .lanes
            .get_mut(&entry.lane)
            .filter(|lane| lane.running == Some(ticket))
        {
            state.running = None;
            self.wait(ticket);
        }
    }

    /// Forgets a job, whether it waited or ran; the next one of its session may run.
    pub fn leave(&mut self, ticket: Ticket) {
        let Some(Entry { kind, lane }) = self.entries.remove(&ticket) else {
            return;
        };
        self.kinds[kind].waiting.remove(&ticket);
        self.kinds[kind].runnable.remove(&ticket);
        let Some(state) = self.lanes.get_mut(&lane) else {
            return;
        };
        state.waiting.remove(&ticket);
        if state.running == Some(ticket) {
            state.running = None;
        }
        if state.running.is_none() && state.waiting.is_empty() {
            self.lanes.remove(&lane);
            return;
        }
        self.offer_first(&lane);
    }

    /// Where a waiting job stands; `None` where it does not wait.
    pub fn position(&self, ticket: Ticket) -> Option<Position> {
        let kind = self.entries.get(&ticket)?.kind;
        let state = &self.kinds[kind];
        if !state.waiting.contains(&ticket) {
            return None;
        }
        Some(Position {
            number: state.waiting.range(..=ticket).count(),
            reason: match state.runnable.contains(&ticket) {
                true => WaitReason::NoFreeWorker,
                false => WaitReason::SessionBusy,
            },
        })
    }

    /// The number of jobs that wait for this kind of worker.
    pub fn waiting(&self, kind: WorkerKind) -> usize {
        self.kinds[kind].waiting.len()
    }

    /// Whether a job of the session runs or waits.
    pub fn is_busy(&self, lane: &Lane) -> bool {
        self.lanes.contains_key(lane)
    }

    /// Whether a job waits for nothing but a worker of this kind.
    pub fn wants_worker(&self, kind: WorkerKind) -> bool {
        !self.kinds[kind].runnable.is_empty()
    }

    fn wait(&mut self, ticket: Ticket) {
        let Entry { kind, lane } = &self.entries[&ticket];
        self.kinds[*kind].waiting.insert(ticket);
        let lane = lane.clone();
        self.lanes.entry(lane.clone()).or_default().waiting.insert(ticket);
        self.offer_first(&lane);
    }

    /// Marks the first job of an idle lane as runnable. Arrivals come behind it, and what is put back came before: so none has to be unmarked
    /// but the one that a put-back job overtakes, and that one cannot be marked while its lane ran.
    fn offer_first(&mut self, lane: &Lane) {
        let Some(state) = self.lanes.get(lane) else { return };
        if state.running.is_some() {
            return;
        }
        if let Some(first) = state.waiting.first() {
            let kind = self.entries[first].kind;
            self.kinds[kind].runnable.insert(*first);
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
