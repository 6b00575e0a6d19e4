//! `POST /jobs/{id}/cancel`: jobs that wait, that run, that are over, and workers that do not obey.

use std::time::Duration;

use mayfly_gateway::GatewayConfig;
use serde_json::Value;

use crate::client::{self, job, post};
use crate::gateway::{TestGateway, config, tokens};
use crate::stub_worker::{Act, Part, StubWorker, completing, waiting};
use crate::until::until_some;

async fn cancel(gateway: &TestGateway, id: &str) -> (u16, Value) {
    let response = gateway.send(post(&format!("/jobs/{id}/cancel"), "")).await;
    (response.status().as_u16(), client::json(response).await)
}

#[tokio::test]
async fn a_waiting_job_ends_at_once_and_no_worker_hears_of_it() {
    let worker = StubWorker::start(vec![waiting(), completing()]).await;
    let gateway = TestGateway::with(&[&worker]).await;
    let mut running = gateway.post(job("a")).await;
    running.until("preparing").await;
    let waiting = gateway.post(job("b")).await;
    let (status, view) = cancel(&gateway, &waiting.job_id()).await;
    assert_eq!(
        (status, &view["state"], &view["code"]),
        (200, &"failed".into(), &"cancelled".into())
    );
    assert_eq!(waiting.names().await, ["queued", "cancelled"]);
    assert_eq!(gateway.get("/status").await.1["waiting"]["gitWorker"], 0);
    worker.go_on();
    assert_eq!(running.names().await, ["completed"]);
    assert_eq!((worker.seen().len(), worker.cancels().len()), (1, 0));
}

#[tokio::test]
async fn a_running_job_is_cancelled_on_its_worker_whose_word_is_the_end() {
    let act = Act::Stream(vec![
        Part::Progress("preparing"),
        Part::Wait,
        Part::Failed("cancelled"),
    ]);
    let worker = StubWorker::start(vec![act, completing()]).await;
    let gateway = TestGateway::start(GatewayConfig {
        worker_tokens: Some(tokens("fleet-token")),
        ..config(&[&worker])
    })
    .await;
    let mut events = gateway.post(job("s")).await;
    events.until("preparing").await;
    let id = events.job_id();
    for _ in 0..2 {
        let (status, view) = cancel(&gateway, &id).await;
        assert_eq!((status, &view["state"]), (202, &"running".into()));
    }
    let asked = until_some("the worker is asked", async || worker.cancels().pop()).await;
    assert!(
        asked.head.starts_with(&format!("POST /jobs/{id}/cancel ")),
        "{}",
        asked.head
    );
    assert_eq!(asked.header("authorization"), Some("Bearer fleet-token"));
    worker.go_on();
    let end = events.until("cancelled").await;
    assert_eq!(end.json["source"], "git-worker");
    assert_eq!(gateway.names_of("s").await.last().unwrap(), "completed");
    assert_eq!(worker.cancels().len(), 1);
}

#[tokio::test]
async fn a_worker_that_does_not_end_the_job_is_set_aside() {
    let worker = StubWorker::start(vec![waiting()]).await;
    let gateway = TestGateway::start(GatewayConfig {
        cancel_timeout: Duration::from_millis(50),
        ..config(&[&worker])
    })
    .await;
    let mut events = gateway.post(job("s")).await;
    events.until("preparing").await;
    cancel(&gateway, &events.job_id()).await;
    let end = events.until("cancelled").await;
    assert_eq!(end.json["source"], "gateway");
    assert!(
        end.json["error"].as_str().unwrap().contains("did not say"),
        "{}",
        end.json
    );
    gateway
        .wait_for("/workers", |list| list["workers"][0]["state"] == "faulty")
        .await;
}

#[tokio::test]
async fn a_worker_that_has_not_answered_yet_is_told_as_well() {
    let worker = StubWorker::start(vec![Act::Hang]).await;
    let gateway = TestGateway::start(GatewayConfig {
        cancel_timeout: Duration::from_millis(50),
        response_timeout: client::PATIENCE,
        ..config(&[&worker])
    })
    .await;
    let events = gateway.post(job("s")).await;
    until_some("the worker has the request", async || worker.seen().pop()).await;
    cancel(&gateway, &events.job_id()).await;
    assert_eq!(events.names().await, ["queued", "cancelled"]);
    until_some("the worker is told", async || worker.cancels().pop()).await;
}

#[tokio::test]
async fn a_job_that_is_over_stays_as_it_is() {
    let worker = StubWorker::completing().await;
    let gateway = TestGateway::with(&[&worker]).await;
    let events = gateway.post(job("s")).await;
    let id = events.job_id();
    events.rest().await;
    let before = gateway.get(&format!("/jobs/{id}")).await.1;
    assert_eq!(cancel(&gateway, &id).await, (200, before.clone()));
    assert_eq!(gateway.get(&format!("/jobs/{id}")).await.1, before);
    assert_eq!(before["state"], "completed");
    assert_eq!(worker.cancels().len(), 0);
}

#[tokio::test]
async fn what_no_job_has_is_not_found() {
    let gateway = TestGateway::with(&[]).await;
    for id in ["01890000-0000-7000-8000-000000000000", "x", "%ff"] {
        let (status, refusal) = cancel(&gateway, id).await;
        assert_eq!((status, &refusal["code"]), (404, &"not_found".into()), "{id}");
    }
    let get = gateway
        .get("/jobs/01890000-0000-7000-8000-000000000000/cancel")
        .await;
    assert_eq!(get.0, 405);
}
