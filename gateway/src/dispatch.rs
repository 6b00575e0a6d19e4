//! Brings jobs and workers together: the queue and the rosters under one lock, and whom to ask whether he is idle.
//!
//! What is next is decided by [`Queue`] and [`Roster`]; this module calls them with the time, and tells the waiting. It must not know HTTP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mayfly_protocol::JobId;
use mayfly_queue::{Lane, Position, Queue, QueueFull, QueueSettings, TenantWaiting, Terms, Ticket};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::chance::jitter;
use crate::fleet::address::WorkerUrl;
use crate::fleet::roster::{Counts, Member, Release, Roster, Told, WorkerKey, WorkerReport};
use crate::fleet::{PerKind, WorkerKind};
use crate::retry::Pauses;

/// With nobody to ask, the next look is after this time.
const IDLE_LOOK: Duration = Duration::from_secs(60);

/// Why a job is not let into the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AdmitError {
    #[error("the gateway is shutting down")]
    Closed,
    #[error("no worker of this kind is known")]
    NoWorkers,
    #[error("the queue is full")]
    Full(#[source] QueueFull),
}

struct Waiter {
    job: JobId,
    tell: oneshot::Sender<WorkerKey>,
}

struct State {
    queue: Queue,
    /// The queue's time counts from here.
    started: Instant,
    rosters: PerKind<Roster>,
    waiters: HashMap<Ticket, Waiter>,
    is_closed: bool,
}

/// The queue, the workers, and who waits for whom.
pub(crate) struct Dispatcher {
    state: Mutex<State>,
    changed: Notify,
}

impl Dispatcher {
    pub(crate) fn new(queue: QueueSettings, pauses: Pauses) -> Self {
        Self {
            state: Mutex::new(State {
                queue: Queue::new(queue),
                started: Instant::now(),
                rosters: PerKind::new(|_| Roster::new(pauses)),
                waiters: HashMap::new(),
                is_closed: false,
            }),
            changed: Notify::new(),
        }
    }

    /// Puts a job into the queue, and says where it stands. One that is held is not begun before its place's [`Permit`] lets it.
    pub(crate) fn admit(
        self: &Arc<Self>,
        kind: WorkerKind,
        lane: Lane,
        terms: Terms,
        job: &JobId,
        is_held: bool,
    ) -> Result<(Place, Position), AdmitError> {
        let mut state = self.state();
        if state.is_closed {
            return Err(AdmitError::Closed);
        }
        if state.rosters[kind].is_hopeless() {
            return Err(AdmitError::NoWorkers);
        }
        let now = state.since_start(Instant::now());
        let admitted = match is_held {
            true => state.queue.admit_held(kind, lane, terms, now),
            false => state.queue.admit(kind, lane, terms, now),
        };
        let ticket = admitted.map_err(AdmitError::Full)?;
        let position = state.queue.position(ticket).expect("it was put there just now");
        let told = state.wait(ticket, job);
        state.grant(Instant::now());
        // Who has a worker now does not wait beside the question whether another is idle: that is asked when the next job ends.
        if state.queue.wants_worker(kind) {
            self.changed.notify_one();
        }
        let place = Place {
            dispatcher: Arc::clone(self),
            kind,
            job: job.clone(),
            terms,
            ticket,
            told,
        };
        Ok((place, position))
    }

    /// Keeps a session for a job that a gateway before this one gave to a worker, until what is returned is dropped.
    pub(crate) fn resume(self: &Arc<Self>, kind: WorkerKind, lane: &Lane) -> Resumed {
        let mut state = self.state();
        let now = state.since_start(Instant::now());
        Resumed {
            dispatcher: Arc::clone(self),
            ticket: state.queue.resume(kind, lane, now),
        }
    }

    /// Notes that the worker at this address has a job that a gateway before this one gave to it.
    pub(crate) fn occupy(self: &Arc<Self>, kind: WorkerKind, url: &WorkerUrl, job: &JobId) -> Option<Lease> {
        let worker = self.state().rosters[kind].occupy(url, job)?;
        Some(Lease {
            dispatcher: Arc::clone(self),
            kind,
            worker,
            is_back: false,
        })
    }

