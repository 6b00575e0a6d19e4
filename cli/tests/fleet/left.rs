//! Exactly what the user left: every kind of change goes through one worker into the session, is shown by the gateway, and is committed by
//! another worker; plain git has made the same change beside it, and says of each step what is right.

use mayfly_testkit::git;
use mayfly_testkit::process::Running;
use mayfly_testkit::repo::{BareRepo, TestRepo, clone_with_git};
use mayfly_testkit::sse::{completed, read_whole};
use serde_json::{Value, json};

use super::rig::{Rig, get, get_json, post};
use super::sessions::{tree_of, unpacked};

const LATIN1: &[u8] = b"caf\xe9.txt";

/// One change: what git is told, and what Mayfly is.
struct Change {
    what: &'static str,
    by_hand: fn(&TestRepo) -> &TestRepo,
    /// As whole files; nothing where only a patch can say it.
    files: Option<Value>,
}

fn repository() -> TestRepo {
    let repo = TestRepo::sample();
    repo.write("gone.txt", "gone\n")
        .write("moved.txt", "one\ntwo\nthree\n")
        .write("image", b"\0\x01\x02")
        .write("script.sh", "#!/bin/sh\n")
        .write_executable("tool.sh", "#!/bin/sh\n")
        .write("lines.txt", "a\r\nb\r\n")
        .write("thing", "a file\n")
        .write("folder/a.txt", "a\n")
        .write("folder/deep/b.txt", "b\n")
        .write("alone/only.txt", "only\n")
        .write_named(LATIN1, "alt\n")
        .symlink("link", "src/main.rs");
    repo.submodule_entry("module", &"1".repeat(40));
    repo.commit("All kinds");
    repo
}

fn gone<'a>(repo: &'a TestRepo, path: &str) -> &'a TestRepo {
    std::fs::remove_dir_all(repo.path().join(path)).unwrap();
    repo
}

fn change(what: &'static str, by_hand: fn(&TestRepo) -> &TestRepo, files: Option<Value>) -> Change {
    Change { what, by_hand, files }
}

fn kinds_of_contents() -> Vec<Change> {
    vec![
        change(
            "changed, and new in new folders",
            |repo| {
                repo.write("README.md", "# Other\n")
                    .write("new/deep/file.txt", "new\n")
            },
            Some(
                json!([{"path": "README.md", "content": "# Other\n"}, {"path": "new/deep/file.txt", "content": "new\n"}]),
            ),
        ),
        change(
            "deleted",
            |repo| repo.remove("gone.txt"),
            Some(json!([{"path": "gone.txt", "delete": true}])),
        ),
        change(
            "renamed, and changed a little",
            |repo| {
                repo.remove("moved.txt")
                    .write("to/here.txt", "one\ntwo\nthree\nfour\n")
            },
            Some(
                json!([{"path": "moved.txt", "delete": true}, {"path": "to/here.txt", "content": "one\ntwo\nthree\nfour\n"}]),
            ),
        ),
        change(
            "empty",
            |repo| repo.write("empty", ""),
            Some(json!([{"path": "empty", "content": ""}])),
        ),
        change(
            "lines that end in CR LF, and none",
            |repo| repo.write("lines.txt", "a\r\nB\r\n").write("dos.bat", "x\r\ny"),
            Some(
                json!([{"path": "lines.txt", "content": "a\r\nB\r\n"}, {"path": "dos.bat", "content": "x\r\ny"}]),
            ),
        ),
        change(
            "not text",
            |repo| repo.write("image", b"\0\x03\xff"),
            Some(json!([{"path": "image", "contentBase64": "AAP/"}])),
        ),
        change(
            "names in other letters",
            |repo| repo.write("täst \"q\" ' .txt", "x\n").write(" leading", "y\n"),
            None,
        ),
        change(
            "names that are not UTF-8",
            |repo| repo.write_named(LATIN1, "neu\n").write_named(b"\xff\xfe", "x\n"),
            None,
        ),
        change(
            "a name that is not UTF-8 goes",
            |repo| {
                repo.remove(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(
                    LATIN1,
                ))
            },
            None,
        ),
    ]
}

