//! `/apply-changes`.

use mayfly_protocol::{ErrorCode, Stage};
use mayfly_testkit::repo::TestRepo;
use serde_json::json;

use super::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn files_and_patches_make_the_same_tree_as_git() {
    let rig = Rig::new().await;
    let repo = TestRepo::sample();
    rig.host.publish(&repo, "app");
    rig.clone("files", "app").await;
    rig.clone("patch", "app").await;

    repo.write("src/main.rs", "fn main() { run() }\n")
        .write("src/run.rs", "pub fn run() {}\n")
        .remove("README.md");
    repo.commit("Change");
    let patch = repo.text(&["diff", "--binary", "main~1", "main"]) + "\n";
    let ran = rig
        .apply(
            "files",
            json!({"files": [
                {"path": "src/main.rs", "content": "fn main() { run() }\n"},
                {"path": "src/run.rs", "contentBase64": "cHViIGZuIHJ1bigpIHt9Cg=="},
                {"path": "README.md", "delete": true},
            ]}),
        )
        .await;
    assert_eq!(
        ran.stages(),
        [
            Stage::Preparing,
            Stage::DownloadingSession,
            Stage::ApplyingChanges,
            Stage::Uploading
        ]
    );
    assert_eq!(ran.completed()["filesChanged"], 3);
    let patched = rig.apply("patch", json!({"patch": patch})).await.completed();
    assert_eq!(patched["filesChanged"], 3);
    for session in ["files", "patch"] {
        assert_eq!(
            rig.manifest(session).await.unwrap().worktree.to_string(),
            repo.tree_of("main"),
            "{session}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_leaves_the_session_as_it_was() {
    let rig = Rig::new().await;
    let repo = TestRepo::sample();
    repo.symlink("link", "src").commit("A link");
    rig.host.publish(&repo, "app");
    rig.clone("s", "app").await;
    let before = rig.manifest("s").await;
    let patch = |path: &str| {
        format!("diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-no\n+yes\n")
    };
    for (body, code) in [
        (
            json!({"files": [{"path": "absent", "delete": true}]}),
            ErrorCode::PatchConflict,
        ),
        (
            json!({"files": [{"path": "link/x", "content": "x"}]}),
            ErrorCode::PathRefused,
        ),
        (json!({"patch": patch("src/main.rs")}), ErrorCode::PatchConflict),
        (json!({"patch": patch("absent")}), ErrorCode::PatchConflict),
        (json!({"patch": patch("../escape")}), ErrorCode::PathRefused),
        (json!({"patch": patch("/etc/passwd")}), ErrorCode::PathRefused),
        (json!({"patch": patch(".git/config")}), ErrorCode::PathRefused),
        (json!({"patch": patch(".GIT/config")}), ErrorCode::PathRefused),
        (
            json!({"patch": patch("a/.g\u{200c}it/x")}),
            ErrorCode::PathRefused,
        ),
        (json!({"patch": "not a patch at all"}), ErrorCode::PatchInvalid),
    ] {
        rig.apply("s", body.clone()).await.failed(code);
        assert_eq!(rig.manifest("s").await, before, "{body}");
    }
    rig.apply("absent", json!({"files": [{"path": "a", "content": ""}]}))
        .await
        .failed(ErrorCode::SessionNotFound);
}