    /// Whether a source lists a worker at this address.
    pub(crate) fn lists(&self, kind: WorkerKind, url: &WorkerUrl) -> bool {
        self.state().rosters[kind].lists(url)
    }

    /// Lets no job in from now on.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
    }

    pub(crate) fn add_source(&self, kind: WorkerKind, limit: Option<usize>) -> usize {
        self.state().rosters[kind].add_source(limit)
    }

    /// Takes what a source lists now.
    pub(crate) fn list(&self, kind: WorkerKind, source: usize, members: Vec<Member>, may_grow: bool) {
        let mut state = self.state();
        state.rosters[kind].list(source, members, may_grow, Instant::now());
        self.grant(&mut state);
    }

    /// Waits for a worker that is to be asked whether it is idle. Whoever waits for it asks, and [tells](Self::told) what it said.
    pub(crate) async fn next_to_ask(&self) -> (WorkerKind, WorkerKey) {
        loop {
            let now = Instant::now();
            let due = {
                let mut state = self.state();
                if let Some(asked) = state.ask_next(now) {
                    return asked;
                }
                state.next_due().unwrap_or(now + IDLE_LOOK)
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep_until(due) => {}
            }
        }
    }

    /// Takes what a worker said that was asked whether it is idle.
    pub(crate) fn told(&self, kind: WorkerKind, worker: &WorkerKey, told: Told) {
        let mut state = self.state();
        state.rosters[kind].told(worker, told, Instant::now(), jitter());
        self.grant(&mut state);
    }

    pub(crate) fn waiting(&self, kind: WorkerKind) -> usize {
        self.state().queue.waiting(kind)
    }

    /// What each tenant has waiting.
    pub(crate) fn waiting_by_tenant(&self, kind: WorkerKind) -> Vec<TenantWaiting> {
        let state = self.state();
        let now = state.since_start(Instant::now());
        state.queue.waiting_by_tenant(kind, now)
    }

    /// Whether a job of the session runs or waits.
    pub(crate) fn is_busy(&self, lane: &Lane) -> bool {
        self.state().queue.is_busy(lane)
    }

    pub(crate) fn counts(&self, kind: WorkerKind) -> Counts {
        self.state().rosters[kind].counts()
    }

    pub(crate) fn is_configured(&self, kind: WorkerKind) -> bool {
        self.state().rosters[kind].is_configured()
    }

    pub(crate) fn report(&self, kind: WorkerKind) -> Vec<WorkerReport> {
        self.state().rosters[kind].report()
    }

    fn grant(&self, state: &mut State) {
        state.grant(Instant::now());
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    fn wait(&mut self, ticket: Ticket, job: &JobId) -> oneshot::Receiver<WorkerKey> {
        let (tell, told) = oneshot::channel();
        let job = job.clone();
        self.waiters.insert(ticket, Waiter { job, tell });
        told
    }

    /// Gives free workers to the jobs that are next.
    fn grant(&mut self, now: Instant) {
        let queue_now = self.since_start(now);
        while let Some((ticket, kind)) = self.next(queue_now) {
            let Some(waiter) = self.waiters.remove(&ticket) else {
                self.queue.leave(ticket, queue_now);
                continue;
            };
            let Some(worker) = self.rosters[kind].take(&waiter.job) else {
                self.waiters.insert(ticket, waiter);
                self.queue.put_back(ticket, queue_now);
                break;
            };
            if let Err(worker) = waiter.tell.send(worker) {
                self.rosters[kind].release(&worker, Release::Untouched, now, 0.0);
                self.queue.leave(ticket, queue_now);
            }
        }
    }

    fn next(&mut self, queue_now: Duration) -> Option<(Ticket, WorkerKind)> {
        let rosters = &self.rosters;
        self.queue.next(|kind| rosters[kind].has_free(), queue_now)
    }

    fn ask_next(&mut self, now: Instant) -> Option<(WorkerKind, WorkerKey)> {
        let Self { queue, rosters, .. } = self;
        WorkerKind::ALL.iter().find_map(|kind| {
            let worker = rosters[*kind].ask_next(queue.wants_worker(*kind), now)?;
            Some((*kind, worker))
        })
    }

    /// When the next worker is to be asked; `None` where none is.
    fn next_due(&self) -> Option<Instant> {
        let due = |kind: &WorkerKind| self.rosters[*kind].next_due(self.queue.wants_worker(*kind));
        WorkerKind::ALL.iter().filter_map(due).min()
    }
}

