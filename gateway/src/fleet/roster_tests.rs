//! The roster by hand, with times of our own.

use std::time::Duration;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn key(name: &str, incarnation: u64) -> WorkerKey {
    WorkerKey {
        url: format!("http://{name}:1").parse().unwrap(),
        incarnation,
    }
}

fn listed(names: &[&str]) -> Vec<Member> {
    let member = |name: &&str| Member {
        key: key(name, 0),
        process: None,
    };
    names.iter().map(member).collect()
}

fn process(name: &str, incarnation: u64) -> Member {
    Member {
        key: key(name, incarnation),
        process: Some(Process {
            pid: 7,
            used: UsedMark::default(),
        }),
    }
}

fn roster(names: &[&str], now: Instant) -> Roster {
    let mut roster = Roster::new(Pauses::default());
    let source = roster.add_source(None);
    roster.list(source, listed(names), false, now);
    roster
}

#[test]
fn the_longest_unused_is_next_and_a_refusal_puts_one_behind() {
    let now = Instant::now();
    let job = JobId::new_now();
    let mut roster = roster(&["a", "b"], now);
    let first = roster.take(&job).unwrap();
    let second = roster.take(&job).unwrap();
    assert_ne!(first, second);
    assert_eq!(roster.take(&job), None);
    roster.release(&first, Release::Refused(Aside::Busy), now, 1.0);
    assert!(!roster.has_free());
    assert_eq!(roster.next_due(true), Some(now + Duration::from_millis(50)));
    roster.release(&second, Release::Done, now, 1.0);
    let later = now + SECOND;
    for key in [&second, &first] {
        assert_eq!(roster.ask_next(false, later).as_ref(), Some(key));
        roster.told(key, Told::Idle, later, 1.0);
    }
    assert_eq!(roster.take(&job), Some(second));
    assert_eq!(roster.take(&job), Some(first));
}

#[test]
fn pauses_grow_until_a_job_begins() {
    let now = Instant::now();
    let mut roster = roster(&["a"], now);
    let mut pause = |release| {
        let key = roster.take(&JobId::new_now()).unwrap();
        if release == Release::Done {
            roster.began(&key);
        }
        roster.release(&key, release, now, 1.0);
        let due = roster.next_due(true).unwrap();
        let asked = roster.ask_next(true, due).unwrap();
        roster.told(&asked, Told::Idle, due, 1.0);
        (due - now).as_millis()
    };
    let refused = Release::Refused(Aside::Away);
    let pauses = [refused, refused, Release::Failed, Release::Done, refused].map(&mut pause);
    assert_eq!(pauses, [50, 100, 200, 25, 50]);
}

#[test]
fn a_worker_that_is_set_aside_gets_no_job_before_it_says_that_it_is_idle() {
    let now = Instant::now();
    let job = JobId::new_now();
    let mut roster = roster(&["a"], now);
    let key = roster.take(&job).unwrap();
    roster.release(&key, Release::Done, now, 1.0);
    assert_eq!(roster.ask_next(true, now), None, "its pause is not over");
    let later = now + SECOND;
    assert!(!roster.has_free());
    assert_eq!(roster.ask_next(true, later), Some(key.clone()));
    assert_eq!(roster.ask_next(true, later), None, "it is being asked");
    roster.told(&key, Told::Not(Aside::Away), later, 1.0);
    assert!(!roster.has_free());
    assert_eq!(
        roster.next_due(true),
        Some(later + Duration::from_nanos(26_562_500))
    );
    roster.ask_next(true, later + SECOND).unwrap();
    roster.told(&key, Told::Not(Aside::Faulty), later, 1.0);
    assert_eq!((roster.counts().set_aside, roster.counts().faulty), (1, 1));
    roster.ask_next(true, later + SECOND).unwrap();
    assert_eq!(roster.occupy(&key.url, &job), Some(key.clone()));
    roster.told(&key, Told::Idle, later, 1.0);
    assert!(!roster.has_free(), "it has a job, whatever it said");
}

#[test]
fn who_is_not_wanted_is_not_asked_while_enough_are_idle() {
    let now = Instant::now();
    let names: Vec<String> = (0..=IDLE_RESERVE).map(|number| format!("w{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut roster = roster(&names, now);
    let key = roster.take(&JobId::new_now()).unwrap();
    roster.release(&key, Release::Done, now, 1.0);
    let later = now + SECOND;
    assert_eq!(
        (roster.next_due(false), roster.ask_next(false, later)),
        (None, None)
    );
    assert_eq!(roster.ask_next(true, later), Some(key.clone()));
    roster.told(&key, Told::Idle, later, 1.0);
    for _ in 0..10 {
        let used = roster.take(&JobId::new_now()).unwrap();
        roster.release(&used, Release::Done, now, 1.0);
    }
    // Nine are missing from the reserve, so nine are asked, and not all at once that may be.
    for _ in 0..9 {
        assert!(roster.ask_next(false, later).is_some());
    }
    assert_eq!(roster.ask_next(false, later), None);
    assert!(roster.ask_next(true, later).is_some());
}

#[test]
fn a_worker_that_is_listed_no_more_goes_once_its_job_is_over() {
    let now = Instant::now();
    let mut roster = roster(&["a", "b"], now);
    let taken = roster.take(&JobId::new_now()).unwrap();
    roster.list(0, Vec::new(), false, now);
    assert_eq!(roster.counts().known, 1);
    assert!(!roster.is_hopeless());
    roster.release(&taken, Release::Done, now, 0.0);
    assert!(roster.is_hopeless());
}

#[test]
fn a_process_has_one_job_and_no_more_than_the_limit_have_one() {
    let now = Instant::now();
    let job = JobId::new_now();
    let mut roster = Roster::new(Pauses::default());
    let source = roster.add_source(Some(1));
    assert!(!roster.is_hopeless(), "it has not spoken yet");
    roster.list(source, vec![process("a", 1), process("b", 2)], true, now);
    let first = roster.take(&job).unwrap();
    assert!(!roster.has_free());
    roster.release(&first, Release::Done, now, 0.0);
    let second = roster.take(&job).unwrap();
    assert_ne!(first, second);
    roster.release(&second, Release::Failed, now, 0.0);
    assert_eq!(roster.take(&job), None);
    roster.list(source, vec![process("a", 3)], true, now);
    assert_eq!(
        roster.take(&job),
        Some(key("a", 3)),
        "another process at the same address"
    );
}

#[test]
fn counts_tell_who_is_what() {
    let now = Instant::now();
    let mut roster = roster(&["a", "b", "c"], now);
    let taken = [(); 2].map(|()| roster.take(&JobId::new_now()).unwrap());
    roster.release(&taken[0], Release::Failed, now, 0.0);
    let expected = Counts {
        known: 3,
        idle: 1,
        busy: 1,
        set_aside: 1,
        faulty: 1,
    };
    assert_eq!(roster.counts(), expected);
}
