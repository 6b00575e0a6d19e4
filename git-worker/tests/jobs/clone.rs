//! `/clone-repository` into a new session.

use mayfly_protocol::{ErrorCode, JobKind, Stage};
use mayfly_testkit::repo::TestRepo;
use serde_json::json;

use super::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_clone_is_what_git_clones() {
    let rig = Rig::new().await;
    let repo = TestRepo::sample();
    repo.history(20);
    rig.host.publish(&repo, "app");
    let ran = rig
        .job(JobKind::CloneRepository, rig.clone_body("s", "app"))
        .await;
    assert_eq!(
        ran.stages(),
        [
            Stage::DownloadingSession,
            Stage::NewSession,
            Stage::Cloning,
            Stage::Cloned,
            Stage::Uploading
        ]
    );
    let data = ran.completed();
    assert_eq!(data["headSha"], repo.rev_parse("main"));
    assert_eq!(
        (&data["branch"], &data["generation"], &data["pulled"]),
        (&json!("main"), &json!(1), &json!(false))
    );
    let manifest = rig.manifest("s").await.unwrap();
    assert_eq!(manifest.worktree.to_string(), repo.tree_of("main"));
    assert!(!manifest.has_unpushed_head());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_entry_keeps_its_id() {
    let rig = Rig::new().await;
    let repo = TestRepo::with_branch("trunk");
    repo.write("a.txt", "a\n")
        .write_executable("run.sh", "#!/bin/sh\n")
        .symlink("link", "a.txt")
        .write("empty", "");
    repo.write("crlf.txt", "a\r\nb\r\n")
        .write_named(b"caf\xe9.txt", "latin-1 name\n");
    repo.submodule_entry("vendor/lib", "1111111111111111111111111111111111111111");
    repo.commit("All kinds");
    rig.host.publish(&repo, "kinds");
    let data = rig.clone("s", "kinds").await;
    assert_eq!(data["branch"], "trunk");
    assert_eq!(
        rig.manifest("s").await.unwrap().worktree.to_string(),
        repo.tree_of("trunk")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn depth_branch_and_commit_are_obeyed() {
    let rig = Rig::new().await;
    let repo = TestRepo::sample();
    let first = repo.rev_parse("main~1");
    repo.history(10);
    repo.branch("other");
    rig.host.publish(&repo, "app");
    let with = |session: &str, extra: serde_json::Value| {
        let mut body = rig.clone_body(session, "app");
        body.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        body
    };
    let shallow = rig
        .job(JobKind::CloneRepository, with("shallow", json!({"depth": 1})))
        .await
        .completed();
    assert_eq!(
        (&shallow["headSha"], &shallow["shallow"]),
        (&json!(repo.rev_parse("main")), &json!(true))
    );
    assert_eq!(rig.manifest("shallow").await.unwrap().fetched.depth, Some(1));

    let other = rig
        .job(
            JobKind::CloneRepository,
            with("other", json!({"branch": "other"})),
        )
        .await
        .completed();
    assert_eq!(
        (&other["branch"], &other["headSha"]),
        (&json!("other"), &json!(repo.rev_parse("other")))
    );

    let commit = rig
        .job(JobKind::CloneRepository, with("commit", json!({"commit": first})))
        .await
        .completed();
    assert_eq!(commit["headSha"], first);
    assert_eq!(
        rig.manifest("commit").await.unwrap().worktree.to_string(),
        repo.tree_of(&first)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_repository_gets_its_first_commit() {
    let rig = Rig::new().await;
    let bare = rig.host.publish_empty("empty", "develop");
    let data = rig.clone("s", "empty").await;
    assert_eq!(
        (&data["headSha"], &data["branch"]),
        (&json!(null), &json!("develop"))
    );
    rig.write("s", "README.md", "# New\n").await;
    let done = rig.commit("s", json!({"message": "Start"})).await.completed();
    assert_eq!(
        (&done["committed"], &done["pushed"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(bare.rev_parse("develop"), done["commitSha"].as_str().unwrap());
    assert_eq!(bare.log("develop"), ["Start"]);
    bare.fsck_strict();
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_and_many_files_are_no_trouble() {
    let rig = Rig::new().await;
    let repo = TestRepo::new();
    repo.write_noise("large.bin", 60 * 1024 * 1024, 7)
        .commit("A large file");
    repo.write_many(20_000).commit("Many files");
    rig.host.publish(&repo, "big");
    let data = rig.clone("s", "big").await;
    assert_eq!(data["headSha"], repo.rev_parse("main"));
    assert_eq!(
        rig.manifest("s").await.unwrap().worktree.to_string(),
        repo.tree_of("main")
    );
    rig.write("s", "note.txt", "one more\n").await;
    let done = rig.commit("s", json!({})).await.completed();
    assert_eq!(
        (&done["filesChanged"], &done["insertions"]),
        (&json!(1), &json!(1))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_told_apart() {
    let rig = Rig::new().await;
    rig.host.publish(&TestRepo::sample(), "app");
    let with = |change: serde_json::Value| {
        let mut body = rig.clone_body("s", "app");
        body.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        body
    };
    for (change, code) in [
        (json!({"accessToken": "wrong"}), ErrorCode::AuthenticationFailed),
        (json!({"accessToken": null}), ErrorCode::AuthenticationFailed),
        (
            json!({"accessToken": rig.host.forbidden_token()}),
            ErrorCode::AccessDenied,
        ),
        (
            json!({"repoUrl": rig.host.url("absent")}),
            ErrorCode::RepositoryNotFound,
        ),
        (json!({"branch": "absent"}), ErrorCode::BranchNotFound),
        (
            json!({"commit": "1111111111111111111111111111111111111111"}),
            ErrorCode::CommitNotFound,
        ),
    ] {
        let failure = rig
            .job(JobKind::CloneRepository, with(change.clone()))
            .await
            .failed(code);
        assert!(!failure.retryable, "{change}");
        assert!(rig.manifest("s").await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_session_of_a_repository_moves_no_pack() {
    let rig = Rig::new().await;
    let repo = TestRepo::sample();
    repo.history(30);
    let bare = rig.host.publish(&repo, "app");
    let first = rig.clone("first", "app").await;
    let second = rig.clone("second", "app").await;
    assert_eq!(second["objects"], 0);
    assert_eq!(second["headSha"], first["headSha"]);
    let tree = rig.manifest("second").await.unwrap().worktree.to_string();
    assert_eq!(tree, repo.tree_of("main"));

    let tip = bare.commit_behind_their_back("main", "src/new.rs", "pub fn new() {}\n");
    let third = rig.clone("third", "app").await;
    assert_eq!(third["headSha"], tip);
    assert!(third["objects"].as_u64().unwrap() < 10, "{third}");
    rig.write("third", "README.md", "# Changed\n").await;
    let done = rig.commit("third", json!({})).await.completed();
    assert_eq!((&done["insertions"], &done["deletions"]), (&json!(1), &json!(1)));
    bare.fsck_strict();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_is_not_shown_to_whom_the_remote_refuses() {
    let rig = Rig::new().await;
    rig.host.publish(&TestRepo::sample(), "app");
    rig.clone("first", "app").await;
    for (token, code) in [
        ("wrong", ErrorCode::AuthenticationFailed),
        (rig.host.forbidden_token(), ErrorCode::AccessDenied),
    ] {
        let body = json!({"sessionId": "second", "repoUrl": rig.host.url("app"), "accessToken": token});
        rig.job(JobKind::CloneRepository, body).await.failed(code);
        assert!(rig.manifest("second").await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_the_branch_does_not_reach_is_refused() {
    let rig = Rig::new().await;
    let repo = TestRepo::sample();
    repo.branch("other");
    let bare = rig.host.publish(&repo, "app");
    let elsewhere = bare.commit_behind_their_back("other", "other.txt", "other\n");
    let mut body = rig.clone_body("s", "app");
    body["commit"] = elsewhere.into();
    rig.job(JobKind::CloneRepository, body.clone())
        .await
        .failed(ErrorCode::CommitNotFound);
    body["branch"] = "other".into();
    rig.job(JobKind::CloneRepository, body).await.completed();
}
