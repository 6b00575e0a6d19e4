//! The storage fails at every request of every job: once, and from one request on for good.
//!
//! What it does wrong once, nobody notices. What stays wrong ends the job, which gives up, with an error that may be retried; the session is then
//! the old one or the new one, and the same job again ends as if nothing had happened.

use mayfly_protocol::{ErrorCode, EventBody};
use mayfly_testkit::chaos_proxy::{Fate, Refusal, Seen};
use mayfly_testkit::sse::{Numbered, failed, read_whole};
use reqwest::Method;

use super::ground::{post, started};
use super::jobs::over_jobs;
use super::trial::{Case, Trial};

/// What the workers here give the storage for one attempt of a request, in seconds: more where it is to answer.
const PATIENT: &str = "2";
const IMPATIENT: &str = "0.4";

/// What goes wrong: what it is called, how patient the worker is, and what happens at a request so many after the first.
type Wrong = (&'static str, &'static str, fn(&Seen, u64) -> Fate);

/// Two kinds of refusal, one after the other.
const REFUSED: Wrong = ("refused", PATIENT, |_, after| match after {
    0 => Fate::Answer(Refusal::internal_error()),
    1 => Fate::Answer(Refusal::slow_down()),
    _ => Fate::Pass,
});
const SILENT_ONCE: Wrong = ("silent", IMPATIENT, |_, after| match after {
    0 => Fate::Stall,
    _ => Fate::Pass,
});
/// Done, and the answer is cut short: within what is read, before the head of what has no body.
const CUT_ONCE: Wrong = ("cut", PATIENT, |seen, after| match after {
    0 if seen.head.method == Method::GET => Fate::CutAnswer(1),
    0 => Fate::LoseAnswer,
    _ => Fate::Pass,
});

const REFUSING: Wrong = ("refusing", PATIENT, |_, _| Fate::Answer(Refusal::slow_down()));
const CUTTING: Wrong = ("cutting", PATIENT, |_, _| Fate::LoseAnswer);
const SILENT: Wrong = ("silence", IMPATIENT, |_, _| Fate::Stall);

async fn fails_at_every_request(case: Case) {
    let trial = Trial::of(case).await;
    let last = trial.storage_requests();
    for number in 1..=last {
        for wrong in [REFUSED, SILENT_ONCE, CUT_ONCE] {
            once(&trial, number, wrong).await;
        }
    }
    let middle = last.div_ceil(2);
    let for_good_from = [
        (1, REFUSING),
        (middle, REFUSING),
        (last - 1, REFUSING),
        (middle, CUTTING),
        (last - 1, CUTTING),
        (middle, SILENT),
    ];
    for (number, wrong) in for_good_from {
        for_good(&trial, number, wrong).await;
    }
}

async fn once(trial: &Trial, number: u64, wrong: Wrong) {
    let prefix = format!("{number}-{}", wrong.0);
    trial.lay_out(&prefix).await;
    let (events, at) = disturbed(trial, &prefix, wrong, number).await;
    trial.assert_same_data(&events, &at);
    let now = trial.standing(&prefix).await;
    assert!(trial.is_done(&now), "{at}: {now:?}");
}

async fn for_good(trial: &Trial, number: u64, wrong: Wrong) {
    let prefix = format!("from-{number}-{}", wrong.0);
    trial.lay_out(&prefix).await;
    let (events, at) = disturbed(trial, &prefix, wrong, number).await;
    let now = trial.standing(&prefix).await;
    if number > 1 && trial.is_done(&now) && is_completed(&events) {
        // Only what is no part of the session was still to be written, such as the outcome.
        trial.assert_same_data(&events, &at);
    } else {
        let failure = failed(&events);
        let (code, retryable) = (failure.code, failure.retryable);
        assert_eq!(
            (code, retryable),
            (ErrorCode::StorageUnavailable, true),
            "{at}: {failure:?}"
        );
    }
    trial.assert_old_or_new(&now, &at);
    trial.goes_on(&prefix, &at).await;
}

fn is_completed(events: &[Numbered]) -> bool {
    let last = events.last().map(|(_, event)| &event.body);
    matches!(last, Some(EventBody::Completed { .. }))
}

/// Has a worker do the job while the storage does wrong from its request of this number on, counted from 1; gives what came of it, and where that
/// began.
async fn disturbed(
    trial: &Trial,
    prefix: &str,
    (name, timeout, fate): Wrong,
    number: u64,
) -> (Vec<Numbered>, String) {
    let launch = trial.ground.launch(&[env!("CARGO_BIN_EXE_mayfly")], prefix);
    let launch = launch
        .env("STORAGE_TIMEOUT_SECS", timeout)
        .env("STORAGE_IDLE_SECS", timeout);
    let (mut worker, base) = started(launch).await;
    let (begun, at) = std::sync::mpsc::channel();
    let mut requests = 0_u64;
    trial.ground.chaos.script(move |seen: &Seen| {
        if seen.proxy != "s3" {
            return Fate::Pass;
        }
        requests += 1;
        let Some(after) = requests.checked_sub(number) else {
            return Fate::Pass;
        };
        // Nobody listens any more where the test has failed.
        let _unheard = begun.send(format!("{name} at request {seen}"));
        fate(seen, after)
    });
    let events = read_whole(post(&base, &trial.order).await.unwrap()).await;
    assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.stderr());
    trial.ground.chaos.behave();
    let at = at.try_recv();
    (events, at.expect("the storage did nothing wrong"))
}

over_jobs! {
    in_a_clone_of_an_unknown_repository
    in_a_clone_of_a_known_repository
    in_a_pull
    in_changes
    in_changes_with_lfs
    in_a_pushed_branch
    in_a_pushed_commit
    => fails_at_every_request
}
