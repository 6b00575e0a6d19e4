//! Webhooks: a real receiver that takes them, fails, hangs, redirects or is gone.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::Request;
use mayfly_gateway::{GatewayConfig, WebhookConfig, WebhookPauses, WebhookSecrets};
use mayfly_http::{GuardedClient, HttpPolicy};
use mayfly_protocol::SecretString;
use mayfly_storage::{MemoryStore, ObjectStore};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::client::{self, Events, get, post};
use crate::gateway::{TestGateway, config};
use crate::receiver::{Call, Receiver, Reply};
use crate::stub_worker::{Act, Part, StubWorker, waiting};
use crate::until::until_some;

const KEY: [u8; 32] = [7; 32];

fn webhooks(allow_private: bool) -> WebhookConfig {
    let policy = HttpPolicy {
        allow_private,
        ..HttpPolicy::default()
    };
    let secret = SecretString::from(format!("whsec_{}", STANDARD.encode(KEY)));
    let client = GuardedClient::new(policy).unwrap();
    WebhookConfig {
        pauses: WebhookPauses {
            attempts: 3,
            first: Duration::from_millis(20),
            factor: 2,
            longest: Duration::from_millis(100),
        },
        timeout: Duration::from_millis(300),
        close_grace: Duration::from_millis(300),
        ..WebhookConfig::new(client, true, WebhookSecrets::parse(&secret).unwrap())
    }
}

fn with_webhooks(worker: &StubWorker, allow_private: bool) -> GatewayConfig {
    GatewayConfig {
        webhooks: Some(webhooks(allow_private)),
        ..config(&[worker])
    }
}

fn job(url: &str) -> Request<bytes::Bytes> {
    let body = json!({"sessionId": "s", "userRequest": "x", "callbackUrl": url});
    post("/create-branch", body.to_string())
}

/// Posts a job, reads its stream to the end, and waits until its webhook is over.
async fn delivered(gateway: &TestGateway, url: &str) -> (Vec<String>, Value) {
    let events = gateway.post(job(url)).await;
    let path = format!("/jobs/{}/deliveries", events.job_id());
    let names = events.names().await;
    (
        names,
        gateway.wait_for(&path, |it| it["state"] != "pending").await,
    )
}

fn check_signature(call: &Call) {
    let signed = format!(
        "{}.{}.{}",
        call.header("webhook-id"),
        call.header("webhook-timestamp"),
        std::str::from_utf8(&call.body).unwrap()
    );
    let mut mac = Hmac::<Sha256>::new_from_slice(&KEY).unwrap();
    mac.update(signed.as_bytes());
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    assert_eq!(call.header("webhook-signature"), expected);
}

#[tokio::test]
async fn the_receiver_gets_the_job_signed_and_the_worker_the_same_body() {
    let (worker, receiver) = (
        StubWorker::completing().await,
        Receiver::start(&[Reply::Status(204)]).await,
    );
    let gateway = TestGateway::start(with_webhooks(&worker, true)).await;
    let (names, log) = delivered(&gateway, &receiver.url()).await;
    assert_eq!(names.last().unwrap(), "completed");
    let calls = receiver.calls();
    assert_eq!(calls.len(), 1);
    check_signature(&calls[0]);
    let body: Value = serde_json::from_slice(&calls[0].body).unwrap();
    let id = log["jobId"].as_str().unwrap();
    assert_eq!(
        (&body["type"], &body["data"]["id"], &body["data"]["state"]),
        (&json!("job.completed"), &json!(id), &json!("completed"))
    );
    assert_eq!(calls[0].header("webhook-id"), format!("msg_{id}"));
    assert_eq!(log["state"], "delivered");
    assert_eq!(log["attempts"][0]["status"], 204);
    assert_eq!(log["receiver"], format!("http://{}", receiver.address));
    assert!(!log.to_string().contains("canary"), "{log}");
    assert!(worker.seen()[0].body.windows(11).any(|it| it == b"callbackUrl"));
}

