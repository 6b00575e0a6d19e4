//! Every job, killed at every request that it makes: before the request is done, and after it is done and before the answer comes.
//!
//! The session is then the old one or the new one, and the same job again ends as if nothing had happened. A collection of garbage leaves nothing
//! that nobody names.

use mayfly_testkit::chaos_proxy::{Fate, Seen};
use mayfly_testkit::process::is_alive;
use mayfly_testkit::sse::completed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::ground::events_of;
use super::jobs::over_all_jobs;
use super::trial::{Case, Trial};

/// Goes through all requests of the job.
async fn killed_at_every_request(case: Case) {
    let trial = Trial::of(case).await;
    let mut kills = 0;
    for number in 1.. {
        for after in [false, true] {
            let prefix = format!("{number}{}", if after { "-after" } else { "-before" });
            trial.lay_out(&prefix).await;
            let Some(at) = killed(&trial, &prefix, (number, after)).await else {
                assert!(trial.is_done(&trial.standing(&prefix).await));
                assert_eq!(kills, 2 * trial.requests());
                return;
            };
            kills += 1;
            trial.assert_old_or_new(&trial.standing(&prefix).await, &at);
            trial.goes_on(&prefix, &at).await;
            trial.ground.assert_no_orphans(&prefix, &at).await;
        }
    }
}

/// Starts the job, and kills the worker at the request of this number; says at which, or nothing where the job ended before.
async fn killed(trial: &Trial, prefix: &str, (number, after): (u64, bool)) -> Option<String> {
    let ground = &trial.ground;
    let (mut worker, base) = ground.worker(prefix).await;
    let id = worker.id();
    ground
        .chaos
        .script(move |seen: &Seen| match seen.number == number {
            false => Fate::Pass,
            true => kill_at(id, after),
        });
    let events = events_of(&base, &trial.order).await;
    let status = worker.ended().await;
    let seen = ground.chaos.seen();
    ground.chaos.behave();
    let at = usize::try_from(number).unwrap() - 1;
    let Some(seen) = seen.get(at) else {
        completed(&events);
        assert_eq!(status.code(), Some(0), "{}", worker.stderr());
        return None;
    };
    assert_eq!(status.code(), None, "the worker outlived its kill");
    let when = if after { "after" } else { "before" };
    Some(format!("killed {when} request {seen}"))
}

/// The process dies before the request is done, or after it and before its answer.
pub(super) fn kill_at(id: u32, after: bool) -> Fate {
    let hook = Box::new(move || kill_and_see(id));
    match after {
        true => Fate::RunAfter(hook),
        false => Fate::RunBefore(hook),
    }
}

/// Returns when the process is dead.
fn kill_and_see(id: u32) {
    kill(Pid::from_raw(id.cast_signed()), Signal::SIGKILL).unwrap();
    while is_alive(id) {
        std::thread::yield_now();
    }
}

over_all_jobs!(killed_at_every_request);
