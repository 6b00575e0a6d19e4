//! Jobs after they were sent: replay, lists, many readers, and clients that go away.

use std::time::Duration;

use http::Request;
use mayfly_gateway::GatewayConfig;

use crate::client::{self, Events, Got, get, job};
use crate::gateway::{TestGateway, config};
use crate::stub_worker::{StubWorker, waiting};

fn events_of(id: &str, last: Option<&str>) -> Request<bytes::Bytes> {
    let mut request = get(&format!("/jobs/{id}/events"));
    if let Some(last) = last {
        request
            .headers_mut()
            .insert("last-event-id", last.parse().unwrap());
    }
    request
}

fn ids(got: &[Got]) -> Vec<u64> {
    got.iter().map(|got| got.id).collect()
}

#[tokio::test]
async fn a_finished_job_is_replayed_from_any_place() {
    let worker = StubWorker::completing().await;
    let gateway = TestGateway::with(&[&worker]).await;
    let events = gateway.post(job("s")).await;
    let id = events.job_id();
    let original = events.rest().await;
    let replay = Events::of(gateway.send(events_of(&id, None)).await).rest().await;
    let data = |got: &[Got]| got.iter().map(|got| got.data.clone()).collect::<Vec<_>>();
    assert_eq!((ids(&replay), data(&replay)), (ids(&original), data(&original)));
    let tail = Events::of(gateway.send(events_of(&id, Some("2"))).await)
        .rest()
        .await;
    assert_eq!(ids(&tail), [3, 4]);
    for (last, status) in [
        ("4", 204),
        ("5", 400),
        ("x", 400),
        ("-1", 400),
        ("+1", 400),
        ("99999999999999999999", 400),
        ("", 200),
    ] {
        let response = gateway.send(events_of(&id, Some(last))).await;
        assert_eq!(response.status(), status, "{last}");
    }
}

