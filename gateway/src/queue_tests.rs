//! The queue against a plain model, under any order of events.

use proptest::prelude::*;

use super::*;

fn lane(session: u8) -> Lane {
    Lane {
        tenant: TenantId::default(),
        session: format!("s{session}").parse().unwrap(),
    }
}

fn every(_: WorkerKind) -> bool {
    true
}

#[test]
fn positions_count_up_and_say_what_holds_the_job_back() {
    let mut queue = Queue::new(10);
    let tickets = [1, 1, 2].map(|session| queue.admit(WorkerKind::Git, lane(session)).unwrap());
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
    assert_eq!(queue.next(every), Some((tickets[0], WorkerKind::Git)));
    assert_eq!(queue.position(tickets[0]), None);
    assert_eq!(queue.position(tickets[2]).unwrap().number, 2);
}

#[test]
fn a_job_that_was_put_back_is_next_again_and_holds_its_session() {
    let mut queue = Queue::new(10);
    let first = queue.admit(WorkerKind::Git, lane(1)).unwrap();
    let later = queue.admit(WorkerKind::Git, lane(1)).unwrap();
    let other = queue.admit(WorkerKind::Git, lane(2)).unwrap();
    assert_eq!(queue.next(every).unwrap().0, first);
    queue.put_back(first);
    assert_eq!(queue.next(every).unwrap().0, first);
    assert_eq!(queue.next(every).unwrap().0, other);
    assert_eq!(queue.next(every), None);
    queue.leave(first);
    assert_eq!(queue.next(every).unwrap().0, later);
}

#[test]
fn a_session_keeps_its_order_across_kinds_of_worker() {
    let mut queue = Queue::new(10);
    let git = queue.admit(WorkerKind::Git, lane(1)).unwrap();
    queue.admit(WorkerKind::Code, lane(1)).unwrap();
    assert_eq!(queue.next(|kind| kind == WorkerKind::Code), None);
    queue.leave(git);
    assert_eq!(
        queue.next(|kind| kind == WorkerKind::Code).unwrap().1,
        WorkerKind::Code
    );
}

#[test]
fn a_full_queue_of_one_kind_does_not_refuse_the_other() {
    let mut queue = Queue::new(1);
    queue.admit(WorkerKind::Git, lane(1)).unwrap();
    assert_eq!(
        queue.admit(WorkerKind::Git, lane(2)),
        Err(QueueFull { waiting: 1 })
    );
    assert!(queue.admit(WorkerKind::Code, lane(2)).is_ok());
}

#[derive(Debug, Clone)]
enum Step {
    Admit(bool, u8),
    Next(bool, bool),
    PutBack(usize),
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), 0..5_u8).prop_map(|(code, session)| Step::Admit(code, session)),
        4 => (any::<bool>(), any::<bool>()).prop_map(|(git, code)| Step::Next(git, code)),
        1 => any::<usize>().prop_map(Step::PutBack),
        3 => any::<usize>().prop_map(Step::Leave),
    ]
}

/// Every job in the order of arrival: the plainest form of the rules.
#[derive(Default)]
struct Model {
    jobs: Vec<Modelled>,
}

#[derive(Clone)]
struct Modelled {
    ticket: Ticket,
    kind: WorkerKind,
    session: u8,
    running: bool,
}

impl Model {
    fn next(&mut self, is_free: impl Fn(WorkerKind) -> bool) -> Option<(Ticket, WorkerKind)> {
        let earlier = |index: usize, session| self.jobs[..index].iter().any(|job| job.session == session);
        let runs = |session| self.jobs.iter().any(|job| job.running && job.session == session);
        let index = (0..self.jobs.len()).find(|index| {
            let job = &self.jobs[*index];
            !job.running && is_free(job.kind) && !runs(job.session) && !earlier(*index, job.session)
        })?;
        self.jobs[index].running = true;
        Some((self.jobs[index].ticket, self.jobs[index].kind))
    }
}

proptest! {
    #[test]
    fn the_queue_does_what_the_model_does(steps in proptest::collection::vec(step(), 0..200)) {
        const CAPACITY: usize = 8;
        let (mut queue, mut model) = (Queue::new(CAPACITY), Model::default());
        for step in steps {
            match step {
                Step::Admit(code, session) => {
                    let kind = if code { WorkerKind::Code } else { WorkerKind::Git };
                    let waiting = model.jobs.iter().filter(|job| !job.running && job.kind == kind).count();
                    prop_assert_eq!(queue.waiting(kind), waiting);
                    match queue.admit(kind, lane(session)) {
                        Ok(ticket) => {
                            prop_assert!(waiting < CAPACITY);
                            model.jobs.push(Modelled { ticket, kind, session, running: false });
                        }
                        Err(_) => prop_assert!(waiting >= CAPACITY),
                    }
                }
                Step::Next(git, code) => {
                    let is_free = |kind| if kind == WorkerKind::Git { git } else { code };
                    prop_assert_eq!(queue.next(is_free), model.next(is_free));
                }
                Step::PutBack(pick) => {
                    let running: Vec<usize> = (0..model.jobs.len()).filter(|i| model.jobs[*i].running).collect();
                    if !running.is_empty() {
                        let index = running[pick % running.len()];
                        model.jobs[index].running = false;
                        queue.put_back(model.jobs[index].ticket);
                    }
                }
                Step::Leave(pick) if !model.jobs.is_empty() => {
                    let gone = model.jobs.remove(pick % model.jobs.len());
                    queue.leave(gone.ticket);
                    prop_assert_eq!(queue.position(gone.ticket), None);
                }
                Step::Leave(_) => {}
            }
        }
        for job in std::mem::take(&mut model.jobs) {
            queue.leave(job.ticket);
        }
        prop_assert!(queue.entries.is_empty() && queue.lanes.is_empty(), "nothing leaks");
        prop_assert!(queue.kinds[WorkerKind::Git].runnable.is_empty());
    }
}
