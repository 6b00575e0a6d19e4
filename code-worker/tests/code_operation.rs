//! A code operation over HTTP: checked, and then refused by a typed event, since there is no executor.
#![expect(
    clippy::unwrap_used,
    reason = "clippy does not see that the helpers here are only for tests"
)]

use std::net::SocketAddr;
use std::time::Duration;

use mayfly_protocol::{ErrorCode, Event, EventBody, Refusal, Source};
use mayfly_sse::{Decoded, Decoder};
use mayfly_telemetry::task;
use mayfly_worker::{Ended, RunError, WorkerConfig};
use reqwest::Response;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const PATIENCE: Duration = Duration::from_secs(20);
const TOKEN: &str = "canary-7f3a";

struct Fixture {
    address: SocketAddr,
    tmp_dir: TempDir,
    ended: JoinHandle<Result<Ended, RunError>>,
}

impl Fixture {
    async fn start() -> Self {
        let tmp_dir = tempfile::tempdir().unwrap();
        let config = WorkerConfig {
            tmp_dir: tmp_dir.path().to_owned(),
            ..WorkerConfig::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let life = mayfly_code_worker::run(config, listener, CancellationToken::new());
        Self {
            address,
            tmp_dir,
            ended: task::spawn(&TaskTracker::new(), life),
        }
    }

    async fn post(&self, path: &str, body: String) -> Response {
        // A second call finds it installed, which is as good.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        let request = client.post(format!("http://{}{path}", self.address));
        let request = request.header("content-type", "application/json").body(body);
        request.send().await.unwrap()
    }
}

fn operation(max_iterations: u32) -> String {
    format!(
        r#"{{"operationType":"error_fix","description":"d","repository":{{"url":"https://example.com/o/r","branch":"main"}},
            "organizationId":"o","sessionId":"s1","approvalRequired":false,"maxIterations":{max_iterations},"githubAccessToken":"{TOKEN}"}}"#
    )
}

#[tokio::test]
async fn a_valid_operation_ends_as_no_executor_and_the_worker_with_it() {
    let fixture = Fixture::start().await;
    let response = fixture.post("/code-operation", operation(3)).await;
    assert_eq!(response.status(), 200);
    let bytes = response.bytes().await.unwrap();
    let items = Decoder::default().push(&bytes).unwrap();
    let [Decoded::Message { data, .. }] = &items[..] else {
        panic!("{items:?}")
    };
    let event: Event = serde_json::from_slice(data).unwrap();
    let EventBody::Error(failure) = &event.body else {
        panic!("{event:?}")
    };
    assert_eq!(
        (event.source, failure.code),
        (Source::CodeWorker, ErrorCode::NoExecutor)
    );
    assert!(!failure.retryable && failure.error.contains("no executor"));
    assert!(!String::from_utf8_lossy(&bytes).contains(TOKEN));

    let ended = timeout(PATIENCE, fixture.ended).await.unwrap().unwrap();
    assert_eq!(ended.unwrap(), Ended::JobDone);
    assert_eq!(std::fs::read_dir(fixture.tmp_dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn bad_operations_and_git_jobs_are_refused_before_the_stream() {
    let fixture = Fixture::start().await;
    let table = [
        (
            "/code-operation",
            operation(0),
            ErrorCode::InvalidRequest,
            Some("maxIterations"),
        ),
        ("/code-operation", "{".to_owned(), ErrorCode::InvalidRequest, None),
        ("/clone-repository", operation(3), ErrorCode::NotFound, None),
    ];
    for (path, body, code, field) in table {
        let response = fixture.post(path, body).await;
        assert_eq!(response.status(), code.status());
        let refusal: Refusal = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert_eq!((refusal.code, refusal.field.as_deref()), (code, field));
    }
    assert!(!fixture.ended.is_finished());
}
