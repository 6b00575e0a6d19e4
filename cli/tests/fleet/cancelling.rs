//! Cancel in every stage, on real processes: receiving a pack, waiting for an LLM, and pushing before the server's answer.

use std::time::Instant;

use mayfly_protocol::{ErrorCode, Failure, Stage};
use mayfly_testkit::git_host::{Fault, On};
use mayfly_testkit::process::Running;
use mayfly_testkit::sse::{Stream, completed, failed, read_whole};
use mayfly_testkit::wait::{eventually, within};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::rig::{Rig, get_json, post};

/// A silent host is not given up while a test waits, so that nothing but a cancel ends a job.
const BEYOND_PATIENCE: &str = "600";

async fn start(rig: &Rig, llm: &str) -> (Running, String) {
    let launch = rig
        .launch(&["up", "--port", "0", "--git-workers", "1"])
        .env("ANTHROPIC_BASE_URL", llm)
        .env("TRANSFER_IDLE_SECS", BEYOND_PATIENCE);
    let mut up = launch.start();
    let line = up.line_on_stdout("listening on ").await;
    let base = format!("http://{}", line.rsplit(' ').next().unwrap());
    (up, base)
}

fn token(rig: &Rig) -> Value {
    rig.host.token().into()
}

/// A session with a change that is not committed.
async fn prepare(rig: &Rig, base: &str) {
    completed(&read_whole(post(base, "/clone-repository", &rig.clone_body("s")).await).await);
    let change = json!({"sessionId": "s", "files": [{"path": "x.txt", "content": "x\n"}]});
    completed(&read_whole(post(base, "/apply-changes", &change).await).await);
}

fn id_of(answer: &reqwest::Response) -> String {
    answer.headers()["x-job-id"].to_str().unwrap().to_owned()
}

/// Cancels the job once it is at this stage and the condition holds, and gives the events that follow.
#[expect(clippy::print_stdout, reason = "the figure in docs/performance.md")]
async fn cancel_at(
    base: &str,
    answer: reqwest::Response,
    stage: Stage,
    holds: impl FnMut() -> bool,
) -> Vec<mayfly_testkit::sse::Numbered> {
    let id = id_of(&answer);
    let mut stream = Stream::of(answer);
    stream.until(|event| is_at(event, stage)).await;
    eventually("the job is where it shall be cancelled", holds).await;
    let began = Instant::now();
    let cancelled = post(base, &format!("/jobs/{id}/cancel"), &json!(null)).await;
    assert_eq!(cancelled.status(), 202);
    let rest = within("the end of the cancelled job", stream.rest()).await;
    println!("cancelled while {stage:?}: ended after {:?}", began.elapsed());
    let state = get_json(base, &format!("/jobs/{id}")).await["state"].clone();
    assert!(state == "failed" || state == "completed");
    rest
}

fn cancelled(events: &[mayfly_testkit::sse::Numbered]) -> Failure {
    let failure = failed(events);
    assert_eq!((failure.code, failure.retryable), (ErrorCode::Cancelled, true));
    failure.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_pack_is_received() {
    let rig = Rig::new();
    let (_up, base) = start(&rig, "http://127.0.0.1:9").await;
    for fault in [Fault::StallBeforeHead, Fault::StallAfter(300)] {
        rig.host.behave();
        rig.host.fail(On::UploadPack, fault);
        let answer = post(&base, "/clone-repository", &rig.clone_body("s")).await;
        let failure = cancelled(&cancel_at(&base, answer, Stage::Cloning, || true).await);
        assert!(
            failure.error.ends_with("the session is as it was before the job"),
            "{}",
            failure.error
        );
    }
    rig.host.behave();
    let again = read_whole(post(&base, "/clone-repository", &rig.clone_body("s")).await).await;
    assert_eq!(completed(&again)["generation"], 1);
    eventually("no job has left a file", || files_of_jobs(&rig.tmp()) == [""; 0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_an_llm_is_waited_for() {
    let rig = Rig::new();
    // It accepts, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let llm = format!("http://{}", silent.local_addr().unwrap());
    let (_up, base) = start(&rig, &llm).await;
    prepare(&rig, &base).await;
    let commit = json!({"sessionId": "s", "githubAccessToken": token(&rig), "claudeCredentials": "sk-ant-x"});
    let answer = post(&base, "/commit-and-push", &commit).await;
    let failure = cancelled(&cancel_at(&base, answer, Stage::GeneratingMessage, || true).await);
    assert!(
        failure.error.ends_with("the session is as it was before the job"),
        "{}",
        failure.error
    );
    assert!(rig.host.requests_on(&On::ReceivePack).is_empty());
    let plain = json!({"sessionId": "s", "githubAccessToken": token(&rig), "message": "Add x"});
    let done = read_whole(post(&base, "/commit-and-push", &plain).await).await;
    assert_eq!(
        (&completed(&done)["generation"], &completed(&done)["pushed"]),
        (&json!(3), &json!(true))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_push_is_not_taken_yet() {
    let rig = Rig::new();
    let (_up, base) = start(&rig, "http://127.0.0.1:9").await;
    prepare(&rig, &base).await;
    rig.host.fail_times(On::ReceivePack, 1, Fault::StallBeforeHead);
    let commit = json!({"sessionId": "s", "githubAccessToken": token(&rig)});
    let answer = post(&base, "/commit-and-push", &commit).await;
    let is_sent = || !rig.host.requests_on(&On::ReceivePack).is_empty();
    let failure = cancelled(&cancel_at(&base, answer, Stage::Pushing, is_sent).await);
    assert!(failure.error.contains("not known yet"), "{}", failure.error);
    let again = read_whole(post(&base, "/commit-and-push", &commit).await).await;
    assert_eq!(completed(&again)["pushed"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_answer_to_a_push_that_was_done_does_not_come() {
    let rig = Rig::new();
    let (_up, base) = start(&rig, "http://127.0.0.1:9").await;
    prepare(&rig, &base).await;
    rig.host.fail_times(On::ReceivePack, 1, Fault::StallAfter(0));
    let commit = json!({"sessionId": "s", "githubAccessToken": token(&rig)});
    let bare = rig.host.root().join("app.git");
    let before = tip(&bare);
    let answer = post(&base, "/commit-and-push", &commit).await;
    let is_done = || tip(&bare) != before;
    let events = cancel_at(&base, answer, Stage::Pushing, is_done).await;
    assert_eq!(completed(&events)["commitSha"], tip(&bare));
    let nothing = read_whole(post(&base, "/commit-and-push", &commit).await).await;
    assert_eq!(completed(&nothing)["committed"], false);
}

/// The scratch folders of jobs below the folder of the fleet.
fn files_of_jobs(folder: &std::path::Path) -> Vec<String> {
    let inside = |entry: std::fs::DirEntry| {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        match name.starts_with("mayfly-tmp-git-worker-") {
            true => vec![name],
            false if path.is_dir() => files_of_jobs(&path),
            false => Vec::new(),
        }
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.flat_map(inside).collect()
}

/// Where the branch stands on the host.
fn tip(bare: &std::path::Path) -> String {
    let reference = std::fs::read_to_string(bare.join("refs/heads/main"));
    let packed = || std::fs::read_to_string(bare.join("packed-refs")).unwrap_or_default();
    reference.unwrap_or_else(|_| packed()).trim().to_owned()
}

fn is_at(event: &mayfly_protocol::Event, wanted: Stage) -> bool {
    matches!(event.body, mayfly_protocol::EventBody::Progress { stage, .. } if stage == wanted)
}
