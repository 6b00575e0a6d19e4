//! `/commit-and-push`.

use mayfly_protocol::{ErrorCode, Stage};
use mayfly_testkit::git_host::{Fault, On};
use mayfly_testkit::repo::{TestRepo, clone_with_git};
use serde_json::json;

use super::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_reaches_the_remote_and_plain_git() {
    let rig = Rig::new().await;
    let repo = TestRepo::sample();
    let bare = rig.host.publish(&repo, "app");
    rig.clone("s", "app").await;
    rig.apply(
        "s",
        json!({"files": [
            {"path": "src/main.rs", "content": "fn main() {\n    run();\n}\n"},
            {"path": "docs/new.md", "content": "# New\n"},
            {"path": "tool", "content": "#!/bin/sh\n", "mode": "100755"},
            {"path": "link", "content": "docs/new.md", "mode": "120000"},
        ]}),
    )
    .await
    .completed();
    let ran = rig
        .commit(
            "s",
            json!({"author": {"name": "Ada", "email": "ada@example.com"}, "userId": "u1"}),
        )
        .await;
    assert_eq!(
        ran.stages(),
        [
            Stage::Preparing,
            Stage::DownloadingSession,
            Stage::Analyzing,
            Stage::ChangesDetected,
            Stage::GeneratingMessage,
            Stage::Committing,
            Stage::Pushing,
            Stage::Uploading
        ]
    );
    let data = ran.completed();
    assert_eq!(
        (&data["committed"], &data["pushed"], &data["filesChanged"]),
        (&json!(true), &json!(true), &json!(4))
    );
    assert_eq!((&data["insertions"], &data["deletions"]), (&json!(6), &json!(1)));
    assert_eq!(data["messageSource"], "heuristic");
    let commit = data["commitSha"].as_str().unwrap();
    assert_eq!(bare.rev_parse("main"), commit);
    assert_eq!(bare.rev_parse("main~1"), repo.rev_parse("main"));
    assert_eq!(
        bare.log_format("-1", "%an <%ae> %cn"),
        "Ada <ada@example.com> Mayfly"
    );
    bare.fsck_strict();

    let clone = clone_with_git(&rig.host.url("app"), Some(rig.host.token()));
    assert_eq!(clone.rev_parse("HEAD"), commit);
    let modes: Vec<_> = clone
        .ls_tree("HEAD")
        .into_iter()
        .map(|entry| (entry.path, entry.mode))
        .collect();
    assert!(
        modes.contains(&(b"tool".to_vec(), "100755".into()))
            && modes.contains(&(b"link".to_vec(), "120000".into()))
    );
    assert_eq!(
        rig.manifest("s")
            .await
            .unwrap()
            .history
            .last()
            .unwrap()
            .user_id
            .as_deref(),
        Some("u1")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_to_commit_is_a_success() {
    let rig = Rig::new().await;
    let bare = rig.host.publish(&TestRepo::sample(), "app");
    rig.clone("s", "app").await;
    let head = bare.rev_parse("main");
    let data = rig.commit("s", json!({})).await.completed();
    assert_eq!(
        (&data["committed"], &data["pushed"], &data["commitSha"]),
        (&json!(false), &json!(false), &json!(head))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_were_not_pushed_go_with_the_next_push() {
    let rig = Rig::new().await;
    let bare = rig.host.publish(&TestRepo::sample(), "app");
    rig.clone("s", "app").await;
    let head = bare.rev_parse("main");
    for number in 0..3 {
        rig.write("s", &format!("dir{number}/file.txt"), "x\n").await;
        let done = rig
            .commit("s", json!({"push": false, "message": format!("Step {number}")}))
            .await
            .completed();
        assert_eq!(done["pushed"], false);
    }
    assert_eq!(bare.rev_parse("main"), head);
    let done = rig.commit("s", json!({})).await.completed();
    assert_eq!(
        (&done["committed"], &done["pushed"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(bare.log("main")[..3], ["Step 2", "Step 1", "Step 0"]);
    bare.fsck_strict();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_moved_is_never_overwritten() {
    let rig = Rig::new().await;
    let bare = rig.host.publish(&TestRepo::sample(), "app");
    rig.clone("s", "app").await;
    rig.write("s", "mine.txt", "mine\n").await;
    let before = rig.manifest("s").await;
    let theirs = bare.commit_behind_their_back("main", "theirs.txt", "theirs\n");
    rig.commit("s", json!({})).await.failed(ErrorCode::NotFastForward);
    assert_eq!(bare.rev_parse("main"), theirs);
    assert_eq!(rig.manifest("s").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hooks_words_reach_the_client() {
    let rig = Rig::new().await;
    let bare = rig.host.publish(&TestRepo::sample(), "app");
    rig.clone("s", "app").await;
    rig.write("s", "a.txt", "a\n").await;
    let before = rig.manifest("s").await;
    bare.reject_pushes("GH006: Protected branch update failed");
    let failure = rig.commit("s", json!({})).await.failed(ErrorCode::PushRejected);
    assert!(
        failure.error.contains("GH006: Protected branch update failed"),
        "{}",
        failure.error
    );
    assert_eq!(rig.manifest("s").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_token_cannot_push() {
    let rig = Rig::new().await;
    rig.host.publish(&TestRepo::sample(), "app");
    rig.clone("s", "app").await;
    rig.write("s", "a.txt", "a\n").await;
    let before = rig.manifest("s").await;
    let body = json!({"sessionId": "s", "githubAccessToken": rig.host.read_token()});
    rig.job(mayfly_protocol::JobKind::CommitAndPush, body)
        .await
        .failed(ErrorCode::AccessDenied);
    assert_eq!(rig.manifest("s").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_host_is_retryable_and_changes_nothing() {
    let rig = Rig::new().await;
    rig.host.publish(&TestRepo::sample(), "app");
    rig.clone("s", "app").await;
    rig.write("s", "a.txt", "a\n").await;
    let before = rig.manifest("s").await;
    rig.host.fail_times(On::PushAdvertisement, 1, Fault::status(503));
    assert!(
        rig.commit("s", json!({}))
            .await
            .failed(ErrorCode::RemoteUnavailable)
            .retryable
    );
    rig.host
        .fail_times(On::PushAdvertisement, 1, Fault::too_many_requests("7"));
    let failure = rig
        .commit("s", json!({}))
        .await
        .failed(ErrorCode::RemoteRateLimited);
    assert_eq!(failure.retry_after, Some(7));
    rig.host.fail_times(On::ReceivePack, 1, Fault::CutBeforeHead);
    rig.commit("s", json!({}))
        .await
        .failed(ErrorCode::RemoteUnreachable);
    assert_eq!(rig.manifest("s").await, before);
    rig.commit("s", json!({})).await.completed();
}
