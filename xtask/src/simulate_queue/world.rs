//! Workers, arrivals and ends of jobs around the gateway's own queue, in simulated time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use mayfly_protocol::{SessionId, TenantId};
use mayfly_queue::{ComeBack, Lane, Queue, QueueSettings, Terms, Ticket, Weight, WorkerKind};

use super::load::{Load, SimulatedJob};

/// In which order jobs are begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Fair among tenants.
    Fair,
    /// As they came: all jobs are one tenant's.
    FirstCome,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The job ended; its session is free.
    Ended(Ticket),
    /// A worker listens again.
    Restarted,
}

struct World<'a> {
    load: &'a Load,
    order: Order,
    queue: Queue,
    free: usize,
    events: BinaryHeap<Reverse<(Duration, Event)>>,
    jobs: HashMap<Ticket, usize>,
    waits: Vec<Option<Duration>>,
}

/// How long each job waited for its worker.
pub(super) fn simulate(load: &Load, workers: usize, order: Order) -> Vec<Duration> {
    let settings = QueueSettings {
        capacity: load.jobs.len() + 1,
        aging: Duration::from_secs(20),
        come_back: ComeBack {
            unknown: Duration::from_secs(5),
            longest: Duration::from_secs(300),
        },
    };
    let mut world = World {
        load,
        order,
        queue: Queue::new(settings),
        free: workers,
        events: BinaryHeap::new(),
        jobs: HashMap::new(),
        waits: vec![None; load.jobs.len()],
    };
    let mut arrivals = load.jobs.iter().enumerate().peekable();
    loop {
        let next_event = world.events.peek().map(|Reverse((at, _))| *at);
        let now = match (arrivals.peek(), next_event) {
            (Some((_, job)), at) if at.is_none_or(|at| job.at < at) => {
                let (now, index) = (job.at, arrivals.next().map_or(0, |(index, _)| index));
                world.arrive(index, now);
                now
            }
            (_, Some(at)) => {
                world.happen(at);
                at
            }
            (_, None) => break,
        };
        world.begin_jobs(now);
    }
    world.waits.into_iter().flatten().collect()
}

impl World<'_> {
    fn arrive(&mut self, index: usize, now: Duration) {
        let job = &self.load.jobs[index];
        let terms = Terms {
            weight: Weight::try_from(self.load.tenants.weight(job.tenant)).unwrap_or_default(),
            ..Terms::default()
        };
        let lane = self.lane(job);
        if let Ok(ticket) = self.queue.admit(WorkerKind::Git, lane, terms, now) {
            self.jobs.insert(ticket, index);
        }
    }

    fn lane(&self, job: &SimulatedJob) -> Lane {
        let tenant = match self.order {
            Order::Fair => format!("t{}", job.tenant),
            Order::FirstCome => "all".to_owned(),
        };
        let session = format!("t{}-s{}", job.tenant, job.session);
        Lane {
            tenant: tenant.parse::<TenantId>().expect("a tenant's name"),
            session: session.parse::<SessionId>().expect("a session's name"),
        }
    }

    fn happen(&mut self, now: Duration) {
        match self.events.pop() {
            Some(Reverse((_, Event::Ended(ticket)))) => {
                self.jobs.remove(&ticket);
                self.queue.leave(ticket, now);
                self.events
                    .push(Reverse((now + self.load.restart, Event::Restarted)));
            }
            Some(Reverse((_, Event::Restarted))) => self.free += 1,
            None => {}
        }
    }

    fn begin_jobs(&mut self, now: Duration) {
        while self.free > 0 {
            let Some((ticket, _)) = self.queue.next(|_| true, now) else {
                return;
            };
            self.free -= 1;
            let index = self.jobs[&ticket];
            let job = &self.load.jobs[index];
            self.waits[index] = Some(now.saturating_sub(job.at));
            self.events.push(Reverse((now + job.takes, Event::Ended(ticket))));
        }
    }
}
