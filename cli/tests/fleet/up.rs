//! `mayfly up`: the gateway and its supervised workers.

use mayfly_protocol::Stage;
use mayfly_testkit::git_host::{Fault, On};
use mayfly_testkit::process::{descendants_of, is_alive};
use mayfly_testkit::sse::{Stream, completed, read_whole};
use mayfly_testkit::wait::{eventually, within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::rig::{Rig, get_json, post};

const UP: &[&str] = &["up", "--port", "0", "--git-workers", "2"];

/// The process ids of the git workers that are ready.
async fn workers(base: &str, state: &str) -> Vec<u32> {
    let list = get_json(base, "/workers").await;
    let list = list["workers"].as_array().cloned().unwrap_or_default();
    let git = list
        .iter()
        .filter(|it| it["kind"] == "git-worker" && it["state"] == state);
    git.filter_map(|it| it["pid"].as_u64())
        .map(|pid| u32::try_from(pid).unwrap())
        .collect()
}

async fn ready(base: &str) {
    within("the fleet is ready", async {
        while workers(base, "idle").await.len() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_four_jobs_go_through_and_nothing_is_left() {
    let rig = Rig::new();
    let (mut up, base) = rig.start(UP).await;
    ready(&base).await;
    let token = rig.host.token();
    let job =
        async |path: &str, body: Value| completed(&read_whole(post(&base, path, &body).await).await).clone();
    job("/clone-repository", rig.clone_body("s")).await;
    let branch = job(
        "/create-branch",
        json!({"sessionId": "s", "userRequest": "Add x", "githubAccessToken": token}),
    )
    .await;
    job(
        "/apply-changes",
        json!({"sessionId": "s", "files": [{"path": "x.txt", "content": "x\n"}]}),
    )
    .await;
    let done = job(
        "/commit-and-push",
        json!({"sessionId": "s", "githubAccessToken": token}),
    )
    .await;
    assert_eq!(
        (&done["pushed"], &done["branch"]),
        (&json!(true), &branch["branch"])
    );

    let processes = descendants_of(up.id());
    assert!(processes.len() >= 2);
    up.signal(Signal::SIGINT);
    assert_eq!(up.ended().await.code(), Some(0), "{}", up.stderr());
    assert!(processes.iter().all(|pid| !is_alive(*pid)));
    assert_eq!(rig.left_in_tmp(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_job_has_a_process_of_its_own() {
    let rig = Rig::new();
    let (mut up, base) = rig.start(UP).await;
    ready(&base).await;
    let mut seen = std::collections::BTreeSet::from_iter(workers(&base, "idle").await);
    for session in 0..6 {
        let events = read_whole(
            post(
                &base,
                "/clone-repository",
                &rig.clone_body(&format!("s{session}")),
            )
            .await,
        )
        .await;
        completed(&events);
        within(
            "another process takes the place of the one that had the job",
            async {
                loop {
                    let idle = workers(&base, "idle").await;
                    if idle.iter().any(|pid| !seen.contains(pid)) {
                        seen.extend(idle);
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            },
        )
        .await;
    }
    assert!(seen.len() >= 8, "six jobs used up six processes: {seen:?}");
    up.signal(Signal::SIGINT);
    up.ended().await;
    assert!(seen.iter().all(|pid| !is_alive(*pid)));
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_wait_for_a_worker_and_are_told_their_position() {
    let rig = Rig::new();
    let (_up, base) = rig.start(&["up", "--port", "0", "--git-workers", "1"]).await;
    let streams = (0..5).map(|number| {
        let (base, body) = (base.clone(), rig.clone_body(&format!("s{number}")));
        async move { read_whole(post(&base, "/clone-repository", &body).await).await }
    });
    for events in futures::future::join_all(streams).await {
        completed(&events);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_job_of_a_killed_worker_is_done_by_another() {
    let rig = Rig::new();
    rig.host.fail_times(On::UploadPack, 1, Fault::StallBeforeHead);
    let (_up, base) = rig.start(UP).await;
    ready(&base).await;
    let mut stream = Stream::of(post(&base, "/clone-repository", &rig.clone_body("s")).await);
    let mut events = vec![stream.until(|event| is_at(event, Stage::Cloning)).await];
    eventually("the worker waits for the host", || {
        !rig.host.requests_on(&On::UploadPack).is_empty()
    })
    .await;
    let busy = workers(&base, "busy").await;
    assert_eq!(busy.len(), 1);
    kill(Pid::from_raw(i32::try_from(busy[0]).unwrap()), Signal::SIGKILL).unwrap();
    events.extend(stream.rest().await);
    assert!(events.iter().any(|(_, event)| is_at(event, Stage::Retrying)));
    assert_eq!(completed(&events)["generation"], 1);
    let id = &events[0].1.job_id;
    assert_eq!(get_json(&base, &format!("/jobs/{id}")).await["attempts"], 2);
    ready(&base).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_do_not_outlive_a_killed_supervisor() {
    let rig = Rig::new();
    let (mut up, base) = rig.start(UP).await;
    ready(&base).await;
    let processes = workers(&base, "idle").await;
    up.signal(Signal::SIGKILL);
    up.ended().await;
    eventually("the workers are gone", || {
        processes.iter().all(|pid| !is_alive(*pid))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_cost_no_worker() {
    let rig = Rig::new();
    let (_up, base) = rig.start(UP).await;
    ready(&base).await;
    let before = workers(&base, "idle").await;
    for (body, field) in [
        (
            json!({"sessionId": "../x", "repoUrl": "https://h/r"}),
            "sessionId",
        ),
        (json!({"sessionId": "s", "repoUrl": "ext::sh -c x"}), "repoUrl"),
        (
            json!({"sessionId": "s", "repoUrl": "https://h/r", "extra": 1}),
            "extra",
        ),
    ] {
        let answer = post(&base, "/clone-repository", &body).await;
        assert_eq!(answer.status(), 400);
        let refusal: Value = answer.json().await.unwrap();
        assert_eq!(
            (&refusal["code"], &refusal["field"]),
            (&json!("invalid_request"), &json!(field))
        );
    }
    let after = workers(&base, "idle").await;
    assert!(
        before.iter().all(|pid| after.contains(pid)),
        "{before:?} {after:?}"
    );
}

fn is_at(event: &mayfly_protocol::Event, wanted: Stage) -> bool {
    matches!(event.body, mayfly_protocol::EventBody::Progress { stage, .. } if stage == wanted)
}
