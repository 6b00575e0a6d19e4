//! Jobs that outlive their gateway: left in order or lost with it, and carried on by the next one with the same numbers.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use mayfly_gateway::GatewayConfig;
use mayfly_protocol::{JobId, JobKind, TenantId};
use mayfly_session::{GatewayId, OpenJob, OpenJobs, Sent, SignOfLife};
use mayfly_storage::{MemoryStore, ObjectStore};
use serde_json::json;
use time::OffsetDateTime;

use crate::client::{Events, get, job, post};
use crate::gateway::TestGateway;
use crate::outcomes::{keep, outcome, with};
use crate::real_worker::{RealWorker, gateway_config, start_keeping};
use crate::stub_worker::{StubWorker, busy, waiting};
use crate::until::until_some;

pub(crate) fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(MemoryStore::new())
}

pub(crate) fn shared(storage: &Arc<dyn ObjectStore>, workers: &[&RealWorker]) -> GatewayConfig {
    GatewayConfig {
        storage: Some(Arc::clone(storage)),
        drain_grace: Duration::from_millis(50),
        beat_interval: Duration::from_millis(20),
        gateway_lease: Duration::from_secs(2),
        watch_interval: Duration::from_millis(20),
        silence_timeout: Duration::from_secs(1),
        orphan_timeout: Duration::from_millis(300),
        ..gateway_config(workers)
    }
}

pub(crate) async fn resume(gateway: &TestGateway, id: &str, after: u64) -> Events {
    let mut request: Request<_> = get(&format!("/jobs/{id}/events"));
    request.headers_mut().insert("last-event-id", after.into());
    Events::of(gateway.send(request).await)
}

/// A job that runs on its worker when its gateway is asked to end: the job's id, and the number of the event that the client had last.
async fn left(storage: &Arc<dyn ObjectStore>, worker: &RealWorker) -> (String, u64) {
    let mut gateway = TestGateway::start(shared(storage, &[worker])).await;
    let mut events = gateway.post(job("s")).await;
    let last = events.until("preparing").await.id;
    gateway.shutdown.cancel();
    assert!(events.next().await.is_none(), "no event is made up for the end");
    assert_eq!(events.comments(), 1);
    let id = events.job_id();
    gateway.stop().await;
    (id, last)
}

