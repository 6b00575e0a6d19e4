//! The queue's promises: one by one, and under any order of events.

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::tenant::{Terms, Weight, is_below};

const SECOND: Duration = Duration::from_secs(1);
const AGING: Duration = Duration::from_secs(20);

fn settings(capacity: usize) -> QueueSettings {
    QueueSettings {
        capacity,
        aging: AGING,
        come_back: ComeBack {
            unknown: Duration::from_secs(5),
            longest: Duration::from_secs(300),
        },
    }
}

fn queue(capacity: usize) -> Queue {
    Queue::new(settings(capacity))
}

fn lane_of(tenant: u8, session: u32) -> Lane {
    Lane {
        tenant: format!("t{tenant}").parse().unwrap(),
        session: format!("s{session}").parse().unwrap(),
    }
}

fn lane(session: u32) -> Lane {
    lane_of(0, session)
}

fn weight(number: u32) -> Terms {
    Terms {
        weight: Weight::try_from(number).unwrap(),
        ..Terms::default()
    }
}

fn every(_: WorkerKind) -> bool {
    true
}

fn git(queue: &mut Queue, lane: Lane, now: Duration) -> Ticket {
    queue.admit(WorkerKind::Git, lane, Terms::default(), now).unwrap()
}

fn next(queue: &mut Queue, now: Duration) -> Option<Ticket> {
    queue.next(every, now).map(|(ticket, _)| ticket)
}

#[test]
fn positions_count_up_and_say_what_holds_the_job_back() {
    let (mut queue, now) = (queue(10), Duration::ZERO);
    let tickets = [1, 1, 2].map(|session| git(&mut queue, lane(session), now));
    let stands = tickets.map(|ticket| queue.position(ticket).map(|at| (at.number, at.reason)));
    use WaitReason::{NoFreeWorker, SessionBusy};
    assert_eq!(
        stands,
        [
            Some((1, NoFreeWorker)),
            Some((2, SessionBusy)),
            Some((3, NoFreeWorker))
        ]
    );
    assert_eq!(queue.next(every, now), Some((tickets[0], WorkerKind::Git)));
    assert_eq!(queue.position(tickets[0]), None);
    assert_eq!(queue.position(tickets[2]).unwrap().number, 2);
}

#[test]
fn positions_far_behind_and_beside_others_are_estimates() {
    let (mut queue, now) = (queue(100_000), Duration::ZERO);
    let many: Vec<Ticket> = (0..50_000)
        .map(|session| git(&mut queue, lane(session), now))
        .collect();
    assert_eq!(queue.position(many[500]).unwrap().number, 501);
    let far = queue.position(many[40_000]).unwrap().number;
    assert!((39_900..40_100).contains(&far), "{far}");
    let other = git(&mut queue, lane_of(1, 1), now);
    assert!(queue.position(other).unwrap().number <= 2);
    let beside = queue.position(many[99]).unwrap().number;
    assert!(
        (100..=101).contains(&beside),
        "{beside}: only one job of another waits"
    );
}

#[test]
fn a_job_that_was_put_back_is_next_again_and_holds_its_session() {
    let (mut queue, now) = (queue(10), Duration::ZERO);
    let first = git(&mut queue, lane(1), now);
    let later = git(&mut queue, lane(1), now);
    let other = git(&mut queue, lane(2), now);
    assert_eq!(next(&mut queue, now), Some(first));
    queue.put_back(first, now);
    assert_eq!(next(&mut queue, now), Some(first));
    assert_eq!(next(&mut queue, now), Some(other));
    assert_eq!(next(&mut queue, now), None);
    queue.leave(first, now);
    assert_eq!(next(&mut queue, now), Some(later));
}

#[test]
fn a_job_that_runs_already_holds_its_session_back() {
    let (mut queue, now) = (queue(1), Duration::ZERO);
    let waits = git(&mut queue, lane(1), now);
    let runs = queue.resume(WorkerKind::Git, &lane(1), now);
    // No limit keeps it out, and it takes no place from those that wait.
    assert_eq!(queue.waiting(WorkerKind::Git), 1);
    assert_eq!(next(&mut queue, now), None);
    let other = git(&mut queue, lane_of(1, 1), now);
    assert_eq!(next(&mut queue, now), Some(other));
    queue.leave(runs, SECOND);
    assert_eq!(next(&mut queue, SECOND), Some(waits));
    queue.leave(waits, SECOND);
    queue.leave(other, SECOND);
    assert!(!queue.is_busy(&lane(1)));
}

