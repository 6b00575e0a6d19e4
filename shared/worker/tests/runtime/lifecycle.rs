//! One job, status, drain, and the end of the process.

use std::time::Duration;

use mayfly_protocol::{EventBody, Stage, TenantId, event::timestamp};
use mayfly_worker::{Ended, RunError, WorkerConfig, run};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::harness::{
    CLONE, CLONE_BODY, Fixture, PATIENCE, Scripted, eventually, read_to_end, refusal, tokens, transcript,
};

#[tokio::test]
async fn the_second_job_is_refused_and_the_worker_ends_after_the_first() {
    let gate = CancellationToken::new();
    let fixture = Fixture::start(Scripted::gated(&gate)).await;
    let first = fixture.post_clone().await;
    for (path, body) in [(CLONE, CLONE_BODY), ("/create-branch", "not even JSON")] {
        let refused = refusal(fixture.post(path, body).send().await.unwrap()).await;
        assert_eq!(
            (refused.code.as_str(), refused.retry_after),
            ("worker_busy", Some(1))
        );
    }
    gate.cancel();
    transcript(first).await;
    let address = fixture.address;
    assert_eq!(fixture.ended().await, Ended::JobDone);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_busy_worker_refuses_before_the_body_is_sent() {
    let gate = CancellationToken::new();
    let fixture = Fixture::start(Scripted::gated(&gate)).await;
    let first = fixture.post_clone().await;
    let head = "POST /clone-repository HTTP/1.1\r\nhost: w\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n";
    let mut client = fixture.raw(head).await;
    let answer = read_to_end(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    drop(client);
    gate.cancel();
    transcript(first).await;
    assert_eq!(fixture.ended().await, Ended::JobDone);
}

#[tokio::test]
async fn of_many_at_once_exactly_one_gets_the_slot() {
    let gate = CancellationToken::new();
    let fixture = Fixture::start_with(Scripted::gated(&gate), |config| config.max_open_bodies = 64).await;
    let answers = futures::future::join_all((0..32).map(|_| fixture.post_clone())).await;
    let (taken, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status() == 200);
    assert_eq!((taken.len(), refused.len()), (1, 31));
    for answer in refused {
        assert_eq!(refusal(answer).await.code.as_str(), "worker_busy");
    }
    gate.cancel();
    for answer in taken {
        transcript(answer).await;
    }
    assert_eq!(fixture.ended().await, Ended::JobDone);
}

#[tokio::test]
async fn what_the_gateway_says_reaches_the_job() {
    let runner = Scripted::new(|job, context| async move {
        Ok(json!({
            "job": context.job_id, "attempt": context.attempt, "tenant": context.tenant,
            "at": timestamp::format(context.accepted_at), "session": job.session_id(),
        }))
    });
    let fixture = Fixture::start_with(runner, |config| config.tokens = Some(tokens("fleet-token"))).await;
    let job_id = "01890000-0000-7000-8000-000000000000";
    let request = fixture
        .post(CLONE, CLONE_BODY)
        .header("x-job-id", job_id)
        .header("x-job-attempt", "3")
        .header("x-job-accepted-at", "2026-01-02T05:04:05.678+02:00")
        .header("x-tenant-id", "acme")
        .bearer_auth("fleet-token");
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["x-job-id"], job_id);
    let events = transcript(response).await;
    let expected = json!({"job": job_id, "attempt": 3, "tenant": "acme", "at": "2026-01-02T03:04:05.678Z", "session": "s1"});
    assert_eq!(events[0].body, EventBody::Completed { data: expected });
    assert_eq!(events[0].job_id.as_str(), job_id);
    assert_eq!(fixture.ended().await, Ended::JobDone);
}

#[tokio::test]
async fn without_headers_a_job_is_the_first_attempt_of_the_default_tenant() {
    let runner = Scripted::new(|_, context| async move {
        assert_eq!((context.attempt, context.tenant), (1, TenantId::default()));
        Ok(json!({"job": context.job_id}))
    });
    let fixture = Fixture::start(runner).await;
    let response = fixture.post_clone().await;
    let job_id = response.headers()["x-job-id"].to_str().unwrap().to_owned();
    let events = transcript(response).await;
    assert_eq!(
        events[0].body,
        EventBody::Completed {
            data: json!({"job": job_id})
        }
    );
    assert_eq!(fixture.ended().await, Ended::JobDone);
}

#[tokio::test]
async fn status_and_health_tell_what_the_worker_does() {
    let gate = CancellationToken::new();
    let runner = {
        let gate = gate.clone();
        Scripted::new(move |_, context| {
            context.events.stage(Stage::Cloning, "Cloning repository...");
            let gate = gate.clone();
            async move {
                gate.cancelled().await;
                Ok(json!({}))
            }
        })
    };
    let fixture = Fixture::start(runner).await;
    let idle = fixture.get_json("/status").await;
    assert_eq!(
        (&idle["state"], &idle["source"]),
        (&json!("idle"), &json!("git-worker"))
    );
    assert!(idle["uptimeSeconds"].is_u64() && idle.get("jobId").is_none());
    assert_eq!(fixture.get_json("/health").await, json!({"status": "ok"}));

    let response = fixture.post_clone().await;
    eventually("the stage", async || {
        fixture.get_json("/status").await["stage"] == "cloning"
    })
    .await;
    let busy = fixture.get_json("/status").await;
    assert_eq!(
        (&busy["state"], &busy["kind"]),
        (&json!("busy"), &json!("clone_repository"))
    );
    assert_eq!(busy["jobId"], response.headers()["x-job-id"].to_str().unwrap());
    assert!(timestamp::parse(busy["startedAt"].as_str().unwrap()).is_some());
    assert_eq!(fixture.get_json("/health").await, json!({"status": "ok"}));

    fixture.shutdown.cancel();
    eventually("draining", async || {
        fixture.get_json("/health").await["status"] == "draining"
    })
    .await;
    assert_eq!(fixture.get_json("/status").await["state"], json!("draining"));
    let refused = refusal(fixture.post_clone().await).await;
    assert_eq!(refused.code.as_str(), "worker_busy");
    gate.cancel();
    let events = transcript(response).await;
    assert!(matches!(events.last().unwrap().body, EventBody::Completed { .. }));
    assert_eq!(fixture.ended().await, Ended::JobDone);
}

#[tokio::test]
async fn an_idle_worker_ends_when_asked_whoever_is_connected() {
    let fixture = Fixture::start(Scripted::quick()).await;
    fixture.get_json("/health").await;
    let silent = TcpStream::connect(fixture.address).await.unwrap();
    let unfinished = fixture
        .raw("POST /clone-repository HTTP/1.1\r\nhost: w\r\n")
        .await;
    fixture.ended_unused().await;
    drop((silent, unfinished));
}

#[tokio::test]
async fn without_a_folder_for_scratch_files_the_worker_does_not_start() {
    let tmp_dir = tempfile::tempdir().unwrap();
    let file = tmp_dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    for path in [tmp_dir.path().join("missing"), file] {
        let config = WorkerConfig {
            tmp_dir: path,
            ..WorkerConfig::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ended = run(config, listener, Scripted::quick(), CancellationToken::new());
        let ended = timeout(PATIENCE, ended).await.unwrap();
        assert!(matches!(ended, Err(RunError::TmpDir { .. })));
    }
}

#[test]
fn the_longest_drain_counts_every_grace() {
    let config = WorkerConfig::default();
    assert_eq!(config.longest_drain(), Duration::from_millis(67_250));
}
