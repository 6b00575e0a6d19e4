//! Servers that lie: every answer of the batch API, and every content, is held against what was asked.
#![expect(clippy::unwrap_used, reason = "a test panics where its preparation fails")]

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mayfly_git::remote::{Credential, Remote};
use mayfly_http::{GuardedClient, HttpPolicy};
use mayfly_lfs::{LfsClient, LfsError, LfsLimits};
use mayfly_protocol::ErrorCode;
use mayfly_protocol::lfs::LfsPointer;
use mayfly_testkit::canary::Canary;
use mayfly_testkit::server::TestServer;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// SHA-256 of `hello`.
const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

/// What a server was sent: method, path and the `Authorization` header.
type Seen = Arc<Mutex<Vec<(String, String, String)>>>;

/// A server that answers every batch with `answer`, every `GET` with `content`, and all else with 200.
fn server(
    answer: impl Fn(&str) -> Response + Clone + Send + Sync + 'static,
    content: &'static [u8],
) -> (TestServer, Seen) {
    let seen = Seen::default();
    let record = Arc::clone(&seen);
    let router = Router::new().fallback(move |request: Request| {
        let authorization = request.headers().get("authorization");
        let authorization = authorization
            .map_or("", |value| value.to_str().unwrap())
            .to_owned();
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let host = request.headers()["host"].to_str().unwrap().to_owned();
        record
            .lock()
            .unwrap()
            .push((method.clone(), path.clone(), authorization));
        let response = match (method.as_str(), path.ends_with("/objects/batch")) {
            (_, true) => answer(&host),
            ("GET", false) => Body::from(content).into_response(),
            _ => StatusCode::OK.into_response(),
        };
        async move { response }
    });
    (TestServer::http(router), seen)
}

fn hello() -> LfsPointer {
    LfsPointer {
        id: HELLO.parse().unwrap(),
        bytes: 5,
    }
}

struct Client {
    guarded: GuardedClient,
    remote: Remote,
    limits: LfsLimits,
    cancel: CancellationToken,
    folder: tempfile::TempDir,
}

