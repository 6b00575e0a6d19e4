//! `/sessions` of a real fleet: what it shows of a session is what git says of the same worktree.

use std::path::{Path, PathBuf};

use mayfly_testkit::git_host::{Fault, On};
use mayfly_testkit::process::{Launch, Running};
use mayfly_testkit::repo::TestRepo;
use mayfly_testkit::sse::{Stream, completed, http_client, read_whole};
use mayfly_testkit::wait::obtained;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::rig::{Rig, get, get_json, post};

const UP: &[&str] = &["up", "--port", "0", "--git-workers", "1"];

/// A fleet with a session whose worktree differs from its head.
struct Scene {
    rig: Rig,
    up: Running,
    base: String,
    /// The same repository with the same changes in its index, for git to say what is right.
    local: TestRepo,
}

/// Every kind of file in the repository, before any change.
fn repository() -> TestRepo {
    let repo = TestRepo::sample();
    repo.history(10);
    repo.write("gone.txt", "gone\n").write("image", b"\0\x01\x02");
    repo.write_named(b"caf\xe9.txt", b"alt \xe9\n")
        .symlink("link", "src/main.rs");
    repo.submodule_entry("module", &"1".repeat(40));
    repo.commit("all kinds");
    repo
}

impl Scene {
    async fn start() -> Self {
        let rig = Rig::new();
        let local = repository();
        rig.host.publish(&local, "kinds");
        let (up, base) = rig.start(UP).await;
        let scene = Self { rig, up, base, local };
        let clone = json!({"sessionId": "s", "repoUrl": scene.rig.host.url("kinds"), "accessToken": scene.rig.host.token()});
        scene.job("/clone-repository", &clone).await;
        let changes = json!({"sessionId": "s", "files": [
            {"path": "gone.txt", "delete": true},
            {"path": "image", "contentBase64": "AAM="},
            {"path": "README.md", "content": "# Other\n"},
            {"path": "bin/tool", "content": "#!/bin/sh\n", "mode": "100755"},
            {"path": "new link", "content": "../no/where", "mode": "120000"},
            {"path": "empty", "content": ""},
        ]});
        scene.job("/apply-changes", &changes).await;
        let local = &scene.local;
        local
            .remove("gone.txt")
            .write("image", b"\0\x03")
            .write("README.md", "# Other\n");
        local
            .write_executable("bin/tool", "#!/bin/sh\n")
            .symlink("new link", "../no/where");
        local.write("empty", "").text(&["add", "--all"]);
        scene
    }

    async fn job(&self, path: &str, body: &Value) {
        completed(&read_whole(post(&self.base, path, body).await).await);
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        get(&self.base, path).await
    }

    async fn refused(&self, path: &str) -> (u16, String) {
        refusal(self.get(path).await).await
    }

    async fn delete(&self, session: &str) -> reqwest::Response {
        http_client()
            .delete(format!("{}/sessions/{session}", self.base))
            .send()
            .await
            .unwrap()
    }

    fn worktree(&self) -> String {
        self.local.text(&["write-tree"])
    }

    fn stored(&self, under: &str) -> Vec<PathBuf> {
        let mut open = vec![self.rig.folder.path().join("storage").join(under)];
        let mut files = Vec::new();
        while let Some(path) = open.pop() {
            match std::fs::read_dir(&path) {
                Ok(entries) => open.extend(entries.map(|entry| entry.unwrap().path())),
                Err(_) if path.is_file() => files.push(path),
                Err(_) => {}
            }
        }
        files
    }
}

async fn refusal(response: reqwest::Response) -> (u16, String) {
    let status = response.status().as_u16();
    let refusal: Value = response.json().await.unwrap();
    (status, refusal["code"].as_str().unwrap_or_default().to_owned())
}

fn header(response: &reqwest::Response, name: &str) -> String {
    let value = response.headers().get(name).map(|value| value.to_str().unwrap());
    value.unwrap_or_default().to_owned()
}

/// What the real `tar` makes of an archive.
#[expect(clippy::disallowed_methods, reason = "the judge is the real program")]
pub(super) fn unpacked(archive: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), zstd::decode_all(archive).unwrap()).unwrap();
    let mut tar = std::process::Command::new("tar");
    let output = tar
        .arg("-xf")
        .arg(file.path())
        .arg("-C")
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    folder
}

