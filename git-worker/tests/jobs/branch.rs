//! `/create-branch`.

use mayfly_protocol::{ErrorCode, Stage};
use mayfly_testkit::repo::TestRepo;
use serde_json::json;

use super::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_is_named_made_and_pushed() {
    let rig = Rig::new().await;
    let repo = TestRepo::sample();
    let bare = rig.host.publish(&repo, "app");
    rig.clone("s", "app").await;
    let ran = rig
        .branch("s", json!({"userRequest": "Add dark mode toggle"}))
        .await;
    assert_eq!(
        ran.stages(),
        [
            Stage::Preparing,
            Stage::DownloadingSession,
            Stage::GeneratingName,
            Stage::NameGenerated,
            Stage::CreatingBranch,
            Stage::Pushing,
            Stage::Uploading
        ]
    );
    let data = ran.completed();
    let branch = data["branch"].as_str().unwrap();
    assert!(branch.contains("dark-mode"), "{branch}");
    assert_eq!(
        (&data["nameSource"], &data["baseBranch"]),
        (&json!("heuristic"), &json!("main"))
    );
    assert_eq!(bare.rev_parse(branch), repo.rev_parse("main"));

    let second = rig
        .branch("s", json!({"userRequest": "Add dark mode toggle"}))
        .await
        .completed();
    assert_ne!(second["branch"], data["branch"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chosen_name_must_be_free() {
    let rig = Rig::new().await;
    let repo = TestRepo::sample();
    repo.branch("taken").branch("folder/inner");
    let bare = rig.host.publish(&repo, "app");
    rig.clone("s", "app").await;
    let before = rig.manifest("s").await;
    for name in ["taken", "taken/inner", "folder", "main"] {
        rig.branch("s", json!({"userRequest": "x", "branchName": name}))
            .await
            .failed(ErrorCode::BranchExists);
    }
    assert_eq!(rig.manifest("s").await, before);
    let data = rig
        .branch("s", json!({"userRequest": "x", "branchName": "free"}))
        .await
        .completed();
    assert_eq!(
        (&data["branch"], &data["nameSource"]),
        (&json!("free"), &json!("caller"))
    );
    assert!(bare.try_rev_parse("refs/heads/free").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_does_not_exist_is_cloned_first() {
    let rig = Rig::new().await;
    let repo = TestRepo::sample();
    let bare = rig.host.publish(&repo, "app");
    rig.branch("s", json!({"userRequest": "Fix it"}))
        .await
        .failed(ErrorCode::SessionNotFound);
    let body = json!({"userRequest": "Fix it", "repoUrl": rig.host.url("app"), "branchName": "fix/it"});
    let data = rig.branch("s", body).await.completed();
    assert_eq!(data["headSha"], repo.rev_parse("main"));
    assert!(bare.try_rev_parse("refs/heads/fix/it").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_base_is_fetched_if_nothing_is_lost() {
    let rig = Rig::new().await;
    let repo = TestRepo::sample();
    repo.branch("release");
    let bare = rig.host.publish(&repo, "app");
    let tip = bare.commit_behind_their_back("release", "notes.md", "notes\n");
    rig.clone("s", "app").await;
    let ask = json!({"userRequest": "x", "baseBranch": "release", "branchName": "hotfix"});
    rig.write("s", "mine.txt", "mine\n").await;
    rig.branch("s", ask.clone())
        .await
        .failed(ErrorCode::WorktreeDirty);
    rig.apply("s", json!({"files": [{"path": "mine.txt", "delete": true}]}))
        .await
        .completed();
    let data = rig.branch("s", ask).await.completed();
    assert_eq!(
        (&data["headSha"], &data["baseBranch"]),
        (&json!(tip), &json!("release"))
    );
    assert_eq!(bare.rev_parse("hotfix"), tip);
    rig.write("s", "fix.txt", "fix\n").await;
    rig.commit("s", json!({})).await.completed();
    assert_eq!(bare.rev_parse("hotfix~1"), tip);
    rig.branch("s", json!({"userRequest": "x", "baseBranch": "absent"}))
        .await
        .failed(ErrorCode::BranchNotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_push_the_remote_is_not_asked() {
    let rig = Rig::new().await;
    let bare = rig.host.publish(&TestRepo::sample(), "app");
    rig.clone("s", "app").await;
    let asked = rig.host.requests().len();
    let data = rig
        .branch(
            "s",
            json!({"userRequest": "x", "branchName": "local", "push": false}),
        )
        .await
        .completed();
    assert_eq!(data["pushed"], false);
    assert_eq!(rig.host.requests().len(), asked);
    rig.write("s", "a.txt", "a\n").await;
    let done = rig.commit("s", json!({})).await.completed();
    assert_eq!(bare.rev_parse("local"), done["commitSha"].as_str().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn uncommitted_changes_stay_on_a_new_branch() {
    let rig = Rig::new().await;
    let bare = rig.host.publish(&TestRepo::sample(), "app");
    rig.clone("s", "app").await;
    rig.write("s", "a.txt", "a\n").await;
    rig.branch("s", json!({"userRequest": "x", "branchName": "new"}))
        .await
        .completed();
    rig.commit("s", json!({})).await.completed();
    assert_eq!(bare.show("new", "a.txt"), b"a\n");
    assert!(bare.ls_tree("main").iter().all(|entry| entry.path != b"a.txt"));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_jobs_choose_at_the_same_moment_are_all_free() {
    let rig = Rig::new().await;
    let bare = rig.host.publish(&TestRepo::sample(), "app");
    let sessions: Vec<String> = (0..6).map(|number| format!("s{number}")).collect();
    for session in &sessions {
        rig.clone(session, "app").await;
    }
    let wish = || json!({"userRequest": "Add dark mode"});
    let jobs = sessions.iter().map(|session| rig.branch(session, wish()));
    let made: std::collections::BTreeSet<String> = futures::future::join_all(jobs)
        .await
        .iter()
        .map(|ran| ran.completed()["branch"].to_string())
        .collect();
    assert_eq!(made.len(), sessions.len(), "{made:?}");
    assert_eq!(bare.refs().len(), 1 + sessions.len());
}
