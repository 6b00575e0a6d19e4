//! Finding a worker: refusals, dead addresses, sessions in order, and what is never tried twice.

use std::time::Duration;

use mayfly_gateway::{GatewayConfig, WorkerSource};
use serde_json::json;
use tokio::net::TcpListener;

use crate::client::{Got, job, post};
use crate::gateway::{TestGateway, config, tokens};
use crate::stub_worker::{Act, Afterwards, StubWorker, busy, completing, data, waiting};
use crate::until::until_some;

#[tokio::test]
async fn a_job_reaches_the_worker_whole_and_its_events_come_back_unchanged() {
    let worker = StubWorker::completing().await;
    let gateway = TestGateway::start(GatewayConfig {
        worker_tokens: Some(tokens("fleet-token")),
        ..config(&[&worker])
    })
    .await;
    let body = r#"{ "sessionId":"s","userRequest":"x", "githubAccessToken":"canary" }"#;
    let mut request = post("/create-branch", body);
    request
        .headers_mut()
        .insert("authorization", "Bearer client".parse().unwrap());
    let events = gateway.post(request).await;
    let job = events.job_id();
    let headers = events.response.headers().clone();
    let got = events.rest().await;
    let names: Vec<String> = got.iter().map(Got::name).collect();
    assert_eq!(names, ["queued", "dispatched", "preparing", "completed"]);
    assert_eq!(got[0].id, 1);
    assert_eq!(
        got[0].json["detail"],
        json!({"position": 1, "reason": "no_free_worker"})
    );
    assert_eq!(
        (&got[0].json["source"], &got[0].json["jobId"]),
        (&json!("gateway"), &json!(job))
    );
    let expected = data(&job, r#""type":"progress","stage":"preparing","message":"m""#);
    assert_eq!(String::from_utf8(got[2].data.clone()).unwrap(), expected);
    assert_eq!(headers["content-type"], "text/event-stream");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["x-accel-buffering"], "no");

    let seen = &worker.seen()[0];
    assert!(
        seen.head.starts_with("POST /create-branch HTTP/1.1\r\n"),
        "{}",
        seen.head
    );
    assert_eq!(String::from_utf8(seen.body.clone()).unwrap(), body);
    let header = |name| seen.header(name);
    assert_eq!(header("authorization"), Some("Bearer fleet-token"));
    assert_eq!(
        (header("x-job-id"), header("x-job-attempt")),
        (Some(job.as_str()), Some("1"))
    );
    assert_eq!(header("x-tenant-id"), Some("default"));
    let accepted = gateway.get(&format!("/jobs/{job}")).await.1["createdAt"].clone();
    assert_eq!(header("x-job-accepted-at"), accepted.as_str());
}

#[tokio::test]
async fn a_busy_worker_is_passed_over_for_the_next() {
    let (first, second) = (
        StubWorker::start(vec![busy()]).await,
        StubWorker::completing().await,
    );
    let gateway = TestGateway::with(&[&first, &second]).await;
    for session in ["a", "b", "c"] {
        assert_eq!(gateway.names_of(session).await.last().unwrap(), "completed");
    }
    assert_eq!(second.seen().len(), 3);
}

#[tokio::test]
async fn a_single_worker_is_asked_until_it_is_free() {
    let acts = vec![
        busy(),
        busy(),
        Act::Refuse(503, "shutting_down"),
        Act::Refuse(401, "unauthorized"),
        completing(),
    ];
    let worker = StubWorker::start(acts).await;
    let gateway = TestGateway::with(&[&worker]).await;
    let names = gateway.names_of("s").await;
    assert_eq!(names.first().unwrap(), "queued");
    assert!(names.contains(&"retrying".to_owned()), "{names:?}");
    assert_eq!(names.last().unwrap(), "completed");
    let attempts: Vec<_> = worker
        .seen()
        .iter()
        .map(|seen| seen.header("x-job-attempt").map(str::to_owned))
        .collect();
    assert_eq!(
        attempts,
        vec![Some("1".to_owned()); 5],
        "nothing was touched, so it is the first attempt each time"
    );
}

#[tokio::test]
async fn an_address_without_a_worker_is_passed_over_until_one_is_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let gateway = TestGateway::start(GatewayConfig {
        git_workers: WorkerSource::Static(vec![address.into()]),
        ..config(&[])
    })
    .await;
    let mut events = gateway.post(job("s")).await;
    let retrying = events.until("retrying").await;
    assert!(
        retrying.json["message"]
            .as_str()
            .unwrap()
            .contains("could not be reached")
    );
    let workers = gateway.get("/workers").await.1;
    assert_eq!(workers["workers"][0]["address"], format!("http://{address}"));
    assert_ne!(workers["workers"][0]["failures"], 0);
    let _worker = StubWorker::on(TcpListener::bind(address).await.unwrap(), vec![completing()]);
    assert_eq!(events.names().await.last().unwrap(), "completed");
}

#[tokio::test]
async fn a_job_that_no_worker_takes_ends_with_the_reason() {
    let worker = StubWorker::start(vec![Act::Refuse(401, "unauthorized")]).await;
    let gateway = TestGateway::start(GatewayConfig {
        queue_timeout: Duration::from_millis(300),
        ..config(&[&worker])
    })
    .await;
    let end = gateway.post(job("s")).await.rest().await.pop().unwrap();
    assert_eq!(end.name(), "queue_timeout");
    assert_eq!(end.json["retryable"], true);
    assert!(
        end.json["error"].as_str().unwrap().contains("WORKER_TOKEN"),
        "{}",
        end.json
    );
    assert_eq!(gateway.get("/status").await.1["waiting"]["gitWorker"], 0);
}

