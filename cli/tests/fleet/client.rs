//! `mayfly` as a client: the jobs from the command line, in a pipe, on a terminal, over broken streams, and before a server that lies.

use std::path::{Path, PathBuf};

use axum::Router;
use axum::response::IntoResponse as _;
use axum::routing::{get as get_route, post as post_route};
use mayfly_testkit::canary::Canary;
use mayfly_testkit::chaos_proxy::{Chaos, Fate};
use mayfly_testkit::git_host::{Fault, On};
use mayfly_testkit::port;
use mayfly_testkit::process::{Launch, Running};
use mayfly_testkit::repo::clone_with_git;
use mayfly_testkit::server::TestServer;
use mayfly_testkit::wait::within;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::rig::{Rig, get_json};

const UP: &[&str] = &["up", "--port", "0", "--git-workers", "2"];

/// What a command printed, and its exit code.
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

fn client(rig: &Rig, url: &str, args: &[&str]) -> Launch {
    Launch::new(Path::new(env!("CARGO_BIN_EXE_mayfly")))
        .args(args)
        .env("MAYFLY_URL", url)
        .env("GIT_TOKEN", rig.host.token())
        .folder(rig.folder.path())
}

async fn ended(mut running: Running) -> Done {
    let status = within("the client's end", running.ended()).await;
    Done {
        code: status.code(),
        out: running.stdout(),
        err: running.stderr(),
    }
}

async fn run(rig: &Rig, url: &str, args: &[&str]) -> Done {
    ended(client(rig, url, args).start()).await
}

