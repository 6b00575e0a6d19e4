//! What is small on the wire and large when it is unpacked: it stops at a limit that has its own code, in a worker that the system itself
//! keeps from having more memory.

use std::time::Duration;

use mayfly_protocol::ErrorCode;
use mayfly_testkit::git;
use mayfly_testkit::git_host::{Fault, On};
use mayfly_testkit::pack::{self, Kind, Pack, chain, fetch_answer};
use mayfly_testkit::repo::{BareRepo, TestRepo};
use mayfly_testkit::sse::{Numbered, completed, failed, read_whole};
use serde_json::{Value, json};

use super::ground::{Ground, NAME, Order, REPOSITORY, post, started};

/// Bytes of anonymous memory that a worker may have (RLIMIT_DATA); one that wants more is killed by its own allocator, and its stream breaks off.
const MEMORY: &str = "--data=268435456";
/// Bytes of the largest object that the workers take.
const MAX_OBJECT_BYTES: u64 = 64 << 20;

/// Has a worker with little memory do the job.
async fn run(ground: &Ground, order: &Order) -> Vec<Numbered> {
    let command = ["prlimit", MEMORY, env!("CARGO_BIN_EXE_mayfly")];
    let launch = ground.launch(&command, "s");
    let launch = launch.env("MAX_OBJECT_BYTES", MAX_OBJECT_BYTES.to_string());
    let (mut worker, base) = started(launch).await;
    let events = read_whole(post(&base, order).await.unwrap()).await;
    assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.stderr());
    events
}

fn clone(ground: &Ground) -> Order {
    Order::new("/clone-repository", ground.clone_body(NAME))
}

/// Has the host answer fetches with this pack.
fn serve(ground: &Ground, pack: &[u8]) {
    ground.host.behave();
    let answer = fetch_answer(pack);
    // Each fetch lists the refs first; one that is too large with all its history is tried again without.
    for _ in 0..2 {
        let as_it_is = Fault::Trickle {
            bytes: 1 << 20,
            every: Duration::ZERO,
        };
        ground.host.fail_times(On::UploadPack, 1, as_it_is);
        ground
            .host
            .fail_times(On::UploadPack, 1, Fault::Lie(answer.clone()));
    }
}

async fn refused(ground: &Ground, code: ErrorCode, what: &str) {
    let events = run(ground, &clone(ground)).await;
    assert_eq!(failed(&events).code, code, "{what}: {:?}", failed(&events));
    let stored = ground.objects("s").await;
    let kept: Vec<_> = stored
        .iter()
        .map(|(key, _)| key)
        // Besides the outcome there is the note of the worker that has proved the store.
        .filter(|key| !key.contains("/jobs/") && !key.starts_with("mayfly-probe/"))
        .collect();
    assert!(kept.is_empty(), "{what}: {kept:?}");
}

/// Many deltas, each of which makes the largest object that is allowed.
fn many_large() -> Vec<u8> {
    let mut pack = Pack::new();
    let content = [b'x'; 1 << 16];
    let base = pack.blob(&content);
    let larger = pack.grown(base, 1 << 16, 8 << 20);
    for _ in 0..17_000 {
        pack.grown(larger, 8 << 20, MAX_OBJECT_BYTES);
    }
    pack.finish()
}

