//! Bad requests byte by byte, to a lone worker and to the gateway of `up`: a clear refusal, no job, nothing stored, and both go on.

use mayfly_testkit::canary::Canary;
use mayfly_testkit::sse::{completed, read_whole};
use mayfly_testkit::wait::within;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::rig::{Rig, get_json, post};

const WORKER: &[&str] = &["git-worker", "--port", "0", "--announce"];
const UP: &[&str] = &["up", "--port", "0", "--git-workers", "1"];

/// Sends these bytes and gives the answer, up to the end of the connection.
async fn raw(base: &str, bytes: &[u8]) -> String {
    let address = base.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(address).await.unwrap();
    // The server may answer and close before it has read everything.
    let _cut_short = socket.write_all(bytes).await;
    let mut answer = Vec::new();
    let _reset = within("an answer", socket.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn request(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A body of a clone, with one field set to JSON text.
fn clone_with(rig: &Rig, field: &str, value: &str) -> Vec<u8> {
    let mut fields = vec![
        ("sessionId", "\"s\"".to_owned()),
        ("repoUrl", format!("\"{}\"", rig.host.url("app"))),
        ("accessToken", format!("\"{}\"", rig.host.token())),
    ];
    fields.retain(|(name, _)| *name != field);
    fields.push((field, value.to_owned()));
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    format!("{{{}}}", fields.join(",")).into_bytes()
}

/// Nothing was begun, kept or told; the next good job is done.
async fn is_untouched(rig: &Rig, base: &str, answers: &[String]) {
    let canary = Canary::of(rig.host.token());
    for answer in answers {
        canary.assert_not_in("an answer", answer);
    }
    assert!(rig.host.requests().is_empty(), "{:?}", rig.host.requests());
    let stored = rig.folder.path().join("storage/tenants");
    assert!(!stored.exists(), "something is stored");
    let body = rig.clone_body("good");
    completed(&read_whole(post(base, "/clone-repository", &body).await).await);
    canary.assert_not_below(rig.folder.path());
}

/// Values that no field may have, and the field that the refusal names.
fn bad_values() -> Vec<(&'static str, String)> {
    let mut values: Vec<(&'static str, String)> = Vec::new();
    for id in [
        "\"\"",
        "\"../x\"",
        "\"a/b\"",
        "\"a\\\\b\"",
        "\"a\\u0000b\"",
        "\"a\\nb\"",
        "\".hidden\"",
        "\"-rf\"",
        "\"a..b\"",
        "\"%2e%2e\"",
        "\"\\ud83d\\ude00\"",
        "null",
        "7",
        "[\"s\"]",
    ] {
        values.push(("sessionId", id.to_owned()));
    }
    values.push(("sessionId", format!("\"{}\"", "x".repeat(300))));
    for url in [
        "file:///etc/passwd",
        "/etc/passwd",
        "ssh://git@host/r",
        "ssh://-oProxyCommand=x/r",
        "git@host:o/r",
        "git://host/r",
        "ext::sh -c x",
        "fd::7",
        "--upload-pack=x",
        "-u",
        "HTTPS:/\\\\host",
        "https://host\\n/r",
        "https://user:secret@host/r",
        "https://host/r?x=1",
        "https://host/r#x",
        "https://host/%00",
        "https://host/a%0d%0ab",
        "https:///r",
        "https://",
        "javascript:x",
        "",
    ] {
        values.push(("repoUrl", format!("\"{url}\"")));
    }
    for name in [
        "-x",
        ".x",
        "a..b",
        "a.lock",
        "a/.b",
        "a//b",
        "/a",
        "a/",
        "@",
        "a@{b",
        "a b",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a*",
        "a[",
        "a\\\\b",
        "a\\u0000",
        "a\\u007f",
        "a.",
        ":/x",
        "refs/../x",
        "",
    ] {
        values.push(("branch", format!("\"{name}\"")));
    }
    for (field, value) in [
        ("depth", "0"),
        ("depth", "-1"),
        ("depth", "99999999999999999999"),
        ("commit", "\"HEAD\""),
        ("commit", "\"--all\""),
        ("accessToken", "\"a\\r\\nHost: evil\""),
        ("unknown", "1"),
        ("__proto__", "{}"),
    ] {
        values.push((field, value.to_owned()));
    }
    values
}

async fn bad_fields(args: &[&str]) {
    let rig = Rig::new();
    let (_running, base) = rig.start(args).await;
    let mut answers = Vec::new();
    for (field, value) in bad_values() {
        let answer = raw(
            &base,
            &request("/clone-repository", &clone_with(&rig, field, &value)),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{field} {value}: {answer}");
        assert!(
            answer.contains("\"invalid_request\"") && answer.contains(&format!("\"field\":\"{field}\"")),
            "{field} {value}: {answer}"
        );
        answers.push(answer);
    }
    is_untouched(&rig, &base, &answers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_fields_are_named_by_a_lone_worker() {
    bad_fields(WORKER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_fields_are_named_by_the_gateway() {
    bad_fields(UP).await;
}

async fn bad_json(args: &[&str]) {
    let rig = Rig::new();
    let (_running, base) = rig.start(args).await;
    let deep = format!("{{\"sessionId\":{}", "[".repeat(200_000));
    let good = String::from_utf8(clone_with(&rig, "depth", "1")).unwrap();
    let doubled = good.replacen("\"depth\":1", "\"depth\":1,\"depth\":1", 1);
    let surrogate = good.replacen("\"s\"", "\"s\\ud800\"", 1);
    let mut answers = Vec::new();
    for body in [
        b"".as_slice(),
        b"nonsense",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe{\x00}\x00",
        b"{\"sessionId\":\"\xff\"}",
        deep.as_bytes(),
        doubled.as_bytes(),
        surrogate.as_bytes(),
        format!("{good}{good}").as_bytes(),
    ] {
        let answer = raw(&base, &request("/clone-repository", body)).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{shown}: {answer}");
        assert!(answer.contains("\"invalid_request\""), "{shown}: {answer}");
        answers.push(answer);
    }
    let large = raw(&base, &request("/clone-repository", &vec![b' '; 50_000_000])).await;
    assert!(
        large.starts_with("HTTP/1.1 413 ") && large.contains("\"body_too_large\""),
        "{large}"
    );
    is_untouched(&rig, &base, &answers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_that_is_none_is_refused_by_a_lone_worker() {
    bad_json(WORKER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_that_is_none_is_refused_by_the_gateway() {
    bad_json(UP).await;
}

/// Requests whose end is read differently by different servers, each with a good job behind the first end.
async fn smuggled(args: &[&str]) {
    let rig = Rig::new();
    let (_running, base) = rig.start(args).await;
    let hidden = request(
        "/clone-repository",
        &clone_with(&rig, "sessionId", "\"smuggled\""),
    );
    let mut answers = Vec::new();
    for head in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 5, 6",
        "content-length: +5",
        "content-length: 0x5",
        "content-length: -1",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: identity",
        "transfer-encoding : chunked",
        "transfer-encoding:\x0bchunked",
        "x: y\r\n transfer-encoding: chunked",
        "x: y\ntransfer-encoding: chunked",
        "content-length: 5\r\nx: \x00",
    ] {
        let first = format!(
            "POST /clone-repository HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{head}\r\n\r\n0\r\n\r\n"
        );
        let bytes = [first.as_bytes(), &hidden].concat();
        let answer = raw(&base, &bytes).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 5"),
            "{head:?}: {answer}"
        );
        assert!(!answer.contains("text/event-stream"), "{head:?}: {answer}");
        answers.push(answer);
    }
    is_untouched(&rig, &base, &answers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_request_is_not_taken_by_a_lone_worker() {
    smuggled(WORKER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_request_is_not_taken_by_the_gateway() {
    smuggled(UP).await;
}

/// Requests that waste, hide or break off; what each is answered with, if with anything.
async fn abused(args: &[&str]) {
    let rig = Rig::new();
    let (_running, base) = rig.start(args).await;
    let job = request("/clone-repository", &clone_with(&rig, "sessionId", "\"hidden\""));
    let head = "POST /clone-repository HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let many = format!("{head}{}\r\n", "x-a: b\r\n".repeat(3000));
    let long = format!("{head}x-a: {}\r\n\r\n", "b".repeat(200_000));
    let gzip = format!("{head}content-encoding: gzip\r\ncontent-length: 3\r\n\r\n\x1f\x08\x00");
    let split = format!("{head}x-job-id: a\rx-tenant-id: b\r\ncontent-length: 0\r\n\r\n");
    let short = format!("{head}content-length: 900\r\n\r\n{{\"sessionId\":\"s\"");
    let rubbish = format!(
        "GET /health HTTP/1.1\r\nhost: x\r\n\r\n\x00\x01 {}",
        "z".repeat(1000)
    );
    let mut answers = Vec::new();
    for (bytes, status) in [
        (many.as_bytes(), "431"),
        (long.as_bytes(), "431"),
        (gzip.as_bytes(), "415"),
        (split.as_bytes(), "400"),
        (rubbish.as_bytes(), "200"),
        (&job[..job.len() - 1], ""),
        (short.as_bytes(), ""),
    ] {
        let answer = half_closed(&base, bytes).await;
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        match status {
            "" => assert!(
                answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
                "{shown}: {answer}"
            ),
            _ => assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{shown}: {answer}"
            ),
        }
        assert!(!answer.contains("text/event-stream"), "{shown}: {answer}");
        answers.push(answer);
    }
    is_untouched(&rig, &base, &answers).await;
}

/// Sends these bytes and closes the sending side; gives the answer, up to the end of the connection.
async fn half_closed(base: &str, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(base.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    // The server may answer and close before it has read everything.
    let _cut_short = socket.write_all(bytes).await;
    let _closed = socket.shutdown().await;
    let mut answer = Vec::new();
    let _reset = within("an answer", socket.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_rubbish_and_half_requests_are_refused_by_a_lone_worker() {
    abused(WORKER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_rubbish_and_half_requests_are_refused_by_the_gateway() {
    abused(UP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_changes_leave_the_session_as_it_was() {
    let rig = Rig::new();
    let (_up, base) = rig.start(UP).await;
    completed(&read_whole(post(&base, "/clone-repository", &rig.clone_body("s")).await).await);
    for path in [
        "../x",
        "/etc/passwd",
        "a/../../x",
        ".git/config",
        ".GIT/hooks/pre-commit",
        "sub/.git/config",
        ".git /config",
        ".git./config",
        "git~1/config",
        ".git::$INDEX_ALLOCATION/config",
        ".g\u{200c}it/config",
        "a\\b",
        "a\0b",
        "a//b",
        "",
        ".",
    ] {
        let files = json!({"sessionId": "s", "files": [{"path": path, "content": "x"}]});
        let answer = post(&base, "/apply-changes", &files).await;
        assert_eq!(answer.status(), 400, "{path:?}");
        let patch = format!("--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n");
        let answer = post(
            &base,
            "/apply-changes",
            &json!({"sessionId": "s", "patch": patch}),
        )
        .await;
        let ended = within("the end", answer.text()).await.unwrap();
        assert!(
            ["path_refused", "patch_invalid", "invalid_request"]
                .iter()
                .any(|code| ended.contains(&format!("\"{code}\""))),
            "{path:?}: {ended}"
        );
    }
    let status = get_json(&base, "/jobs?sessionId=s&limit=1000").await;
    assert!(status["jobs"].is_array());
    let body = json!({"sessionId": "s", "githubAccessToken": rig.host.token()});
    let done = read_whole(post(&base, "/commit-and-push", &body).await).await;
    assert_eq!(
        (&completed(&done)["committed"], &completed(&done)["generation"]),
        (&json!(false), &json!(2))
    );
}

/// The first event comes at once, however slow the host is.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_event_does_not_wait_for_the_host() {
    let rig = Rig::new();
    let silent = mayfly_testkit::port::silent();
    for args in [WORKER, UP] {
        let (_running, base) = rig.start(args).await;
        let body = json!({"sessionId": "s", "repoUrl": format!("http://{}/o/r", silent.addr())});
        let mut stream = mayfly_testkit::sse::Stream::of(post(&base, "/clone-repository", &body).await);
        let (_, first) = stream.next().await.unwrap();
        // Nothing came of the host by then, whose silence is what ends the job.
        assert!(!first.is_terminal(), "{first:?}");
    }
}
