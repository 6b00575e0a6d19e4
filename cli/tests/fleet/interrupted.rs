//! A worker that is stopped while it pushes: the session is old or new, and the remote has the commit once.
//!
//! Workers that are killed are in `cli/tests/faults/killed.rs`.

use std::path::{Path, PathBuf};

use mayfly_protocol::{ErrorCode, EventBody, JobId, Stage, header};
use mayfly_testkit::canary::Canary;
use mayfly_testkit::git_host::{Fault, On};
use mayfly_testkit::process::Running;
use mayfly_testkit::repo::{BareRepo, TestRepo};
use mayfly_testkit::sse::{Stream, completed, failed, http_client, read_whole};
use mayfly_testkit::wait::eventually;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::rig::{Rig, post};

const WORKER: &[&str] = &["git-worker", "--port", "0", "--announce"];

/// Where the worker is interrupted.
#[derive(Debug, Clone, Copy, PartialEq)]
enum At {
    /// It has sent the push, and git is not asked.
    BeforeGit,
    /// Git has moved the branch, and the answer does not come.
    AfterGit,
}

/// A session that has something to commit.
async fn prepared(rig: &Rig, session: &str) -> BareRepo {
    let bare = rig.host.publish(&TestRepo::sample(), session);
    let body =
        json!({"sessionId": session, "repoUrl": rig.host.url(session), "accessToken": rig.host.token()});
    done(rig, "/clone-repository", &body).await;
    let files = json!([{"path": "once.txt", "content": "once\n"}]);
    done(
        rig,
        "/apply-changes",
        &json!({"sessionId": session, "files": files}),
    )
    .await;
    bare
}

async fn done(rig: &Rig, path: &str, body: &Value) -> Value {
    let (mut worker, base) = rig.start(WORKER).await;
    let events = read_whole(post(&base, path, body).await).await;
    assert_eq!(worker.ended().await.code(), Some(0));
    completed(&events).clone()
}

async fn commit_as(base: &str, body: &Value, job: &JobId) -> reqwest::Response {
    http_client()
        .post(format!("{base}/commit-and-push"))
        .header(header::JOB_ID, job.as_str())
        .header(header::ATTEMPT, 1)
        .json(body)
        .send()
        .await
        .unwrap()
}

fn commit_body(rig: &Rig, session: &str) -> Value {
    json!({"sessionId": session, "githubAccessToken": rig.host.token(), "message": "Once"})
}

/// Lets the job come to the point; its stream is still open then.
async fn come_to(at: At, rig: &Rig, bare: &BareRepo, stream: &mut Stream, tip: &str) {
    let pushes = || rig.host.requests_on(&On::ReceivePack).len();
    let before = pushes();
    match at {
        At::BeforeGit => {
            drop(stream.until(|event| is_at(event, Stage::Pushing)).await);
            eventually("the push is sent", || pushes() > before || before > 0).await;
        }
        At::AfterGit => eventually("the branch has moved", || bare.rev_parse("main") != tip).await,
    }
}

fn is_at(event: &mayfly_protocol::Event, wanted: Stage) -> bool {
    matches!(event.body, EventBody::Progress { stage, .. } if stage == wanted)
}

/// Starts the job, and hands over when it is at the point.
async fn interrupt(at: At, rig: &Rig, session: &str, bare: &BareRepo, job: &JobId) -> (Running, Stream) {
    match at {
        At::BeforeGit => rig.host.fail_times(On::ReceivePack, 1, Fault::StallBeforeHead),
        At::AfterGit => rig.host.fail_times(On::ReceivePack, 1, Fault::StallAfter(0)),
    }
    let tip = bare.rev_parse("main");
    let args = [WORKER, &["--drain-grace", "0.1"]].concat();
    let mut worker = rig.launch(&args).env("RUST_LOG", "trace").start();
    let line = worker.line_on_stdout("listening on ").await;
    let base = format!("http://{}", line.rsplit(' ').next().unwrap());
    let mut stream = Stream::of(commit_as(&base, &commit_body(rig, session), job).await);
    come_to(at, rig, bare, &mut stream, &tip).await;
    (worker, stream)
}

fn commits_named(bare: &BareRepo, subject: &str) -> usize {
    bare.log("main").iter().filter(|it| *it == subject).count()
}

/// The same again, and one more: the commit is there once, and the session works.
async fn goes_on(rig: &Rig, session: &str, bare: &BareRepo) {
    let (mut worker, base) = rig.start(WORKER).await;
    let answer = commit_as(&base, &commit_body(rig, session), &JobId::new_now()).await;
    completed(&read_whole(answer).await);
    worker.ended().await;
    assert_eq!(commits_named(bare, "Once"), 1);
    let files = json!([{"path": "later.txt", "content": "later\n"}]);
    done(
        rig,
        "/apply-changes",
        &json!({"sessionId": session, "files": files}),
    )
    .await;
    let body = json!({"sessionId": session, "githubAccessToken": rig.host.token(), "message": "Later"});
    assert_eq!(done(rig, "/commit-and-push", &body).await["filesChanged"], 1);
    assert_eq!(
        (commits_named(bare, "Once"), commits_named(bare, "Later")),
        (1, 1)
    );
    bare.fsck_strict();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_is_stopped_after_git_took_it_is_not_forgotten() {
    let rig = Rig::new();
    for (number, at) in [At::BeforeGit, At::AfterGit].into_iter().enumerate() {
        let session = format!("s{number}");
        let bare = prepared(&rig, &session).await;
        let job = JobId::new_now();
        let (mut worker, mut stream) = interrupt(at, &rig, &session, &bare, &job).await;
        worker.signal(Signal::SIGTERM);
        let events = stream.rest().await;
        match at {
            // The remote is asked once more, and the job is done.
            At::AfterGit => assert_eq!(completed(&events)["pushed"], true),
            _ => assert_eq!(failed(&events).code, ErrorCode::ShuttingDown),
        }
        assert_eq!(worker.ended().await.code(), Some(0));
        assert!(rig.left_in_tmp().is_empty());
        rig.host.behave();
        goes_on(&rig, &session, &bare).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_job_runs_the_token_is_only_in_memory() {
    let rig = Rig::new();
    let canary = Canary::of(rig.host.token());
    for (number, at) in [At::BeforeGit, At::AfterGit].into_iter().enumerate() {
        let session = format!("s{number}");
        let bare = prepared(&rig, &session).await;
        let (worker, _stream) = interrupt(at, &rig, &session, &bare, &JobId::new_now()).await;
        assert!(!rig.left_in_tmp().is_empty(), "the job has a scratch folder");
        canary.assert_not_below(rig.folder.path());
        assert!(canary.found_in_process(worker.id()).is_empty());
        canary.assert_not_in("its log", worker.stderr());
        assert!(
            worker.stderr().contains("TRACE"),
            "the log is at its most talkative"
        );
        let files = [&rig.tmp(), &rig.folder.path().join("storage")].map(|folder| names_below(folder));
        for file in files.iter().flatten() {
            let name = file.file_name().unwrap().to_string_lossy();
            let obeyed = ["config", "hooks", "alternates", "attributes", "HEAD", ".git"];
            assert!(!obeyed.contains(&name.as_ref()), "{}", file.display());
        }
        rig.host.behave();
    }
}

fn names_below(folder: &Path) -> Vec<PathBuf> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            names.extend(names_below(&entry.path()));
        }
        names.push(entry.path());
    }
    names
}