/// A repository of ten folders in each of ten folders, ten deep, each with the same ten files.
fn tree_of_ten_thousand_million_files(bare: &BareRepo) {
    let mut pack = Pack::new();
    let (_, mut id) = pack.object(Kind::Blob, b"x\n");
    let mut mode = "100644";
    for _ in 0..10 {
        let mut tree = Vec::new();
        for name in b'0'..=b'9' {
            tree.extend_from_slice(format!("{mode} {}\0", char::from(name)).as_bytes());
            tree.extend_from_slice(&id);
        }
        (_, id) = pack.object(Kind::Tree, &tree);
        mode = "40000";
    }
    let tree: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let who = "x <x@example.com> 1700000000 +0000";
    let text = format!("tree {tree}\nauthor {who}\ncommitter {who}\n\nForged\n");
    let (_, commit) = pack.object(Kind::Commit, text.as_bytes());
    let commit: String = commit.iter().map(|byte| format!("{byte:02x}")).collect();
    let file = bare.path().join("forged");
    std::fs::write(&file, pack.finish()).unwrap();
    let input = std::fs::File::open(file).unwrap();
    git::stdout(
        git::command(bare.path())
            .args(["index-pack", "--stdin"])
            .stdin(input),
    );
    bare.text(&["update-ref", "refs/heads/main", &commit]);
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_remote() {
    let ground = Ground::in_a_folder().await;
    let bare = ground.host.publish(&TestRepo::sample(), REPOSITORY);
    let (small, _) = chain(4 << 30);
    assert!(small.len() < 4096, "{}", small.len());
    for (pack, code, what) in [
        (small, ErrorCode::ObjectTooLarge, "a chain of deltas"),
        (many_large(), ErrorCode::RepositoryTooLarge, "many large objects"),
        (
            Pack::new().finish_claiming(u32::MAX),
            ErrorCode::TooManyObjects,
            "more objects than there can be",
        ),
        (
            Pack::new().finish_claiming(1_000_000),
            ErrorCode::RemoteProtocol,
            "a million objects that do not come",
        ),
    ] {
        serve(&ground, &pack);
        refused(&ground, code, what).await;
    }
    ground.host.behave();
    tree_of_ten_thousand_million_files(&bare);
    refused(&ground, ErrorCode::TreeTooLarge, "a tree that is a bomb").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn zeros_from_a_real_server() {
    let ground = Ground::in_a_folder().await;
    let repo = TestRepo::sample();
    let file = std::fs::File::create(repo.path().join("zeros")).unwrap();
    file.set_len(2 * MAX_OBJECT_BYTES).unwrap();
    repo.commit("Zeros");
    ground.host.publish(&repo, REPOSITORY);
    refused(&ground, ErrorCode::ObjectTooLarge, "zeros").await;
    assert!(ground.host.bytes_sent() < 1 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_place_of_a_stored_pack() {
    let ground = Ground::in_a_folder().await;
    ground.host.publish(&TestRepo::sample(), REPOSITORY);
    completed(&run(&ground, &clone(&ground)).await);
    let body = json!({"sessionId": NAME, "files": [{"path": "a.txt", "content": "a\n"}]});
    let apply = Order::new("/apply-changes", body);
    completed(&run(&ground, &apply).await);
    let (bomb, _) = chain(4 << 30);
    for (key, _) in ground.objects("s").await {
        if !key.ends_with(".pack") {
            continue;
        }
        let key = format!("s/{key}").parse().unwrap();
        let none = mayfly_storage::Precondition::None;
        ground.storage.put(&key, bomb.clone().into(), none).await.unwrap();
    }
    let events = run(&ground, &apply.as_another()).await;
    assert_eq!(failed(&events).code, ErrorCode::SessionDamaged);
}

/// Puts a bomb in the place of every pack of a kind that the session lists, with an index and a manifest that fit it.
async fn forge(ground: &Ground, kind: &str) {
    let (bomb, starts) = chain(4 << 30);
    let ids = (0..).map(|number: u8| [number; 20]);
    let entries: Vec<_> = ids.zip(starts).collect();
    let index = pack::index(&bomb, &entries);
    let key = format!("s/tenants/default/sessions/{NAME}/manifest.json");
    let objects = ground.objects("s").await;
    let (_, stored) = objects
        .iter()
        .find(|(key, _)| key.ends_with("/manifest.json"))
        .unwrap();
    let mut manifest: Value = serde_json::from_slice(stored).unwrap();
    let packs = manifest["packs"].as_array_mut().unwrap();
    let mut forged = 0;
    for entry in packs.iter_mut().filter(|entry| entry["kind"] == kind) {
        for (suffix, content) in [("pack", &bomb), ("idx", &index)] {
            let end = format!("/packs/{}.{suffix}", entry["name"].as_str().unwrap());
            let (key, _) = objects.iter().find(|(key, _)| key.ends_with(&end)).unwrap();
            overwrite(ground, &format!("s/{key}"), content.clone()).await;
        }
        let hash: String = bomb[bomb.len() - 20..]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        entry["hash"] = hash.into();
        entry["objects"] = entries.len().into();
        entry["packBytes"] = bomb.len().into();
        entry["indexBytes"] = index.len().into();
        forged += 1;
    }
    assert!(forged > 0);
    overwrite(ground, &key, serde_json::to_vec(&manifest).unwrap()).await;
}

async fn overwrite(ground: &Ground, key: &str, content: Vec<u8>) {
    let none = mayfly_storage::Precondition::None;
    let key = key.parse().unwrap();
    ground.storage.put(&key, content.into(), none).await.unwrap();
}

/// Whoever writes to the bucket can make pack, index and manifest agree; the bomb is refused all the same, and mended where the remote has it.
#[tokio::test(flavor = "multi_thread")]
async fn in_the_place_of_a_stored_pack_with_all_that_names_it() {
    let ground = Ground::in_a_folder().await;
    ground.host.publish(&TestRepo::sample(), REPOSITORY);
    completed(&run(&ground, &clone(&ground)).await);
    let body = json!({"sessionId": NAME, "files": [{"path": "a.txt", "content": "a\n"}]});
    let apply = Order::new("/apply-changes", body);
    completed(&run(&ground, &apply).await);
    forge(&ground, "trees").await;
    let events = run(&ground, &apply.as_another()).await;
    completed(&events);
    let announced = events.iter().any(|(_, event)| {
        let text = serde_json::to_string(event).unwrap();
        text.contains("session_damaged") && text.contains("more than the limit of 67108864")
    });
    assert!(announced, "{events:?}");
    forge(&ground, "job").await;
    let commit = Order::new("/commit-and-push", ground.body(json!({"message": "x"})));
    for order in [apply.as_another(), commit] {
        let events = run(&ground, &order).await;
        assert_eq!(failed(&events).code, ErrorCode::SessionDamaged);
    }
}
