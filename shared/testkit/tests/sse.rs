//! Streams over real HTTP.

use axum::Router;
use axum::routing::get;
use mayfly_testkit::server::TestServer;
use mayfly_testkit::sse::{self, Stream};

fn line(number: u64, body: &str) -> String {
    format!(
        "id: {number}\ndata: {{{body},\"source\":\"gateway\",\"timestamp\":\"2026-01-02T03:04:05.678Z\",\
         \"jobId\":\"01890000-0000-7000-8000-000000000000\"}}\n\n"
    )
}

fn progress(number: u64, stage: &str) -> String {
    line(
        number,
        &format!(r#""type":"progress","stage":"{stage}","message":"…""#),
    )
}

fn end(number: u64) -> String {
    line(number, r#""type":"completed","data":{"a":1}"#)
}

/// The answer, and the server that must live until it is read.
async fn served(text: String) -> (reqwest::Response, TestServer) {
    let answer = get(|| async { ([("content-type", "text/event-stream")], text) });
    let server = TestServer::http(Router::new().route("/", answer));
    let response = sse::http_client().get(server.origin()).send().await;
    (response.expect("the server answers"), server)
}

#[tokio::test]
async fn a_whole_stream_is_read() {
    let text = [
        progress(1, "queued"),
        ": heartbeat\n\n".to_owned(),
        progress(2, "cloning"),
        progress(3, "cloning"),
        end(4),
    ];
    let (response, _server) = served(text.concat()).await;
    let events = sse::read_whole(response).await;
    assert_eq!(sse::stages(&events), ["queued", "cloning"]);
    assert_eq!(sse::completed(&events)["a"], 1);
}

#[tokio::test]
async fn a_stream_can_be_read_in_steps() {
    let text = [progress(1, "queued"), ": heartbeat\n\n".to_owned(), end(2)];
    let (response, _server) = served(text.concat()).await;
    let mut stream = Stream::of(response);
    assert_eq!(stream.next().await.map(|(number, _)| number), Some(1));
    assert_eq!(stream.until(mayfly_protocol::Event::is_terminal).await.0, 2);
    assert_eq!(stream.comments(), 1);
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn streams_that_are_not_whole_are_told() {
    for text in [
        vec![progress(1, "queued")],
        vec![end(1), end(2)],
        vec![progress(1, "queued"), end(3)],
        vec![end(1), progress(2, "queued")],
        vec![],
    ] {
        let text = text.concat();
        let (response, _server) = served(text.clone()).await;
        let events = Stream::of(response).rest().await;
        let verdict = std::panic::catch_unwind(|| sse::assert_whole(&events, 1));
        assert!(verdict.is_err(), "{text}");
    }
}
