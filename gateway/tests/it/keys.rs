//! Keys: who is let in, for what, how often, and what tenants see of one another, which is nothing.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::BodyExt as _;
use mayfly_gateway::{CallerLimits, GatewayConfig, KeyLine, KeysConfig, NewKey, RunError, Scope};
use mayfly_protocol::ExposeSecret as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::net::TcpListener;

use crate::client::{self, Events, get, job, post};
use crate::gateway::{TestGateway, config, tokens};
use crate::outcomes;
use crate::stub_worker::{StubWorker, waiting};
use crate::until::{until, until_some};

/// A file of keys.
pub(crate) struct Keys {
    _folder: TempDir,
    file: PathBuf,
}

impl Keys {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("keys");
        std::fs::write(&file, "# keys\n").unwrap();
        Self {
            _folder: folder,
            file,
        }
    }

    /// Puts a key into the file, and gives its text.
    pub(crate) fn add(&self, tenant: &str, scopes: &[Scope]) -> String {
        self.add_with(tenant, scopes, None, CallerLimits::default())
    }

    fn add_with(
        &self,
        tenant: &str,
        scopes: &[Scope],
        expires: Option<OffsetDateTime>,
        limits: CallerLimits,
    ) -> String {
        let key = NewKey::random().unwrap();
        let line = KeyLine::of(&key, tenant.parse().unwrap(), scopes.to_vec(), expires, limits);
        let mut file = std::fs::OpenOptions::new().append(true).open(&self.file).unwrap();
        writeln!(file, "{}", line.to_json()).unwrap();
        key.text.expose_secret().to_owned()
    }

    pub(crate) fn config(&self, workers: &[&StubWorker]) -> GatewayConfig {
        GatewayConfig {
            keys: Some(KeysConfig {
                look_interval: Duration::from_millis(20),
                ..KeysConfig::new(self.file.clone())
            }),
            worker_tokens: Some(tokens("fleet-token")),
            ..config(workers)
        }
    }
}

pub(crate) fn with_key(mut request: Request<Bytes>, key: &str) -> Request<Bytes> {
    let value = HeaderValue::try_from(format!("Bearer {key}")).unwrap();
    request.headers_mut().insert("authorization", value);
    request
}

