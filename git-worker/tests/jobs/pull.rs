//! `/clone-repository` on a session that exists: fetch and fast-forward, and never a change overwritten.

use mayfly_protocol::{ErrorCode, JobKind, Stage};
use mayfly_testkit::repo::TestRepo;
use serde_json::{Value, json};

use super::rig::{Ran, Rig};

async fn pull(rig: &Rig, change: Value) -> Ran {
    let mut body = rig.clone_body("s", "app");
    body.as_object_mut()
        .unwrap()
        .extend(change.as_object().unwrap().clone());
    rig.job(JobKind::CloneRepository, body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_brings_only_what_is_new() {
    let rig = Rig::new().await;
    let repo = TestRepo::sample();
    repo.history(50);
    let bare = rig.host.publish(&repo, "app");
    let cloned = rig.clone("s", "app").await;
    let tip = bare.commit_behind_their_back("main", "src/new.rs", "pub fn new() {}\n");
    let ran = pull(&rig, json!({})).await;
    assert_eq!(ran.stages()[1], Stage::SessionFound);
    let data = ran.completed();
    assert_eq!(
        (&data["headSha"], &data["pulled"], &data["generation"]),
        (&json!(tip), &json!(true), &json!(2))
    );
    assert!(data["objects"].as_u64() < cloned["objects"].as_u64());
    assert_eq!(
        rig.manifest("s").await.unwrap().worktree.to_string(),
        bare.tree_of("main")
    );

    let again = pull(&rig, json!({})).await.completed();
    assert_eq!((&again["headSha"], &again["objects"]), (&json!(tip), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn uncommitted_changes_go_along_or_stop_the_pull() {
    let rig = Rig::new().await;
    let repo = TestRepo::sample();
    let bare = rig.host.publish(&repo, "app");
    rig.clone("s", "app").await;
    rig.write("s", "mine.txt", "mine\n").await;
    bare.commit_behind_their_back("main", "theirs.txt", "theirs\n");
    pull(&rig, json!({})).await.completed();
    let done = rig.commit("s", json!({"message": "Mine"})).await.completed();
    assert_eq!(done["filesChanged"], 1);
    assert_eq!(bare.show("main", "mine.txt"), b"mine\n");
    assert_eq!(bare.show("main", "theirs.txt"), b"theirs\n");
    bare.fsck_strict();

    rig.write("s", "README.md", "mine\n").await;
    let before = rig.manifest("s").await;
    bare.commit_behind_their_back("main", "README.md", "theirs\n");
    let failure = pull(&rig, json!({})).await.failed(ErrorCode::PullConflict);
    assert!(failure.error.contains("README.md"), "{}", failure.error);
    assert_eq!(rig.manifest("s").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_that_went_another_way_is_not_followed() {
    let rig = Rig::new().await;
    let repo = TestRepo::sample();
    let bare = rig.host.publish(&repo, "app");
    rig.clone("s", "app").await;
    let before = rig.manifest("s").await;
    bare.text(&["update-ref", "refs/heads/main", "refs/heads/main~1"]);
    pull(&rig, json!({})).await.failed(ErrorCode::NotFastForward);
    bare.commit_behind_their_back("main", "other.txt", "another way\n");
    pull(&rig, json!({})).await.failed(ErrorCode::NotFastForward);
    assert_eq!(rig.manifest("s").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_branch_is_taken_only_with_nothing_to_lose() {
    let rig = Rig::new().await;
    let repo = TestRepo::sample();
    repo.branch("other");
    let bare = rig.host.publish(&repo, "app");
    let tip = bare.commit_behind_their_back("other", "other.txt", "other\n");
    rig.clone("s", "app").await;
    rig.write("s", "mine.txt", "mine\n").await;
    pull(&rig, json!({"branch": "other"}))
        .await
        .failed(ErrorCode::WorktreeDirty);
    rig.apply("s", json!({"files": [{"path": "mine.txt", "delete": true}]}))
        .await
        .completed();
    let data = pull(&rig, json!({"branch": "other"})).await.completed();
    assert_eq!(
        (&data["branch"], &data["headSha"]),
        (&json!("other"), &json!(tip))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shallow_session_pulls_and_pushes() {
    let rig = Rig::new().await;
    let repo = TestRepo::sample();
    repo.history(30);
    let bare = rig.host.publish(&repo, "app");
    pull(&rig, json!({"depth": 1})).await.completed();
    bare.commit_behind_their_back("main", "theirs.txt", "theirs\n");
    let data = pull(&rig, json!({})).await.completed();
    assert_eq!(data["headSha"], bare.rev_parse("main"));
    rig.write("s", "mine.txt", "mine\n").await;
    rig.commit("s", json!({})).await.completed();
    bare.fsck_strict();
    assert_eq!(bare.log("main").len(), 34);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_repository_is_refused() {
    let rig = Rig::new().await;
    rig.host.publish(&TestRepo::sample(), "app");
    rig.host.publish(&TestRepo::sample(), "other");
    rig.clone("s", "app").await;
    let before = rig.manifest("s").await;
    rig.job(JobKind::CloneRepository, rig.clone_body("s", "other"))
        .await
        .failed(ErrorCode::SessionRepoMismatch);
    assert_eq!(rig.manifest("s").await, before);
}