impl Client {
    fn of(server: &TestServer, token: &Canary) -> Self {
        let policy = HttpPolicy {
            allow_private: true,
            ..HttpPolicy::default()
        };
        Self {
            guarded: GuardedClient::new(policy).unwrap(),
            remote: Remote {
                url: format!("{}/team/app", server.origin()).parse().unwrap(),
                credential: Some(Credential::from_token(&token.secret())),
            },
            limits: LfsLimits {
                max_answer_bytes: 64 * 1024,
                ..LfsLimits::default()
            },
            cancel: CancellationToken::new(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn lfs(&self) -> LfsClient<'_> {
        LfsClient::new(&self.guarded, &self.remote, &self.limits, &self.cancel)
    }

    async fn fetch_hello(&self) -> Result<Vec<u8>, LfsError> {
        let downloads = self.lfs().downloads(&[hello()], "refs/heads/main").await?;
        let file = self.folder.path().join("content");
        self.lfs().fetch(&downloads[0], &file).await?;
        Ok(std::fs::read(file).unwrap())
    }
}

fn one(object: &Value) -> Response {
    axum::Json(json!({ "transfer": "basic", "objects": [object] })).into_response()
}

fn download(host: &str, more: &Value) -> Value {
    let mut action = json!({ "href": format!("http://{host}/content") });
    action
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({ "oid": HELLO, "size": 5, "actions": { "download": action } })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_server_gives_the_content() {
    let token = Canary::new();
    let (server, seen) = server(
        |host| {
            one(&download(
                host,
                &json!({"expires_in": 60, "header": {"X-A": "b"}}),
            ))
        },
        b"hello",
    );
    let client = Client::of(&server, &token);
    assert_eq!(client.fetch_hello().await.unwrap(), b"hello");
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].1, "/team/app.git/info/lfs/objects/batch");
    // At the repository's own origin the token goes along where the answer brings none.
    assert!(
        seen.iter().all(|request| request.2.starts_with("Basic ")),
        "{seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_origin_gets_the_headers_of_the_answer_and_no_token() {
    let token = Canary::new();
    let (elsewhere, seen) = server(|_| StatusCode::OK.into_response(), b"hello");
    let href = format!("{}/content?signature=x", elsewhere.origin());
    let (home, _) = server(
        move |host| {
            one(&download(
                host,
                &json!({ "href": href, "header": {"Authorization": "RemoteAuth y", "Host": "evil", "Content-Length": "9"} }),
            ))
        },
        b"",
    );
    let client = Client::of(&home, &token);
    assert_eq!(client.fetch_hello().await.unwrap(), b"hello");
    assert_eq!(
        *seen.lock().unwrap(),
        [("GET".to_owned(), "/content".to_owned(), "RemoteAuth y".to_owned())]
    );

    // Nor does one to which the address of the answer redirects.
    let target = elsewhere.origin();
    let redirecting = Router::new().fallback(move |request: Request| {
        let host = request.headers()["host"].to_str().unwrap().to_owned();
        let response = match request.method().as_str() {
            "POST" => one(&download(&host, &json!({}))),
            _ => (StatusCode::FOUND, [("location", format!("{target}/content"))]).into_response(),
        };
        async move { response }
    });
    let redirecting = TestServer::http(redirecting);
    let error = Client::of(&redirecting, &token).fetch_hello().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RedirectRefused);
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_address_in_an_answer_is_not_reached() {
    let (server, _) = server(
        |host| {
            one(&download(
                host,
                &json!({"href": "http://169.254.169.254/latest/meta-data"}),
            ))
        },
        b"",
    );
    let mut client = Client::of(&server, &Canary::new());
    // The guard of the repository's own origin is lifted for it alone.
    let port = server.addr().port();
    client.guarded = GuardedClient::new(HttpPolicy {
        allow_private: true,
        allowed_hosts: vec![format!("127.0.0.1:{port}").parse().unwrap()],
        ..HttpPolicy::default()
    })
    .unwrap();
    let error = client.fetch_hello().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::HostRefused);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_break_the_rules_are_refused() {
    let cases: Vec<(Value, &str)> = vec![
        (json!("text"), "JSON"),
        (json!({"objects": {}}), "JSON"),
        (json!({"objects": []}), "silent"),
        (json!({"objects": [{"oid": "xyz", "size": 5}]}), "none"),
        (
            json!({"objects": [{"oid": HELLO, "size": 6, "actions": {}}]}),
            "another size",
        ),
        (json!({"objects": [{"oid": HELLO, "size": -5}]}), "JSON"),
        (json!({"objects": [{"oid": HELLO, "size": 5}]}), "no address"),
        (
            json!({"objects": [{"oid": HELLO, "size": 5}, {"oid": HELLO, "size": 5}]}),
            "twice",
        ),
        (
            json!({"objects": [{"oid": HELLO, "size": 5}, {"oid": HELLO.replace('2', "3"), "size": 5}]}),
            "not asked",
        ),
        (
            json!({"transfer": "tus", "objects": [{"oid": HELLO, "size": 5}]}),
            "transfer",
        ),
        (
            json!({"hash_algo": "sha512", "objects": [{"oid": HELLO, "size": 5}]}),
            "SHA-256",
        ),
        (
            json!({"objects": [download("h", &json!({"expires_in": -1}))]}),
            "expired",
        ),
        (
            json!({"objects": [download("h", &json!({"expires_at": "2001-01-01T00:00:00Z"}))]}),
            "expired",
        ),
        (
            json!({"objects": [download("h", &json!({"href": "/relative"}))]}),
            "address",
        ),
        (
            json!({"objects": [download("h", &json!({"href": "file:///etc/passwd"}))]}),
            "not HTTP",
        ),
        (
            json!({"objects": [download("h", &json!({"href": "http://user:secret@h/"}))]}),
            "user",
        ),
        (
            json!({"objects": [download("h", &json!({"header": {"A": "b\r\nC: d"}}))]}),
            "header",
        ),
        (
            json!({"objects": [download("h", &json!({"header": {"A b": "c"}}))]}),
            "header",
        ),
    ];
    for (answer, words) in cases {
        let said = answer.clone();
        let (server, _) = server(move |_| axum::Json(said.clone()).into_response(), b"hello");
        let error = Client::of(&server, &Canary::new())
            .fetch_hello()
            .await
            .unwrap_err();
        assert_eq!(error.code(), ErrorCode::LfsProtocol, "{answer}");
        assert!(error.to_string().contains(words), "{answer}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_have_their_codes() {
    let token = Canary::new();
    for (status, code) in [
        (401, ErrorCode::AuthenticationFailed),
        (403, ErrorCode::AccessDenied),
        (404, ErrorCode::LfsRefused),
        (422, ErrorCode::LfsRefused),
        (429, ErrorCode::RemoteRateLimited),
        (500, ErrorCode::RemoteUnavailable),
        (507, ErrorCode::LfsRefused),
    ] {
        let whole = StatusCode::from_u16(status).unwrap();
        let (server, _) = server(move |_| (whole, [("retry-after", "7")]).into_response(), b"");
        let error = Client::of(&server, &token).fetch_hello().await.unwrap_err();
        assert_eq!((error.code(), error.retry_after()), (code, Some(7)), "{status}");
    }
    for (status, code) in [
        (404, ErrorCode::LfsObjectMissing),
        (410, ErrorCode::LfsObjectMissing),
        (401, ErrorCode::AccessDenied),
        (422, ErrorCode::LfsRefused),
        (507, ErrorCode::LfsRefused),
    ] {
        let object = json!({"oid": HELLO, "size": 5, "error": {"code": status, "message": "no\r\ndata: \u{1b}[2J\u{202e}bad"}});
        let (server, _) = server(move |_| one(&object), b"");
        let error = Client::of(&server, &token).fetch_hello().await.unwrap_err();
        assert_eq!(error.code(), code, "{status}");
        let text = error.to_string();
        assert!(
            text.chars().all(|c| !c.is_control() && c != '\u{202e}'),
            "{text:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_are_held_against_their_pointers() {
    for (content, words) in [
        (&b"hell"[..], "fewer"),
        (b"hello!", "more"),
        (b"hallo", "SHA-256"),
        (&[0; 4 << 20], "more"),
    ] {
        let (server, _) = server(|host| one(&download(host, &json!({}))), content);
        let error = Client::of(&server, &Canary::new())
            .fetch_hello()
            .await
            .unwrap_err();
        assert_eq!(error.code(), ErrorCode::LfsProtocol);
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_before_anything_is_asked() {
    let (server, seen) = server(|_| Body::from(vec![b' '; 1 << 20]).into_response(), b"");
    let mut client = Client::of(&server, &Canary::new());
    let claim = LfsPointer {
        bytes: 10 << 30,
        ..hello()
    };
    let error = client
        .lfs()
        .downloads(&[claim], "refs/heads/main")
        .await
        .err()
        .unwrap();
    assert_eq!(error.code(), ErrorCode::LfsTooLarge);
    client.limits.max_objects = 0;
    let error = client
        .lfs()
        .downloads(&[hello()], "refs/heads/main")
        .await
        .err()
        .unwrap();
    assert_eq!(error.code(), ErrorCode::LfsTooLarge);
    assert_eq!(seen.lock().unwrap().len(), 0);
    // An answer without end.
    client.limits.max_objects = 1;
    let error = client.fetch_hello().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RemoteProtocol);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_go_where_the_server_wants_them_and_are_verified() {
    let token = Canary::new();
    let answer = |host: &str| {
        let action = |path: &str| json!({"href": format!("http://{host}/{path}"), "header": {"Authorization": "Bearer z"}});
        one(
            &json!({"oid": HELLO, "size": 5, "actions": {"upload": action("put"), "verify": action("verify")}}),
        )
    };
    let (with, seen) = server(answer, b"");
    let client = Client::of(&with, &token);
    let uploads = client.lfs().uploads(&[hello()], "refs/heads/main").await.unwrap();
    client
        .lfs()
        .send_content(&uploads[0], "hello".into())
        .await
        .unwrap();
    let seen: Vec<_> = seen
        .lock()
        .unwrap()
        .iter()
        .map(|it| (it.0.clone(), it.1.clone(), it.2 == "Bearer z"))
        .collect();
    assert_eq!(
        seen[1..],
        [
            ("PUT".into(), "/put".into(), true),
            ("POST".into(), "/verify".into(), true)
        ]
    );
    // A server that has the content wants nothing.
    let (without, _) = server(|_| one(&json!({"oid": HELLO, "size": 5})), b"");
    let client = Client::of(&without, &token);
    assert!(
        client
            .lfs()
            .uploads(&[hello()], "refs/heads/main")
            .await
            .unwrap()
            .is_empty()
    );
}
