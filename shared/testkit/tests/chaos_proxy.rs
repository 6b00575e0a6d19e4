//! The proxy that fails on purpose, held against a real server: each fate is what it says.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::any;
use mayfly_testkit::chaos_proxy::{Chaos, ChaosProxy, Fate, Refusal};
use mayfly_testkit::server::TestServer;
use mayfly_testkit::sse::http_client;
use reqwest::{Client, Response, StatusCode};

/// A server that counts what it has done and tells `Host` and body, behind a proxy.
struct Scene {
    chaos: Chaos,
    proxy: ChaosProxy,
    done: Arc<AtomicU64>,
    client: Client,
    _server: TestServer,
}

impl Scene {
    fn new() -> Self {
        let done = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&done);
        let echo = any(move |headers: HeaderMap, body: String| {
            counted.fetch_add(1, SeqCst);
            async move { format!("{} {body}", headers["host"].to_str().unwrap()) }
        });
        let server = TestServer::http(Router::new().fallback(echo));
        let chaos = Chaos::new();
        Self {
            proxy: chaos.proxy("echo", &server.origin()),
            chaos,
            done,
            client: http_client(),
            _server: server,
        }
    }

    async fn ask(&self) -> reqwest::Result<Response> {
        let request = self.client.put(format!("{}/a?b", self.proxy.origin()));
        request
            .timeout(Duration::from_millis(500))
            .body("12345")
            .send()
            .await
    }

    /// How often the server was asked so far.
    fn done(&self) -> u64 {
        self.done.load(SeqCst)
    }
}

#[tokio::test]
async fn what_passes_is_whole_and_counted() {
    let scene = Scene::new();
    let host = scene.proxy.origin().replace("http://", "");
    for number in 1..=2 {
        let text = scene.ask().await.unwrap().text().await.unwrap();
        assert_eq!(text, format!("{host} 12345"), "the client's own `Host` arrives");
        assert_eq!((scene.chaos.requests(), scene.done()), (number, number));
    }
    assert_eq!(scene.chaos.seen()[1].to_string(), "2: echo PUT /a?b");
    assert_eq!(scene.chaos.seen()[1].query(), "b");
    scene.chaos.behave();
    assert_eq!(scene.chaos.requests(), 0);
}

#[tokio::test]
async fn a_refusal_is_told_before_or_after_the_request_is_done() {
    let scene = Scene::new();
    scene.chaos.at(1, Fate::Answer(Refusal::slow_down()));
    let answer = scene.ask().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert!(answer.text().await.unwrap().contains("<Code>SlowDown</Code>"));
    assert_eq!(scene.done(), 0);
    assert_eq!(scene.ask().await.unwrap().status(), 200, "only the first");

    scene
        .chaos
        .at(1, Fate::AnswerAfterwards(Refusal::internal_error()));
    assert_eq!(scene.ask().await.unwrap().status(), 500);
    assert_eq!(scene.done(), 2);
}

#[tokio::test]
async fn requests_and_answers_are_cut_or_stall() {
    let scene = Scene::new();
    let done = |fate| async {
        scene.chaos.at(1, fate);
        let before = scene.done();
        let error = match scene.ask().await {
            Ok(answer) => answer.bytes().await.unwrap_err(),
            Err(error) => error,
        };
        (error.is_timeout(), scene.done() - before)
    };
    for (fate, timed_out, was_done) in [
        (Fate::Stall, true, 0),
        (Fate::StallAfterwards, true, 1),
        (Fate::StallAnswer(3), true, 1),
        (Fate::CutRequest(2), false, 0),
        (Fate::LoseAnswer, false, 1),
        (Fate::CutAnswer(3), false, 1),
    ] {
        assert_eq!(done(fate).await, (timed_out, was_done));
    }
}

#[tokio::test]
async fn the_test_changes_requests_and_runs_code_at_them() {
    let scene = Scene::new();
    let change = || {
        Box::new(|request: &mut axum::http::Request<axum::body::Bytes>| {
            *request.body_mut() = "other".into();
        })
    };
    scene.chaos.at(1, Fate::Alter(change()));
    let text = scene.ask().await.unwrap().text().await.unwrap();
    assert!(text.ends_with(" other"), "{text}");
    scene.chaos.at(1, Fate::AlterAndLose(change()));
    scene.ask().await.unwrap_err();
    assert_eq!(scene.done(), 2);

    for (is_before, expected) in [(true, 2), (false, 3)] {
        let (done, at_hook) = (Arc::clone(&scene.done), Arc::new(AtomicU64::new(0)));
        let noted = Arc::clone(&at_hook);
        let hook = Box::new(move || noted.store(done.load(SeqCst), SeqCst));
        let fate = match is_before {
            true => Fate::RunBefore(hook),
            false => Fate::RunAfter(hook),
        };
        scene.chaos.at(1, fate);
        scene.ask().await.unwrap_err();
        assert_eq!((at_hook.load(SeqCst), scene.done()), (expected, expected));
    }
}
