//! Every job, killed at every request that it makes: before the request is done, and after it is done and before the answer comes.
//!
//! The session is then the old one or the new one, and the same job again ends as if nothing had happened.

use std::collections::BTreeMap;

use mayfly_testkit::chaos_proxy::{Fate, Seen};
use mayfly_testkit::process::is_alive;
use mayfly_testkit::repo::{BareRepo, TestRepo};
use mayfly_testkit::sse::completed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::ground::{Ground, NAME, Order, State, events_of};
use super::session::Found;

type Request = (&'static str, Value);

/// A job, and what there is before it.
struct Case {
    /// The jobs that make the session, each of which must succeed.
    before: fn(&Ground) -> Vec<Request>,
    /// Whether somebody else pushes to the repository after them.
    news: bool,
    job: fn(&Ground) -> Request,
    /// A part of the job that is saved by itself, as a job of its own.
    first_half: Option<fn(&Ground) -> Request>,
    /// Who comes after the worker that was killed.
    next: Next,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            before: |_| Vec::new(),
            news: false,
            job: clone,
            first_half: None,
            next: Next::SameJob,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Next {
    /// The second attempt at the same job.
    SameJob,
    /// Another job that asks for the same.
    AnotherJob,
}

/// Where a session and its remote stand.
#[derive(Debug, Clone, PartialEq)]
struct Standing {
    session: Value,
    refs: BTreeMap<String, String>,
}

/// What a job makes that nobody disturbs.
struct Undisturbed {
    data: Value,
    requests: u64,
    before: Standing,
    between: Value,
    after: Standing,
}

fn clone(ground: &Ground) -> Request {
    ("/clone-repository", ground.clone_body(NAME))
}

fn changes(_: &Ground) -> Request {
    let files = json!([{"path": "made.txt", "content": "made\n"}, {"path": "README.md", "delete": true}]);
    ("/apply-changes", json!({"sessionId": NAME, "files": files}))
}

fn branch(ground: &Ground, more: Value) -> Request {
    let mut body = ground.body(more);
    body["userRequest"] = "Add a greeting".into();
    ("/create-branch", body)
}

fn commit(ground: &Ground, more: Value) -> Request {
    let mut body = ground.body(more);
    body["message"] = "Once".into();
    ("/commit-and-push", body)
}

/// Goes through all requests of the job.
async fn killed_at_every_request(case: Case) {
    let ground = Ground::in_a_bucket().await;
    let bare = ground.host.publish(&TestRepo::sample(), NAME);
    for (path, body) in (case.before)(&ground) {
        ground.done("before", path, body).await;
    }
    if case.news {
        bare.commit_behind_their_back("main", "theirs.txt", "theirs\n");
    }
    let before = ground.take("before", &bare).await;
    let (path, body) = (case.job)(&ground);
    let order = Order::new(path, body);
    let undisturbed = undisturbed(&ground, &bare, &before, (&case, &order)).await;
    let mut kills = 0;
    for number in 1.. {
        for after in [false, true] {
            let prefix = format!("{number}{}", if after { "-after" } else { "-before" });
            ground.lay_out(&prefix, &before, &bare).await;
            let Some(at) = killed(&ground, &prefix, &order, (number, after)).await else {
                assert_eq!(standing(&ground, &prefix, &bare).await, undisturbed.after);
                assert_eq!(kills, 2 * undisturbed.requests);
                return;
            };
            kills += 1;
            old_or_new(&standing(&ground, &prefix, &bare).await, &undisturbed, &at);
            goes_on(&ground, &prefix, &bare, (&case, &order), &undisturbed, &at).await;
        }
    }
}

async fn undisturbed(
    ground: &Ground,
    bare: &BareRepo,
    state: &State,
    (case, order): (&Case, &Order),
) -> Undisturbed {
    let before = standing(ground, "before", bare).await;
    let mut between = before.session.clone();
    if let Some(first_half) = case.first_half {
        ground.lay_out("half", state, bare).await;
        let (path, body) = first_half(ground);
        ground.done("half", path, body).await;
        between = standing(ground, "half", bare).await.session;
    }
    ground.lay_out("undisturbed", state, bare).await;
    let events = ground.run("undisturbed", order).await;
    Undisturbed {
        data: lasting(completed(&events)),
        requests: ground.chaos.requests(),
        before,
        between,
        after: standing(ground, "undisturbed", bare).await,
    }
}

/// Without the figures of what was received, which is less where an attempt before has left it in the storage.
fn lasting(data: &Value) -> Value {
    let mut data = data.clone();
    let fields = data.as_object_mut().unwrap();
    fields.retain(|name, _| !["objects", "receivedBytes"].contains(&name.as_str()));
    data
}

/// Starts the job, and kills the worker at the request of this number; says at which, or nothing where the job ended before.
async fn killed(
    ground: &Ground,
    prefix: &str,
    order: &Order,
    (number, after): (u64, bool),
) -> Option<String> {
    let (mut worker, base) = ground.worker(prefix).await;
    let id = worker.id();
    ground
        .chaos
        .script(move |seen: &Seen| match seen.number == number {
            false => Fate::Pass,
            true if after => Fate::RunAfter(Box::new(move || kill_and_see(id))),
            true => Fate::RunBefore(Box::new(move || kill_and_see(id))),
        });
    let events = events_of(&base, order).await;
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

async fn standing(ground: &Ground, prefix: &str, bare: &BareRepo) -> Standing {
    let found = Found::among(&ground.objects(prefix).await);
    Standing {
        session: found.map_or(Value::Null, |found| found.state()),
        refs: bare.refs(),
    }
}

#[track_caller]
fn old_or_new(now: &Standing, undisturbed: &Undisturbed, at: &str) {
    let Undisturbed {
        before,
        between,
        after,
        ..
    } = undisturbed;
    let sessions = [&before.session, between, &after.session];
    assert!(sessions.contains(&&now.session), "{at}: {now:?}");
    assert!([&before.refs, &after.refs].contains(&&now.refs), "{at}: {now:?}");
    // The remote is never behind the session.
    assert!(
        now.session != after.session || now.refs == after.refs,
        "{at}: {now:?}"
    );
}

/// Has a fresh worker do the job again: everything is as if there had been no kill.
async fn goes_on(
    ground: &Ground,
    prefix: &str,
    bare: &BareRepo,
    (case, order): (&Case, &Order),
    undisturbed: &Undisturbed,
    at: &str,
) {
    let again = match case.next {
        Next::SameJob => order.again(),
        Next::AnotherJob => order.as_another(),
    };
    let events = ground.run(prefix, &again).await;
    let last = events.last().map(|(_, event)| event);
    let succeeded =
        last.is_some_and(|event| matches!(event.body, mayfly_protocol::EventBody::Completed { .. }));
    assert!(succeeded, "{at}: {last:?}");
    let found = Found::among(&ground.objects(prefix).await).unwrap();
    assert!(!found.has_intent(), "{at}");
    let (now, mut then) = (found.state(), undisturbed.after.session.clone());
    if case.next == Next::SameJob {
        assert_eq!(lasting(completed(&events)), undisturbed.data, "{at}");
    } else {
        // It is one save more where the first job had made its own.
        then[0] = found.generation().into();
    }
    assert_eq!(now, then, "{at}");
    assert_eq!(bare.refs(), undisturbed.after.refs, "{at}");
    bare.fsck_strict();
    let left: Vec<_> = std::fs::read_dir(ground.tmp()).unwrap().flatten().collect();
    assert!(left.is_empty(), "{at}: {left:?}");
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
