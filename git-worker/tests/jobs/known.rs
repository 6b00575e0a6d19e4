//! What one session fetched, another of the same repository need not fetch again: clones and pulls of what is known.

use mayfly_protocol::{ErrorCode, JobKind};
use mayfly_testkit::git_host::On;
use mayfly_testkit::repo::{BareRepo, TestRepo, noise};
use serde_json::{Value, json};

use super::rig::{Ran, Rig};

/// A repository in which two sessions stand at the first of three commits, and know nothing more.
async fn two_sessions() -> (Rig, BareRepo) {
    let rig = Rig::new().await;
    let repo = TestRepo::sample();
    repo.history(30);
    let bare = rig.host.publish(&repo, "app");
    rig.clone("first", "app").await;
    rig.clone("second", "app").await;
    (rig, bare)
}

async fn pull(rig: &Rig, session: &str, change: Value) -> Ran {
    let mut body = rig.clone_body(session, "app");
    body.as_object_mut()
        .unwrap()
        .extend(change.as_object().unwrap().clone());
    rig.job(JobKind::CloneRepository, body).await
}

fn large(seed: u64) -> String {
    noise(300_000, seed)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_brings_only_what_no_session_of_the_repository_has() {
    let (rig, bare) = two_sessions().await;
    bare.commit_behind_their_back("main", "large.txt", &large(1));
    let tip = bare.commit_behind_their_back("main", "src/new.rs", "pub fn new() {}\n");
    let fetched = pull(&rig, "first", json!({})).await.completed();
    assert!(fetched["receivedBytes"].as_u64().unwrap() > 300_000, "{fetched}");

    let asked = rig.host.requests_on(&On::UploadPack).len();
    let data = pull(&rig, "second", json!({})).await.completed();
    assert_eq!((&data["headSha"], &data["objects"]), (&json!(tip), &json!(0)));
    // The refs were asked for, and no pack.
    assert_eq!(rig.host.requests_on(&On::UploadPack).len(), asked + 1);
    let manifest = rig.manifest("second").await.unwrap();
    assert_eq!(manifest.worktree.to_string(), bare.tree_of("main"));

    let next = bare.commit_behind_their_back("main", "src/next.rs", "pub fn next() {}\n");
    let few = pull(&rig, "second", json!({})).await.completed();
    assert_eq!(few["headSha"], next);
    let third = rig.clone("third", "app").await;
    assert_eq!((&third["headSha"], &third["objects"]), (&json!(next), &json!(0)));
    rig.write("second", "large.txt", "short\n").await;
    let done = rig
        .commit("second", json!({"message": "Short"}))
        .await
        .completed();
    assert_eq!((&done["pushed"], &done["insertions"]), (&json!(true), &json!(1)));
    bare.fsck_strict();
}

#[tokio::test(flavor = "multi_thread")]
async fn uncommitted_changes_go_along_to_what_another_session_has() {
    let (rig, bare) = two_sessions().await;
    rig.write("second", "src/mine.txt", "mine\n").await;
    bare.commit_behind_their_back("main", "src/theirs.txt", "theirs\n");
    pull(&rig, "first", json!({})).await.completed();
    let ran = pull(&rig, "second", json!({})).await;
    assert_eq!(ran.completed()["objects"], 0);
    assert!(!ran.raw.contains("session_damaged"), "{}", ran.raw);
    let done = rig.commit("second", json!({"message": "Mine"})).await.completed();
    assert_eq!(done["filesChanged"], 1);
    assert_eq!(bare.show("main", "src/mine.txt"), b"mine\n");
    assert_eq!(bare.show("main", "src/theirs.txt"), b"theirs\n");
    bare.fsck_strict();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_goes_on_from_what_another_session_has() {
    let (rig, bare) = two_sessions().await;
    bare.commit_behind_their_back("main", "large.txt", &large(2));
    pull(&rig, "first", json!({})).await.completed();
    let tip = bare.commit_behind_their_back("main", "src/new.rs", "pub fn new() {}\n");
    let data = pull(&rig, "second", json!({})).await.completed();
    assert_eq!(data["headSha"], tip);
    assert!(data["receivedBytes"].as_u64().unwrap() < 10_000, "{data}");
    assert_eq!(
        rig.manifest("second").await.unwrap().worktree.to_string(),
        bare.tree_of("main")
    );
    let again = rig.clone("third", "app").await;
    assert_eq!((&again["headSha"], &again["objects"]), (&json!(tip), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_other_sessions_have_is_shown_to_nobody_whom_the_remote_does_not_show_it() {
    let (rig, bare) = two_sessions().await;
    bare.text(&["branch", "secret", "main"]);
    let secret = bare.commit_behind_their_back("secret", "secret.txt", "secret\n");
    pull(&rig, "first", json!({"branch": "secret"})).await.completed();
    let before = rig.manifest("second").await;
    for (token, code) in [
        ("wrong", ErrorCode::AuthenticationFailed),
        (rig.host.forbidden_token(), ErrorCode::AccessDenied),
    ] {
        pull(&rig, "second", json!({"accessToken": token, "branch": "secret"}))
            .await
            .failed(code);
    }
    bare.set_config("transfer.hideRefs", "refs/heads/secret");
    pull(&rig, "second", json!({"branch": "secret"}))
        .await
        .failed(ErrorCode::BranchNotFound);
    pull(&rig, "second", json!({"commit": secret}))
        .await
        .failed(ErrorCode::CommitNotFound);
    assert_eq!(rig.manifest("second").await, before);
    pull(&rig, "third", json!({"commit": secret}))
        .await
        .failed(ErrorCode::CommitNotFound);
    rig.clone("fourth", "app").await;
    let refs = rig.manifest("fourth").await.unwrap().refs;
    assert_eq!(refs.keys().collect::<Vec<_>>(), ["refs/heads/main"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_commit_is_found_in_history_that_is_in_the_storage_only() {
    let (rig, bare) = two_sessions().await;
    let older = bare.rev_parse("main~17");
    let data = pull(&rig, "second", json!({"commit": older})).await.completed();
    assert_eq!((&data["headSha"], &data["objects"]), (&json!(older), &json!(0)));
    assert_eq!(
        rig.manifest("second").await.unwrap().worktree.to_string(),
        bare.tree_of(&older)
    );
    // What would be committed there cannot be pushed without undoing what came after.
    rig.write("second", "late.txt", "late\n").await;
    let tip = bare.rev_parse("main");
    rig.commit("second", json!({"message": "Late"}))
        .await
        .failed(ErrorCode::NotFastForward);
    assert_eq!(bare.rev_parse("main"), tip);
}