#[test]
fn a_held_job_waits_for_its_release_and_overtakes_what_came_later() {
    let (mut queue, now) = (queue(10), Duration::ZERO);
    let held = queue
        .admit_held(WorkerKind::Git, lane(1), Terms::default(), now)
        .unwrap();
    assert_eq!(queue.position(held).unwrap().reason, WaitReason::SessionBusy);
    assert!(queue.is_busy(&lane(1)) && !queue.wants_worker(WorkerKind::Git));
    let later = git(&mut queue, lane(1), now);
    queue.release(held);
    assert_eq!(next(&mut queue, now), Some(held));
    assert_eq!(next(&mut queue, now), None);
    queue.release(held);
    queue.leave(held, now);
    assert_eq!(next(&mut queue, now), Some(later));
    queue.leave(later, now);
    assert!(!queue.is_busy(&lane(1)));
}

#[test]
fn a_session_keeps_its_order_across_kinds_of_worker() {
    let (mut queue, now) = (queue(10), Duration::ZERO);
    let first = git(&mut queue, lane(1), now);
    let terms = Terms::default();
    queue.admit(WorkerKind::Code, lane(1), terms, now).unwrap();
    assert_eq!(queue.next(|kind| kind == WorkerKind::Code, now), None);
    queue.leave(first, now);
    let code = queue.next(|kind| kind == WorkerKind::Code, now);
    assert_eq!(code.unwrap().1, WorkerKind::Code);
}

#[test]
fn a_full_queue_refuses_neither_the_other_kind_nor_who_has_his_share_left() {
    let (mut queue, now, terms) = (queue(4), Duration::ZERO, Terms::default());
    for session in 0..4 {
        git(&mut queue, lane(session), now);
    }
    let full = queue.admit(WorkerKind::Git, lane(9), terms, now).unwrap_err();
    assert_eq!((full.of, full.waiting), (FullOf::Queue, 4));
    assert_eq!(full.come_back, Duration::from_secs(5), "no job has left yet");
    assert!(queue.admit(WorkerKind::Code, lane(9), terms, now).is_ok());
    for session in 0..2 {
        git(&mut queue, lane_of(1, session), now);
    }
    assert!(queue.admit(WorkerKind::Git, lane_of(1, 9), terms, now).is_err());
    git(&mut queue, lane_of(2, 1), now);
    git(&mut queue, lane_of(3, 1), now);
    let full = queue.admit(WorkerKind::Git, lane_of(4, 1), terms, now);
    assert_eq!(full.unwrap_err().waiting, 8, "twice as many as a bound for all");
}

#[test]
fn a_refusal_tells_when_by_how_fast_jobs_left() {
    let mut queue = queue(100);
    let mut now = Duration::ZERO;
    for session in 0..100 {
        git(&mut queue, lane(session), now);
    }
    for session in 100..200 {
        now += SECOND / 2;
        let ticket = next(&mut queue, now).unwrap();
        queue.leave(ticket, now);
        git(&mut queue, lane(session), now);
    }
    let full = queue.admit(WorkerKind::Git, lane(0), Terms::default(), now);
    // Ten jobs, two a second.
    let told = full.unwrap_err().come_back.as_secs();
    assert!((4..=6).contains(&told), "{told}");
}

#[test]
fn a_tenants_limits_hold_and_are_told() {
    let (mut queue, now) = (queue(100), Duration::ZERO);
    let terms = Terms {
        running: NonZeroU32::new(2),
        waiting: NonZeroU32::new(3),
        ..Terms::default()
    };
    let admit = |queue: &mut Queue, session| queue.admit(WorkerKind::Git, lane(session), terms, now);
    let first = admit(&mut queue, 0).unwrap();
    admit(&mut queue, 1).unwrap();
    assert!(next(&mut queue, now).is_some() && next(&mut queue, now).is_some());
    let third = admit(&mut queue, 2).unwrap();
    assert_eq!(next(&mut queue, now), None);
    assert!(!queue.wants_worker(WorkerKind::Git));
    assert_eq!(queue.position(third).unwrap().reason, WaitReason::TenantLimit);
    admit(&mut queue, 3).unwrap();
    admit(&mut queue, 4).unwrap();
    let full = admit(&mut queue, 5).unwrap_err();
    assert_eq!((full.of, full.waiting), (FullOf::Tenant, 3));
    queue.leave(first, now);
    assert_eq!(next(&mut queue, now), Some(third));
}

