//! `Idempotency-Key`: one job for one key, whoever asks how often, and whoever is gone meanwhile.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::Request;
use mayfly_gateway::GatewayConfig;
use mayfly_protocol::{JobId, TenantId};
use mayfly_session::{HexDigest, KeyArchive, KeyRecord};
use mayfly_storage::{Fault, FaultyStore, MemoryStore, ObjectStore, Operation, Rule, When};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::client::{self, Events, job, post};
use crate::gateway::{TestGateway, config};
use crate::outcomes::with;
use crate::real_worker::{gateway_config, start_keeping};
use crate::stub_worker::{StubWorker, waiting};
use crate::until::{until, until_some};

fn keyed(key: &str, session: &str) -> Request<Bytes> {
    with_key(job(session), key)
}

fn with_key(mut request: Request<Bytes>, key: &str) -> Request<Bytes> {
    request
        .headers_mut()
        .insert("idempotency-key", key.parse().unwrap());
    request
}

fn with_token(key: &str, token: &str) -> Request<Bytes> {
    let body = json!({"userRequest": "x", "githubAccessToken": token, "sessionId": "s"});
    with_key(post("/create-branch", body.to_string()), key)
}

fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(MemoryStore::new())
}

async fn code(gateway: &TestGateway, request: Request<Bytes>) -> (u16, String) {
    let response = gateway.send(request).await;
    let status = response.status().as_u16();
    let refusal = client::json(response).await;
    (status, refusal["code"].as_str().unwrap_or_default().to_owned())
}

/// The same key is the same job while it runs and afterwards; other bodies are refused.
async fn is_one_job(config: impl Fn(&StubWorker) -> GatewayConfig) {
    let worker = StubWorker::start(vec![waiting()]).await;
    let gateway = TestGateway::start(config(&worker)).await;
    let mut first = gateway.post(with_token("k", "one")).await;
    first.until("preparing").await;
    let again = gateway.post(with_token("k", "another")).await;
    assert_eq!(again.job_id(), first.job_id());
    assert_eq!(
        code(&gateway, keyed("k", "other")).await,
        (409, "idempotency_mismatch".to_owned())
    );
    let mut wish = keyed("k", "s");
    wish.headers_mut()
        .insert("prefer", "respond-async".parse().unwrap());
    let accepted = gateway.send(wish).await;
    let location = format!("/jobs/{}", first.job_id());
    assert_eq!(
        (
            accepted.status().as_u16(),
            accepted.headers()["location"].to_str().unwrap()
        ),
        (202, &*location)
    );
    worker.go_on();
    let id = first.job_id();
    assert_eq!(first.names().await, ["completed"]);
    assert_eq!(again.names().await.last().unwrap(), "completed");
    let late = gateway.post(keyed("k", "s")).await;
    assert_eq!(late.job_id(), id);
    assert_eq!(late.names().await.last().unwrap(), "completed");
    assert_eq!(worker.seen().len(), 1);
    let new = gateway.post(keyed("l", "s")).await;
    assert_ne!(new.job_id(), id);
}

#[tokio::test]
async fn a_key_is_one_job_with_a_storage() {
    let storage = memory();
    is_one_job(|worker| with(&storage, &[worker])).await;
}

#[tokio::test]
async fn a_key_is_one_job_without_a_storage() {
    is_one_job(|worker| config(&[worker])).await;
}

