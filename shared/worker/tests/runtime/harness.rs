//! A worker with a scripted runner on a free port, and clients for it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use mayfly_protocol::{Event, Failure, Job, JobKind, Refusal, SecretString, Source};
use mayfly_server::bearer::FleetTokens;
use mayfly_sse::{Decoded, Decoder};
use mayfly_telemetry::task;
use mayfly_worker::{Ended, JobContext, JobRunner, OutcomeStore, RunError, WorkerConfig, run};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The bound of every wait in these tests: what takes longer hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const CLONE: &str = "/clone-repository";
pub(crate) const CLONE_BODY: &str = r#"{"sessionId":"s1","repoUrl":"https://example.com/a/b.git"}"#;

type Script = Box<dyn Fn(Job, JobContext) -> BoxFuture<'static, Result<Value, Failure>> + Send + Sync>;

/// A runner that does what a test says.
pub(crate) struct Scripted(Script, Option<Arc<dyn OutcomeStore>>);

impl Scripted {
    pub(crate) fn new<F>(script: impl Fn(Job, JobContext) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Value, Failure>> + Send + 'static,
    {
        Self(Box::new(move |job, context| Box::pin(script(job, context))), None)
    }

    /// The same, with a place for outcomes.
    pub(crate) fn keeping(self, outcomes: Arc<dyn OutcomeStore>) -> Self {
        Self(self.0, Some(outcomes))
    }

    /// A runner whose job is done at once.
    pub(crate) fn quick() -> Self {
        Self::new(|_, _| async { Ok(json!({"done": true})) })
    }

    /// A runner whose job ends when `gate` fires, and which ignores its cancellation.
    pub(crate) fn gated(gate: &CancellationToken) -> Self {
        let gate = gate.clone();
        Self::new(move |_, _| {
            let gate = gate.clone();
            async move {
                gate.cancelled().await;
                Ok(json!({"done": true}))
            }
        })
    }
}

#[async_trait::async_trait]
impl JobRunner for Scripted {
    fn source(&self) -> Source {
        Source::GitWorker
    }
    fn kinds(&self) -> &'static [JobKind] {
        &[JobKind::CloneRepository, JobKind::CreateBranch]
    }
    fn outcomes(&self) -> Option<&dyn OutcomeStore> {
        self.1.as_deref()
    }
    async fn run(&self, job: Job, context: JobContext) -> Result<Value, Failure> {
        (self.0)(job, context).await
    }
}

/// The tokens of a fleet, as its setting lists them.
pub(crate) fn tokens(list: &str) -> FleetTokens {
    FleetTokens::parse(&SecretString::from(list)).unwrap()
}

/// A worker under test.
pub(crate) struct Fixture {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) tmp_dir: TempDir,
    client: reqwest::Client,
    ended: JoinHandle<Result<Ended, RunError>>,
}

impl Fixture {
    pub(crate) async fn start(runner: Scripted) -> Self {
        Self::start_with(runner, |_| {}).await
    }

    pub(crate) async fn start_with(runner: Scripted, adjust: impl FnOnce(&mut WorkerConfig)) -> Self {
        let tmp_dir = tempfile::tempdir().unwrap();
        let mut config = WorkerConfig {
            tmp_dir: tmp_dir.path().to_owned(),
            ..WorkerConfig::default()
        };
        adjust(&mut config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let life = run(config, listener, runner, shutdown.clone());
        Self {
            address,
            shutdown,
            tmp_dir,
            client: client(),
            ended: task::spawn(&TaskTracker::new(), life),
        }
    }

    pub(crate) fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        let request = self.client.post(format!("http://{}{path}", self.address));
        request.header("content-type", "application/json").body(body)
    }

    pub(crate) async fn post_clone(&self) -> Response {
        self.post(CLONE, CLONE_BODY).send().await.unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("http://{}{path}", self.address))
    }

    pub(crate) async fn get_json(&self, path: &str) -> Value {
        let response = self.get(path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    }

    /// Waits for the end of the process, which leaves nothing behind.
    pub(crate) async fn ended(self) -> Ended {
        let ended = timeout(PATIENCE, self.ended)
            .await
            .expect("the worker does not end");
        let left: Vec<_> = std::fs::read_dir(self.tmp_dir.path()).unwrap().collect();
        assert!(left.is_empty(), "files are left: {left:?}");
        ended.unwrap().unwrap()
    }

    /// The same, once it is asked to end without having had a job.
    pub(crate) async fn ended_unused(self) {
        self.shutdown.cancel();
        assert_eq!(self.ended().await, Ended::Drained);
    }

    /// A connection of our own on which these bytes were sent.
    pub(crate) async fn raw(&self, request: &str) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        socket
    }

    /// A connection on which a clone was asked for, and nothing is read yet.
    pub(crate) async fn raw_clone(&self) -> TcpStream {
        let length = CLONE_BODY.len();
        self.raw(&format!(
            "POST {CLONE} HTTP/1.1\r\nhost: w\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{CLONE_BODY}"
        ))
        .await
    }
}

fn client() -> reqwest::Client {
    // A second call finds it installed, which is as good.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(PATIENCE).build().unwrap()
}

/// Asks again and again until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let asked = async { while !holds().await {} };
    timeout(PATIENCE, asked)
        .await
        .unwrap_or_else(|_| panic!("never seen: {what}"));
}

/// Everything that comes until the other side ends the connection.
pub(crate) async fn read_to_end(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut bytes))
        .await
        .expect("the connection does not end")
        .unwrap();
    String::from_utf8(bytes).unwrap()
}

/// The events of a stream, which must be numbered from 1 and have exactly one terminal event, at the end.
pub(crate) async fn transcript(response: Response) -> Vec<Event> {
    assert_eq!(response.status(), StatusCode::OK);
    let bytes = response.bytes().await.unwrap();
    let mut events = Vec::new();
    for item in Decoder::default().push(&bytes).unwrap() {
        let Decoded::Message { id, event, data } = item else {
            continue;
        };
        assert_eq!((id, event), (Some((events.len() + 1).to_string()), None));
        events.push(serde_json::from_slice::<Event>(&data).unwrap());
    }
    let terminal: Vec<usize> = (0..events.len())
        .filter(|index| events[*index].is_terminal())
        .collect();
    assert_eq!(terminal, [events.len() - 1], "{events:?}");
    events
}

/// The refusal that an answer carries, which must fit its status.
pub(crate) async fn refusal(response: Response) -> Refusal {
    let status = response.status().as_u16();
    let retry_after = response.headers().get("retry-after").cloned();
    assert_eq!(response.headers()["content-type"], "application/json");
    let refusal: Refusal = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(refusal.code.status(), status);
    let seconds = refusal.retry_after.map(|seconds| seconds.to_string());
    assert_eq!(
        seconds.as_deref(),
        retry_after.as_ref().map(|value| value.to_str().unwrap())
    );
    assert_eq!(retry_after.is_some(), status == 429);
    refusal
}