#[test]
fn a_flood_delays_another_tenant_by_one_job() {
    let (mut queue, mut now) = (queue(100_000), Duration::ZERO);
    for session in 0..10_000 {
        git(&mut queue, lane(session), now);
    }
    for job in 0..50 {
        let running = next(&mut queue, now).unwrap();
        let newcomer = git(&mut queue, lane_of(1 + job, 1), now);
        // Much longer than the time after which jobs age.
        now += AGING * 3;
        queue.leave(running, now);
        assert_eq!(next(&mut queue, now), Some(newcomer), "newcomer {job}");
        now += SECOND;
        queue.leave(newcomer, now);
    }
}

#[test]
fn the_light_are_served_among_the_heavy() {
    let (mut queue, mut now) = (queue(100_000), Duration::ZERO);
    for session in 0..2000 {
        let heavy = lane_of(1, session);
        queue.admit(WorkerKind::Git, heavy, weight(1000), now).unwrap();
    }
    let mut light = Vec::new();
    for session in 0..4 {
        light.push(git(&mut queue, lane_of(2, session), now));
    }
    let mut last_light = now;
    while !light.is_empty() {
        let ticket = next(&mut queue, now).unwrap();
        now += SECOND;
        queue.leave(ticket, now);
        if light.contains(&ticket) {
            light.retain(|other| *other != ticket);
            last_light = now;
        }
        assert!(
            now - last_light <= AGING + 5 * SECOND,
            "by weight alone it were 1,000 jobs"
        );
    }
}

#[test]
fn who_holds_workers_for_longer_gets_fewer_of_them() {
    let (mut queue, mut now) = (queue(100_000), Duration::ZERO);
    let mut held = [Duration::ZERO; 2];
    for session in 0..3000 {
        git(&mut queue, lane_of(0, session), now);
        git(&mut queue, lane_of(1, session), now);
    }
    for _ in 0..2000 {
        let (ticket, _) = queue.next(every, now).unwrap();
        let tenant = usize::from(queue.entries[&ticket].lane.tenant.as_str() == "t1");
        let took = if tenant == 0 { SECOND } else { 5 * SECOND };
        held[tenant] += took;
        now += took;
        queue.leave(ticket, now);
    }
    let ratio = held[1].as_secs_f64() / held[0].as_secs_f64();
    assert!((0.95..1.05).contains(&ratio), "{ratio}");
}

#[derive(Debug, Clone)]
enum Step {
    Admit {
        code: bool,
        tenant: u8,
        session: u32,
        held: bool,
    },
    Release(usize),
    Next {
        git: bool,
        code: bool,
    },
    PutBack(usize),
    Leave(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let admit = (any::<bool>(), 0..4_u8, 0..3_u32, proptest::bool::weighted(0.3));
    prop_oneof![
        5 => admit.prop_map(|(code, tenant, session, held)| Step::Admit { code, tenant, session, held }),
        2 => any::<usize>().prop_map(Step::Release),
        4 => (any::<bool>(), any::<bool>()).prop_map(|(git, code)| Step::Next { git, code }),
        1 => any::<usize>().prop_map(Step::PutBack),
        3 => any::<usize>().prop_map(Step::Leave),
        1 => (0..40_000_u64).prop_map(Step::Pass),
    ]
}

/// Every job in the order of arrival: what may run, in the plainest form.
#[derive(Default)]
struct Model {
    jobs: Vec<Modelled>,
}

#[derive(Clone)]
struct Modelled {
    ticket: Ticket,
    kind: WorkerKind,
    tenant: u8,
    session: u32,
    running: bool,
    held: bool,
}

/// One job of tenant 1 may run; of the others as many as come.
fn terms_of(tenant: u8) -> Terms {
    Terms {
        weight: Weight::try_from(u32::from(tenant) * 3 + 1).unwrap(),
        running: if tenant == 1 { NonZeroU32::new(1) } else { None },
        waiting: if tenant == 2 { NonZeroU32::new(2) } else { None },
    }
}

impl Model {
    fn running(&self, tenant: u8) -> usize {
        let running = |job: &&Modelled| job.running && job.tenant == tenant;
        self.jobs.iter().filter(running).count()
    }