/// The tree that git makes of a folder, and of the submodule, which a folder cannot tell.
pub(super) fn tree_of(judge: &TestRepo, folder: &Path) -> String {
    let git = judge.path().join(".git");
    let (folder, git) = (folder.to_str().unwrap(), git.to_str().unwrap());
    let run = |args: &[&str]| {
        let place = ["-C", folder, "--git-dir", git, "--work-tree", folder];
        judge.text(&[&place[..], args].concat())
    };
    run(&["read-tree", "--empty"]);
    run(&["add", "--all", "--force"]);
    run(&[
        "update-index",
        "--add",
        "--cacheinfo",
        &format!("160000,{},module", "1".repeat(40)),
    ]);
    run(&["write-tree"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_shown_as_git_sees_it() {
    let scene = Scene::start().await;
    let worktree = scene.worktree();
    let shown = get_json(&scene.base, "/sessions/s").await;
    assert_eq!(
        (&shown["worktree"], &shown["generation"], &shown["headSha"]),
        (&json!(worktree), &json!(2), &json!(scene.local.rev_parse("HEAD")))
    );
    assert_eq!(shown["history"].as_array().map(Vec::len), Some(2));

    let diff = get_json(&scene.base, "/sessions/s/diff").await;
    let names: Vec<&str> = diff["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["path"].as_str().unwrap())
        .collect();
    let theirs = scene.local.text(&["diff", "--cached", "--name-only"]);
    assert_eq!(names, theirs.lines().collect::<Vec<_>>());
    let patch = scene.get("/sessions/s/diff?format=patch").await;
    assert_eq!(
        (
            header(&patch, "content-type").as_str(),
            header(&patch, "x-diff-omitted").as_str()
        ),
        ("text/x-diff", "files=0; hunks=0; binary=1")
    );
    let patch = patch.bytes().await.unwrap();
    let asked = http_client()
        .get(format!("{}/sessions/s/diff", scene.base))
        .header("Accept", "text/x-diff")
        .send()
        .await
        .unwrap();
    assert_eq!(asked.bytes().await.unwrap(), patch);

    let archive = scene.get("/sessions/s/archive").await;
    assert_eq!(header(&archive, "content-type"), "application/zstd");
    let folder = unpacked(&archive.bytes().await.unwrap());
    assert_eq!(
        std::fs::read_dir(folder.path().join("module")).unwrap().count(),
        0
    );
    assert_eq!(tree_of(&repository(), folder.path()), worktree);

    let judge = repository();
    std::fs::write(judge.path().join(".git/patch"), &patch).unwrap();
    judge.text(&["apply", "--index", "--exclude=image", ".git/patch"]);
    judge.write("image", b"\0\x03").text(&["add", "image"]);
    assert_eq!(judge.text(&["write-tree"]), worktree);
    assert_eq!(
        scene
            .rig
            .left_in_tmp()
            .iter()
            .filter(|path| path.to_string_lossy().contains("gateway"))
            .count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_given_as_they_are_and_nothing_else_is() {
    let scene = Scene::start().await;
    for (path, kind, mode, bytes) in [
        (
            "README.md",
            "text/plain; charset=utf-8",
            "100644",
            &b"# Other\n"[..],
        ),
        ("bin/tool", "text/plain; charset=utf-8", "100755", b"#!/bin/sh\n"),
        (
            "new%20link",
            "text/plain; charset=utf-8",
            "120000",
            b"../no/where",
        ),
        ("caf%E9.txt", "application/octet-stream", "100644", b"alt \xe9\n"),
        ("image", "application/octet-stream", "100644", b"\0\x03"),
        ("empty", "text/plain; charset=utf-8", "100644", b""),
    ] {
        let file = scene.get(&format!("/sessions/s/files/{path}")).await;
        assert_eq!(
            (
                file.status().as_u16(),
                header(&file, "content-type").as_str(),
                header(&file, "x-file-mode").as_str()
            ),
            (200, kind, mode),
            "{path}"
        );
        assert_eq!(header(&file, "x-content-type-options"), "nosniff");
        assert_eq!(file.bytes().await.unwrap(), bytes, "{path}");
    }
    for path in [
        "..%2f..%2fetc/passwd",
        "%2Fetc/passwd",
        ".git/config",
        ".GIT%2fconfig",
        "a//b",
        "a%00b",
        "a%5cb",
        "git~1/x",
    ] {
        assert_eq!(
            scene.refused(&format!("/sessions/s/files/{path}")).await,
            (400, "path_refused".into()),
            "{path}"
        );
    }
    for path in ["gone.txt", "src", "module", "link/x", "nowhere/at/all"] {
        assert_eq!(
            scene.refused(&format!("/sessions/s/files/{path}")).await,
            (404, "not_found".into()),
            "{path}"
        );
    }
    for query in ["diff?format=tar", "diff?x=1"] {
        assert_eq!(
            scene.refused(&format!("/sessions/s/{query}")).await,
            (400, "invalid_request".into())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn absent_sessions_and_those_of_others_are_not_there() {
    let scene = Scene::start().await;
    let storage = scene.rig.folder.path().join("storage/tenants");
    let theirs = storage.join("other/sessions/hidden");
    std::fs::create_dir_all(&theirs).unwrap();
    let manifest = std::fs::read_to_string(storage.join("default/sessions/s/manifest.json")).unwrap();
    std::fs::write(
        theirs.join("manifest.json"),
        manifest.replace("\"s\"", "\"hidden\""),
    )
    .unwrap();
    for session in ["hidden", "nobody"] {
        for rest in ["", "/diff", "/files/README.md", "/archive"] {
            assert_eq!(
                scene.refused(&format!("/sessions/{session}{rest}")).await,
                (404, "session_not_found".into())
            );
        }
        assert_eq!(
            refusal(scene.delete(session).await).await,
            (404, "session_not_found".into())
        );
    }
    for session in ["..", "a%2Fb", "..%2Fother", "%ff", "-x"] {
        assert_eq!(
            scene.refused(&format!("/sessions/{session}/diff")).await.0 / 100,
            4
        );
    }
    assert_eq!(
        scene.refused("/sessions/a%2Fb").await,
        (400, "invalid_request".into())
    );
    let list = get_json(&scene.base, "/sessions?limit=1").await;
    assert_eq!(
        (list["sessions"][0]["sessionId"].as_str(), list.get("next")),
        (Some("s"), None)
    );
    assert_eq!(
        get_json(&scene.base, "/sessions?after=s").await["sessions"],
        json!([])
    );
    for query in ["limit=0", "limit=501", "limit=x", "after=..", "state=x"] {
        assert_eq!(
            scene.refused(&format!("/sessions?{query}")).await,
            (400, "invalid_request".into()),
            "{query}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_announced() {
    let scene = Scene::start().await;
    let packs = scene
        .stored("tenants")
        .into_iter()
        .filter(|path| path.extension().is_some_and(|it| it == "pack"));
    for pack in packs {
        std::fs::write(pack, b"rubbish").unwrap();
    }
    for rest in ["diff", "diff?format=patch", "files/README.md", "archive"] {
        assert_eq!(
            scene.refused(&format!("/sessions/s/{rest}")).await,
            (500, "session_damaged".into()),
            "{rest}"
        );
    }
    let manifest = scene
        .rig
        .folder
        .path()
        .join("storage/tenants/default/sessions/s/manifest.json");
    std::fs::write(manifest, b"rubbish").unwrap();
    assert_eq!(
        scene.refused("/sessions/s").await,
        (500, "session_damaged".into())
    );
    let list = get_json(&scene.base, "/sessions").await;
    assert_eq!(
        (&list["sessions"][0]["sessionId"], &list["sessions"][0]["code"]),
        (&json!("s"), &json!("session_damaged"))
    );
    assert_eq!(scene.delete("s").await.status(), 200);
    assert_eq!(get_json(&scene.base, "/sessions").await["sessions"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_deleted_when_no_job_runs_in_it() {
    let mut scene = Scene::start().await;
    let shared = scene.stored("tenants/default/repositories");
    scene
        .rig
        .host
        .fail_times(On::FetchAdvertisement, 1, Fault::StallBeforeHead);
    let pull = json!({"sessionId": "s", "repoUrl": scene.rig.host.url("kinds"), "accessToken": scene.rig.host.token()});
    let mut stream = Stream::of(post(&scene.base, "/clone-repository", &pull).await);
    stream.until(|_| true).await;
    assert_eq!(
        refusal(scene.delete("s").await).await,
        (409, "session_busy".into())
    );
    drop(stream);
    scene.up.signal(nix::sys::signal::Signal::SIGKILL);
    scene.up.ended().await;
    scene.rig.host.behave();
    let (up, base) = scene.rig.start(UP).await;
    (scene.up, scene.base) = (up, base);
    // The job may outlive its gateway, and keeps the session until the next one knows its end.
    let deleted = obtained("the session is free", async || {
        let answer = scene.delete("s").await;
        (answer.status() != 409).then_some(answer)
    })
    .await;
    let deleted: Value = deleted.json().await.unwrap();
    assert_eq!(deleted["deleted"], json!(true));
    assert_eq!(scene.stored("tenants/default/sessions"), Vec::<PathBuf>::new());
    assert_eq!(scene.stored("tenants/default/repositories").len(), shared.len());
    assert_eq!(
        scene.refused("/sessions/s").await,
        (404, "session_not_found".into())
    );
    scene.job("/clone-repository", &pull).await;
    assert_eq!(get_json(&scene.base, "/sessions/s").await["generation"], json!(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_storage_shows_no_sessions() {
    let mut launch = Launch::new(env!("CARGO_BIN_EXE_mayfly"))
        .args(["gateway", "--port", "0", "--git-workers", "http://127.0.0.1:9"])
        .start();
    let line = launch.line_on_stdout("listening on ").await;
    let base = format!("http://{}", line.rsplit(' ').next().unwrap());
    for path in [
        "/sessions",
        "/sessions/s",
        "/sessions/s/diff",
        "/sessions/s/files/x",
        "/sessions/s/archive",
    ] {
        assert_eq!(refusal(get(&base, path).await).await, (404, "not_found".into()));
    }
}
