//! Two workers at once on one session: both have read the same state before either goes on, and one of them wins.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};

use mayfly_protocol::{ErrorCode, EventBody};
use mayfly_testkit::chaos_proxy::{Fate, Seen};
use mayfly_testkit::repo::{BareRepo, TestRepo};
use mayfly_testkit::sse::{Numbered, failed, read_whole};
use mayfly_testkit::wait::PATIENCE;
use serde_json::{Value, json};

use super::ground::{Ground, NAME, Order, REPOSITORY, post};

const ROUNDS: usize = 200;
/// Rounds on one session, so that its packs stay few.
const ROUNDS_OF_A_SESSION: usize = 20;

/// Where both are when they have read the session.
#[derive(Clone, Copy, PartialEq)]
enum Meet {
    /// They read its manifest.
    AtTheManifest,
    /// They have read it, and ask the remote for its refs.
    AtTheRemote,
}

impl Meet {
    fn is_at(self, seen: &Seen) -> bool {
        let path = seen.head.uri.path();
        match self {
            Self::AtTheManifest => {
                seen.proxy == "s3" && seen.head.method == "GET" && path.ends_with("/manifest.json")
            }
            Self::AtTheRemote => seen.proxy == "git" && path.ends_with("/info/refs"),
        }
    }
}

/// Holds the first of two until the second is there.
#[derive(Default)]
struct Meeting {
    here: Mutex<usize>,
    changed: Condvar,
}

impl Meeting {
    fn wait(&self) {
        let mut here = self.here.lock().unwrap();
        *here += 1;
        self.changed.notify_all();
        let waiting = self.changed.wait_timeout_while(here, PATIENCE, |here| *here < 2);
        assert!(!waiting.unwrap().1.timed_out(), "the other one did not come");
    }
}

impl Ground {
    /// From now on, lets the first two who come to that point go on together.
    fn arrange(&self, at: Meet) {
        let meeting = Arc::new(Meeting::default());
        let mut come = 0;
        self.chaos.script(move |seen| {
            if come == 2 || !at.is_at(seen) {
                return Fate::Pass;
            }
            come += 1;
            let meeting = Arc::clone(&meeting);
            Fate::Hold(Box::new(move || tokio::task::block_in_place(|| meeting.wait())))
        });
    }
}

fn apply(name: &str) -> Order {
    let files = json!([{"path": name, "content": "x\n"}]);
    Order::new("/apply-changes", json!({"sessionId": NAME, "files": files}))
}

fn commit(ground: &Ground, message: &str) -> Order {
    Order::new("/commit-and-push", ground.body(json!({"message": message})))
}

fn branch(ground: &Ground, name: &str) -> Order {
    let body = ground.body(json!({"branchName": name, "userRequest": "x"}));
    Order::new("/create-branch", body)
}

fn pull(ground: &Ground) -> Order {
    Order::new("/clone-repository", ground.clone_body(NAME))
}

/// Who meets whom in a round; where they meet at the remote, both have to ask it.
fn pair(ground: &Ground, at: Meet, round: usize) -> [Order; 2] {
    let named = |what: &str| format!("{what}-{round}");
    match (round % 5, at) {
        (0, Meet::AtTheManifest) => [apply(&named("a")), apply(&named("b"))],
        (3, Meet::AtTheManifest) => [apply(&named("a")), pull(ground)],
        (0, Meet::AtTheRemote) => [pull(ground), pull(ground)],
        (1, _) => [commit(ground, &named("a")), commit(ground, &named("b"))],
        (2, _) => [branch(ground, &named("a")), branch(ground, &named("b"))],
        (3, Meet::AtTheRemote) => [branch(ground, &named("a")), pull(ground)],
        _ => [commit(ground, &named("a")), branch(ground, &named("b"))],
    }
}

async fn carry_out(ground: &Ground, prefix: &str, order: &Order) -> Vec<Numbered> {
    let (mut worker, base) = ground.worker(prefix).await;
    let events = read_whole(post(&base, order).await.unwrap()).await;
    assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.stderr());
    events
}

/// The answer of the one that won; the other has lost to it.
#[track_caller]
fn winner(round: usize, rivals: &[Vec<Numbered>; 2]) -> Value {
    let answer = |events: &[Numbered]| match &events.last().unwrap().1.body {
        EventBody::Completed { data } => Some(data.clone()),
        _ => None,
    };
    let (loser, data) = match [answer(&rivals[0]), answer(&rivals[1])] {
        [Some(data), None] => (&rivals[1], data),
        [None, Some(data)] => (&rivals[0], data),
        both_or_none => panic!("round {round}: {both_or_none:?}: {rivals:?}"),
    };
    let failure = failed(loser);
    assert_eq!(
        failure.code,
        ErrorCode::SessionConflict,
        "round {round}: {failure:?}"
    );
    assert!(failure.retryable);
    data
}

