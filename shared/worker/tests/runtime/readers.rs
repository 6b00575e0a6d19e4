//! Clients that go away, do not read, or read slowly.

use std::time::Duration;

use mayfly_protocol::{EventBody, Stage};
use mayfly_worker::Ended;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio_util::sync::CancellationToken;

use crate::harness::{Fixture, Scripted, eventually, read_to_end, refusal, transcript};

#[tokio::test]
async fn a_stream_has_its_headers_and_first_frame_before_the_job_ends() {
    let gate = CancellationToken::new();
    let runner = {
        let gate = gate.clone();
        Scripted::new(move |_, context| {
            let gate = gate.clone();
            async move {
                context.events.stage(Stage::Cloning, "Cloning repository...");
                gate.cancelled().await;
                Ok(json!({}))
            }
        })
    };
    let fixture = Fixture::start_with(runner, |config| config.heartbeat = Duration::from_millis(20)).await;
    let mut response = fixture.post_clone().await;
    let headers = response.headers();
    assert_eq!(headers["content-type"], "text/event-stream");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["x-accel-buffering"], "no");
    let job_id = headers["x-job-id"].to_str().unwrap().to_owned();

    let mut text = String::new();
    while text.matches(": keep-alive\n\n").count() < 3 {
        let chunk = response.chunk().await.unwrap().expect("the stream goes on");
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let (retry, frame) = text[text.find("retry").unwrap()..].split_once('\n').unwrap();
    assert_eq!(retry, "retry: 1000");
    assert!(
        frame.starts_with("id: 1\ndata: {\"type\":\"progress\",\"stage\":\"cloning\""),
        "{frame}"
    );
    assert!(frame.contains(&job_id));

    gate.cancel();
    let rest = response.text().await.unwrap();
    assert!(rest.contains("id: 2\ndata: {\"type\":\"completed\""), "{rest}");
    assert_eq!(rest.matches("retry:").count(), 0);
    assert_eq!(fixture.ended().await, Ended::JobDone);
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_stop_the_job() {
    let (gate, done) = (CancellationToken::new(), CancellationToken::new());
    let runner = {
        let (gate, done) = (gate.clone(), done.clone());
        Scripted::new(move |_, context| {
            let (gate, done) = (gate.clone(), done.clone());
            async move {
                gate.cancelled().await;
                assert!(!context.cancel.is_cancelled());
                done.cancel();
                Ok(json!({}))
            }
        })
    };
    // A grace that would outlast the test: the end of the connection is enough.
    let fixture = Fixture::start_with(runner, |config| config.flush_grace = Duration::from_secs(3600)).await;
    let mut client = fixture.raw_clone().await;
    client.read_exact(&mut [0; 15]).await.unwrap();
    drop(client);
    gate.cancel();
    assert_eq!(fixture.ended().await, Ended::JobDone);
    assert!(done.is_cancelled());
}

#[tokio::test]
async fn a_client_that_never_reads_neither_stops_the_job_nor_keeps_the_process() {
    let done = CancellationToken::new();
    let runner = {
        let done = done.clone();
        Scripted::new(move |_, context| {
            let done = done.clone();
            async move {
                for _ in 0..20_000 {
                    context
                        .events
                        .detail(Stage::Cloning, "...", json!("x".repeat(4096)));
                    tokio::task::yield_now().await;
                }
                done.cancel();
                Ok(json!("y".repeat(32 * 1024 * 1024)))
            }
        })
    };
    let fixture = Fixture::start_with(runner, |config| config.flush_grace = Duration::from_millis(200)).await;
    let client = fixture.raw_clone().await;
    assert_eq!(fixture.ended().await, Ended::JobDone);
    assert!(done.is_cancelled());
    drop(client);
}

#[tokio::test]
async fn a_slow_reader_still_gets_the_end() {
    let runner = Scripted::new(|_, context| async move {
        for _ in 0..20_000 {
            context
                .events
                .detail(Stage::Cloning, "...", json!("x".repeat(4096)));
            tokio::task::yield_now().await;
        }
        context.events.stage(Stage::Cloned, "...");
        Ok(json!({"done": true}))
    });
    let fixture = Fixture::start(runner).await;
    let response = fixture.post_clone().await;
    // The job ends with the terminal event buffered; only then is anything read.
    eventually("the last stage", async || {
        fixture.get_json("/status").await["stage"] == "cloned"
    })
    .await;
    let events = transcript(response).await;
    let stages = events.iter().rev().nth(1).map(|event| &event.body);
    assert!(matches!(
        stages,
        Some(EventBody::Progress {
            stage: Stage::Cloned,
            ..
        })
    ));
    assert_eq!(fixture.ended().await, Ended::JobDone);
}

#[tokio::test]
async fn between_the_end_of_the_job_and_the_exit_jobs_are_refused() {
    let long = Duration::from_secs(3600);
    let fixture = Fixture::start_with(Scripted::quick(), |config| {
        config.flush_grace = long;
        config.linger = long;
    })
    .await;
    let mut client = fixture.raw_clone().await;
    let answer = read_to_end(&mut client).await;
    assert!(answer.contains("\"type\":\"completed\""), "{answer}");
    // All is sent, and the client has not closed its side.
    let refused = refusal(fixture.post_clone().await).await;
    assert_eq!(refused.code.as_str(), "worker_busy");
    drop(client);
    assert_eq!(fixture.ended().await, Ended::JobDone);
}
