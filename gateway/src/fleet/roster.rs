//! What each worker of one kind is thought to be doing: pure, with the time given from outside.
//!
//! A worker at a listed address is taken to be idle until it refuses; after a job or a refusal it is set aside, and gets no job before it has said that it
//! is idle. A process of this machine is known exactly: it is ready when its supervisor says so, and has one job. This module must not know the queue.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mayfly_protocol::JobId;
use tokio::time::Instant;

use crate::fleet::address::WorkerUrl;
use crate::retry::{Aside, Pauses};

/// While fewer workers are idle, as many of those that are set aside are asked as are missing, though no job waits for them: the next jobs are to find one that
/// is known to be idle.
const IDLE_RESERVE: usize = 32;

/// One worker: its address, and for a process of this machine which of those that had the address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerKey {
    /// The address.
    pub url: WorkerUrl,
    /// 0 at a listed address, where nobody can tell one process from the next.
    pub incarnation: u64,
}

/// Says to a supervisor that a worker was given a job, so that its exit is a good one.
#[derive(Debug, Clone, Default)]
pub struct UsedMark(Arc<AtomicBool>);

impl UsedMark {
    /// Sets the mark.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the mark is set.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A process of this machine behind a worker.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Told when the process gets a job.
    pub used: UsedMark,
}

/// A worker as a source lists it.
#[derive(Debug, Clone)]
pub struct Member {
    /// Which one.
    pub key: WorkerKey,
    /// The process, where it is one of this machine.
    pub process: Option<Process>,
}

/// What a worker is thought to be doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Idle,
    /// A job of ours.
    Busy(JobId),
    /// Something else; it is asked whether that is over.
    SetAside {
        /// Why.
        aside: Aside,
        /// When it may be asked.
        until: Instant,
    },
    /// It is being asked whether it is idle.
    Asked(Aside),
    /// It had its one job, and is about to exit.
    Spent,
}

/// How a worker is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// It was never asked.
    Untouched,
    /// It refused, or could not be asked.
    Refused(Aside),
    /// It had the job, and the job is over.
    Done,
    /// It had the job, or may have had it, and went wrong.
    Failed,
}

/// What a worker says when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It would take a job.
    Idle,
    /// It would not, or did not answer.
    Not(Aside),
}

/// A worker as `GET /workers` shows it.
#[derive(Debug, Clone)]
pub struct WorkerReport {
    /// Where it is.
    pub url: WorkerUrl,
    /// What it is thought to be doing.
    pub standing: Standing,
    /// Since when it is known.
    pub known_since: Instant,
    /// Refusals and faults in a row.
    pub failures: u32,
    /// The process, where it is one of this machine.
    pub pid: Option<u32>,
}

/// How many workers there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// In all.
    pub known: usize,
    /// Ready for a job, as far as is known.
    pub idle: usize,
    /// With a job of this gateway.
    pub busy: usize,
    /// Left alone for a while.
    pub set_aside: usize,
    /// Of those, the ones that did what no good worker does.
    pub faulty: usize,
}

#[derive(Debug)]
struct Worker {
    standing: Standing,
    failures: u32,
    /// How often it was asked since it was set aside.
    asks: u32,
    /// Grows with each use: the one that was used longest ago is next.
    last_use: u64,
    known_since: Instant,
    process: Option<Process>,
    source: usize,
    listed: bool,
}

/// The workers in the orders in which they are looked for.
#[derive(Debug, Default)]
struct Order {
    /// The one that most likely takes a job first: no failures, then longest unused.
    idle: BTreeSet<(u32, u64, WorkerKey)>,
    aside: BTreeSet<(Instant, WorkerKey)>,
    /// Those that are being asked.
    asked: usize,
}

impl Order {
    fn add(&mut self, key: &WorkerKey, worker: &Worker) {
        match worker.standing {
            Standing::Idle => {
                self.idle.insert((worker.failures, worker.last_use, key.clone()));
            }
            Standing::SetAside { until, .. } => {
                self.aside.insert((until, key.clone()));
            }
            Standing::Asked(_) => self.asked += 1,
            Standing::Busy(_) | Standing::Spent => {}
        }
    }