    fn waiting(&self, of: impl Fn(&Modelled) -> bool) -> usize {
        self.jobs.iter().filter(|job| !job.running && of(job)).count()
    }

    /// The first job of each tenant that may run now.
    fn runnable(&self, is_free: impl Fn(WorkerKind) -> bool) -> Vec<usize> {
        let same_session = |a: &Modelled, b: &Modelled| (a.tenant, a.session) == (b.tenant, b.session);
        let may_run = |index: &usize| {
            let job = &self.jobs[*index];
            let is_before = |other: &Modelled| !other.held && same_session(job, other);
            let is_held = job.held
                || self.jobs[..*index].iter().any(is_before)
                || self
                    .jobs
                    .iter()
                    .any(|other| other.running && same_session(job, other));
            let limit = terms_of(job.tenant).running;
            !job.running && is_free(job.kind) && !is_held && is_below(self.running(job.tenant), limit)
        };
        let all: Vec<usize> = (0..self.jobs.len()).filter(may_run).collect();
        let is_first = |index: &usize| {
            let of = |at: usize| (self.jobs[at].tenant, self.jobs[at].kind);
            !all.iter().any(|other| other < index && of(*other) == of(*index))
        };
        all.iter().copied().filter(is_first).collect()
    }
}

const CAPACITY: usize = 8;

#[derive(Default)]
struct Trial {
    model: Model,
    now: Duration,
}

impl Trial {
    fn take(&mut self, queue: &mut Queue, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Admit {
                code,
                tenant,
                session,
                held,
            } => self.admit(queue, code, (tenant, session), held)?,
            Step::Release(pick) => {
                let jobs = &mut self.model.jobs;
                if !jobs.is_empty() {
                    let index = pick % jobs.len();
                    jobs[index].held = false;
                    queue.release(jobs[index].ticket);
                }
            }
            Step::Next { git, code } => {
                let is_free = |kind| if kind == WorkerKind::Git { git } else { code };
                let runnable = self.model.runnable(is_free);
                let chosen = queue.next(is_free, self.now);
                // Neither a worker nor a job waits for the other, and no rule is broken.
                prop_assert_eq!(chosen.is_some(), !runnable.is_empty());
                if let Some((ticket, _)) = chosen {
                    queue.put_back(ticket, self.now);
                    prop_assert_eq!(queue.next(is_free, self.now), chosen, "it has kept its place");
                    let index = runnable
                        .iter()
                        .find(|index| self.model.jobs[**index].ticket == ticket);
                    prop_assert!(index.is_some(), "it is the first of its tenant that may run");
                    self.model.jobs[*index.unwrap()].running = true;
                }
            }
            Step::PutBack(pick) => {
                let jobs = &mut self.model.jobs;
                let running: Vec<usize> = (0..jobs.len()).filter(|index| jobs[*index].running).collect();
                if !running.is_empty() {
                    let job = &mut jobs[running[pick % running.len()]];
                    job.running = false;
                    queue.put_back(job.ticket, self.now);
                }
            }
            Step::Leave(pick) => {
                let jobs = &mut self.model.jobs;
                if !jobs.is_empty() {
                    let gone = jobs.remove(pick % jobs.len());
                    queue.leave(gone.ticket, self.now);
                    prop_assert_eq!(queue.position(gone.ticket), None);
                }
            }
            Step::Pass(millis) => self.now += Duration::from_millis(millis),
        }
        Ok(())
    }