#[tokio::test]
async fn requests_of_one_moment_make_one_job_at_several_gateways() {
    let storage = memory();
    let workers = [start_keeping(&storage).await, start_keeping(&storage).await];
    let shared = || GatewayConfig {
        storage: Some(Arc::clone(&storage)),
        watch_interval: Duration::from_millis(20),
        ..gateway_config(&[&workers[0], &workers[1]])
    };
    let gateways = [
        TestGateway::start(shared()).await,
        TestGateway::start(shared()).await,
    ];
    let asked = (0..12).map(|number| gateways[number % 2].post(keyed("k", "s")));
    let streams = join_all(asked).await;
    let ids: Vec<String> = streams.iter().map(Events::job_id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    for worker in &workers {
        worker.runner.go_on.notify_one();
    }
    for names in join_all(streams.into_iter().map(Events::names)).await {
        assert_eq!(names.last().unwrap(), "completed");
    }
    let used = workers.iter().filter(|worker| worker.ended.is_finished());
    let used = used.count();
    assert!(used <= 1, "{used} workers were used");
}

#[tokio::test]
async fn a_key_is_the_same_job_after_a_restart() {
    let storage = memory();
    let worker = StubWorker::completing().await;
    let mut gateway = TestGateway::start(with(&storage, &[&worker])).await;
    let first = gateway.post(keyed("k", "s")).await;
    let id = first.job_id();
    assert_eq!(first.names().await.last().unwrap(), "completed");
    gateway.stop().await;
    let next = TestGateway::start(with(&storage, &[&worker])).await;
    let again = next.post(keyed("k", "s")).await;
    assert_eq!(again.job_id(), id);
    assert_eq!(again.names().await, ["completed"]);
    assert_eq!(
        code(&next, keyed("k", "other")).await,
        (409, "idempotency_mismatch".to_owned())
    );
    assert_eq!(worker.seen().len(), 1);
}

#[tokio::test]
async fn a_job_that_was_never_begun_gives_its_key_free() {
    for storage in [Some(memory()), None] {
        let worker = StubWorker::start(vec![waiting()]).await;
        let base = || GatewayConfig {
            storage: storage.clone(),
            ..config(&[&worker])
        };
        let gateway = TestGateway::start(GatewayConfig {
            queue_timeout: Duration::from_millis(100),
            ..base()
        })
        .await;
        let mut busy = gateway.post(job("s")).await;
        busy.until("preparing").await;
        let waits = gateway.post(keyed("k", "s")).await;
        let id = waits.job_id();
        assert_eq!(waits.names().await.last().unwrap(), "queue_timeout");
        worker.go_on();
        assert_eq!(busy.names().await, ["completed"]);
        let mut again = gateway.post(keyed("k", "s")).await;
        assert_ne!(again.job_id(), id);
        again.until("preparing").await;
        worker.go_on();
        assert_eq!(again.names().await, ["completed"]);
    }
}

#[tokio::test]
async fn a_refused_job_gives_its_key_free_and_a_cancelled_one_keeps_it() {
    let storage = memory();
    let worker = StubWorker::start(vec![waiting()]).await;
    let gateway = TestGateway::start(GatewayConfig {
        queue_capacity: 1,
        ..with(&storage, &[&worker])
    })
    .await;
    let mut busy = gateway.post(job("a")).await;
    busy.until("preparing").await;
    let waits = gateway.post(keyed("w", "b")).await;
    let (status, _) = code(&gateway, keyed("k", "c")).await;
    // With its share of the queue left, a second one may be let in.
    if status == 200 {
        assert_eq!(code(&gateway, keyed("l", "d")).await.0, 429);
    }
    let id = waits.job_id();
    let cancelled = gateway.send(post(&format!("/jobs/{id}/cancel"), "")).await;
    assert_eq!(cancelled.status(), 200);
    assert_eq!(waits.names().await.last().unwrap(), "cancelled");
    let again = gateway.post(keyed("w", "b")).await;
    assert_eq!(again.job_id(), id);
    assert_eq!(again.names().await.last().unwrap(), "cancelled");
    worker.go_on();
}

#[tokio::test]
async fn a_key_whose_gateway_was_gone_before_the_job_was_noted_is_given_to_a_new_job() {
    let storage = memory();
    let worker = StubWorker::completing().await;
    let lost = JobId::new_now();
    let gateway = TestGateway::start(GatewayConfig {
        key_patience: Duration::from_millis(100),
        ..with(&storage, &[&worker])
    })
    .await;
    // What the first request stores is what a gateway leaves that is killed right after.
    let first = gateway.post(keyed("k", "s")).await;
    let done = first.job_id();
    first.names().await;
    let name = HexDigest::of(b"k");
    let archive = KeyArchive::new(Arc::clone(&storage));
    let probe = KeyRecord::new(lost.clone(), HexDigest::of(b""));
    let claimed = archive.claim(&TenantId::default(), &name, &probe).await.unwrap();
    let mayfly_session::Claimed::Theirs(record, version) = claimed else {
        panic!("{claimed:?}")
    };
    assert_eq!(record.job_id.as_str(), done);
    let orphan = KeyRecord::new(lost.clone(), record.request);
    assert!(
        archive
            .give(&TenantId::default(), &name, &orphan, version)
            .await
            .unwrap()
    );
    let again = gateway.post(keyed("k", "s")).await;
    assert!(again.job_id() != done && again.job_id() != lost.as_str());
    assert_eq!(again.names().await.last().unwrap(), "completed");
    assert_eq!(worker.seen().len(), 2);
}

#[tokio::test]
async fn without_an_answer_of_the_storage_nothing_is_begun() {
    let worker = StubWorker::completing().await;
    let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new()), 1));
    let storage: Arc<dyn ObjectStore> = Arc::clone(&faulty) as _;
    let gateway = TestGateway::start(with(&storage, &[&worker])).await;
    faulty.add(Rule::on(Operation::Put, When::Always, Fault::Unavailable));
    assert_eq!(
        code(&gateway, keyed("k", "s")).await,
        (503, "storage_unavailable".to_owned())
    );
    assert!(worker.seen().is_empty());
    assert_eq!(gateway.get("/jobs").await.1["jobs"], json!([]));
    // Without a key there is no such promise.
    assert_eq!(gateway.names_of("s").await.last().unwrap(), "completed");
}