/// A job's place in the queue, and afterwards among the running; dropped, it is given up, and the session's next job may run.
pub(crate) struct Place {
    dispatcher: Arc<Dispatcher>,
    kind: WorkerKind,
    job: JobId,
    terms: Terms,
    ticket: Ticket,
    told: oneshot::Receiver<WorkerKey>,
}

/// Lets a held job run when it is next.
pub(crate) struct Permit {
    dispatcher: Arc<Dispatcher>,
    ticket: Ticket,
}

impl Permit {
    pub(crate) fn release(self) {
        let mut state = self.dispatcher.state();
        state.queue.release(self.ticket);
        self.dispatcher.grant(&mut state);
    }
}

impl Place {
    /// On what terms the job was let in.
    pub(crate) fn terms(&self) -> Terms {
        self.terms
    }

    pub(crate) fn permit(&self) -> Permit {
        Permit {
            dispatcher: Arc::clone(&self.dispatcher),
            ticket: self.ticket,
        }
    }

    /// Waits for a worker. Nothing is lost when the future is dropped.
    pub(crate) async fn worker(&mut self) -> Lease {
        match (&mut self.told).await {
            Ok(worker) => Lease {
                dispatcher: Arc::clone(&self.dispatcher),
                kind: self.kind,
                worker,
                is_back: false,
            },
            // The other end goes only when this place does.
            Err(_) => std::future::pending().await,
        }
    }

    pub(crate) fn position(&self) -> Option<Position> {
        self.dispatcher.state().queue.position(self.ticket)
    }

    /// Gives back a worker that did not take the job, or was lost with it, and waits for another where the job stood.
    pub(crate) fn wait_again(&mut self, mut lease: Lease, release: Release) {
        lease.is_back = true;
        let mut state = self.dispatcher.state();
        state.rosters[self.kind].release(&lease.worker, release, Instant::now(), jitter());
        self.told = state.wait(self.ticket, &self.job);
        let now = state.since_start(Instant::now());
        state.queue.put_back(self.ticket, now);
        self.dispatcher.grant(&mut state);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.dispatcher.state();
        self.told.close();
        if let Ok(worker) = self.told.try_recv() {
            state.rosters[self.kind].release(&worker, Release::Untouched, Instant::now(), 0.0);
        }
        state.waiters.remove(&self.ticket);
        let now = state.since_start(Instant::now());
        state.queue.leave(self.ticket, now);
        self.dispatcher.grant(&mut state);
    }
}

/// The place among the running of a job that was begun elsewhere.
pub(crate) struct Resumed {
    dispatcher: Arc<Dispatcher>,
    ticket: Ticket,
}

impl Drop for Resumed {
    fn drop(&mut self) {
        let mut state = self.dispatcher.state();
        let now = state.since_start(Instant::now());
        state.queue.leave(self.ticket, now);
        self.dispatcher.grant(&mut state);
    }
}

/// A worker that belongs to one job; dropped without a word, it counts as failed.
pub(crate) struct Lease {
    dispatcher: Arc<Dispatcher>,
    kind: WorkerKind,
    worker: WorkerKey,
    is_back: bool,
}

impl Lease {
    pub(crate) fn url(&self) -> &WorkerUrl {
        &self.worker.url
    }

    /// Notes that the worker has begun the job.
    pub(crate) fn began(&self) {
        self.dispatcher.state().rosters[self.kind].began(&self.worker);
    }

    pub(crate) fn release(mut self, release: Release) {
        self.give_back(release);
    }

    fn give_back(&mut self, release: Release) {
        self.is_back = true;
        let mut state = self.dispatcher.state();
        state.rosters[self.kind].release(&self.worker, release, Instant::now(), jitter());
        self.dispatcher.grant(&mut state);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.is_back {
            self.give_back(Release::Failed);
        }
    }
}

#[cfg(test)]
#[path = "dispatch_tests.rs"]
mod tests;
