//! Files that the repository's ignore rules exclude: never committed, and kept in the session only within a limit.

use mayfly_protocol::JobKind;
use mayfly_testkit::canary::Canary;
use mayfly_testkit::repo::TestRepo;
use serde_json::{Value, json};

use super::rig::Rig;

/// A repository whose rules stand at two levels, with one tracked file that they would exclude.
fn repository() -> TestRepo {
    let repo = TestRepo::sample();
    repo.write(".gitignore", "*.log\n/build/\n.env\n")
        .write("docs/.gitignore", "!kept.log\n")
        .write("tracked.log", "tracked\n");
    repo.text(&["add", "-A", "-f"]);
    repo.commit("Rules");
    repo
}

fn files(pairs: &[(&str, &str)]) -> Value {
    let files: Vec<_> = pairs
        .iter()
        .map(|(path, content)| json!({"path": path, "content": content}))
        .collect();
    json!({ "files": files })
}

#[tokio::test(flavor = "multi_thread")]
async fn ignored_files_are_left_out_and_told() {
    let rig = Rig::new().await;
    let bare = rig.host.publish(&repository(), "app");
    rig.clone("s", "app").await;
    let secret = Canary::new();
    let ran = rig
        .apply(
            "s",
            files(&[
                (".env", secret.as_str()),
                ("build/out/a.o", "object"),
                ("docs/kept.log", "kept\n"),
                ("src/new.rs", "new\n"),
                ("tracked.log", "changed\n"),
            ]),
        )
        .await;
    assert_eq!(
        ran.completed()["ignored"],
        json!({"count": 2, "paths": [".env", "build/out/a.o"]})
    );
    assert!(ran.raw.contains("Left out: 2 files"), "{}", ran.raw);
    secret.assert_not_below(rig.storage_folder());

    let done = rig.commit("s", json!({"message": "All of it"})).await.completed();
    assert_eq!(
        (&done["committed"], &done["filesChanged"]),
        (&json!(true), &json!(3))
    );
    assert_eq!(done.get("ignored"), None, "nothing was left out any more");
    let tree = bare.text(&["ls-tree", "-r", "--name-only", "main"]);
    for path in ["docs/kept.log", "src/new.rs", "tracked.log"] {
        assert!(tree.contains(path), "{path} is not in {tree}");
    }
    assert!(!tree.contains(".env") && !tree.contains("build"), "{tree}");
    assert_eq!(bare.show("main", "tracked.log"), b"changed\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_come_with_the_change_hold_for_it() {
    let rig = Rig::new().await;
    rig.host.publish(&TestRepo::sample(), "app");
    rig.clone("s", "app").await;
    let before = rig.manifest("s").await.unwrap().worktree;
    let done = rig
        .apply(
            "s",
            files(&[
                (".gitignore", "*.tmp\n!.gitignore\n"),
                ("a.tmp", "1"),
                ("b/c.tmp", "2"),
            ]),
        )
        .await
        .completed();
    assert_eq!(done["ignored"]["count"], 2);
    let patch =
        "diff --git a/x.tmp b/x.tmp\nnew file mode 100644\n--- /dev/null\n+++ b/x.tmp\n@@ -0,0 +1 @@\n+x\n";
    let done = rig.apply("s", json!({ "patch": patch })).await.completed();
    assert_eq!(done["ignored"]["paths"], json!(["x.tmp"]));
    rig.apply("s", json!({"files": [{"path": ".gitignore", "delete": true}]}))
        .await
        .completed();
    assert_eq!(rig.manifest("s").await.unwrap().worktree, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn within_a_limit_ignored_files_stay_in_the_session_and_out_of_commits() {
    let mut rig = Rig::new().await;
    rig.limits.keep_ignored_bytes = 10;
    let repo = repository();
    repo.branch("other")
        .switch("other")
        .write("other", "other\n")
        .commit("Other");
    repo.switch("main");
    let bare = rig.host.publish(&repo, "app");
    rig.clone("s", "app").await;
    // In the order of their paths: 6 bytes fit, 6 more do not, the 4 after them do.
    let done = rig
        .apply(
            "s",
            files(&[("build/a", "123456"), ("build/b", "123456"), ("c.log", "1234")]),
        )
        .await
        .completed();
    assert_eq!(done["ignored"], json!({"count": 1, "paths": ["build/b"]}));

    let nothing = rig.commit("s", json!({})).await;
    assert_eq!(nothing.completed()["committed"], false);
    assert_eq!(
        nothing.completed()["ignored"],
        json!({"count": 2, "paths": ["build/a", "c.log"]})
    );
    rig.write("s", "src/new.rs", "new\n").await;
    let done = rig.commit("s", json!({"message": "New"})).await.completed();
    assert_eq!(
        (&done["filesChanged"], &done["ignored"]["count"]),
        (&json!(1), &json!(2))
    );
    assert!(
        !bare
            .text(&["ls-tree", "-r", "--name-only", "main"])
            .contains("build")
    );
    let kept = rig.manifest("s").await.unwrap();
    assert_ne!(
        kept.worktree.to_string(),
        bare.tree_of("main"),
        "they are still there"
    );

    // They go along when the session moves, and do not count as changes that it would lose.
    let mut pull = rig.clone_body("s", "app");
    pull["branch"] = "other".into();
    rig.job(JobKind::CloneRepository, pull).await.completed();
    let done = rig.commit("s", json!({})).await.completed();
    assert_eq!(
        (&done["committed"], &done["ignored"]["count"]),
        (&json!(false), &json!(2))
    );
}