    fn remove(&mut self, key: &WorkerKey, worker: &Worker) {
        match worker.standing {
            Standing::Idle => {
                self.idle.remove(&(worker.failures, worker.last_use, key.clone()));
            }
            Standing::SetAside { until, .. } => {
                self.aside.remove(&(until, key.clone()));
            }
            Standing::Asked(_) => self.asked -= 1,
            Standing::Busy(_) | Standing::Spent => {}
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Source {
    may_grow: bool,
    limit: Option<usize>,
}

/// The workers of one kind.
#[derive(Debug)]
pub struct Roster {
    workers: HashMap<WorkerKey, Worker>,
    order: Order,
    sources: Vec<Source>,
    pauses: Pauses,
    uses: u64,
}

impl Roster {
    /// No workers yet.
    pub fn new(pauses: Pauses) -> Self {
        Self {
            workers: HashMap::new(),
            order: Order::default(),
            sources: Vec::new(),
            pauses,
            uses: 0,
        }
    }

    /// Adds a source that has said nothing yet; at most `limit` of its workers have a job at a time.
    pub fn add_source(&mut self, limit: Option<usize>) -> usize {
        self.sources.push(Source {
            may_grow: true,
            limit,
        });
        self.sources.len() - 1
    }

    /// Takes what a source lists now in place of what it listed before; a worker that has a job stays until the job is over.
    ///
    /// `may_grow` says whether jobs may wait for this source while it lists nobody.
    pub fn list(&mut self, source: usize, members: Vec<Member>, may_grow: bool, now: Instant) {
        self.sources[source].may_grow = may_grow;
        for worker in self.workers.values_mut().filter(|worker| worker.source == source) {
            worker.listed = false;
        }
        for Member { key, process } in members {
            let order = &mut self.order;
            let worker = self.workers.entry(key).or_insert_with_key(|key| {
                let worker = Worker {
                    standing: Standing::Idle,
                    failures: 0,
                    asks: 0,
                    last_use: 0,
                    known_since: now,
                    process,
                    source,
                    listed: true,
                };
                order.add(key, &worker);
                worker
            });
            worker.listed = true;
        }
        let order = &mut self.order;
        self.workers.retain(|key, worker| {
            let stays = worker.listed || matches!(worker.standing, Standing::Busy(_));
            if !stays {
                order.remove(key, worker);
            }
            stays
        });
    }

    /// Whether a worker could be taken.
    pub fn has_free(&self) -> bool {
        self.next_idle().is_some()
    }

    /// The worker that most likely takes a job.
    fn next_idle(&self) -> Option<WorkerKey> {
        let blocked = self.blocked_sources();
        let mut idle = self.order.idle.iter().map(|(_, _, key)| key);
        idle.find(|key| !blocked[self.workers[*key].source]).cloned()
    }

    /// Changes what a worker is thought to be doing.
    fn stand(&mut self, key: &WorkerKey, standing: Standing) {
        let Some(worker) = self.workers.get_mut(key) else {
            return;
        };
        self.order.remove(key, worker);
        worker.standing = standing;
        self.order.add(key, worker);
    }

    /// Gives the job the worker that most likely takes it.
    pub fn take(&mut self, job: &JobId) -> Option<WorkerKey> {
        let key = self.next_idle()?;
        self.stand(&key, Standing::Busy(job.clone()));
        self.uses += 1;
        let worker = self.workers.get_mut(&key)?;
        worker.last_use = self.uses;
        if let Some(process) = &worker.process {
            process.used.set();
        }
        Some(key)
    }

    /// Takes the worker at an address for a job that it has already; `None` where none is listed there, or has another job.
    pub fn occupy(&mut self, url: &WorkerUrl, job: &JobId) -> Option<WorkerKey> {
        let may_have_it = |worker: &Worker| !matches!(worker.standing, Standing::Busy(_) | Standing::Spent);
        let mut listed = self.workers.iter().filter(|(key, _)| key.url == *url);
        let key = listed.find(|(_, worker)| may_have_it(worker))?.0.clone();
        self.stand(&key, Standing::Busy(job.clone()));
        Some(key)
    }

    /// Takes a worker back; `jitter` from 0 to 1 spreads the pause.
    pub fn release(&mut self, key: &WorkerKey, release: Release, now: Instant, jitter: f64) {
        let Some(worker) = self.workers.get_mut(key) else {
            return;
        };
        if !worker.listed {
            self.workers.remove(key);
            return;
        }
        worker.asks = 0;
        let is_process = worker.process.is_some();
        match release {
            Release::Untouched => self.stand(key, Standing::Idle),
            Release::Done | Release::Failed if is_process => self.stand(key, Standing::Spent),
            Release::Done => {
                worker.failures = 0;
                self.set_aside(key, Aside::Restarting, now + self.pauses.between_asks(0, jitter));
            }
            Release::Failed => self.fail(key, Aside::Faulty, now, jitter),
            Release::Refused(aside) => self.fail(key, aside, now, jitter),
        }
    }

    /// Sets a worker aside, for longer with each failure in a row.
    fn fail(&mut self, key: &WorkerKey, aside: Aside, now: Instant, jitter: f64) {
        let Some(worker) = self.workers.get_mut(key) else {
            return;
        };
        let pause = self.pauses.after(aside, worker.failures, jitter);
        worker.failures = worker.failures.saturating_add(1);
        self.set_aside(key, aside, now + pause);
    }

    fn set_aside(&mut self, key: &WorkerKey, aside: Aside, until: Instant) {
        self.stand(key, Standing::SetAside { aside, until });
    }

    /// Forgets a worker's earlier failures: it has begun a job.
    pub fn began(&mut self, key: &WorkerKey) {
        if let Some(worker) = self.workers.get_mut(key) {
            worker.failures = 0;
        }
    }

    /// The worker that is to be asked whether it is idle; `is_wanted` says whether a job waits for one.
    pub fn ask_next(&mut self, is_wanted: bool, now: Instant) -> Option<WorkerKey> {
        if self.next_due(is_wanted)? > now {
            return None;
        }
        let (_, key) = self.order.aside.first()?.clone();
        if let Standing::SetAside { aside, .. } = self.workers[&key].standing {
            self.stand(&key, Standing::Asked(aside));
        }
        Some(key)
    }

    /// Takes what a worker said that was asked; `jitter` from 0 to 1 spreads the pause.
    pub fn told(&mut self, key: &WorkerKey, told: Told, now: Instant, jitter: f64) {
        let Some(worker) = self.workers.get_mut(key) else {
            return;
        };
        if !matches!(worker.standing, Standing::Asked(_)) {
            // It was taken for a job that it has.
            return;
        }
        worker.asks = worker.asks.saturating_add(1);
        match told {
            Told::Idle => self.stand(key, Standing::Idle),
            Told::Not(Aside::Faulty) => self.fail(key, Aside::Faulty, now, jitter),
            Told::Not(aside) => {
                let pause = self.pauses.between_asks(worker.asks, jitter);
                self.set_aside(key, aside, now + pause);
            }
        }
    }

    /// When the next worker is to be asked whether it is idle; `None` where none is.
    pub fn next_due(&self, is_wanted: bool) -> Option<Instant> {
        if !is_wanted && self.order.idle.len() + self.order.asked >= IDLE_RESERVE {
            return None;
        }
        self.order.aside.first().map(|(until, _)| *until)
    }

    /// Whether there is a worker at this address.
    pub fn lists(&self, url: &WorkerUrl) -> bool {
        self.workers
            .iter()
            .any(|(key, worker)| key.url == *url && worker.listed)
    }

    /// Whether there is no worker, and no source that could bring one.
    pub fn is_hopeless(&self) -> bool {
        self.workers.is_empty() && !self.sources.iter().any(|source| source.may_grow)
    }

    /// Whether any source is configured.
    pub fn is_configured(&self) -> bool {
        !self.sources.is_empty()
    }

    /// How many workers there are.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            known: self.workers.len(),
            ..Counts::default()
        };
        for worker in self.workers.values() {
            match &worker.standing {
                Standing::Idle => counts.idle += 1,
                Standing::Busy(_) => counts.busy += 1,
                Standing::SetAside { aside, .. } | Standing::Asked(aside) => {
                    counts.set_aside += 1;
                    counts.faulty += usize::from(*aside == Aside::Faulty);
                }
                Standing::Spent => {}
            }
        }
        counts
    }

    /// Every worker, in the order of the addresses.
    pub fn report(&self) -> Vec<WorkerReport> {
        let report = |(key, worker): (&WorkerKey, &Worker)| WorkerReport {
            url: key.url.clone(),
            standing: worker.standing.clone(),
            known_since: worker.known_since,
            failures: worker.failures,
            pid: worker.process.as_ref().map(|process| process.pid),
        };
        let mut workers: Vec<WorkerReport> = self.workers.iter().map(report).collect();
        workers.sort_by(|a, b| a.url.cmp(&b.url));
        workers
    }

    /// For each source, whether as many of its workers have jobs as may.
    fn blocked_sources(&self) -> Vec<bool> {
        if self.sources.iter().all(|source| source.limit.is_none()) {
            return vec![false; self.sources.len()];
        }
        let busy = |index| {
            let of_source = self.workers.values().filter(move |worker| worker.source == index);
            of_source
                .filter(|worker| matches!(worker.standing, Standing::Busy(_)))
                .count()
        };
        let sources = self.sources.iter().enumerate();
        sources
            .map(|(index, source)| source.limit.is_some_and(|limit| busy(index) >= limit))
            .collect()
    }
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