fn kinds_of_entries() -> Vec<Change> {
    vec![
        change(
            "only modes",
            |repo| {
                repo.write_executable("script.sh", "#!/bin/sh\n")
                    .remove("tool.sh")
                    .write("tool.sh", "#!/bin/sh\n")
            },
            Some(json!([
                {"path": "script.sh", "content": "#!/bin/sh\n", "mode": "100755"},
                {"path": "tool.sh", "content": "#!/bin/sh\n", "mode": "100644"},
            ])),
        ),
        change(
            "new and executable",
            |repo| repo.write_executable("bin/run", "#!/bin/sh\nexit\n"),
            Some(json!([{"path": "bin/run", "content": "#!/bin/sh\nexit\n", "mode": "100755"}])),
        ),
        change(
            "new links, one to nowhere, one turned elsewhere",
            |repo| {
                repo.symlink("dangling", "../no/where")
                    .remove("link")
                    .symlink("link", "README.md")
            },
            Some(json!([
                {"path": "dangling", "content": "../no/where", "mode": "120000"},
                {"path": "link", "content": "README.md", "mode": "120000"},
            ])),
        ),
        change(
            "a link becomes a file",
            |repo| repo.remove("link").write("link", "a file\n"),
            Some(json!([{"path": "link", "content": "a file\n", "mode": "100644"}])),
        ),
        change(
            "and a link again",
            |repo| repo.remove("link").symlink("link", "src"),
            Some(json!([{"path": "link", "content": "src", "mode": "120000"}])),
        ),
        change(
            "a file becomes a folder",
            |repo| repo.remove("thing").write("thing/inside.txt", "x\n"),
            Some(json!([{"path": "thing", "delete": true}, {"path": "thing/inside.txt", "content": "x\n"}])),
        ),
        change(
            "a folder becomes a file",
            |repo| gone(repo, "folder").write("folder", "x\n"),
            Some(json!([
                {"path": "folder/a.txt", "delete": true},
                {"path": "folder/deep/b.txt", "delete": true},
                {"path": "folder", "content": "x\n"},
            ])),
        ),
        change(
            "a folder that is empty vanishes",
            |repo| gone(repo, "alone"),
            Some(json!([{"path": "alone/only.txt", "delete": true}])),
        ),
    ]
}

/// A session on a fleet, the same worktree by hand, and a plain clone to judge by.
struct Scene {
    rig: Rig,
    _up: Running,
    base: String,
    by_hand: TestRepo,
    bare: BareRepo,
    judge: TestRepo,
}

impl Scene {
    async fn start() -> Self {
        let rig = Rig::new();
        let by_hand = repository();
        let bare = rig.host.publish(&by_hand, "kinds");
        let (up, base) = rig.start(&["up", "--port", "0", "--git-workers", "1"]).await;
        let judge = clone_with_git(&rig.host.url("kinds"), Some(rig.host.token()));
        let scene = Self {
            rig,
            _up: up,
            base,
            by_hand,
            bare,
            judge,
        };
        let (url, token) = (scene.rig.host.url("kinds"), scene.rig.host.token());
        scene
            .job("/clone-repository", json!({"repoUrl": url, "accessToken": token}))
            .await;
        scene
    }

    async fn job(&self, path: &str, mut body: Value) -> Value {
        body["sessionId"] = "s".into();
        completed(&read_whole(post(&self.base, path, &body).await).await).clone()
    }

    async fn bytes(&self, path: &str) -> Vec<u8> {
        let answer = get(&self.base, &format!("/sessions/s/{path}")).await;
        assert_eq!(answer.status(), 200, "{path}");
        answer.bytes().await.unwrap().to_vec()
    }