    fn admit(
        &mut self,
        queue: &mut Queue,
        code: bool,
        (tenant, session): (u8, u32),
        held: bool,
    ) -> Result<(), TestCaseError> {
        let kind = if code { WorkerKind::Code } else { WorkerKind::Git };
        let waiting = self.model.waiting(|job| job.kind == kind);
        let of_tenant = self.model.waiting(|job| job.tenant == tenant);
        let terms = terms_of(tenant);
        prop_assert_eq!(queue.waiting(kind), waiting);
        let lane = lane_of(tenant, session);
        let admitted = match held {
            true => queue.admit_held(kind, lane, terms, self.now),
            false => queue.admit(kind, lane, terms, self.now),
        };
        match admitted {
            Ok(ticket) => {
                prop_assert!(waiting < 2 * CAPACITY && is_below(of_tenant, terms.waiting));
                self.model.jobs.push(Modelled {
                    ticket,
                    kind,
                    tenant,
                    session,
                    running: false,
                    held,
                });
                prop_assert!(
                    queue
                        .position(ticket)
                        .is_some_and(|at| (1..=waiting + 1).contains(&at.number))
                );
            }
            Err(full) if full.of == FullOf::Tenant => prop_assert!(!is_below(of_tenant, terms.waiting)),
            Err(_) => prop_assert!(waiting >= CAPACITY),
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn no_order_of_events_breaks_a_rule(steps in proptest::collection::vec(step(), 0..200)) {
        let (mut queue, mut trial) = (queue(CAPACITY), Trial::default());
        for step in &steps {
            trial.take(&mut queue, step)?;
        }
        for job in std::mem::take(&mut trial.model.jobs) {
            queue.leave(job.ticket, trial.now);
        }
        prop_assert!(queue.entries.is_empty() && queue.lanes.is_empty() && queue.tenants.is_empty(), "nothing leaks");
        let state = &queue.kinds[WorkerKind::Git];
        prop_assert!(state.ready.is_empty() && state.unserved.is_empty());
        prop_assert_eq!((state.waiting, state.weight), (0, 0));
    }

    /// With jobs of one length, and all tenants waiting, each is served by its weight, to within a job.
    #[test]
    fn workers_are_shared_by_weight(weights in proptest::collection::vec(1..8_u32, 2..5), workers in 1..6_usize) {
        const CHOICES: usize = 400;
        let mut queue = Queue::new(QueueSettings { aging: Duration::MAX, ..settings(100_000) });
        let mut now = Duration::ZERO;
        for session in 0..CHOICES {
            for (tenant, number) in weights.iter().enumerate() {
                let lane = lane_of(tenant as u8, session as u32);
                queue.admit(WorkerKind::Git, lane, weight(*number), now).unwrap();
            }
        }
        let mut served = vec![0_u32; weights.len()];
        let mut running = std::collections::VecDeque::new();
        for _ in 0..CHOICES {
            if running.len() == workers {
                now += SECOND;
                for ticket in running.drain(..) {
                    queue.leave(ticket, now);
                }
            }
            let ticket = next(&mut queue, now).unwrap();
            let tenant: usize = queue.entries[&ticket].lane.tenant.as_str()[1..].parse().unwrap();
            served[tenant] += 1;
            running.push_back(ticket);
        }
        for a in 0..weights.len() {
            for b in 0..weights.len() {
                let share = |tenant: usize, more: f64| (f64::from(served[tenant]) + more) / f64::from(weights[tenant]);
                prop_assert!(share(a, -1.0) <= share(b, 1.0) + 1e-9, "{:?} by {:?}", served, weights);
            }
        }
    }

    /// A tenant with a job to run is served within four choices a tenant once it has aged, whatever the others weigh and send.
    #[test]
    fn nothing_starves(heavy in proptest::collection::vec(1..=1000_u32, 1..6), lengths in proptest::collection::vec(1..30_u64, 1..8)) {
        let mut queue = queue(1_000_000);
        let mut now = Duration::ZERO;
        let light = git(&mut queue, lane_of(99, 0), now);
        let mut session = 0;
        let mut after_aging = 0;
        loop {
            for (tenant, number) in heavy.iter().enumerate() {
                for _ in 0..2 {
                    session += 1;
                    queue.admit(WorkerKind::Git, lane_of(tenant as u8, session), weight(*number), now).unwrap();
                }
            }
            let ticket = next(&mut queue, now).unwrap();
            if ticket == light {
                break;
            }
            after_aging += usize::from(now > AGING);
            prop_assert!(after_aging <= 4 * (heavy.len() + 1));
            now += Duration::from_secs(lengths[session as usize % lengths.len()]);
            queue.leave(ticket, now);
        }
    }
}
