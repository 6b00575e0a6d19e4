//! `GET /jobs/{id}/events`: a gateway that comes after the one that sent the job reads along, from where it left off.

use std::time::Duration;

use mayfly_protocol::{JobId, Stage};
use mayfly_sse::{Decoded, Decoder};
use mayfly_worker::Ended;
use reqwest::Response;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio_util::sync::CancellationToken;

use crate::harness::{Fixture, Scripted, eventually, refusal, tokens, transcript};

/// A runner with two stages, the second after the gate.
fn staged(gate: &CancellationToken) -> Scripted {
    let gate = gate.clone();
    Scripted::new(move |_, context| {
        let gate = gate.clone();
        async move {
            context.events.stage(Stage::Cloning, "Cloning repository...");
            gate.cancelled().await;
            context.events.stage(Stage::Cloned, "Cloned");
            Ok(json!({"done": true}))
        }
    })
}

async fn job_of(fixture: &Fixture) -> String {
    let status = fixture.get_json("/status").await;
    status["jobId"].as_str().unwrap_or_default().to_owned()
}

async fn follow(fixture: &Fixture, job: &str, after: &str) -> Response {
    let request = fixture.get(&format!("/jobs/{job}/events"));
    request.header("Last-Event-ID", after).send().await.unwrap()
}

/// The numbers of the events to the end of the stream.
async fn numbers(response: Response) -> Vec<u64> {
    assert_eq!(response.status(), 200);
    let bytes = response.bytes().await.unwrap();
    let items = Decoder::default().push(&bytes).unwrap().into_iter();
    let ids = items.filter_map(|item| match item {
        Decoded::Message { id, .. } => Some(id.unwrap().parse().unwrap()),
        Decoded::Comment => None,
    });
    ids.collect()
}

#[tokio::test]
async fn several_read_the_same_numbers_and_the_end_waits_for_each() {
    let gate = CancellationToken::new();
    let fixture = Fixture::start_with(staged(&gate), |config| {
        config.flush_grace = Duration::from_secs(3600);
    })
    .await;
    let first = fixture.post_clone().await;
    let job = job_of(&fixture).await;
    let whole = follow(&fixture, &job, "0").await;
    let late = follow(&fixture, &job, "2").await;
    assert_eq!(whole.headers()["x-job-id"], job.as_str());
    gate.cancel();
    assert_eq!(transcript(first).await.len(), 3);
    assert_eq!(numbers(whole).await, [1, 2, 3]);
    assert_eq!(numbers(late).await, [3]);
    assert_eq!(fixture.ended().await, Ended::JobDone);
}

#[tokio::test]
async fn a_job_is_followed_when_whoever_sent_it_is_gone() {
    let gate = CancellationToken::new();
    let fixture = Fixture::start(staged(&gate)).await;
    let mut client = fixture.raw_clone().await;
    client.read_exact(&mut [0; 15]).await.unwrap();
    drop(client);
    let job = job_of(&fixture).await;
    let follower = follow(&fixture, &job, "0").await;
    gate.cancel();
    assert_eq!(transcript(follower).await.len(), 3);
    assert_eq!(fixture.ended().await, Ended::JobDone);
}

#[tokio::test]
async fn whoever_reads_nothing_holds_up_no_follower() {
    let gate = CancellationToken::new();
    let fixture = Fixture::start_with(staged(&gate), |config| {
        config.flush_grace = Duration::from_millis(200);
    })
    .await;
    let unread = fixture.raw_clone().await;
    eventually("the job", async || !job_of(&fixture).await.is_empty()).await;
    let follower = follow(&fixture, &job_of(&fixture).await, "0").await;
    gate.cancel();
    assert_eq!(numbers(follower).await, [1, 2, 3]);
    drop(unread);
    assert_eq!(fixture.ended().await, Ended::JobDone);
}

#[tokio::test]
async fn what_is_not_this_job_is_refused() {
    let gate = CancellationToken::new();
    let fixture = Fixture::start_with(staged(&gate), |config| config.tokens = Some(tokens("t"))).await;
    assert_eq!(
        refusal_code(follow(&fixture, "x", "0").await).await,
        "unauthorized"
    );
    let with_token = async |job: &str, after: &str| {
        let request = fixture.get(&format!("/jobs/{job}/events")).bearer_auth("t");
        request.header("Last-Event-ID", after).send().await.unwrap()
    };
    let other = JobId::new_now().to_string();
    assert_eq!(refusal_code(with_token(&other, "0").await).await, "not_found");
    let body = crate::harness::CLONE_BODY;
    let request = fixture.post(crate::harness::CLONE, body).bearer_auth("t");
    let first = request.send().await.unwrap();
    let job = first.headers()["x-job-id"].to_str().unwrap().to_owned();
    assert_eq!(refusal_code(with_token(&other, "0").await).await, "not_found");
    for bad in ["-1", "+1", "x", "18446744073709551616"] {
        assert_eq!(
            refusal_code(with_token(&job, bad).await).await,
            "invalid_request",
            "{bad}"
        );
    }
    let mut readers = Vec::new();
    let refused = loop {
        let response = with_token(&job, "0").await;
        match response.status().as_u16() {
            200 => readers.push(response),
            _ => break refusal_code(response).await,
        }
    };
    assert_eq!((refused.as_str(), readers.len()), ("worker_busy", 16));
    gate.cancel();
    for reader in readers {
        assert_eq!(numbers(reader).await, [1, 2, 3]);
    }
    assert_eq!(transcript(first).await.len(), 3);
    assert_eq!(fixture.ended().await, Ended::JobDone);
}

async fn refusal_code(response: Response) -> String {
    refusal(response).await.code.to_string()
}