#[tokio::test]
async fn a_client_that_goes_away_while_its_job_is_noted_leaves_no_broken_job() {
    let worker = StubWorker::completing().await;
    let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new()), 1));
    let storage: Arc<dyn ObjectStore> = Arc::clone(&faulty) as _;
    let gateway = TestGateway::start(with(&storage, &[&worker])).await;
    // The key is taken first, and then the job is noted.
    faulty.add(Rule::on(Operation::Put, When::Nth(2), Fault::Stall));
    let (head, body) = keyed("k", "s").into_parts();
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    let text = format!(
        "POST {} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\nidempotency-key: k\r\ncontent-length: {}\r\n\r\n",
        head.uri,
        body.len()
    );
    socket.write_all(text.as_bytes()).await.unwrap();
    socket.write_all(&body).await.unwrap();
    until(|| faulty.faults() == 1).await;
    // With a reset, as of a process that is killed; an end alone means that nothing more is sent.
    socket.set_zero_linger().unwrap();
    drop(socket);
    let again = gateway.post(keyed("k", "s")).await;
    assert_eq!(again.names().await.last().unwrap(), "completed");
    assert_eq!(worker.seen().len(), 1);
}

#[tokio::test]
async fn nothing_of_body_or_key_is_stored() {
    let storage = memory();
    let worker = StubWorker::completing().await;
    let mut gateway = TestGateway::start(with(&storage, &[&worker])).await;
    let names = gateway
        .post(with_token("canary-key", "canary-token"))
        .await
        .names()
        .await;
    assert_eq!(names.last().unwrap(), "completed");
    until_some("the end of the record", async || {
        storage
            .list("gateways/")
            .await
            .unwrap()
            .iter()
            .all(|it| it.key.to_string().ends_with("alive.json"))
            .then_some(())
    })
    .await;
    gateway.stop().await;
    let mut keys = Vec::new();
    for object in storage.list("").await.unwrap() {
        let text = storage.get(&object.key, 1_000_000).await.unwrap().bytes;
        let text = format!("{} {}", object.key, String::from_utf8_lossy(&text));
        assert!(!text.contains("canary"), "{text}");
        keys.push(object.key.to_string());
    }
    let folders: Vec<&str> = keys.iter().filter_map(|key| key.split('/').nth(2)).collect();
    assert_eq!(folders, ["idempotency", "jobs"], "{keys:?}");
}