#[tokio::test]
async fn a_running_job_is_left_and_read_on_at_the_next_gateway() {
    let storage = memory();
    let worker = start_keeping(&storage).await;
    let (id, last) = left(&storage, &worker).await;
    let next = TestGateway::start(shared(&storage, &[&worker])).await;
    let rest = resume(&next, &id, last).await;
    let whole = resume(&next, &id, 0).await;
    next.wait_for(&format!("/jobs/{id}"), |view| {
        view["state"] == "running" && view["lastStage"] == "preparing"
    })
    .await;
    worker.runner.go_on.notify_one();
    let rest = rest.rest().await;
    let names: Vec<_> = rest.iter().map(|got| (got.id - last, got.name())).collect();
    assert_eq!(names, [(1, "uploading".to_owned()), (2, "completed".to_owned())]);
    assert_eq!(whole.rest().await.last().unwrap().id, last + 2);
    let view = next.get(&format!("/jobs/{id}")).await.1;
    assert_eq!(
        (&view["state"], &view["attempts"]),
        (&json!("completed"), &json!(1))
    );
    // What is left of it is its outcome.
    until_some("the record is gone", async || {
        let keys = storage.list("gateways/").await.unwrap();
        (keys.len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_job_that_ended_during_the_outage_has_its_true_end() {
    let storage = memory();
    let worker = start_keeping(&storage).await;
    let (id, last) = left(&storage, &worker).await;
    worker.runner.go_on.notify_one();
    worker.ended.await.unwrap();
    let next = TestGateway::start(shared(&storage, &[])).await;
    let rest = resume(&next, &id, last).await.rest().await;
    let names: Vec<_> = rest.iter().map(|got| (got.id - last, got.name())).collect();
    assert_eq!(names, [(1, "uploading".to_owned()), (2, "completed".to_owned())]);
}

#[tokio::test]
async fn a_job_whose_worker_is_lost_in_the_outage_ends_once() {
    let storage = memory();
    let worker = start_keeping(&storage).await;
    let (id, last) = left(&storage, &worker).await;
    worker.ended.abort();
    let next = TestGateway::start(shared(&storage, &[&worker])).await;
    let end = resume(&next, &id, last).await.rest().await;
    assert_eq!(end[0].name(), "worker_lost");
    assert!(end.len() == 1 && end[0].id > last);
    let view = next.get(&format!("/jobs/{id}")).await.1;
    assert_eq!(view["code"], "worker_lost");
    let third = TestGateway::start(shared(&storage, &[])).await;
    let again = resume(&third, &id, last).await.rest().await;
    assert_eq!((again.len(), again[0].id), (1, end[0].id));
}

#[tokio::test]
async fn the_session_of_a_job_that_was_taken_over_waits_for_it() {
    let storage = memory();
    let (worker, other) = (start_keeping(&storage).await, start_keeping(&storage).await);
    let (id, _) = left(&storage, &worker).await;
    let next = TestGateway::start(shared(&storage, &[&worker, &other])).await;
    next.wait_for("/jobs?state=running", |list| list["jobs"][0]["id"] == id.as_str())
        .await;
    let mut behind = next.post(job("s")).await;
    assert_eq!(
        behind.until("queued").await.json["detail"]["reason"],
        "session_busy"
    );
    worker.runner.go_on.notify_one();
    behind.until("preparing").await;
    other.runner.go_on.notify_one();
    assert_eq!(behind.names().await.last().unwrap(), "completed");
}

#[tokio::test]
async fn a_job_that_was_taken_over_is_cancelled() {
    let storage = memory();
    let worker = start_keeping(&storage).await;
    let (id, last) = left(&storage, &worker).await;
    let next = TestGateway::start(shared(&storage, &[&worker])).await;
    let events = resume(&next, &id, last).await;
    next.wait_for(&format!("/jobs/{id}"), |view| view["lastStage"] == "preparing")
        .await;
    let answer = next.send(post(&format!("/jobs/{id}/cancel"), "")).await;
    assert!([200, 202].contains(&answer.status().as_u16()));
    assert_eq!(events.names().await.last().unwrap(), "cancelled");
}

#[tokio::test]
async fn a_job_of_a_gateway_that_lives_is_read_and_cancelled_at_another_one() {
    let storage = memory();
    let worker = start_keeping(&storage).await;
    let one = TestGateway::start(shared(&storage, &[&worker])).await;
    let other = TestGateway::start(shared(&storage, &[&worker])).await;
    let mut events = one.post(job("s")).await;
    let last = events.until("preparing").await.id;
    let id = events.job_id();
    let along = resume(&other, &id, last - 1).await;
    other
        .wait_for(&format!("/jobs/{id}"), |view| view["lastStage"] == "preparing")
        .await;
    let answer = other.send(post(&format!("/jobs/{id}/cancel"), "")).await;
    assert_eq!(answer.status(), 202);
    let here = events.rest().await;
    let there = along.rest().await;
    let last_of = |events: &[crate::client::Got]| {
        let last = events.last().unwrap();
        (last.id, last.data.clone())
    };
    assert_eq!(last_of(&here), last_of(&there));
    assert_eq!(here.last().unwrap().name(), "cancelled");
    assert_eq!(there[0].id, last);
}

/// A job of another gateway, which no worker has.
fn open_job() -> OpenJob {
    OpenJob::waiting(
        JobId::new_now(),
        JobKind::CreateBranch,
        TenantId::default(),
        "s".parse().unwrap(),
        OffsetDateTime::now_utc(),
    )
}

/// A gateway that was killed, with one job that waits and one that it had sent to a worker that nobody knows.
async fn killed(storage: &Arc<dyn ObjectStore>, has_sign: bool) -> [String; 2] {
    let open = OpenJobs::new(Arc::clone(storage));
    let gateway = GatewayId::new_now();
    if has_sign {
        let sign = SignOfLife::of_beat(7);
        open.write_sign(&gateway, &sign, None).await.unwrap();
    }
    let waiting = open_job();
    let mut sent = open_job();
    sent.sent = Some(Sent {
        worker: "http://192.0.2.1:5002".to_owned(),
        attempt: 2,
        events_before: 5,
    });
    for job in [&waiting, &sent] {
        open.write(&gateway, job, None).await.unwrap();
    }
    [waiting, sent].map(|job| job.job_id.to_string())
}

#[tokio::test]
async fn jobs_of_a_gateway_that_was_killed_come_to_an_end() {
    for has_sign in [false, true] {
        let storage = memory();
        let [waiting, sent] = killed(&storage, has_sign).await;
        let gateways = [
            TestGateway::start(shared(&storage, &[])).await,
            TestGateway::start(shared(&storage, &[])).await,
        ];
        for gateway in &gateways {
            let end = resume(gateway, &waiting, 3).await.rest().await;
            assert_eq!((end.len(), end[0].name()), (1, "gateway_lost".to_owned()));
            assert_eq!(end[0].json["retryable"], true);
            let end = resume(gateway, &sent, 9).await.rest().await;
            assert_eq!((end.len(), end[0].name()), (1, "worker_lost".to_owned()));
        }
        until_some("nothing is left", async || {
            let keys = storage.list("gateways/").await.unwrap();
            (keys.len() == 2).then_some(())
        })
        .await;
    }
}

/// As where a client reads it along between the end of its gateway and the time when that is known to be gone.
#[tokio::test]
async fn a_job_that_is_known_to_be_over_when_it_is_taken_over_leaves_nothing() {
    for is_sent in [false, true] {
        let storage = memory();
        let open = OpenJobs::new(Arc::clone(&storage));
        let gateway = GatewayId::new_now();
        let sign = SignOfLife::of_beat(7);
        open.write_sign(&gateway, &sign, None).await.unwrap();
        let mut over = open_job();
        over.sent = is_sent.then(|| Sent {
            worker: "http://192.0.2.1:5002".to_owned(),
            attempt: 1,
            events_before: 2,
        });
        open.write(&gateway, &over, None).await.unwrap();
        let id = over.job_id.to_string();
        let next = TestGateway::start(shared(&storage, &[])).await;
        let along = resume(&next, &id, 0).await;
        keep(&storage, &outcome(&id)).await;
        assert_eq!(along.names().await.last().unwrap(), "completed");
        until_some("nothing is left", async || {
            let keys = storage.list("gateways/").await.unwrap();
            (keys.len() == 1).then_some(())
        })
        .await;
    }
}

/// A gateway that was killed is known to be gone only after its lease; until then no other job runs in the sessions of those that it had sent.
#[tokio::test]
async fn the_sessions_of_a_killed_gateway_wait_until_its_jobs_are_known() {
    let storage = memory();
    let [_, sent] = killed(&storage, true).await;
    let worker = StubWorker::completing().await;
    let config = || {
        let mut config = with(&storage, &[&worker]);
        config.gateway_lease = Duration::from_secs(2);
        config.beat_interval = Duration::from_millis(20);
        config.orphan_timeout = Duration::from_millis(300);
        config
    };
    let next = TestGateway::start(config()).await;
    let mut behind = next.post(job("s")).await;
    assert_eq!(
        behind.until("queued").await.json["detail"]["reason"],
        "session_busy"
    );
    assert_eq!(next.names_of("other").await.last().unwrap(), "completed");
    assert_eq!(resume(&next, &sent, 0).await.names().await, ["worker_lost"]);
    assert_eq!(behind.names().await.last().unwrap(), "completed");
}

/// What a gateway that lives has sent is its own business.
#[tokio::test]
async fn the_sessions_of_a_living_gateway_are_kept_only_until_it_is_known_to_live() {
    let storage = memory();
    let open = OpenJobs::new(Arc::clone(&storage));
    let (gateway, other) = (GatewayId::new_now(), StubWorker::completing().await);
    let version = open
        .write_sign(&gateway, &SignOfLife::of_beat(1), None)
        .await
        .unwrap();
    let mut sent = open_job();
    sent.sent = Some(Sent {
        worker: "http://192.0.2.1:5002".to_owned(),
        attempt: 1,
        events_before: 2,
    });
    open.write(&gateway, &sent, None).await.unwrap();
    let next = TestGateway::start(GatewayConfig {
        gateway_lease: Duration::from_secs(600),
        beat_interval: Duration::from_millis(20),
        ..with(&storage, &[&other])
    })
    .await;
    let mut behind = next.post(job("s")).await;
    assert_eq!(
        behind.until("queued").await.json["detail"]["reason"],
        "session_busy"
    );
    open.write_sign(&gateway, &SignOfLife::of_beat(2), version)
        .await
        .unwrap();
    assert_eq!(behind.names().await.last().unwrap(), "completed");
}

/// A gateway that was only cut off from the storage for a while does not begin what another one has ended.
#[tokio::test]
async fn a_waiting_job_that_was_taken_over_is_not_begun() {
    let storage = memory();
    let worker = StubWorker::start(vec![waiting()]).await;
    let gateway = TestGateway::start(with(&storage, &[&worker])).await;
    let mut busy = gateway.post(job("s")).await;
    busy.until("preparing").await;
    let waits = gateway.post(job("s")).await;
    let id = waits.job_id();
    let record = until_some("the record of the waiting job", async || {
        let records = storage.list("gateways/").await.unwrap().into_iter();
        records.map(|it| it.key).find(|key| key.to_string().contains(&id))
    })
    .await;
    storage.delete(&record).await.unwrap();
    worker.go_on();
    assert_eq!(busy.names().await, ["completed"]);
    assert_eq!(waits.names().await.last().unwrap(), "gateway_lost");
    assert_eq!(worker.seen().len(), 1);
}

/// What a busy worker refused is noted as waiting again: whoever takes over knows that nothing was touched.
#[tokio::test]
async fn a_job_that_a_worker_refused_is_noted_as_waiting() {
    let storage = memory();
    let worker = StubWorker::start(vec![busy()]).await;
    let gateway = TestGateway::start(with(&storage, &[&worker])).await;
    let mut stream = gateway.post(job("s")).await;
    stream.until("retrying").await;
    let id = stream.job_id();
    let open = OpenJobs::new(Arc::clone(&storage));
    until_some("a record without a worker", async || {
        let found = open
            .find(&TenantId::default(), &id.parse().unwrap())
            .await
            .unwrap();
        found.filter(|(_, job)| job.sent.is_none()).map(|_| ())
    })
    .await;
    let cancelled = gateway.send(post(&format!("/jobs/{id}/cancel"), "")).await;
    assert_eq!(cancelled.status(), 200);
}

#[tokio::test]
async fn damaged_records_hold_nothing_up() {
    let storage = memory();
    let [waiting, _] = killed(&storage, true).await;
    for object in storage.list("gateways/").await.unwrap() {
        if !object.key.to_string().contains(&waiting) {
            let put = storage.put(
                &object.key,
                b"{".to_vec().into(),
                mayfly_storage::Precondition::None,
            );
            put.await.unwrap();
        }
    }
    let gateway = TestGateway::start(shared(&storage, &[])).await;
    let end = resume(&gateway, &waiting, 0).await.names().await;
    assert_eq!(end, ["gateway_lost"]);
    until_some("nothing is left", async || {
        let keys = storage.list("gateways/").await.unwrap();
        (keys.len() == 1).then_some(())
    })
    .await;
}
