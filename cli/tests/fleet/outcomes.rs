//! Outcomes survive the gateway: a fleet that is killed, and another one that answers for its jobs.

use mayfly_protocol::Stage;
use mayfly_testkit::git_host::{Fault, On};
use mayfly_testkit::sse::{Stream, assert_whole, completed, failed, read_whole};
use mayfly_testkit::wait::within;
use nix::sys::signal::Signal;
use reqwest::Response;
use serde_json::Value;

use super::rig::{Rig, get, get_json, post};
use mayfly_testkit::sse::http_client;

const UP: &[&str] = &["up", "--port", "0", "--git-workers", "1"];

fn id_of(answer: &Response) -> String {
    answer.headers()["x-job-id"].to_str().unwrap().to_owned()
}

async fn events_after(base: &str, id: &str, last: u64) -> Response {
    let request = http_client().get(format!("{base}/jobs/{id}/events"));
    let request = request.header("last-event-id", last.to_string());
    request.send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_fleet_answers_for_the_jobs_of_one_that_was_killed() {
    let rig = Rig::new();
    let (mut up, base) = rig.start(UP).await;
    let answer = post(&base, "/clone-repository", &rig.clone_body("s")).await;
    let done = id_of(&answer);
    let events = read_whole(answer).await;
    let mut absent = rig.clone_body("t");
    absent["repoUrl"] = rig.host.url("absent").into();
    let answer = post(&base, "/clone-repository", &absent).await;
    let broken = id_of(&answer);
    let refusal = failed(&read_whole(answer).await).clone();
    let before = get_json(&base, &format!("/jobs/{done}")).await;
    up.signal(Signal::SIGKILL);
    up.ended().await;

    let (_next, base) = rig.start(UP).await;
    let after = get_json(&base, &format!("/jobs/{done}")).await;
    for field in [
        "id",
        "kind",
        "sessionId",
        "state",
        "data",
        "createdAt",
        "lastStage",
        "events",
    ] {
        assert_eq!(after[field], before[field], "{field}");
    }
    let replayed = Stream::of(get(&base, &format!("/jobs/{done}/events")).await)
        .rest()
        .await;
    let of_the_worker: Vec<_> = events
        .into_iter()
        .filter(|(id, _)| *id >= replayed[0].0)
        .collect();
    assert_eq!(replayed, of_the_worker);
    let last = replayed.last().unwrap().0;
    let tail = Stream::of(events_after(&base, &done, last - 1).await)
        .rest()
        .await;
    assert_eq!((tail.len(), completed(&tail)), (1, completed(&replayed)));
    assert_eq!(events_after(&base, &done, last).await.status(), 204);
    assert_eq!(events_after(&base, &done, last + 1).await.status(), 400);
    let cancelled = post(&base, &format!("/jobs/{done}/cancel"), &Value::Null).await;
    assert_eq!(cancelled.status(), 200);
    let view = get_json(&base, &format!("/jobs/{broken}")).await;
    assert_eq!(
        (&view["state"], &view["code"]),
        (&"failed".into(), &refusal.code.as_str().into())
    );
    assert_eq!(
        get(&base, "/jobs/01890000-0000-7000-8000-000000000000")
            .await
            .status(),
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ran_through_the_outage_comes_to_its_true_end() {
    let rig = Rig::new();
    rig.host.fail_times(
        On::UploadPack,
        1,
        Fault::Trickle {
            bytes: 4,
            every: std::time::Duration::from_millis(20),
        },
    );
    let (mut up, base) = rig.start(UP).await;
    let answer = post(&base, "/clone-repository", &rig.clone_body("s")).await;
    let id = id_of(&answer);
    let mut stream = Stream::of(answer);
    stream.until(|event| is_at(event, Stage::Cloning)).await;
    up.signal(Signal::SIGKILL);
    up.ended().await;
    let (_next, base) = rig.start(UP).await;
    within("the job ends", async {
        while get(&base, &format!("/jobs/{id}")).await.status() != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let events = Stream::of(get(&base, &format!("/jobs/{id}/events")).await)
        .rest()
        .await;
    assert_whole(&events, 3);
    assert_eq!(completed(&events)["generation"], 1);
}

fn is_at(event: &mayfly_protocol::Event, wanted: Stage) -> bool {
    matches!(event.body, mayfly_protocol::EventBody::Progress { stage, .. } if stage == wanted)
}