#[tokio::test]
async fn what_may_have_been_touched_is_never_tried_twice() {
    let other = r#"HTTP/1.1 200 OK
content-type: text/html
content-length: 2

ok"#;
    for (act, code) in [
        (Act::Close, "worker_lost"),
        (Act::Hang, "worker_lost"),
        (Act::Raw(b"not http at all\r\n\r\n"), "worker_protocol"),
        (Act::Raw(other.as_bytes()), "worker_protocol"),
        (Act::Refuse(413, "body_too_large"), "body_too_large"),
        (Act::Refuse(500, "not_found"), "worker_protocol"),
    ] {
        let worker = StubWorker::start(vec![act.clone()]).await;
        let gateway = TestGateway::start(GatewayConfig {
            response_timeout: Duration::from_millis(300),
            ..config(&[&worker])
        })
        .await;
        assert_eq!(gateway.names_of("s").await, ["queued", code], "{act:?}");
        assert_eq!(worker.seen().len(), 1, "{act:?}");
    }
}

/// As where the address of a worker that ended is somebody else's a moment later.
#[tokio::test]
async fn what_is_no_worker_does_not_end_a_job() {
    for act in [
        Act::Refuse(404, "not_found"),
        Act::Refuse(422, "worker_lost"),
        Act::Raw(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"),
        Act::Raw(b"HTTP/1.0 501 Unsupported method ('POST')\r\n\r\n<!DOCTYPE HTML>"),
        Act::Raw(b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 2\r\n\r\nno"),
        Act::Raw(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"),
    ] {
        let stranger = StubWorker::start(vec![act.clone()]).await;
        let gateway = TestGateway::with(&[&stranger]).await;
        let mut events = gateway.post(job("s")).await;
        let retrying = events.until("retrying").await;
        let message = retrying.json["message"].as_str().unwrap();
        assert!(message.contains("as no worker for this job does"), "{message}");
        let workers = gateway.get("/workers").await.1;
        assert_ne!(workers["workers"][0]["failures"], 0, "{act:?}");

        let worker = StubWorker::completing().await;
        let gateway = TestGateway::with(&[&stranger, &worker]).await;
        assert_eq!(
            gateway.names_of("s").await.last().unwrap(),
            "completed",
            "{act:?}"
        );
    }
}

#[tokio::test]
async fn a_worker_that_ends_and_says_so_is_away_and_not_faulty() {
    let worker = StubWorker::completing().await;
    worker.afterwards(Afterwards::Ends);
    let gateway = TestGateway::with(&[&worker]).await;
    assert_eq!(gateway.names_of("s").await.last().unwrap(), "completed");
    let asked = async || {
        let state = gateway.get("/workers").await.1["workers"][0]["state"].clone();
        (state != "restarting").then_some(state)
    };
    assert_eq!(until_some("the worker's answer", asked).await, "unreachable");
}

#[tokio::test]
async fn a_session_has_one_running_job_and_the_next_one_follows() {
    let (one, two) = (
        StubWorker::start(vec![waiting()]).await,
        StubWorker::start(vec![waiting()]).await,
    );
    let gateway = TestGateway::with(&[&one, &two]).await;
    let mut first = gateway.post(job("same")).await;
    first.until("preparing").await;
    let mut second = gateway.post(job("same")).await;
    let queued = second.next().await.unwrap();
    assert_eq!(
        queued.json["detail"],
        json!({"position": 1, "reason": "session_busy"})
    );
    let mut other = gateway.post(job("other")).await;
    other.until("preparing").await;
    assert_eq!(one.seen().len() + two.seen().len(), 2);
    for worker in [&one, &two] {
        worker.go_on();
    }
    assert_eq!(first.names().await, ["completed"]);
    other.rest().await;
    second.until("preparing").await;
    one.go_on();
    two.go_on();
    assert_eq!(second.names().await, ["completed"]);
}

#[tokio::test]
async fn positions_are_told_when_they_change() {
    let worker = StubWorker::start(vec![waiting()]).await;
    let gateway = TestGateway::with(&[&worker]).await;
    let mut running = gateway.post(job("a")).await;
    running.until("preparing").await;
    let (mut second, mut third) = (gateway.post(job("b")).await, gateway.post(job("c")).await);
    assert_eq!(second.next().await.unwrap().json["detail"]["position"], 1);
    assert_eq!(third.next().await.unwrap().json["detail"]["position"], 2);
    worker.go_on();
    running.rest().await;
    assert_eq!(third.until("queued").await.json["detail"]["position"], 1);
    worker.go_on();
    second.rest().await;
    worker.go_on();
    third.rest().await;
}

#[tokio::test]
async fn names_are_looked_up_and_unknown_ones_refused() {
    let worker = StubWorker::completing().await;
    let from = |name: &str| GatewayConfig {
        git_workers: format!("dns://{name}:{}", worker.address.port()).parse().unwrap(),
        ..config(&[])
    };
    let gateway = TestGateway::start(from("127.0.0.1")).await;
    assert_eq!(gateway.names_of("s").await.last().unwrap(), "completed");
    let gateway = TestGateway::start(from("no-such-name.invalid")).await;
    gateway
        .wait_for("/ready", |ready| ready["workers"]["gitWorker"]["ready"] == false)
        .await;
    let known_to_fail = async {
        loop {
            let response = gateway.send(job("s")).await;
            if response.status() == 503 {
                return crate::client::json(response).await;
            }
        }
    };
    let refusal = tokio::time::timeout(crate::client::PATIENCE, known_to_fail)
        .await
        .unwrap();
    assert_eq!(refusal["code"], "no_workers");
}
