//! Bad input: the right code each time, nothing claimed, and a worker that goes on.

use std::time::Duration;

use futures::stream;
use mayfly_worker::{Ended, RunError, WorkerConfig, run};
use reqwest::{Body, Method, RequestBuilder};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::harness::{
    CLONE, CLONE_BODY, Fixture, Scripted, eventually, read_to_end, refusal, tokens, transcript,
};

const SHORT: Duration = Duration::from_millis(100);
const FIFTY_MB: usize = 50 * 1000 * 1000;

async fn code(request: RequestBuilder) -> String {
    refusal(request.send().await.unwrap())
        .await
        .code
        .as_str()
        .to_owned()
}

/// Nothing of what came before was claimed: the worker still takes its job.
async fn takes_a_job(fixture: Fixture) {
    assert_eq!(fixture.get_json("/status").await["state"], json!("idle"));
    transcript(fixture.post_clone().await).await;
    assert_eq!(fixture.ended().await, Ended::JobDone);
}

#[tokio::test]
async fn bodies_that_are_no_request_are_400_with_the_field() {
    let fixture = Fixture::start(Scripted::quick()).await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let table = [
        ("", None),
        ("nonsense", None),
        ("[]", None),
        ("\u{feff}{}", None),
        (&deep, None),
        (r#"{"sessionId":"s1"}"#, Some("repoUrl")),
        (
            r#"{"sessionId":"s1","repoUrl":"https://h/a","force":true}"#,
            Some("force"),
        ),
        (
            r#"{"sessionId":"s1","sessionId":"s2","repoUrl":"https://h/a"}"#,
            Some("sessionId"),
        ),
        (
            r#"{"sessionId":"../x","repoUrl":"https://h/a"}"#,
            Some("sessionId"),
        ),
        (r#"{"sessionId":"s1","repoUrl":"file:///etc"}"#, Some("repoUrl")),
        (
            r#"{"sessionId":"s1","repoUrl":"https://h/a","depth":0}"#,
            Some("depth"),
        ),
    ];
    for (body, field) in table {
        let response = fixture.post(CLONE, body.to_owned()).send().await.unwrap();
        let refusal = refusal(response).await;
        let start: String = body.chars().take(60).collect();
        assert_eq!(
            (refusal.code.as_str(), refusal.field.as_deref()),
            ("invalid_request", field),
            "{start}"
        );
    }
    takes_a_job(fixture).await;
}

#[tokio::test]
async fn headers_against_their_rules_are_400_with_their_name() {
    let fixture = Fixture::start(Scripted::quick()).await;
    let table = [
        ("x-job-id", "../../etc"),
        ("x-job-id", "01890000-0000-7000-8000-00000000000A"),
        ("x-job-attempt", "0"),
        ("x-job-attempt", "-1"),
        ("x-job-attempt", "4294967296"),
        ("x-job-accepted-at", "yesterday"),
        ("x-tenant-id", "a/b"),
        ("x-tenant-id", ""),
    ];
    for (name, value) in table {
        let request = fixture.post(CLONE, CLONE_BODY).header(name, value);
        let refusal = refusal(request.send().await.unwrap()).await;
        assert_eq!(
            (refusal.code.as_str(), refusal.field.as_deref()),
            ("invalid_request", Some(name)),
            "{value}"
        );
    }
    let twice = fixture
        .post(CLONE, CLONE_BODY)
        .header("x-tenant-id", "a")
        .header("x-tenant-id", "b");
    assert_eq!(code(twice).await, "invalid_request");
    let two_types = fixture
        .post(CLONE, CLONE_BODY)
        .header("content-type", "text/plain");
    assert_eq!(code(two_types).await, "invalid_request");
    takes_a_job(fixture).await;
}

#[tokio::test]
async fn only_plain_json_is_taken() {
    let fixture = Fixture::start(Scripted::quick()).await;
    let url = format!("http://{}{CLONE}", fixture.address);
    let bare = reqwest::Client::new();
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "multipart/form-data",
        "",
    ] {
        let request = bare
            .post(&url)
            .header("content-type", content_type)
            .body(CLONE_BODY);
        assert_eq!(code(request).await, "unsupported_media_type", "{content_type}");
    }
    assert_eq!(
        code(bare.post(&url).body(CLONE_BODY)).await,
        "unsupported_media_type"
    );
    for encoding in ["gzip", "br", "identity, gzip"] {
        let request = fixture
            .post(CLONE, CLONE_BODY)
            .header("content-encoding", encoding);
        assert_eq!(code(request).await, "unsupported_media_type", "{encoding}");
    }
    takes_a_job(fixture).await;
}

#[tokio::test]
async fn fifty_megabytes_are_refused_declared_and_streamed() {
    let fixture = Fixture::start(Scripted::quick()).await;
    let declared = fixture.post(CLONE, vec![b' '; FIFTY_MB]);
    assert_eq!(code(declared).await, "body_too_large");

    let chunks = (0..FIFTY_MB / 50_000).map(|_| Ok::<_, std::io::Error>(vec![b' '; 50_000]));
    let streamed = fixture.post(CLONE, Body::wrap_stream(stream::iter(chunks)));
    assert_eq!(code(streamed).await, "body_too_large");
    takes_a_job(fixture).await;
}

#[tokio::test]
async fn the_limit_of_a_body_is_exact() {
    let fixture = Fixture::start_with(Scripted::quick(), |config| {
        config.max_body_bytes = CLONE_BODY.len();
    })
    .await;
    let streamed = |text: String| Body::wrap_stream(stream::iter([Ok::<_, std::io::Error>(text)]));
    let one_more = format!("{CLONE_BODY} ");
    assert_eq!(
        code(fixture.post(CLONE, one_more.clone())).await,
        "body_too_large"
    );
    assert_eq!(
        code(fixture.post(CLONE, streamed(one_more))).await,
        "body_too_large"
    );
    let response = fixture
        .post(CLONE, streamed(CLONE_BODY.to_owned()))
        .send()
        .await
        .unwrap();
    transcript(response).await;
    assert_eq!(fixture.ended().await, Ended::JobDone);
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_refused_in_json() {
    let fixture = Fixture::start(Scripted::quick()).await;
    for path in [
        "/",
        "/clone-repository/",
        "/commit-and-push",
        "/jobs/x/log",
        "//health",
        "/%00",
    ] {
        assert_eq!(code(fixture.post(path, CLONE_BODY)).await, "not_found", "{path}");
    }
    for (method, path, allow) in [
        (Method::GET, CLONE, "POST"),
        (Method::DELETE, CLONE, "POST"),
        (Method::POST, "/health", "GET,HEAD"),
        (Method::PUT, "/status", "GET,HEAD"),
        (Method::POST, "/jobs/x/events", "GET,HEAD"),
    ] {
        let url = format!("http://{}{path}", fixture.address);
        let response = reqwest::Client::new().request(method, url).send().await.unwrap();
        assert_eq!(response.headers()["allow"], allow);
        assert_eq!(refusal(response).await.code.as_str(), "method_not_allowed");
    }
    takes_a_job(fixture).await;
}

#[tokio::test]
async fn with_a_token_only_health_is_open() {
    let fixture =
        Fixture::start_with(Scripted::quick(), |config| config.tokens = Some(tokens("s3cret"))).await;
    assert_eq!(fixture.get_json("/health").await, json!({"status": "ok"}));
    for path in ["/status", "/nowhere"] {
        assert_eq!(code(fixture.get(path)).await, "unauthorized", "{path}");
    }
    for value in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer s3cre",
        "Bearer s3cret2",
        "Basic s3cret",
        "s3cret",
        "Bearer S3CRET",
    ] {
        let request = fixture.post(CLONE, CLONE_BODY).header("authorization", value);
        assert_eq!(code(request).await, "unauthorized", "{value}");
    }
    let twice = fixture
        .post(CLONE, CLONE_BODY)
        .bearer_auth("s3cret")
        .bearer_auth("s3cret");
    assert_eq!(code(twice).await, "unauthorized");
    // Credentials come first: a body that is far too large is not even looked at.
    assert_eq!(
        code(fixture.post(CLONE, vec![b' '; FIFTY_MB])).await,
        "unauthorized"
    );

    let response = fixture
        .post(CLONE, CLONE_BODY)
        .bearer_auth("s3cret")
        .send()
        .await
        .unwrap();
    transcript(response).await;
    assert_eq!(fixture.ended().await, Ended::JobDone);
}

#[tokio::test]
async fn while_tokens_change_both_are_taken() {
    for token in ["old", "new"] {
        let fixture = Fixture::start_with(Scripted::quick(), |config| {
            config.tokens = Some(tokens("old,new"));
        })
        .await;
        let wrong = fixture.post(CLONE, CLONE_BODY).bearer_auth("old,new");
        assert_eq!(code(wrong).await, "unauthorized");
        let right = fixture.post(CLONE, CLONE_BODY).bearer_auth(token);
        transcript(right.send().await.unwrap()).await;
        assert_eq!(fixture.ended().await, Ended::JobDone);
    }
}

#[tokio::test]
async fn a_tenant_is_believed_from_nobody_without_a_token() {
    let fixture = Fixture::start(Scripted::quick()).await;
    let request = fixture.post(CLONE, CLONE_BODY).header("x-tenant-id", "acme");
    assert_eq!(code(request).await, "forbidden");
    let own = fixture.post(CLONE, CLONE_BODY).header("x-tenant-id", "default");
    transcript(own.send().await.unwrap()).await;
    assert_eq!(fixture.ended().await, Ended::JobDone);
}

#[tokio::test]
async fn without_a_token_a_worker_listens_on_this_machine_alone() {
    let folder = tempfile::tempdir().unwrap();
    let config = || WorkerConfig {
        tmp_dir: folder.path().to_owned(),
        ..WorkerConfig::default()
    };
    let listener = async || TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = run(
        config(),
        listener().await,
        Scripted::quick(),
        CancellationToken::new(),
    )
    .await;
    assert!(matches!(refused, Err(RunError::NoToken(_))), "{refused:?}");
    let drained = CancellationToken::new();
    drained.cancel();
    let with_token = WorkerConfig {
        tokens: Some(tokens("fleet-token")),
        ..config()
    };
    let ended = run(with_token, listener().await, Scripted::quick(), drained).await;
    assert_eq!(ended.unwrap(), Ended::Drained);
}

/// Bytes of a body that say something else than the body is.
#[tokio::test]
async fn compressed_bodies_are_refused_whatever_they_hold() {
    let fixture = Fixture::start(Scripted::quick()).await;
    for encoding in ["gzip", "br", "zstd", "deflate", "identity, gzip"] {
        let request = fixture
            .post(CLONE, CLONE_BODY)
            .header("content-encoding", encoding);
        assert_eq!(code(request).await, "unsupported_media_type", "{encoding}");
    }
    takes_a_job(fixture).await;
}

const CHUNKED: &str = "POST /clone-repository HTTP/1.1\r\nhost: w\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";

#[tokio::test]
async fn a_chunked_body_that_never_ends_times_out() {
    let fixture = Fixture::start_with(Scripted::quick(), |config| config.body_timeout = SHORT).await;
    let mut client = fixture.raw(&format!("{CHUNKED}5\r\n{{\"ses")).await;
    let answer = read_to_end(&mut client).await;
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"request_timeout\""),
        "{answer}"
    );
    drop(client);
    takes_a_job(fixture).await;
}