    /// What the change is as a patch, by git.
    fn patch(&self) -> String {
        // Byte for byte: the last line may end in CR LF.
        let arguments = ["diff", "--cached", "--binary", "-M", "HEAD"];
        let patch = git::stdout(git::command(self.by_hand.path()).args(arguments));
        String::from_utf8(patch).unwrap()
    }

    /// Session, archive, diff and files show this tree.
    async fn is_shown(&self, tree: &str, what: &str) {
        assert_eq!(
            get_json(&self.base, "/sessions/s").await["worktree"],
            tree,
            "{what}"
        );
        let folder = unpacked(&self.bytes("archive").await);
        assert_eq!(tree_of(&repository(), folder.path()), tree, "{what}: the archive");
        let diff = get_json(&self.base, "/sessions/s/diff").await;
        let mut has_binary = false;
        for file in diff["files"].as_array().unwrap() {
            has_binary |= file["binary"] == true;
            if file["change"] == "deleted" || file["newMode"] == "160000" {
                continue;
            }
            let path = file["pathEncoded"].as_str().unwrap();
            let shown = self.bytes(&format!("files/{path}")).await;
            assert_eq!(shown, self.on_disk(path), "{what}: {path}");
        }
        if !has_binary {
            let patch = self.judge.path().join(".git/patch");
            std::fs::write(patch, self.bytes("diff?format=patch").await).unwrap();
            self.judge.text(&["apply", "--index", ".git/patch"]);
            assert_eq!(self.judge.text(&["write-tree"]), tree, "{what}: the diff");
            self.judge.text(&["reset", "--quiet", "--hard"]);
        }
    }

    /// The bytes of a file, or what a link says.
    fn on_disk(&self, encoded: &str) -> Vec<u8> {
        use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
        let name: Vec<u8> = percent_encoding::percent_decode_str(encoded).collect();
        let path = self.by_hand.path().join(std::ffi::OsStr::from_bytes(&name));
        match path.is_symlink() {
            true => std::fs::read_link(path).unwrap().into_os_string().into_vec(),
            false => std::fs::read(path).unwrap(),
        }
    }

    async fn goes_through(&self, change: &Change, as_patch: bool) {
        (change.by_hand)(&self.by_hand);
        self.by_hand.text(&["add", "--all"]);
        let tree = self.by_hand.text(&["write-tree"]);
        let body = match &change.files {
            Some(files) if !as_patch => json!({"files": files}),
            _ => json!({"patch": self.patch()}),
        };
        self.job("/apply-changes", body).await;
        self.is_shown(&tree, change.what).await;
        let body = json!({"githubAccessToken": self.rig.host.token(), "message": change.what});
        assert_eq!(
            self.job("/commit-and-push", body).await["committed"],
            true,
            "{}",
            change.what
        );
        self.by_hand.commit(change.what);
        let remote = self.bare.path().to_str().unwrap();
        self.judge.text(&["pull", "--quiet", "--ff-only", remote, "main"]);
        assert_eq!(self.judge.tree_of("HEAD"), tree, "{}", change.what);
    }
}

async fn all_go_through(as_patch: bool) {
    let scene = Scene::start().await;
    for change in kinds_of_contents().iter().chain(&kinds_of_entries()) {
        scene.goes_through(change, as_patch).await;
    }
    let clone = clone_with_git(&scene.rig.host.url("kinds"), Some(scene.rig.host.token()));
    assert_eq!(clone.tree_of("HEAD"), scene.by_hand.tree_of("HEAD"));
    assert_eq!(clone.text(&["status", "--porcelain"]), "");
    let entries = clone.ls_tree("HEAD");
    let module = entries.iter().find(|entry| entry.path == b"module").unwrap();
    assert_eq!(
        (module.mode.as_str(), module.id.as_str()),
        ("160000", "1".repeat(40).as_str())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_goes_through_as_files() {
    all_go_through(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_goes_through_as_a_patch() {
    all_go_through(true).await;
}
