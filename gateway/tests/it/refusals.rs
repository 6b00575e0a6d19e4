//! What is refused before a stream begins, and how.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use mayfly_gateway::GatewayConfig;
use mayfly_protocol::Refusal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{self, get, job, post};
use crate::gateway::{TestGateway, config};
use crate::stub_worker::{StubWorker, waiting};

async fn refusal(gateway: &TestGateway, request: Request<Bytes>) -> (u16, Refusal) {
    let response = gateway.send(request).await;
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/json");
    let retry_after = response
        .headers()
        .get("retry-after")
        .map(|value| value.to_str().unwrap().to_owned());
    let refusal: Refusal = serde_json::from_value(client::json(response).await).unwrap();
    assert_eq!(status, refusal.code.status());
    assert_eq!(
        retry_after,
        refusal.retry_after.map(|seconds| seconds.to_string())
    );
    (status, refusal)
}

fn with(request: Request<Bytes>, name: &'static str, value: &'static str) -> Request<Bytes> {
    let mut request = request;
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

#[tokio::test]
async fn each_bad_request_gets_its_own_answer_and_no_worker_is_asked() {
    let worker = StubWorker::completing().await;
    let gateway = TestGateway::start(GatewayConfig {
        max_body_bytes: 1000,
        ..config(&[&worker])
    })
    .await;
    let large = format!(r#"{{"sessionId":"s","userRequest":"{}"}}"#, "x".repeat(1000));
    let with_field = r#"{"sessionId":"s","userRequest":"x","baseBranch":"a..b"}"#;
    for (request, code, field) in [
        (
            with(job("s"), "content-type", "text/plain"),
            "unsupported_media_type",
            None,
        ),
        (
            with(job("s"), "content-encoding", "gzip"),
            "unsupported_media_type",
            None,
        ),
        (post("/create-branch", large), "body_too_large", None),
        (post("/create-branch", "not json"), "invalid_request", None),
        (
            post("/create-branch", r#"{"sessionId":"../x","userRequest":"x"}"#),
            "invalid_request",
            Some("sessionId"),
        ),
        (
            post("/create-branch", with_field),
            "invalid_request",
            Some("baseBranch"),
        ),
        (
            with(job("s"), "idempotency-key", "two words"),
            "invalid_request",
            Some("Idempotency-Key"),
        ),
        (post("/nothing", "{}"), "not_found", None),
        (get("/create-branch"), "method_not_allowed", None),
        (post("/jobs", "{}"), "method_not_allowed", None),
        (get("/jobs/nothing"), "not_found", None),
        (get("/jobs/%ff%00"), "not_found", None),
        (
            get("/jobs/01890000-0000-7000-8000-000000000000/events"),
            "not_found",
            None,
        ),
        (get("/jobs?state=lost"), "invalid_request", None),
        (get("/jobs?unknown=1"), "invalid_request", None),
        (get("/jobs?limit=0"), "invalid_request", Some("limit")),
        (
            get("/jobs?sessionId=..%2Fx"),
            "invalid_request",
            Some("sessionId"),
        ),
        (post("/code-operation", CODE_OPERATION), "no_workers", None),
    ] {
        let shown = format!("{request:?}");
        let (_, refusal) = refusal(&gateway, request).await;
        assert_eq!(
            (refusal.code.as_str(), refusal.field.as_deref()),
            (code, field),
            "{shown} {refusal:?}"
        );
    }
    assert!(worker.seen().is_empty());
    assert_eq!(gateway.get("/jobs").await.1["jobs"], serde_json::json!([]));
}

const CODE_OPERATION: &str = r#"{"operationType":"test","description":"d","repository":{"url":"https://h/r","branch":"main"},
    "organizationId":"o","sessionId":"s","approvalRequired":false}"#;

#[tokio::test]
async fn a_body_without_a_length_is_cut_off_where_it_is_too_large() {
    let worker = StubWorker::completing().await;
    let gateway = TestGateway::start(GatewayConfig {
        max_body_bytes: 1000,
        ..config(&[&worker])
    })
    .await;
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    let head = "POST /create-branch HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("400\r\n{}\r\n", "x".repeat(0x400));
    socket.write_all(chunk.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 413") && answer.contains("body_too_large"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_body_that_does_not_arrive_and_a_head_that_does_not_are_not_waited_for() {
    let worker = StubWorker::completing().await;
    let gateway = TestGateway::start(GatewayConfig {
        body_timeout: Duration::from_millis(100),
        header_timeout: Duration::from_millis(100),
        ..config(&[&worker])
    })
    .await;
    let body = "POST /create-branch HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    for (sent, expected) in [(body, "HTTP/1.1 408"), ("POST /create-br", "")] {
        let mut socket = TcpStream::connect(gateway.address).await.unwrap();
        socket.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(expected), "{answer}");
    }
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_back() {
    let worker = StubWorker::start(vec![waiting()]).await;
    let gateway = TestGateway::start(GatewayConfig {
        queue_capacity: 1,
        ..config(&[&worker])
    })
    .await;
    let mut running = gateway.post(job("a")).await;
    running.until("dispatched").await;
    let mut waits = gateway.post(job("b")).await;
    assert_eq!(waits.next().await.unwrap().json["detail"]["position"], 1);
    let (status, refusal) = refusal(&gateway, job("c")).await;
    assert_eq!((status, refusal.code.as_str()), (429, "queue_full"));
    // One job has left the queue since it was first used, which was a moment ago.
    assert!(
        refusal
            .retry_after
            .is_some_and(|seconds| (1..=60).contains(&seconds))
    );
    worker.go_on();
    worker.go_on();
    assert_eq!(running.names().await.last().unwrap(), "completed");
}

#[tokio::test]
async fn bodies_that_wait_are_counted_and_given_back() {
    let worker = StubWorker::start(vec![waiting()]).await;
    let gateway = TestGateway::start(GatewayConfig {
        held_body_bytes: 90,
        ..config(&[&worker])
    })
    .await;
    let mut running = gateway.post(job("a")).await;
    running.until("dispatched").await;
    let waits = gateway.post(job("b")).await;
    assert_ne!(gateway.get("/status").await.1["heldBodyBytes"], 0);
    let (_, refusal) = refusal(&gateway, job("c")).await;
    assert_eq!(refusal.code.as_str(), "queue_full");
    worker.go_on();
    running.rest().await;
    worker.go_on();
    waits.rest().await;
    gateway
        .wait_for("/status", |status| status["heldBodyBytes"] == 0)
        .await;
}

#[tokio::test]
async fn a_setting_that_makes_no_sense_stops_the_start() {
    let config = GatewayConfig {
        heartbeat: Duration::ZERO,
        ..GatewayConfig::default()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    assert!(
        mayfly_gateway::run(config, listener, Default::default())
            .await
            .is_err()
    );
}
