//! `POST /jobs/{id}/cancel`: whose job it stops, and how that ends.

use std::time::Duration;

use mayfly_protocol::{ErrorCode, EventBody, Failure, Stage};
use mayfly_worker::{Ended, WorkerConfig};
use reqwest::Response;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::harness::{Fixture, Scripted, eventually, refusal, tokens, transcript};

/// A runner that works until it is cancelled, and then says how it stopped.
fn obedient() -> Scripted {
    Scripted::new(|_, context| async move {
        context.events.stage(Stage::Cloning, "Cloning repository...");
        context.cancel.cancelled().await;
        Err(Failure::new(ErrorCode::RemoteUnreachable, "nothing was saved"))
    })
}

fn id_of(response: &Response) -> String {
    response.headers()["x-job-id"].to_str().unwrap().to_owned()
}

async fn cancel(fixture: &Fixture, id: &str) -> Response {
    let request = fixture.post(&format!("/jobs/{id}/cancel"), "");
    request.send().await.unwrap()
}

async fn failure_of(response: Response) -> Failure {
    match transcript(response).await.pop().unwrap().body {
        EventBody::Error(failure) => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_running_job_is_cancelled_and_says_what_it_left() {
    let fixture = Fixture::start(obedient()).await;
    let response = fixture.post_clone().await;
    let id = id_of(&response);
    let answer = cancel(&fixture, &id).await;
    assert_eq!(answer.status(), 202);
    let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(body, json!({"jobId": id, "state": "cancelling"}));
    let failure = failure_of(response).await;
    assert_eq!((failure.code, failure.retryable), (ErrorCode::Cancelled, true));
    assert_eq!(failure.error, "the job was cancelled: nothing was saved");
    assert_eq!(fixture.ended().await, Ended::JobDone);
}

#[tokio::test]
async fn asking_again_changes_nothing_and_work_that_is_done_counts() {
    let gate = CancellationToken::new();
    let fixture = Fixture::start(Scripted::gated(&gate)).await;
    let response = fixture.post_clone().await;
    let id = id_of(&response);
    for _ in 0..3 {
        assert_eq!(cancel(&fixture, &id).await.status(), 202);
    }
    gate.cancel();
    let events = transcript(response).await;
    assert!(matches!(events.last().unwrap().body, EventBody::Completed { .. }));
    assert_eq!(fixture.ended().await, Ended::JobDone);
}

/// A cancelled job is over within 2 s, of which some is for telling it.
#[test]
fn a_runner_has_less_than_the_time_that_a_cancel_may_take() {
    assert!(WorkerConfig::default().asked_cancel_grace < Duration::from_secs(2));
}

#[tokio::test]
async fn a_runner_that_does_not_stop_is_left_behind() {
    let never = CancellationToken::new();
    let fixture = Fixture::start_with(Scripted::gated(&never), |config| {
        config.asked_cancel_grace = Duration::from_millis(20);
    })
    .await;
    let response = fixture.post_clone().await;
    cancel(&fixture, &id_of(&response)).await;
    let failure = failure_of(response).await;
    assert_eq!(failure.code, ErrorCode::Cancelled);
    assert!(
        failure.error.contains("did not stop in time"),
        "{}",
        failure.error
    );
    assert_eq!(fixture.ended().await, Ended::JobDone);
}

#[tokio::test]
async fn a_job_that_is_not_here_is_not_found() {
    let fixture = Fixture::start(obedient()).await;
    let other = "01890000-0000-7000-8000-000000000000";
    for id in [other, "x", "%ff", "..%2f.."] {
        let refused = refusal(cancel(&fixture, id).await).await;
        assert_eq!(refused.code, ErrorCode::NotFound, "{id}");
    }
    let response = fixture.post_clone().await;
    assert_eq!(
        refusal(cancel(&fixture, other).await).await.code,
        ErrorCode::NotFound
    );
    eventually("the stage", async || {
        fixture.get_json("/status").await["stage"] == "cloning"
    })
    .await;
    cancel(&fixture, &id_of(&response)).await;
    transcript(response).await;
    assert_eq!(fixture.ended().await, Ended::JobDone);
}

#[tokio::test]
async fn cancelling_wants_the_token() {
    let fixture = Fixture::start_with(obedient(), |config| {
        config.tokens = Some(tokens("fleet-token"));
    })
    .await;
    let job = fixture.post(crate::harness::CLONE, crate::harness::CLONE_BODY);
    let response = job.bearer_auth("fleet-token").send().await.unwrap();
    let path = format!("/jobs/{}/cancel", id_of(&response));
    for request in [
        fixture.post(&path, ""),
        fixture.post(&path, "").bearer_auth("wrong"),
    ] {
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
    let right = fixture.post(&path, "").bearer_auth("fleet-token");
    assert_eq!(right.send().await.unwrap().status(), 202);
    assert_eq!(failure_of(response).await.code, ErrorCode::Cancelled);
    assert_eq!(fixture.ended().await, Ended::JobDone);
}