#[tokio::test]
async fn a_reader_who_comes_back_live_loses_and_doubles_nothing() {
    let worker = StubWorker::start(vec![waiting()]).await;
    let gateway = TestGateway::with(&[&worker]).await;
    let mut events = gateway.post(job("s")).await;
    let id = events.job_id();
    let last = events.until("dispatched").await.id;
    drop(events);
    let mut again = Events::of(gateway.send(events_of(&id, Some(&last.to_string()))).await);
    assert_eq!(again.next().await.unwrap().id, last + 1);
    worker.go_on();
    assert_eq!(again.names().await, ["completed"]);
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_stop_its_job() {
    let worker = StubWorker::start(vec![waiting()]).await;
    let gateway = TestGateway::with(&[&worker]).await;
    let (running, queued) = (gateway.post(job("a")).await, gateway.post(job("b")).await);
    let ids = [running.job_id(), queued.job_id()];
    drop((running, queued));
    gateway
        .wait_for("/status", |status| status["jobs"]["openStreams"] == 0)
        .await;
    worker.go_on();
    gateway
        .wait_for(&format!("/jobs/{}", ids[0]), |job| job["state"] == "completed")
        .await;
    worker.go_on();
    let done = gateway
        .wait_for(&format!("/jobs/{}", ids[1]), |job| job["state"] == "completed")
        .await;
    assert_eq!(done["data"]["answer"], 42);
    assert_eq!(
        (&done["kind"], &done["sessionId"]),
        (&"create_branch".into(), &"b".into())
    );
    assert_eq!(
        (&done["lastStage"], &done["worker"]),
        (&"preparing".into(), &worker.url().to_string().into())
    );
}

#[tokio::test]
async fn a_job_is_taken_without_a_stream_when_the_client_prefers_that() {
    let worker = StubWorker::completing().await;
    let gateway = TestGateway::with(&[&worker]).await;
    let mut request = job("s");
    request
        .headers_mut()
        .insert("prefer", "respond-async".parse().unwrap());
    let response = gateway.send(request).await;
    assert_eq!(response.status(), 202);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let body = client::json(response).await;
    assert_eq!(location, format!("/jobs/{}", body["jobId"].as_str().unwrap()));
    gateway
        .wait_for(&location, |job| job["state"] == "completed")
        .await;
}

#[tokio::test]
async fn jobs_are_listed_newest_first_and_filtered() {
    let worker = StubWorker::start(vec![waiting()]).await;
    let gateway = TestGateway::with(&[&worker]).await;
    let mut streams = Vec::new();
    for session in ["a", "b", "a"] {
        streams.push(gateway.post(job(session)).await);
    }
    streams[0].until("preparing").await;
    let listed = async |query: &str| -> Vec<String> {
        let list = gateway.get(&format!("/jobs{query}")).await.1;
        let jobs = list["jobs"].as_array().unwrap().iter();
        jobs.map(|job| job["id"].as_str().unwrap().to_owned()).collect()
    };
    let id = |index: usize| streams[index].job_id();
    assert_eq!(listed("").await, [id(2), id(1), id(0)]);
    assert_eq!(listed("?sessionId=a").await, [id(2), id(0)]);
    assert_eq!(listed("?state=running").await, [id(0)]);
    assert_eq!(listed("?state=queued&limit=1").await, [id(2)]);
}

#[tokio::test]
async fn readers_are_bounded_and_their_places_come_back() {
    let worker = StubWorker::start(vec![waiting()]).await;
    let gateway = TestGateway::start(GatewayConfig {
        streams_per_job: 2,
        heartbeat: Duration::from_millis(50),
        ..config(&[&worker])
    })
    .await;
    let mut first = gateway.post(job("s")).await;
    let id = first.job_id();
    first.until("preparing").await;
    let second = Events::of(gateway.send(events_of(&id, None)).await);
    let refused = gateway.send(events_of(&id, None)).await;
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    drop(second);
    gateway
        .wait_for("/status", |status| status["jobs"]["openStreams"] == 1)
        .await;
    let mut third = Events::of(gateway.send(events_of(&id, None)).await);
    third.until("preparing").await;
    worker.go_on();
    assert_eq!(third.names().await, ["completed"]);
    assert_eq!(first.names().await, ["completed"]);
}

#[tokio::test]
async fn a_silent_stream_says_that_it_is_alive() {
    let worker = StubWorker::start(vec![waiting()]).await;
    let gateway = TestGateway::start(GatewayConfig {
        heartbeat: Duration::from_millis(20),
        ..config(&[&worker])
    })
    .await;
    let mut events = gateway.post(job("s")).await;
    events.until("preparing").await;
    events.until_comments(3).await;
    worker.go_on();
    assert_eq!(events.names().await, ["completed"]);
}

#[tokio::test]
async fn what_operators_see_is_true() {
    let worker = StubWorker::start(vec![waiting()]).await;
    let gateway = TestGateway::with(&[&worker]).await;
    assert_eq!(
        gateway.get("/health").await,
        (200, serde_json::json!({"status": "ok"}))
    );
    let (status, ready) = gateway.get("/ready").await;
    assert_eq!(
        (status, &ready["workers"]["codeWorker"]),
        (200, &serde_json::Value::Null)
    );
    let mut events = gateway.post(job("s")).await;
    events.until("preparing").await;
    let workers = gateway.get("/workers").await.1;
    let seen = &workers["workers"][0];
    assert_eq!(
        (&seen["kind"], &seen["state"]),
        (&"git-worker".into(), &"busy".into())
    );
    assert_eq!(seen["jobId"], events.job_id());
    let status = gateway.get("/status").await.1;
    assert_eq!(
        (
            &status["jobs"]["running"],
            &status["workers"]["gitWorker"]["busy"]
        ),
        (&1.into(), &1.into())
    );
    let nobody = TestGateway::with(&[]).await;
    assert_eq!(nobody.get("/ready").await.0, 503);
}