/// The status and the whole body, which may be a stream.
async fn answer(gateway: &TestGateway, request: Request<Bytes>) -> (u16, String) {
    let response = gateway.send(request).await;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn code(gateway: &TestGateway, request: Request<Bytes>) -> String {
    let (_, body) = answer(gateway, request).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    body["code"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn without_a_key_in_force_only_health_and_readiness_are_shown() {
    let (worker, keys) = (StubWorker::completing().await, Keys::new());
    let good = keys.add("acme", Scope::ALL);
    let over = OffsetDateTime::now_utc() - Duration::from_secs(1);
    let expired = keys.add_with("acme", Scope::ALL, Some(over), CallerLimits::default());
    let gateway = TestGateway::start(keys.config(&[&worker])).await;
    let forged = format!(
        "{}{}",
        &good[..good.len() - 1],
        if good.ends_with('0') { '1' } else { '0' }
    );
    let stranger = NewKey::random().unwrap();
    for path in ["/jobs", "/workers", "/status", "/sessions", "/nothing"] {
        assert_eq!(code(&gateway, get(path)).await, "unauthorized", "{path}");
        for key in [&forged, &expired, stranger.text.expose_secret(), "x", ""] {
            assert_eq!(
                code(&gateway, with_key(get(path), key)).await,
                "unauthorized",
                "{path}"
            );
        }
    }
    let response = gateway.send(job("s")).await;
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    let mut twice = with_key(job("s"), &good);
    twice
        .headers_mut()
        .append("authorization", HeaderValue::from_static("Bearer x"));
    assert_eq!(code(&gateway, twice).await, "unauthorized");
    assert_eq!(gateway.get("/health").await.0, 200);
    assert_eq!(gateway.get("/ready").await.0, 200);
    assert!(worker.seen().is_empty());

    let events = gateway.post(with_key(job("s"), &good)).await;
    assert_eq!(events.names().await.last().unwrap(), "completed");
    assert_eq!(worker.seen()[0].header("x-tenant-id"), Some("acme"));
    assert_eq!(
        worker.seen()[0].header("authorization"),
        Some("Bearer fleet-token")
    );
}

#[tokio::test]
async fn a_key_is_good_for_its_scopes_alone() {
    let (worker, keys) = (StubWorker::completing().await, Keys::new());
    let [jobs, read, operate] =
        [Scope::Jobs, Scope::Read, Scope::Operate].map(|scope| keys.add("acme", &[scope]));
    let gateway = TestGateway::start(keys.config(&[&worker])).await;
    let id = "01890000-0000-7000-8000-000000000000";
    let path = |end: &str| format!("/jobs/{id}{end}");
    let delete = || {
        Request::delete("/sessions/s")
            .header("host", "gateway")
            .body(Bytes::new())
            .unwrap()
    };
    let table = [
        (job("s"), [true, false, false]),
        (post(&path("/cancel"), ""), [true, false, false]),
        (delete(), [true, false, false]),
        (get("/jobs"), [true, true, false]),
        (get(&path("")), [true, true, false]),
        (get(&path("/events")), [true, true, false]),
        (get("/sessions"), [false, true, false]),
        (get("/sessions/s"), [false, true, false]),
        (get("/sessions/s/diff"), [false, true, false]),
        (get("/sessions/s/files/f"), [false, true, false]),
        (get("/sessions/s/archive"), [false, true, false]),
        (get("/workers"), [false, false, true]),
        (get("/status"), [false, false, true]),
    ];
    for (request, allowed) in table {
        for (key, is_allowed) in [&jobs, &read, &operate].into_iter().zip(allowed) {
            let shown = format!("{} {}", request.method(), request.uri());
            let (status, body) = answer(&gateway, with_key(request.clone(), key)).await;
            assert_eq!(status != 403, is_allowed, "{shown}: {body}");
            assert_eq!(body.contains("lacks the scope"), !is_allowed, "{shown}: {body}");
        }
    }
}

#[tokio::test]
async fn another_tenants_job_is_as_unknown_as_one_that_never_was() {
    let (worker, keys) = (StubWorker::completing().await, Keys::new());
    let (acme, zoo) = (keys.add("acme", Scope::ALL), keys.add("zoo", Scope::ALL));
    let gateway = TestGateway::start(keys.config(&[&worker])).await;
    let events = gateway.post(with_key(job("s"), &acme)).await;
    let id = events.job_id();
    events.rest().await;
    let never = "01890000-0000-7000-8000-000000000000";
    for end in ["", "/events", "/cancel"] {
        let request = |id: &str| match end {
            "/cancel" => post(&format!("/jobs/{id}{end}"), ""),
            _ => get(&format!("/jobs/{id}{end}")),
        };
        let theirs = answer(&gateway, with_key(request(&id), &zoo)).await;
        let nobodys = answer(&gateway, with_key(request(never), &zoo)).await;
        assert_eq!(theirs.0, 404, "{end}");
        assert_eq!(theirs, nobodys, "{end}");
        assert_eq!(
            answer(&gateway, with_key(request(&id), &acme)).await.0,
            200,
            "{end}"
        );
    }
    let list = async |key: &str| client::json(gateway.send(with_key(get("/jobs"), key)).await).await;
    assert_eq!(list(&zoo).await["jobs"], json!([]));
    assert_eq!(list(&acme).await["jobs"][0]["id"], json!(id));
    // Sessions of one name are two sessions: neither waits for the other.
    let both = [&acme, &zoo].map(|key| with_key(job("same"), key));
    for request in both {
        assert_eq!(
            gateway.post(request).await.names().await.last().unwrap(),
            "completed"
        );
    }
    let tenants: Vec<_> = worker
        .seen()
        .iter()
        .map(|seen| seen.header("x-tenant-id").unwrap().to_owned())
        .collect();
    assert_eq!(tenants, ["acme", "acme", "zoo"]);
}

#[tokio::test]
async fn a_kept_outcome_is_shown_to_its_tenant_alone() {
    let keys = Keys::new();
    let (acme, zoo) = (keys.add("acme", &[Scope::Read]), keys.add("zoo", &[Scope::Read]));
    let id = "01890000-0000-7000-8000-000000000001";
    let storage = outcomes::storage_with(id, "acme").await;
    let gateway = TestGateway::start(GatewayConfig {
        storage: Some(storage),
        ..keys.config(&[])
    })
    .await;
    let path = format!("/jobs/{id}");
    let (status, body) = answer(&gateway, with_key(get(&path), &acme)).await;
    assert_eq!(status, 200, "{body}");
    let theirs = answer(&gateway, with_key(get(&path), &zoo)).await;
    let never = "/jobs/01890000-0000-7000-8000-000000000002";
    assert_eq!(theirs, answer(&gateway, with_key(get(never), &zoo)).await);
    assert_eq!(theirs.0, 404);
}

/// Waits until requests with this key are answered so.
async fn until_status(gateway: &TestGateway, key: &str, status: u16) {
    until_some("the keys to be read again", async || {
        let answered = gateway.send(with_key(get("/status"), key)).await.status();
        (answered == status).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_file_is_read_again_and_a_broken_one_changes_nothing() {
    let keys = Keys::new();
    let old = keys.add("acme", Scope::ALL);
    let gateway = TestGateway::start(keys.config(&[])).await;
    until_status(&gateway, &old, 200).await;
    // Both are in force while clients change over.
    let new = keys.add("acme", Scope::ALL);
    until_status(&gateway, &new, 200).await;
    until_status(&gateway, &old, 200).await;

    let good = std::fs::read_to_string(&keys.file).unwrap();
    std::fs::write(&keys.file, good.replacen("\"id\"", "\"name\"", 1)).unwrap();
    gateway
        .wait_for("/ready", |ready| ready["keysBroken"] == true)
        .await;
    let status = client::json(gateway.send(with_key(get("/status"), &old)).await).await;
    assert_eq!(status["keys"]["known"], 2, "{status}");
    assert!(
        status["keys"]["broken"].as_str().unwrap().contains("line 2"),
        "{status}"
    );

    let without_old: String = good
        .lines()
        .filter(|line| !line.contains(&old[4..16]))
        .map(|line| format!("{line}\n"))
        .collect();
    std::fs::write(&keys.file, without_old).unwrap();
    until_status(&gateway, &old, 401).await;
    until_status(&gateway, &new, 200).await;
    gateway
        .wait_for("/ready", |ready| ready["keysBroken"] == false)
        .await;
}

fn limits(requests_per_minute: u32, streams: u32) -> CallerLimits {
    CallerLimits {
        requests_per_minute: std::num::NonZeroU32::new(requests_per_minute),
        streams: std::num::NonZeroU32::new(streams),
        ..CallerLimits::default()
    }
}

async fn refused(gateway: &TestGateway, request: Request<Bytes>) -> (u16, u64, String) {
    let response = gateway.send(request).await;
    let status = response.status().as_u16();
    let told = response
        .headers()
        .get("retry-after")
        .map_or("", |value| value.to_str().unwrap());
    let told = told.parse().unwrap_or_default();
    let body = client::json(response).await;
    (status, told, body["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_key_that_asks_too_often_or_follows_too_much_is_told_when_to_come_back() {
    let (worker, keys) = (StubWorker::start(vec![waiting()]).await, Keys::new());
    let often = keys.add_with("acme", Scope::ALL, None, limits(3, 0));
    let many = keys.add_with("acme", Scope::ALL, None, limits(0, 1));
    let free = keys.add("acme", Scope::ALL);
    let gateway = TestGateway::start(keys.config(&[&worker])).await;
    for _ in 0..3 {
        assert_eq!(gateway.send(with_key(get("/jobs"), &often)).await.status(), 200);
    }
    let (status, seconds, code) = refused(&gateway, with_key(get("/jobs"), &often)).await;
    assert_eq!((status, code.as_str()), (429, "rate_limited"));
    assert!((1..=20).contains(&seconds), "{seconds}");
    assert_eq!(gateway.send(with_key(get("/jobs"), &free)).await.status(), 200);

    let mut first = gateway.post(with_key(job("s"), &many)).await;
    first.until("dispatched").await;
    let (status, _, code) = refused(&gateway, with_key(job("t"), &many)).await;
    assert_eq!((status, code.as_str()), (429, "rate_limited"));
    let follow = format!("/jobs/{}/events", first.job_id());
    assert_eq!(refused(&gateway, with_key(get(&follow), &many)).await.0, 429);
    // The refused job was not begun, and other keys follow what they like.
    let list = client::json(gateway.send(with_key(get("/jobs"), &many)).await).await;
    assert_eq!(list["jobs"].as_array().unwrap().len(), 1, "{list}");
    let other = Events::of(gateway.send(with_key(get(&follow), &free)).await);
    worker.go_on();
    assert_eq!(first.rest().await.last().unwrap().name(), "completed");
    assert_eq!(other.rest().await.last().unwrap().name(), "completed");
    until_some("the place of the stream", async || {
        let again = gateway.send(with_key(get(&format!("{follow}?")), &many)).await;
        (again.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn keys_in_addresses_are_refused_with_and_without_a_file_of_keys() {
    let (worker, keys) = (StubWorker::completing().await, Keys::new());
    let key = keys.add("acme", Scope::ALL);
    for config in [keys.config(&[&worker]), config(&[&worker])] {
        let gateway = TestGateway::start(config).await;
        for query in [
            format!("api_key={key}"),
            "Access_Token=x".to_owned(),
            "token".to_owned(),
            format!("limit=1&x={key}"),
        ] {
            for request in [
                get(&format!("/jobs?{query}")),
                with_key(get(&format!("/status?{query}")), &key),
            ] {
                let (status, body) = answer(&gateway, request).await;
                assert_eq!(status, 400, "{query}: {body}");
                assert!(body.contains("invalid_request") && !body.contains(&key), "{body}");
            }
        }
    }
}

#[tokio::test]
async fn a_gateway_that_would_let_anybody_in_or_mix_tenants_does_not_start() {
    let run = async |address: &str, config: GatewayConfig| {
        let listener = TcpListener::bind(address).await.unwrap();
        mayfly_gateway::run(config, listener, Default::default())
            .await
            .unwrap_err()
    };
    let open = run("0.0.0.0:0", config(&[])).await;
    assert!(matches!(open, RunError::NoKeys(_)), "{open}");
    assert!(open.to_string().contains("GATEWAY_API_KEYS_FILE"), "{open}");
    let keys = Keys::new();
    let untold = GatewayConfig {
        worker_tokens: None,
        ..keys.config(&[])
    };
    assert!(matches!(
        run("127.0.0.1:0", untold).await,
        RunError::NoWorkerToken
    ));
    std::fs::remove_file(&keys.file).unwrap();
    assert!(matches!(
        run("127.0.0.1:0", keys.config(&[])).await,
        RunError::Keys(_)
    ));
}

#[tokio::test]
async fn a_tenants_running_and_waiting_jobs_are_bounded_by_its_key() {
    let (one, two) = (
        StubWorker::start(vec![waiting()]).await,
        StubWorker::start(vec![waiting()]).await,
    );
    let keys = Keys::new();
    let bounds = CallerLimits {
        running_jobs: std::num::NonZeroU32::new(1),
        waiting_jobs: std::num::NonZeroU32::new(1),
        ..CallerLimits::default()
    };
    let acme = keys.add_with("acme", Scope::ALL, None, bounds);
    let zoo = keys.add("zoo", Scope::ALL);
    let gateway = TestGateway::start(keys.config(&[&one, &two])).await;
    let mut first = gateway.post(with_key(job("a"), &acme)).await;
    first.until("preparing").await;
    let mut second = gateway.post(with_key(job("b"), &acme)).await;
    assert_eq!(
        second.next().await.unwrap().json["detail"],
        json!({"position": 1, "reason": "tenant_limit"})
    );
    let (status, seconds, code) = refused(&gateway, with_key(job("c"), &acme)).await;
    assert_eq!((status, code.as_str()), (429, "queue_full"));
    assert!((1..=300).contains(&seconds));
    let mut other = gateway.post(with_key(job("a"), &zoo)).await;
    other.until("preparing").await;
    one.go_on();
    two.go_on();
    for events in [first, other] {
        assert_eq!(events.names().await.last().unwrap(), "completed");
    }
    second.until("preparing").await;
    one.go_on();
    two.go_on();
    assert_eq!(second.names().await.last().unwrap(), "completed");
}

#[tokio::test]
async fn a_tenant_that_comes_later_is_served_before_anothers_waiting_jobs() {
    let (worker, keys) = (StubWorker::start(vec![waiting()]).await, Keys::new());
    let (acme, zoo) = (keys.add("acme", Scope::ALL), keys.add("zoo", Scope::ALL));
    let gateway = TestGateway::start(keys.config(&[&worker])).await;
    let mut streams = Vec::new();
    for session in ["a", "b", "c"] {
        streams.push(gateway.post(with_key(job(session), &acme)).await);
    }
    streams.push(gateway.post(with_key(job("d"), &zoo)).await);
    for begun in 1..=streams.len() {
        until(|| worker.seen().len() == begun).await;
        worker.go_on();
    }
    for events in streams {
        assert_eq!(events.names().await.last().unwrap(), "completed");
    }
    let seen = worker.seen();
    let tenants: Vec<_> = seen
        .iter()
        .filter_map(|seen| seen.header("x-tenant-id"))
        .collect();
    assert_eq!(tenants, ["acme", "zoo", "acme", "acme"]);
}