#[tokio::test]
async fn a_failed_job_is_told_too_and_a_receiver_that_fails_is_asked_again_with_the_same_bytes() {
    let worker = StubWorker::start(vec![Act::Stream(vec![Part::Failed("push_rejected")])]).await;
    let receiver = Receiver::start(&[Reply::Status(500), Reply::Later(3600), Reply::Status(200)]).await;
    let gateway = TestGateway::start(with_webhooks(&worker, true)).await;
    let (_, log) = delivered(&gateway, &receiver.url()).await;
    let statuses: Vec<&Value> = log["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["status"])
        .collect();
    assert_eq!(statuses, [500, 503, 200]);
    assert!(log["attempts"][0]["nextAt"].is_string() && log["attempts"][2]["nextAt"].is_null());
    let calls = receiver.calls();
    for call in &calls {
        check_signature(call);
        assert_eq!(call.body, calls[0].body);
        assert_eq!(call.header("webhook-id"), calls[0].header("webhook-id"));
    }
    let body: Value = serde_json::from_slice(&calls[0].body).unwrap();
    assert_eq!(
        (&body["type"], &body["data"]["code"]),
        (&json!("job.failed"), &json!("push_rejected"))
    );
}

#[tokio::test]
async fn a_delivery_ends_with_410_a_refused_address_or_after_as_many_tries_as_may_be() {
    let worker = StubWorker::completing().await;
    let gateway = TestGateway::start(with_webhooks(&worker, true)).await;
    for (replies, state, calls) in [
        (&[Reply::Status(500), Reply::Status(410)][..], "gone", 2),
        (&[Reply::Status(404)][..], "failed", 3),
        (&[Reply::Hang][..], "failed", 3),
        (
            &[Reply::Redirect("http://169.254.169.254/latest")][..],
            "failed",
            3,
        ),
    ] {
        let receiver = Receiver::start(replies).await;
        let (_, log) = delivered(&gateway, &receiver.url()).await;
        assert_eq!(
            (log["state"].as_str().unwrap(), receiver.calls().len()),
            (state, calls),
            "{replies:?} {log}"
        );
    }
    // A gateway that may not reach private addresses does not, whatever name leads there.
    let guarded = TestGateway::start(with_webhooks(&worker, false)).await;
    let receiver = Receiver::start(&[Reply::Status(200)]).await;
    let by_name = format!("https://localhost:{}/", receiver.address.port());
    for url in [receiver.url().replace("http://", "https://"), by_name] {
        let (names, log) = delivered(&guarded, &url).await;
        assert_eq!(names.last().unwrap(), "completed");
        assert_eq!(log["state"], "refused", "{log}");
    }
    assert_eq!(receiver.calls().len(), 0);
    let response = guarded.send(get("/metrics")).await;
    let text = client::text(response).await;
    assert!(
        text.contains(r#"mayfly_webhooks_total{state="refused"} 2"#),
        "{text}"
    );
}

#[tokio::test]
async fn what_cannot_be_called_is_refused_before_the_job_is_begun() {
    let worker = StubWorker::completing().await;
    let without = TestGateway::with(&[&worker]).await;
    let mut only_https = webhooks(false);
    only_https.allow_http = false;
    let https = TestGateway::start(GatewayConfig {
        webhooks: Some(only_https),
        ..config(&[&worker])
    })
    .await;
    for (gateway, url) in [
        (&without, "https://hooks.example/x"),
        (&https, "http://hooks.example/x"),
        (&https, "https://user:canary@hooks.example/"),
        (&https, "ftp://hooks.example/"),
        (&https, "nonsense"),
    ] {
        let response = gateway.send(job(url)).await;
        assert_eq!(response.status(), 400, "{url}");
        let refusal = client::json(response).await;
        assert_eq!(refusal["field"], "callbackUrl", "{refusal}");
        assert!(!refusal.to_string().contains("canary"), "{refusal}");
    }
    assert!(worker.seen().is_empty());
}

#[tokio::test]
async fn the_log_outlives_the_gateway_and_other_jobs_have_none() {
    let storage: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let (worker, receiver) = (
        StubWorker::completing().await,
        Receiver::start(&[Reply::Status(200)]).await,
    );
    let stored = || GatewayConfig {
        storage: Some(Arc::clone(&storage)),
        ..with_webhooks(&worker, true)
    };
    let gateway = TestGateway::start(stored()).await;
    let (_, log) = delivered(&gateway, &receiver.url()).await;
    let other = gateway.post(client::job("s")).await;
    let other_path = format!("/jobs/{}/deliveries", other.job_id());
    other.names().await;
    assert_eq!(gateway.get(&other_path).await.0, 404);
    let id = log["jobId"].as_str().unwrap();
    let key = format!("tenants/default/jobs/{id}.deliveries.json")
        .parse()
        .unwrap();
    // It is written after it can be seen.
    let kept = until_some("the log in the storage", async || {
        storage.get(&key, 1 << 20).await.ok()
    })
    .await;
    assert_eq!(serde_json::from_slice::<Value>(&kept.bytes).unwrap(), log);
    assert!(!String::from_utf8_lossy(&kept.bytes).contains("canary"));
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_up_neither_job_nor_end() {
    let (worker, receiver) = (
        StubWorker::start(vec![waiting()]).await,
        Receiver::start(&[Reply::Hang]).await,
    );
    let mut slow = webhooks(true);
    slow.timeout = Duration::from_secs(3600);
    let mut gateway = TestGateway::start(GatewayConfig {
        webhooks: Some(slow),
        ..config(&[&worker])
    })
    .await;
    let mut events: Events = gateway.post(job(&receiver.url())).await;
    events.until("preparing").await;
    worker.go_on();
    assert_eq!(events.names().await, ["completed"]);
    until_some("a call", async || (!receiver.calls().is_empty()).then_some(())).await;
    gateway.stop().await;
}