async fn manifest(ground: &Ground, prefix: &str) -> Value {
    let key = format!("{prefix}/tenants/default/sessions/{NAME}/manifest.json");
    let object = ground.storage.get(&key.parse().unwrap(), 1 << 20).await.unwrap();
    serde_json::from_slice(&object.bytes).unwrap()
}

/// What the remote holds after the winner has done its job.
fn after(mut refs: BTreeMap<String, String>, data: &Value) -> BTreeMap<String, String> {
    if data["pushed"] == true {
        let commit = data.get("commitSha").unwrap_or(&data["headSha"]);
        let name = format!("refs/heads/{}", data["branch"].as_str().unwrap());
        refs.insert(name, commit.as_str().unwrap().to_owned());
    }
    refs
}

async fn round(ground: &Ground, bare: &BareRepo, at: Meet, number: usize) {
    let prefix = format!("s{}", number / ROUNDS_OF_A_SESSION);
    if number.is_multiple_of(ROUNDS_OF_A_SESSION) {
        ground.run(&prefix, &pull(ground)).await;
    }
    if at == Meet::AtTheRemote && [1, 4].contains(&(number % 5)) {
        ground.run(&prefix, &apply(&format!("made-{number}"))).await;
    }
    let (before, refs) = (manifest(ground, &prefix).await, bare.refs());
    let [one, other] = pair(ground, at, number);
    ground.arrange(at);
    let rivals = tokio::join!(
        carry_out(ground, &prefix, &one),
        carry_out(ground, &prefix, &other)
    );
    let data = winner(number, &rivals.into());
    let now = manifest(ground, &prefix).await;
    assert_eq!(
        now["generation"].as_u64(),
        before["generation"].as_u64().map(|it| it + 1),
        "round {number}"
    );
    assert_eq!(now["intent"], Value::Null, "round {number}");
    assert_eq!(bare.refs(), after(refs, &data), "round {number}");
    let branch = now["branch"].as_str().unwrap();
    assert_eq!(now["head"], bare.rev_parse(branch).as_str(), "round {number}");
}

async fn rounds(ground: &Ground, at: Meet) {
    let bare = ground.host.publish(&TestRepo::sample(), REPOSITORY);
    for number in 0..ROUNDS {
        round(ground, &bare, at, number).await;
    }
    bare.fsck_strict();
    assert_eq!(std::fs::read_dir(ground.tmp()).unwrap().count(), 0);
}

/// A job that reads the remote after its rival has done all of its work is told of the session, not of the remote.
async fn a_late_one_is_told_of_the_session(late: Order, prompt: Order, ground: &Ground) {
    let prefix = "late";
    let meeting = Arc::new(Meeting::default());
    let (there, held) = (Arc::clone(&meeting), tokio::sync::oneshot::channel());
    let mut arrived = Some(held.0);
    ground
        .chaos
        .script(move |seen| match Meet::AtTheRemote.is_at(seen) {
            true if arrived.is_some() => {
                // The one who waits for it is gone only when the test has failed.
                let _gone = arrived.take().map(|it| it.send(()));
                let meeting = Arc::clone(&there);
                Fate::Alter(Box::new(move |_| tokio::task::block_in_place(|| meeting.wait())))
            }
            _ => Fate::Pass,
        });
    let prompt = async {
        held.1.await.unwrap();
        let events = carry_out(ground, prefix, &prompt).await;
        tokio::task::block_in_place(|| meeting.wait());
        events
    };
    let rivals = tokio::join!(carry_out(ground, prefix, &late), prompt);
    winner(0, &rivals.into());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_late_to_the_remote_has_lost_to_the_session() {
    let ground = Ground::in_a_folder().await;
    ground.host.publish(&TestRepo::sample(), REPOSITORY);
    for order in [pull(&ground), apply("made")] {
        ground.run("late", &order).await;
    }
    let [late, prompt] = ["a", "b"].map(|message| commit(&ground, message));
    a_late_one_is_told_of_the_session(late, prompt, &ground).await;
    let [late, prompt] = [0, 1].map(|_| branch(&ground, "mine"));
    a_late_one_is_told_of_the_session(late, prompt, &ground).await;
}

/// The prefixes of the sessions that they met in.
fn prefixes() -> impl Iterator<Item = String> {
    (0..ROUNDS / ROUNDS_OF_A_SESSION).map(|number| format!("s{number}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_wins_in_a_bucket() {
    let ground = Ground::in_a_bucket().await;
    rounds(&ground, Meet::AtTheManifest).await;
    for prefix in prefixes() {
        ground.chaos.behave();
        ground.assert_no_orphans(&prefix, &prefix).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_wins_in_a_folder() {
    let ground = Ground::in_a_folder().await;
    rounds(&ground, Meet::AtTheRemote).await;
    assert_eq!(ground.storage.unfinished().await.unwrap(), vec![]);
    // A collection goes by the clock of its storage, which can be set for a server alone.
    let bucket = Ground::in_a_bucket().await;
    for prefix in prefixes() {
        bucket.fill(&prefix, &ground.objects(&prefix).await).await;
        bucket.assert_no_orphans(&prefix, &prefix).await;
    }
}
