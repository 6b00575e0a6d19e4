//! One worker process, without a gateway.

use mayfly_protocol::{ErrorCode, Stage};
use mayfly_testkit::canary::Canary;
use mayfly_testkit::git_host::{Fault, On};
use mayfly_testkit::process::is_alive;
use mayfly_testkit::sse::{Stream, completed, failed, read_whole};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::rig::{Rig, get, get_json, post};

const WORKER: &[&str] = &["git-worker", "--port", "0", "--announce"];

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_does_one_job_and_exits_with_0() {
    let rig = Rig::new();
    let (mut worker, base) = rig.start(WORKER).await;
    assert_eq!(get(&base, "/health").await.status(), 200);
    assert_eq!(get_json(&base, "/status").await["state"], "idle");
    let events = read_whole(post(&base, "/clone-repository", &rig.clone_body("s")).await).await;
    assert_eq!(completed(&events)["branch"], "main");
    assert_eq!(worker.ended().await.code(), Some(0));
    assert!(!is_alive(worker.id()));
    assert!(rig.left_in_tmp().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_can_gain_no_privileges() {
    let rig = Rig::new();
    let (worker, _) = rig.start(WORKER).await;
    let (gateway, _) = rig
        .start(&["gateway", "--port", "0", "--git-workers", "http://127.0.0.1:1"])
        .await;
    for role in [worker, gateway] {
        let status = std::fs::read_to_string(format!("/proc/{}/status", role.id())).unwrap();
        assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_worker_refuses_the_second_job_and_ends_after_the_first() {
    let rig = Rig::new();
    rig.host.fail_times(On::UploadPack, 1, Fault::StallBeforeHead);
    let (mut worker, base) = rig.start(WORKER).await;
    let mut first = Stream::of(post(&base, "/clone-repository", &rig.clone_body("s")).await);
    first.until(|event| is_at(event, Stage::Cloning)).await;
    for _ in 0..3 {
        let second = post(&base, "/clone-repository", &rig.clone_body("other")).await;
        assert_eq!(second.status(), 429);
        assert_eq!(second.headers()["retry-after"], "1");
        assert_eq!(second.json::<Value>().await.unwrap()["code"], "worker_busy");
    }
    assert_eq!(get_json(&base, "/status").await["state"], "busy");
    worker.signal(Signal::SIGTERM);
    drop(first);
    assert_eq!(worker.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_an_idle_worker_and_drains_a_busy_one() {
    let rig = Rig::new();
    let (mut idle, _) = rig.start(WORKER).await;
    idle.signal(Signal::SIGTERM);
    assert_eq!(idle.ended().await.code(), Some(0));

    rig.host.fail_times(On::UploadPack, 1, Fault::StallBeforeHead);
    let (mut busy, base) = rig.start(&[WORKER, &["--drain-grace", "0.2"]].concat()).await;
    let mut stream = Stream::of(post(&base, "/clone-repository", &rig.clone_body("s")).await);
    let mut events = vec![stream.until(|event| is_at(event, Stage::Cloning)).await];
    busy.signal(Signal::SIGTERM);
    events.extend(stream.rest().await);
    let failure = failed(&events);
    assert_eq!((failure.code, failure.retryable), (ErrorCode::ShuttingDown, true));
    assert_eq!(busy.ended().await.code(), Some(0));
    assert!(rig.left_in_tmp().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_killed_has_saved_nothing_by_halves() {
    let rig = Rig::new();
    rig.host.fail_times(On::UploadPack, 1, Fault::StallAfter(200));
    let (mut worker, base) = rig.start(WORKER).await;
    let mut stream = Stream::of(post(&base, "/clone-repository", &rig.clone_body("s")).await);
    stream.until(|event| is_at(event, Stage::Cloning)).await;
    worker.signal(Signal::SIGKILL);
    worker.ended().await;
    assert!(!rig.left_in_tmp().is_empty());
    rig.host.behave();
    let (mut next, base) = rig.start(WORKER).await;
    let events = read_whole(post(&base, "/clone-repository", &rig.clone_body("s")).await).await;
    assert_eq!(completed(&events)["generation"], 1);
    next.ended().await;
    assert!(rig.left_in_tmp().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_in_no_log_argument_environment_or_file() {
    let rig = Rig::new();
    let canary = Canary::of(rig.host.token());
    let llm = Canary::new();
    for (path, body) in [
        ("/clone-repository", rig.clone_body("s")),
        (
            "/create-branch",
            json!({"sessionId": "s", "userRequest": "x", "githubAccessToken": rig.host.token()}),
        ),
        (
            "/commit-and-push",
            json!({"sessionId": "s", "githubAccessToken": rig.host.token(), "claudeCredentials": llm.as_str()}),
        ),
        (
            "/clone-repository",
            json!({"sessionId": "t", "repoUrl": rig.host.url("absent"), "accessToken": rig.host.token()}),
        ),
    ] {
        let launch = rig
            .launch(WORKER)
            .env("RUST_LOG", "trace")
            .env("ANTHROPIC_BASE_URL", "http://127.0.0.1:9");
        let mut worker = launch.start();
        let line = worker.line_on_stdout("listening on ").await;
        let base = format!("http://{}", line.rsplit(' ').next().unwrap());
        let mut stream = Stream::of(post(&base, path, &body).await);
        let first = stream.next().await.unwrap();
        for token in [&canary, &llm] {
            assert!(token.found_in_process(worker.id()).is_empty());
        }
        let mut events = vec![first];
        events.extend(stream.rest().await);
        worker.ended().await;
        let said = [
            serde_json::to_vec(&events).unwrap(),
            worker.stderr().into_bytes(),
            worker.stdout().into_bytes(),
        ];
        for token in [&canary, &llm] {
            assert!(said.iter().all(|bytes| !token.is_in(bytes)), "{path}");
            assert!(token.found_below(rig.folder.path()).is_empty(), "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_worker_says_that_it_has_no_executor() {
    let rig = Rig::new();
    let (mut worker, base) = rig.start(&["code-worker", "--port", "0", "--announce"]).await;
    let body = json!({"operationType": "refactor", "description": "d", "organizationId": "o", "sessionId": "s",
        "approvalRequired": false, "repository": {"url": rig.host.url("app"), "owner": "o", "name": "r", "branch": "main"}});
    let events = read_whole(post(&base, "/code-operation", &body).await).await;
    assert_eq!(failed(&events).code, ErrorCode::NoExecutor);
    assert_eq!(worker.ended().await.code(), Some(0));
}

fn is_at(event: &mayfly_protocol::Event, wanted: Stage) -> bool {
    matches!(event.body, mayfly_protocol::EventBody::Progress { stage, .. } if stage == wanted)
}
