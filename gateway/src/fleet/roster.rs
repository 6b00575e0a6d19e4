//! What each worker of one kind is thought to be doing: pure, with the time given from outside.
//!
//! A worker at a listed address is taken to be idle until it refuses; after a job or a refusal it is set aside for a while. A process of this machine
//! is known exactly: it is ready when its supervisor says so, and has one job. This module must not know the queue.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mayfly_protocol::JobId;
use tokio::time::Instant;

use crate::fleet::address::WorkerUrl;
use crate::retry::{Aside, Pauses};

/// One worker: its address, and for a process of this machine which of those that had the address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    /// Something else, until it is asked again.
    SetAside {
        /// Why.
        aside: Aside,
        /// When it may be asked again.
        until: Instant,
    },
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
    /// Grows with each use: the one that was used longest ago is next.
    last_use: u64,
    known_since: Instant,
    process: Option<Process>,
    source: usize,
    listed: bool,
}

impl Worker {
    fn is_free(&self, now: Instant) -> bool {
        match self.standing {
            Standing::Idle => true,
            Standing::SetAside { until, .. } => until <= now,
            Standing::Busy(_) | Standing::Spent => false,
        }
    }

    fn fail(&mut self, aside: Aside, pauses: &Pauses, now: Instant, jitter: f64) -> Standing {
        self.set_aside(aside, self.failures.saturating_add(1), pauses, now, jitter)
    }

    fn set_aside(
        &mut self,
        aside: Aside,
        failures: u32,
        pauses: &Pauses,
        now: Instant,
        jitter: f64,
    ) -> Standing {
        self.failures = failures;
        let pause = pauses.after(aside, failures.saturating_sub(1), jitter);
        Standing::SetAside {
            aside,
            until: now + pause,
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
    sources: Vec<Source>,
    pauses: Pauses,
    uses: u64,
}

impl Roster {
    /// No workers yet.
    pub fn new(pauses: Pauses) -> Self {
        Self {
            workers: HashMap::new(),
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
            let worker = self.workers.entry(key).or_insert_with(|| Worker {
                standing: Standing::Idle,
                failures: 0,
                last_use: 0,
                known_since: now,
                process,
                source,
                listed: true,
            });
            worker.listed = true;
        }
        let stays = |worker: &Worker| worker.listed || matches!(worker.standing, Standing::Busy(_));
        self.workers.retain(|_, worker| stays(worker));
    }

    /// Whether a worker could be taken.
    pub fn has_free(&self, now: Instant) -> bool {
        let blocked = self.blocked_sources();
        self.workers
            .values()
            .any(|worker| worker.is_free(now) && !blocked[worker.source])
    }

    /// Gives the job the worker that most likely takes it: no failures, then longest unused.
    pub fn take(&mut self, job: &JobId, now: Instant) -> Option<WorkerKey> {
        let blocked = self.blocked_sources();
        let free = self
            .workers
            .iter_mut()
            .filter(|(_, worker)| worker.is_free(now) && !blocked[worker.source]);
        let (key, worker) = free.min_by_key(|(_, worker)| (worker.failures, worker.last_use))?;
        self.uses += 1;
        worker.last_use = self.uses;
        worker.standing = Standing::Busy(job.clone());
        if let Some(process) = &worker.process {
            process.used.set();
        }
        Some(key.clone())
    }

    /// Takes the worker at an address for a job that it has already; `None` where none is listed there, or has another job.
    pub fn occupy(&mut self, url: &WorkerUrl, job: &JobId) -> Option<WorkerKey> {
        let may_have_it =
            |worker: &Worker| matches!(worker.standing, Standing::Idle | Standing::SetAside { .. });
        let mut listed = self.workers.iter_mut().filter(|(key, _)| key.url == *url);
        let (key, worker) = listed.find(|(_, worker)| may_have_it(worker))?;
        worker.standing = Standing::Busy(job.clone());
        Some(key.clone())
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
        let is_process = worker.process.is_some();
        worker.standing = match release {
            Release::Untouched => Standing::Idle,
            Release::Done | Release::Failed if is_process => Standing::Spent,
            Release::Done => worker.set_aside(Aside::Restarting, 0, &self.pauses, now, jitter),
            Release::Failed => worker.fail(Aside::Faulty, &self.pauses, now, jitter),
            Release::Refused(aside) => worker.fail(aside, &self.pauses, now, jitter),
        };
    }

    /// Forgets a worker's earlier failures: it has begun a job.
    pub fn began(&mut self, key: &WorkerKey) {
        if let Some(worker) = self.workers.get_mut(key) {
            worker.failures = 0;
        }
    }

    /// When the next worker that is set aside may be asked again, later than now.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        let due = self.workers.values().filter_map(|worker| match worker.standing {
            Standing::SetAside { until, .. } if until > now => Some(until),
            _ => None,
        });
        due.min()
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
    pub fn counts(&self, now: Instant) -> Counts {
        let mut counts = Counts {
            known: self.workers.len(),
            ..Counts::default()
        };
        for worker in self.workers.values() {
            match &worker.standing {
                _ if worker.is_free(now) => counts.idle += 1,
                Standing::Busy(_) => counts.busy += 1,
                Standing::SetAside { aside, .. } => {
                    counts.set_aside += 1;
                    counts.faulty += usize::from(*aside == Aside::Faulty);
                }
                Standing::Idle | Standing::Spent => {}
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
