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
use crate::leaving::shared;
use crate::real_worker::start_keeping;
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

/// A gateway with this storage, which is soon taken for gone when it is killed.
fn lasting(storage: &Arc<dyn ObjectStore>, worker: &StubWorker) -> GatewayConfig {
    let mut webhooks = webhooks(true);
    webhooks.pauses.attempts = 1000;
    GatewayConfig {
        storage: Some(Arc::clone(storage)),
        webhooks: Some(webhooks),
        beat_interval: Duration::from_millis(20),
        gateway_lease: Duration::from_millis(300),
        watch_interval: Duration::from_millis(20),
        drain_grace: Duration::from_millis(50),
        ..config(&[worker])
    }
}

/// What is owed in the storage, as text.
async fn owed(storage: &Arc<dyn ObjectStore>) -> Vec<String> {
    let mut texts = Vec::new();
    for object in storage.list("gateways/").await.unwrap() {
        if object.key.as_str().contains("/webhooks/")
            && let Ok(found) = storage.get(&object.key, 1 << 20).await
        {
            texts.push(String::from_utf8(found.bytes.to_vec()).unwrap());
        }
    }
    texts
}

/// The next gateway goes on with the tries, with the same bytes under the same id, whether the one before ended in order or was killed.
#[tokio::test]
async fn what_a_gateway_still_owes_is_delivered_by_the_next_one() {
    for is_killed in [false, true] {
        let storage: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
        let worker = StubWorker::completing().await;
        let receiver = Receiver::start(&[Reply::Status(500)]).await;
        let mut first = TestGateway::start_apart(lasting(&storage, &worker));
        let events = first.post(job(&receiver.url())).await;
        let path = format!("/jobs/{}/deliveries", events.job_id());
        events.names().await;
        until_some("two tries", async || (receiver.calls().len() > 1).then_some(())).await;
        let noted = until_some("what is owed", async || owed(&storage).await.pop()).await;
        assert!(!noted.contains("canary") && !noted.contains("/hooks"), "{noted}");
        match is_killed {
            true => first.kill(),
            false => first.stop().await,
        }
        let before = receiver.calls().len();
        receiver.reply(&[Reply::Status(500), Reply::Status(500), Reply::Status(204)]);
        let next = TestGateway::start(lasting(&storage, &worker)).await;
        let log = next.wait_for(&path, |it| it["state"] == "delivered").await;
        let calls = receiver.calls();
        assert!(calls.len() > before, "{log}");
        for call in &calls {
            check_signature(call);
            assert_eq!(call.body, calls[0].body);
            assert_eq!(call.header("webhook-id"), calls[0].header("webhook-id"));
        }
        let attempts = log["attempts"].as_array().unwrap().iter();
        let numbers: Vec<u64> = attempts.filter_map(|it| it["number"].as_u64()).collect();
        assert!(
            numbers.len() > 2 && numbers.is_sorted_by(|one, next| one < next),
            "{log}"
        );
        until_some("nothing is owed", async || {
            owed(&storage).await.is_empty().then_some(())
        })
        .await;
    }
}

/// The gateway is killed while the job runs: the receiver hears of the end that the next gateway finds.
#[tokio::test]
async fn a_job_that_outlives_its_gateway_is_told_of_by_the_next_one() {
    let storage: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let (worker, receiver) = (
        start_keeping(&storage).await,
        Receiver::start(&[Reply::Status(204)]).await,
    );
    let config = || GatewayConfig {
        webhooks: Some(webhooks(true)),
        ..shared(&storage, &[&worker])
    };
    let mut first = TestGateway::start_apart(config());
    let mut events = first.post(job(&receiver.url())).await;
    events.until("preparing").await;
    let id = events.job_id();
    first.kill();
    let next = TestGateway::start(config()).await;
    worker.runner.go_on.notify_one();
    let log = next
        .wait_for(&format!("/jobs/{id}/deliveries"), |it| it["state"] == "delivered")
        .await;
    assert_eq!(log["attempts"].as_array().unwrap().len(), 1);
    let calls = receiver.calls();
    let body: Value = serde_json::from_slice(&calls[0].body).unwrap();
    assert_eq!(
        (&body["type"], &body["data"]["id"]),
        (&json!("job.completed"), &json!(id))
    );
    check_signature(&calls[0]);
}

/// An address that cannot be opened is owed by nobody any more, and the log says so.
#[tokio::test]
async fn what_was_sealed_with_another_secret_is_given_up() {
    let storage: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let worker = StubWorker::completing().await;
    let receiver = Receiver::start(&[Reply::Status(500)]).await;
    let mut first = TestGateway::start(lasting(&storage, &worker)).await;
    let events = first.post(job(&receiver.url())).await;
    let path = format!("/jobs/{}/deliveries", events.job_id());
    events.names().await;
    until_some("a try", async || (!receiver.calls().is_empty()).then_some(())).await;
    first.stop().await;
    let mut config = lasting(&storage, &worker);
    let other = SecretString::from(format!("whsec_{}", STANDARD.encode([8; 32])));
    config.webhooks.as_mut().unwrap().secrets = WebhookSecrets::parse(&other).unwrap();
    let next = TestGateway::start(config).await;
    next.wait_for(&path, |it| it["state"] == "abandoned").await;
    until_some("nothing is owed", async || {
        owed(&storage).await.is_empty().then_some(())
    })
    .await;
}

/// A job that is refused owes nothing.
#[tokio::test]
async fn a_refused_job_owes_nothing() {
    let storage: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let gateway = TestGateway::start(GatewayConfig {
        storage: Some(Arc::clone(&storage)),
        webhooks: Some(webhooks(true)),
        ..config(&[])
    })
    .await;
    let response = gateway.send(job("https://hooks.example/x")).await;
    assert_eq!(response.status(), 503);
    assert_eq!(owed(&storage).await, [""; 0]);
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
