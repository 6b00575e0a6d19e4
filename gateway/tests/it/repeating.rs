//! Jobs whose worker was lost: done again by another, a bounded number of times, and never against the client's will.

use std::sync::Arc;
use std::time::Duration;

use mayfly_gateway::GatewayConfig;
use mayfly_protocol::outcome::NumberedEvent;
use mayfly_protocol::{ErrorCode, EventBody, Failure, JobOutcome};
use mayfly_storage::{MemoryStore, ObjectStore};
use serde_json::json;

use crate::client::{Got, job, post};
use crate::gateway::{TestGateway, config};
use crate::outcomes::{keep, outcome, with};
use crate::stub_worker::{Act, Part, StubWorker, completing};
use crate::until::{until, until_some};

fn patient(config: GatewayConfig) -> GatewayConfig {
    GatewayConfig {
        job_attempts: 3,
        silence_timeout: Duration::from_millis(300),
        response_timeout: Duration::from_millis(300),
        ..config
    }
}

/// A worker that breaks off when it is told to.
async fn breaking() -> StubWorker {
    StubWorker::start(vec![Act::Stream(vec![Part::Progress("preparing"), Part::Wait])]).await
}

/// The names of the events, but for where the job stands in the queue.
fn names(events: &[Got]) -> Vec<String> {
    let names = events.iter().map(Got::name);
    names.filter(|name| name != "queued").collect()
}

#[tokio::test]
async fn another_worker_does_the_job_of_a_lost_one() {
    for act in [
        Act::Stream(vec![Part::Progress("preparing")]),
        Act::Stream(vec![Part::Progress("preparing"), Part::Silence]),
        Act::Close,
        Act::Hang,
    ] {
        let worker = StubWorker::start(vec![act.clone(), completing()]).await;
        let gateway = TestGateway::start(patient(config(&[&worker]))).await;
        let stream = gateway.post(job("s")).await;
        let id = stream.job_id();
        let events = stream.rest().await;
        let retrying = events.iter().find(|got| got.name() == "retrying").unwrap();
        assert_eq!(retrying.json["detail"], json!({"attempt": 2, "attempts": 3}));
        assert_eq!(names(&events).last().unwrap(), "completed", "{act:?}");
        let seen = worker.seen();
        let attempts: Vec<_> = seen
            .iter()
            .map(|it| it.header("x-job-attempt").unwrap())
            .collect();
        assert_eq!(attempts, ["1", "2"], "{act:?}");
        assert_eq!(seen[0].header("x-job-id"), seen[1].header("x-job-id"));
        assert_eq!(seen[0].body, seen[1].body);
        let view = gateway.get(&format!("/jobs/{id}")).await.1;
        assert_eq!(view["state"], "completed");
        // The one that may only be slow is told to stop.
        until(|| worker.cancels().len() == 1).await;
    }
}

#[tokio::test]
async fn a_gateway_that_ends_repeats_a_job_while_it_has_its_grace() {
    let worker = StubWorker::start(vec![
        Act::Stream(vec![Part::Progress("preparing"), Part::Wait]),
        completing(),
    ])
    .await;
    let mut gateway = TestGateway::start(patient(config(&[&worker]))).await;
    let mut running = gateway.post(job("s")).await;
    running.until("preparing").await;
    gateway.shutdown.cancel();
    let ends = async || (gateway.get("/ready").await.0 == 503).then_some(());
    until_some("a gateway that ends", ends).await;
    worker.go_on();
    let names = names(&running.rest().await);
    assert_eq!(names, ["retrying", "dispatched", "preparing", "completed"]);
    gateway.stop().await;
}