#[tokio::test]
async fn a_body_that_breaks_off_claims_nothing() {
    let fixture = Fixture::start(Scripted::quick()).await;
    for request in [
        format!("{CHUNKED}5\r\n{{\"ses"),
        format!("{CHUNKED}zz\r\n{{}}\r\n0\r\n\r\n"),
    ] {
        let mut client = fixture.raw(&request).await;
        client.shutdown().await.unwrap();
        let answer = read_to_end(&mut client).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
            "{answer}"
        );
    }
    takes_a_job(fixture).await;
}

#[tokio::test]
async fn headers_that_never_end_and_idle_connections_time_out() {
    let fixture = Fixture::start_with(Scripted::quick(), |config| {
        config.header_timeout = SHORT;
        config.max_connections = 1;
    })
    .await;
    for request in ["", "POST /clone-repository HTTP/1.1\r\nhost: w\r\nx-"] {
        let mut client = fixture.raw(request).await;
        // The only place is taken; this is answered once the other connection is given up.
        let healthy = fixture.raw("GET /health HTTP/1.1\r\nhost: w\r\nconnection: close\r\n\r\n");
        let answer = read_to_end(&mut healthy.await).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        read_to_end(&mut client).await;
    }
    fixture.ended_unused().await;
}

#[tokio::test]
async fn more_open_bodies_than_allowed_are_answered_429() {
    let fixture = Fixture::start_with(Scripted::quick(), |config| config.max_open_bodies = 1).await;
    let slow = fixture.raw(&format!("{CHUNKED}5\r\n{{\"ses")).await;
    // While the slow body has not the place, a body that is no JSON gets a 400.
    let refused_as = async |expected| code(fixture.post(CLONE, "nonsense")).await == expected;
    eventually("a full house", async || refused_as("worker_busy").await).await;
    assert_eq!(code(fixture.post(CLONE, CLONE_BODY)).await, "worker_busy");
    drop(slow);
    eventually("a free place", async || refused_as("invalid_request").await).await;
    takes_a_job(fixture).await;
}
