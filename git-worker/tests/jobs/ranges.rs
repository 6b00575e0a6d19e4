//! Large packs of a session are read object by object: what a job costs is what its change costs.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mayfly_protocol::JobKind;
use mayfly_session::PackKind;
use mayfly_storage::{Metered, ObjectStore};
use mayfly_testkit::repo::{BareRepo, TestRepo, noise};
use serde_json::{Value, json};

use super::rig::Rig;

const KIB: u64 = 1024;
/// What is read whole here: a pack of more bytes is large.
const WHOLE: u64 = 128 * KIB;

async fn counted() -> (Rig, Arc<Metered>) {
    let mut rig = Rig::new().await;
    let metered = Arc::new(Metered::new(Arc::clone(&rig.storage)));
    rig.storage = Arc::clone(&metered) as Arc<dyn ObjectStore>;
    (rig, metered)
}

/// Bytes of a file; five of them make a large pack.
const FILE: usize = 100 * 1024;

fn large_files(first: u64) -> Value {
    let files = (first..first + 5).map(|seed| {
        let content = STANDARD.encode(noise(FILE, seed));
        json!({"path": format!("assets/{seed}.bin"), "contentBase64": content})
    });
    json!({"files": files.collect::<Vec<_>>()})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_pack_of_a_job_is_not_moved_again_once_it_is_pushed() {
    let (mut rig, storage) = counted().await;
    rig.limits.max_whole_pack_bytes = WHOLE;
    let bare = rig.host.publish(&TestRepo::sample(), "app");
    rig.clone("s", "app").await;
    for round in 0..3 {
        rig.apply("s", large_files(10 * round)).await.completed();
    }
    let manifest = rig.manifest("s").await.unwrap();
    let sizes = manifest.packs.iter().filter(|entry| entry.kind == PackKind::Job);
    assert!(sizes.clone().all(|entry| entry.pack_bytes > WHOLE) && sizes.count() == 3);
    // Before they are pushed, they are no part of what a change costs either.
    let before = storage.read_bytes();
    rig.write("s", "README.md", "# Changed\n").await;
    let read = storage.read_bytes() - before;
    assert!(read < WHOLE, "{read} bytes were read to change a file");
    rig.commit("s", json!({"message": "Assets"})).await.completed();
    assert_eq!(bare.show("main", "assets/12.bin"), noise(FILE, 12));
    bare.fsck_strict();

    for number in 0..10 {
        let before = storage.read_bytes() + storage.written_bytes();
        rig.write("s", "README.md", &format!("# {number}\n")).await;
        rig.commit("s", json!({})).await.completed();
        let moved = storage.read_bytes() + storage.written_bytes() - before;
        assert!(moved < 2 * WHOLE, "{moved} bytes were moved for change {number}");
    }
    bare.fsck_strict();
}

/// A repository with many folders, whose trees do not fit what is read whole here.
fn many_folders(rig: &Rig, name: &str) -> BareRepo {
    let repo = TestRepo::sample();
    for folder in 0..60 {
        for file in 0..20 {
            repo.write(
                format!("tree/{}/{folder}/f{file}.txt", folder % 7),
                format!("{folder} {file}\n"),
            );
        }
    }
    repo.commit("Many folders");
    rig.host.publish(&repo, name)
}

async fn packs_are_all_read_by_range(rig: &mut Rig) {
    rig.limits.max_whole_pack_bytes = 0;
    let bare = many_folders(rig, "app");
    rig.clone("s", "app").await;
    for number in 0..10 {
        let files = json!({"files": [
            {"path": format!("tree/{}/{number}/f1.txt", number % 7), "content": format!("new {number}\n")},
            {"path": format!("new/{number}/a.txt"), "content": "a\n"},
        ]});
        rig.apply("s", files).await.completed();
        let ran = rig
            .commit("s", json!({"message": format!("Change {number}")}))
            .await;
        assert_eq!(ran.completed()["filesChanged"], 2, "{}", ran.raw);
    }
    let patch = "--- a/tree/3/3/f1.txt\n+++ b/tree/3/3/f1.txt\n@@ -1 +1 @@\n-new 3\n+patched\n";
    rig.apply("s", json!({ "patch": patch })).await.completed();
    rig.commit("s", json!({"message": "Patched", "push": false}))
        .await
        .completed();
    rig.branch("s", json!({"branchName": "side", "userRequest": "x"}))
        .await
        .completed();
    assert_eq!(bare.show("side", "tree/3/3/f1.txt"), b"patched\n");
    bare.commit_behind_their_back("side", "theirs.txt", "theirs\n");
    rig.write("s", "mine.txt", "mine\n").await;
    let pulled = rig
        .job(JobKind::CloneRepository, rig.clone_body("s", "app"))
        .await;
    assert!(pulled.succeeded(), "{}", pulled.raw);
    rig.commit("s", json!({"message": "Mine"})).await.completed();
    assert_eq!(bare.show("side", "mine.txt"), b"mine\n");
    bare.fsck_strict();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_job_works_where_no_pack_is_read_whole() {
    let mut rig = Rig::new().await;
    packs_are_all_read_by_range(&mut rig).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_in_a_large_tree_reads_the_trees_on_its_path() {
    let (mut rig, storage) = counted().await;
    // The trees of this repository take a few hundred thousand bytes.
    let repo = TestRepo::sample();
    for folder in 0..300 {
        for file in 0..40 {
            repo.write(format!("tree/{folder}/f{file}.txt"), format!("{folder} {file}\n"));
        }
    }
    repo.commit("Many files");
    let bare = rig.host.publish(&repo, "app");
    rig.clone("s", "app").await;
    let manifest = rig.manifest("s").await.unwrap();
    let trees = manifest.packs.iter().find(|entry| entry.kind == PackKind::Trees);
    let bytes = trees.unwrap().pack_bytes;
    let mut costs = Vec::new();
    for (folder, limit) in [(7, bytes), (8, bytes - 1)] {
        rig.limits.max_whole_pack_bytes = limit;
        let before = storage.read_bytes();
        rig.write("s", &format!("tree/{folder}/f1.txt"), "changed\n")
            .await;
        rig.commit("s", json!({"message": "Change"})).await.completed();
        costs.push(storage.read_bytes() - before);
    }
    // Either way the old file is found by the index of the pack that it came in.
    assert!(costs[1] + bytes < costs[0], "{costs:?} with trees of {bytes}");
    bare.fsck_strict();
}