#[tokio::test]
async fn a_gateway_whose_grace_is_over_says_that_a_lost_worker_had_the_job() {
    let worker = StubWorker::start(vec![
        Act::Stream(vec![Part::Progress("preparing"), Part::Wait]),
        Act::Refuse(429, "worker_busy"),
    ])
    .await;
    let mut gateway = TestGateway::start(GatewayConfig {
        drain_grace: Duration::from_millis(500),
        ..patient(config(&[&worker]))
    })
    .await;
    let mut running = gateway.post(job("s")).await;
    running.until("preparing").await;
    worker.go_on();
    running.until("retrying").await;
    gateway.shutdown.cancel();
    let events = running.rest().await;
    let end = events.last().unwrap();
    assert_eq!(end.name(), "worker_lost");
    assert!(
        end.json["error"].as_str().unwrap().contains("is shutting down"),
        "{end:?}"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_job_that_loses_every_worker_ends_and_the_end_is_kept() {
    let storage: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let worker = StubWorker::start(vec![Act::Stream(vec![Part::Progress("preparing")])]).await;
    let gateway = TestGateway::start(patient(with(&storage, &[&worker]))).await;
    let stream = gateway.post(job("s")).await;
    let id = stream.job_id();
    let events = stream.rest().await;
    let one = ["dispatched", "preparing"];
    let lost = [
        &one[..],
        &["retrying"],
        &one,
        &["retrying"],
        &one,
        &["worker_lost"],
    ]
    .concat();
    assert_eq!(names(&events), lost);
    assert_eq!(worker.seen().len(), 3);
    let next = TestGateway::start(with(&storage, &[])).await;
    let view = next.get(&format!("/jobs/{id}")).await.1;
    assert_eq!(
        (&view["state"], &view["code"], &view["attempts"]),
        (&json!("failed"), &json!("worker_lost"), &json!(3))
    );
}

#[tokio::test]
async fn a_job_that_no_worker_took_is_known_after_a_restart() {
    let storage: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let worker = StubWorker::start(vec![crate::stub_worker::busy()]).await;
    let gateway = TestGateway::start(GatewayConfig {
        queue_timeout: Duration::from_millis(200),
        ..with(&storage, &[&worker])
    })
    .await;
    let stream = gateway.post(job("s")).await;
    let id = stream.job_id();
    assert_eq!(names(&stream.rest().await).last().unwrap(), "queue_timeout");
    let next = TestGateway::start(with(&storage, &[])).await;
    assert_eq!(next.get(&format!("/jobs/{id}")).await.1["code"], "queue_timeout");
}

#[tokio::test]
async fn a_cancelled_job_is_not_repeated() {
    let worker = breaking().await;
    let gateway = TestGateway::start(patient(config(&[&worker]))).await;
    let mut stream = gateway.post(job("s")).await;
    let id = stream.job_id();
    stream.until("preparing").await;
    gateway.send(post(&format!("/jobs/{id}/cancel"), "")).await;
    until(|| !worker.cancels().is_empty()).await;
    worker.go_on();
    let last = stream.rest().await.pop().unwrap();
    assert!(
        ["worker_lost", "cancelled"].contains(&&*last.name()),
        "{}",
        last.json
    );
    assert_eq!(worker.seen().len(), 1);
}

/// What an attempt that was shut out ended with is no end of the job; what it did is.
#[tokio::test]
async fn an_earlier_attempt_counts_only_if_it_did_the_job() {
    for completed in [false, true] {
        let storage: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
        let worker = breaking().await;
        let gateway = TestGateway::start(patient(with(&storage, &[&worker]))).await;
        let mut stream = gateway.post(job("s")).await;
        let id = stream.job_id();
        stream.until("preparing").await;
        worker.go_on();
        stream.until("retrying").await;
        stream.until("preparing").await;
        let first = match completed {
            true => outcome(&id),
            false => shut_out(outcome(&id)),
        };
        keep(&storage, &first).await;
        worker.go_on();
        let end = match completed {
            true => stream.rest().await,
            false => {
                stream.until("preparing").await;
                worker.go_on();
                stream.rest().await
            }
        };
        let expected = if completed { "completed" } else { "worker_lost" };
        assert_eq!(names(&end), [expected]);
        let view = TestGateway::start(with(&storage, &[]))
            .await
            .get(&format!("/jobs/{id}"))
            .await
            .1;
        assert_eq!(view["state"] == "completed", completed);
    }
}

/// The outcome as one of a job that lost its session to a later attempt.
fn shut_out(mut outcome: JobOutcome) -> JobOutcome {
    let last: &mut NumberedEvent = outcome.events.last_mut().unwrap();
    last.event.body = EventBody::Error(Failure::new(ErrorCode::SessionConflict, "another attempt"));
    outcome
}