fn write(rig: &Rig, name: &str, content: &str) -> PathBuf {
    let path = rig.folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn the_four_jobs_go_through_from_the_command_line() {
    let rig = Rig::new();
    let (_up, url) = rig.start(UP).await;
    let repo = rig.host.url("app");
    let cloned = run(&rig, &url, &["clone", &repo, "s"]).await;
    assert_eq!(cloned.code, Some(0), "{}", cloned.err);
    assert!(cloned.out.contains("branch           main\n"), "{}", cloned.out);
    assert!(
        cloned.err.lines().any(|line| line.starts_with("cloned ")),
        "{}",
        cloned.err
    );

    let branch = run(&rig, &url, &["branch", "s", "Add x", "--name", "add-x", "--json"]).await;
    let events: Vec<Value> = branch
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let last = events.last().unwrap();
    assert_eq!(
        (&last["type"], &last["data"]["branch"]),
        (&"completed".into(), &"add-x".into())
    );
    assert_eq!((branch.code, branch.err.as_str()), (Some(0), ""));

    write(&rig, "x.txt", "x\n");
    let patch =
        "diff --git a/y.txt b/y.txt\nnew file mode 100644\n--- /dev/null\n+++ b/y.txt\n@@ -0,0 +1 @@\n+y\n";
    write(&rig, "y.patch", patch);
    for args in [
        &["apply", "s", "--file", "src/x.txt=x.txt"],
        &["apply", "s", "y.patch", "--json"],
    ] {
        let applied = run(&rig, &url, args).await;
        assert_eq!(applied.code, Some(0), "{}", applied.err);
    }
    let diff = run(&rig, &url, &["sessions", "diff", "s"]).await;
    assert!(
        diff.out.contains("+++ b/src/x.txt") && diff.out.contains("+++ b/y.txt"),
        "{}",
        diff.out
    );
    assert_eq!(
        run(&rig, &url, &["sessions", "file", "s", "src/x.txt"]).await.out,
        "x\n"
    );

    let commit = run(
        &rig,
        &url,
        &["commit", "s", "-m", "Add x", "--author", "Ada <ada@example.com>"],
    )
    .await;
    assert_eq!(commit.code, Some(0), "{}", commit.err);
    let plain = clone_with_git(&repo, Some(rig.host.read_token()));
    assert_eq!(plain.log("origin/add-x")[0], "Add x");
    assert_eq!(plain.show("origin/add-x", "y.txt"), b"y\n");

    let jobs = run(&rig, &url, &["jobs", "--session", "s"]).await.out;
    assert_eq!(jobs.lines().count(), 6, "{jobs}");
    assert!(jobs.starts_with("JOB "), "{jobs}");
    let sessions = run(&rig, &url, &["sessions"]).await.out;
    assert!(
        sessions
            .lines()
            .any(|line| line.starts_with("s ") && line.contains("add-x")),
        "{sessions}"
    );
    let workers: Value = serde_json::from_str(&run(&rig, &url, &["workers", "--json"]).await.out).unwrap();
    assert!(workers["workers"].as_array().unwrap().len() >= 2);
    assert_eq!(run(&rig, &url, &["sessions", "delete", "s"]).await.code, Some(0));
    assert_eq!(run(&rig, &url, &["sessions", "show", "s"]).await.code, Some(6));
    Canary::of(rig.host.token()).assert_not_in(
        "what was printed",
        format!("{}{}", commit.out, commit.err).as_bytes(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_command_ends_is_its_exit_code() {
    let rig = Rig::new();
    let (_up, url) = rig.start(UP).await;
    let repo = rig.host.url("app");
    let code = async |args: &[&str]| run(&rig, &url, args).await.code;
    assert_eq!(code(&["clone", &repo]).await, Some(2));
    assert_eq!(code(&["apply", "s", "absent.patch"]).await, Some(1));
    assert_eq!(code(&["clone", &repo, "s", "--branch", "absent"]).await, Some(3));
    assert_eq!(
        code(&["clone", "https://user:word@example.com/x", "s"]).await,
        Some(6)
    );
    assert_eq!(
        code(&["cancel", "0197d7a0-0000-7000-8000-000000000000"]).await,
        Some(6)
    );
    rig.host.fail(On::FetchAdvertisement, Fault::status(503));
    assert_eq!(code(&["clone", &repo, "s"]).await, Some(4));
    let refused = port::refused();
    let unreachable = run(&rig, &format!("http://{}", refused.addr()), &["jobs"]).await;
    assert_eq!(unreachable.code, Some(7));
    assert!(
        unreachable.err.contains(&refused.addr().to_string()),
        "{}",
        unreachable.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_leaves_the_job_or_cancels_it() {
    let rig = Rig::new();
    let (_up, url) = rig.start(UP).await;
    let repo = rig.host.url("app");
    rig.host.fail(On::UploadPack, Fault::StallBeforeHead);
    let mut watching = client(&rig, &url, &["clone", &repo, "s"]).start();
    let line = watching.line_on_stderr("job ").await;
    let job = line.strip_prefix("job ").unwrap().to_owned();
    watching.line_on_stderr("cloning ").await;
    watching.signal(Signal::SIGINT);
    let left = ended(watching).await;
    assert_eq!(left.code, Some(130));
    assert!(left.err.contains(&format!("mayfly watch {job}")), "{}", left.err);
    assert_eq!(get_json(&url, &format!("/jobs/{job}")).await["state"], "running");

    let mut watching = client(&rig, &url, &["watch", &job, "--cancel-on-interrupt"]).start();
    watching.line_on_stderr("cloning ").await;
    watching.signal(Signal::SIGINT);
    assert_eq!(ended(watching).await.code, Some(5));
    assert_eq!(get_json(&url, &format!("/jobs/{job}")).await["code"], "cancelled");
    assert_eq!(run(&rig, &url, &["watch", &job]).await.code, Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_is_taken_up_where_it_broke() {
    let rig = Rig::new();
    let (_up, url) = rig.start(UP).await;
    let repo = rig.host.url("app");
    let chaos = Chaos::by(|seen| match seen.number {
        1 => Fate::LoseAnswer,
        2 => Fate::CutAnswer(400),
        3 => Fate::CutAnswer(0),
        4 => Fate::LoseAnswer,
        5 => Fate::CutAnswer(700),
        _ => Fate::Pass,
    });
    let proxy = chaos.proxy("gateway", &url);
    let done = run(&rig, &proxy.origin(), &["clone", &repo, "s", "--json"]).await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(chaos.requests() >= 6);
    let seen: Vec<Value> = done
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(get_json(&url, "/jobs").await["jobs"].as_array().unwrap().len(), 1);
    let job = seen[0]["jobId"].as_str().unwrap();
    let whole = run(&rig, &url, &["watch", job, "--json"]).await;
    assert_eq!(done.out, whole.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn that_nobody_could_read_the_events_is_told() {
    let rig = Rig::new();
    let (_up, url) = rig.start(UP).await;
    let command = format!(
        "{} clone {} s --json > /dev/full",
        env!("CARGO_BIN_EXE_mayfly"),
        rig.host.url("app")
    );
    let shell = Launch::new("sh")
        .args(["-c", &command])
        .env("MAYFLY_URL", &url)
        .env("GIT_TOKEN", rig.host.token())
        .start();
    let done = ended(shell).await;
    assert_eq!(done.code, Some(1), "{}", done.err);
    assert!(done.err.contains("No space left on device"), "{}", done.err);
    assert_eq!(get_json(&url, "/jobs").await["jobs"][0]["state"], "completed");
}

/// A server that puts what moves a terminal wherever it may.
fn nasty_server() -> TestServer {
    const NASTY: &str = r"a\u001b]0;owned\u0007\u009b2Jb\r\u202ec";
    let event = |id: u32, rest: &str| {
        format!(
            "id: {id}\ndata: {{{rest},\"source\":\"gateway\",\"timestamp\":\"2026-01-02T03:04:05.678Z\",\"jobId\":\"0197d7a0-0000-7000-8000-000000000000\"}}\n\n"
        )
    };
    let stream = [
        event(
            1,
            &format!("\"type\":\"progress\",\"stage\":\"cloning\",\"message\":\"{NASTY}\""),
        ),
        event(
            2,
            &format!("\"type\":\"completed\",\"data\":{{\"branch\":\"{NASTY}\",\"{NASTY}\":1}}"),
        ),
    ]
    .concat();
    let job = async move || {
        let headers = [
            ("content-type", "text/event-stream"),
            ("x-job-id", "0197d7a0-0000-7000-8000-000000000000"),
        ];
        (headers, stream).into_response()
    };
    let jobs = async || {
        let body = format!("{{\"jobs\":[{{\"id\":\"{NASTY}\",\"state\":{{\"x\":\"{NASTY}\"}}}}]}}");
        ([("content-type", "application/json")], body).into_response()
    };
    TestServer::http(
        Router::new()
            .route("/clone-repository", post_route(job))
            .route("/jobs", get_route(jobs)),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_server_says_reaches_a_terminal_unchanged() {
    let (rig, server) = (Rig::new(), nasty_server());
    let url = server.origin();
    for args in [
        &["clone", "https://example.com/x", "s"][..],
        &["clone", "https://example.com/x", "s", "--json"],
        &["jobs"],
        &["jobs", "--json"],
    ] {
        let done = run(&rig, &url, args).await;
        assert_eq!(done.code, Some(0), "{}", done.err);
        let printed = format!("{}{}", done.out, done.err);
        assert!(printed.contains("owned"), "{printed}");
        let harmful = printed
            .replace('\n', "")
            .chars()
            .any(|character| character.is_control() || character == '\u{202e}');
        assert!(!harmful, "{printed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_there_is_a_bar_and_then_the_result() {
    let rig = Rig::new();
    let (_up, url) = rig.start(UP).await;
    let command = format!("{} clone {} s", env!("CARGO_BIN_EXE_mayfly"), rig.host.url("app"));
    let terminal = Launch::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .env("MAYFLY_URL", &url)
        .env("GIT_TOKEN", rig.host.token())
        .env("TERM", "xterm")
        .start();
    let done = ended(terminal).await;
    assert_eq!(done.code, Some(0), "{}", done.out);
    assert!(
        done.out.contains("\u{1b}["),
        "a bar moves the cursor: {:?}",
        done.out
    );
    assert!(done.out.contains("branch           main\r\n"), "{:?}", done.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_not_sent_where_everybody_can_read_it() {
    let rig = Rig::new();
    let key = "mfk_0123456789abcdef";
    let with_key = async |url: &str, args: &[&str]| {
        ended(client(&rig, url, args).env("MAYFLY_API_KEY", key).start()).await
    };
    let refused = with_key("http://gateway.invalid:8080", &["jobs"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("--allow-plain-http"), "{}", refused.err);
    let asked = with_key("http://gateway.invalid:8080", &["jobs", "--allow-plain-http"]).await;
    assert_eq!(asked.code, Some(7));
    let named = with_key("https://user:word@gateway.invalid", &["jobs"]).await;
    assert_eq!(named.code, Some(1));
    Canary::of("word").assert_not_in("what was printed", named.err.as_bytes());
}
