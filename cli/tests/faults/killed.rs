//! Every job, killed at every request that it makes: before the request is done, and after it is done and before the answer comes.
//!
//! The session is then the old one or the new one, and the same job again ends as if nothing had happened.

use mayfly_testkit::chaos_proxy::{Fate, Seen};
use mayfly_testkit::process::is_alive;
use mayfly_testkit::sse::completed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::ground::events_of;
use super::trial::{Case, Next, Trial, branch, changes, clone, commit};

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
            true if after => Fate::RunAfter(Box::new(move || kill_and_see(id))),
            true => Fate::RunBefore(Box::new(move || kill_and_see(id))),
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

/// Returns when the process is dead.
fn kill_and_see(id: u32) {
    kill(Pid::from_raw(id.cast_signed()), Signal::SIGKILL).unwrap();
    while is_alive(id) {
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_clone_of_an_unknown_repository() {
    killed_at_every_request(Case::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_clone_of_a_known_repository() {
    killed_at_every_request(Case {
        before: |ground| vec![("/clone-repository", ground.clone_body("other"))],
        news: true,
        ..Case::default()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_pull() {
    killed_at_every_request(Case {
        before: |ground| vec![clone(ground), changes(ground)],
        news: true,
        ..Case::default()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_changes() {
    killed_at_every_request(Case {
        before: |ground| vec![clone(ground)],
        job: changes,
        ..Case::default()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_pushed_branch() {
    killed_at_every_request(Case {
        before: |ground| vec![clone(ground)],
        job: |ground| branch(ground, json!({})),
        ..Case::default()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_branch_of_the_session_alone() {
    killed_at_every_request(Case {
        before: |ground| {
            vec![
                clone(ground),
                changes(ground),
                commit(ground, json!({"push": false})),
            ]
        },
        job: |ground| branch(ground, json!({"push": false})),
        ..Case::default()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_pushed_branch_with_commits() {
    killed_at_every_request(Case {
        before: |ground| {
            vec![
                clone(ground),
                changes(ground),
                commit(ground, json!({"push": false})),
            ]
        },
        job: |ground| branch(ground, json!({"branchName": "mine"})),
        ..Case::default()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_branch_that_clones_first() {
    killed_at_every_request(Case {
        job: |ground| branch(ground, json!({"repoUrl": ground.repo_url()})),
        first_half: Some(clone),
        ..Case::default()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_pushed_commit() {
    killed_at_every_request(Case {
        before: |ground| vec![clone(ground), changes(ground)],
        job: |ground| commit(ground, json!({})),
        ..Case::default()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_pushed_commit_before_another_job() {
    killed_at_every_request(Case {
        before: |ground| vec![clone(ground), changes(ground)],
        job: |ground| commit(ground, json!({})),
        next: Next::AnotherJob,
        ..Case::default()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_commit_of_the_session_alone() {
    killed_at_every_request(Case {
        before: |ground| vec![clone(ground), changes(ground)],
        job: |ground| commit(ground, json!({"push": false})),
        ..Case::default()
    })
    .await;
}
