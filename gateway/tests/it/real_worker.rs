//! The gateway against the real one-job runtime, with a runner that does next to nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mayfly_gateway::{GatewayConfig, WorkerSource, WorkerUrl};
use mayfly_protocol::{Failure, Job, JobKind, JobOutcome, Source, Stage, TenantId};
use mayfly_server::TlsFiles;
use mayfly_session::OutcomeArchive;
use mayfly_storage::ObjectStore;
use mayfly_testkit::https::TestCa;
use mayfly_worker::{Ended, JobContext, JobRunner, OutcomeNotKept, OutcomeStore, WorkerConfig};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::client::{PATIENCE, job, post};
use crate::gateway::{TestGateway, config, tokens};

#[derive(Clone, Default)]
pub(crate) struct WaitingRunner {
    pub(crate) go_on: Arc<Notify>,
    outcomes: Option<Arc<Outcomes>>,
}

struct Outcomes(OutcomeArchive);

#[async_trait::async_trait]
impl OutcomeStore for Outcomes {
    async fn keep(&self, tenant: &TenantId, outcome: &JobOutcome) -> Result<(), OutcomeNotKept> {
        self.0.keep(tenant, outcome).await.unwrap();
        Ok(())
    }
}

#[async_trait::async_trait]
impl JobRunner for WaitingRunner {
    fn source(&self) -> Source {
        Source::GitWorker
    }

    fn kinds(&self) -> &'static [JobKind] {
        &[JobKind::CreateBranch, JobKind::ApplyChanges]
    }

    fn outcomes(&self) -> Option<&dyn OutcomeStore> {
        let outcomes = self.outcomes.as_deref()?;
        Some(outcomes)
    }

    async fn run(&self, _job: Job, context: JobContext) -> Result<Value, Failure> {
        context.events.stage(Stage::Preparing, "Preparing");
        tokio::select! {
            () = self.go_on.notified() => {}
            () = context.cancel.cancelled() => {
                return Err(Failure::new(mayfly_protocol::ErrorCode::Internal, "stopped"));
            }
        }
        if self.outcomes.is_some() {
            context.events.stage(Stage::Uploading, "Uploading");
        }
        Ok(json!({"attempt": context.attempt, "jobId": context.job_id}))
    }
}

pub(crate) struct RealWorker {
    pub(crate) url: WorkerUrl,
    pub(crate) runner: WaitingRunner,
    pub(crate) ended: JoinHandle<Ended>,
    _folder: TempDir,
}

async fn start_with(adjust: impl FnOnce(&mut WorkerConfig)) -> RealWorker {
    start_runner(WaitingRunner::default(), adjust).await
}

/// A worker that keeps the outcome of its job in this storage.
pub(crate) async fn start_keeping(storage: &Arc<dyn ObjectStore>) -> RealWorker {
    let outcomes = Outcomes(OutcomeArchive::new(Arc::clone(storage)));
    let runner = WaitingRunner {
        outcomes: Some(Arc::new(outcomes)),
        ..WaitingRunner::default()
    };
    start_runner(runner, |_| {}).await
}

#[expect(clippy::disallowed_methods, reason = "the test stands for main")]
async fn start_runner(runner: WaitingRunner, adjust: impl FnOnce(&mut WorkerConfig)) -> RealWorker {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = listener.local_addr().unwrap().into();
    let folder = TempDir::new().unwrap();
    let mut config = WorkerConfig {
        tmp_dir: folder.path().to_owned(),
        tokens: Some(tokens("fleet-token")),
        ..WorkerConfig::default()
    };
    adjust(&mut config);
    let running = mayfly_worker::run(config, listener, runner.clone(), CancellationToken::new());
    RealWorker {
        url,
        runner,
        ended: tokio::spawn(async move { running.await.unwrap() }),
        _folder: folder,
    }
}

async fn start() -> RealWorker {
    start_with(|_| {}).await
}

pub(crate) fn gateway_config(workers: &[&RealWorker]) -> GatewayConfig {
    GatewayConfig {
        git_workers: WorkerSource::Static(workers.iter().map(|worker| worker.url.clone()).collect()),
        worker_tokens: Some(tokens("fleet-token")),
        ..config(&[])
    }
}

#[tokio::test]
async fn a_worker_takes_its_job_and_ends_once_the_gateway_has_its_stream() {
    let worker = start().await;
    let gateway = TestGateway::start(gateway_config(&[&worker])).await;
    let mut events = gateway.post(job("s")).await;
    events.until("preparing").await;
    worker.runner.go_on.notify_one();
    let end = events.until("completed").await;
    assert_eq!(end.json["data"], json!({"attempt": 1, "jobId": events.job_id()}));
    assert_eq!(
        timeout(PATIENCE, worker.ended).await.unwrap().unwrap(),
        Ended::JobDone
    );
}

/// A busy worker refuses before it reads the body: the answer must not be lost behind the bytes that are still on their way.
#[tokio::test]
async fn a_busy_worker_refuses_a_large_job_and_another_one_takes_it() {
    let first = start().await;
    let gateway = TestGateway::start(gateway_config(&[&first])).await;
    let mut running = gateway.post(job("a")).await;
    running.until("preparing").await;

    let second = start().await;
    let other = TestGateway::start(gateway_config(&[&first])).await;
    let content = "x".repeat(12 * 1024 * 1024);
    let body = format!(r#"{{"sessionId":"b","files":[{{"path":"f","content":"{content}"}}]}}"#);
    let mut large = other.post(post("/apply-changes", body.clone())).await;
    let retrying = large.until("retrying").await;
    assert!(
        retrying.json["message"].as_str().unwrap().contains("busy"),
        "{}",
        retrying.json
    );

    let both = TestGateway::start(gateway_config(&[&first, &second])).await;
    let mut large = both.post(post("/apply-changes", body)).await;
    large.until("preparing").await;
    second.runner.go_on.notify_one();
    assert_eq!(large.names().await, ["completed"]);
    first.runner.go_on.notify_one();
    assert_eq!(running.names().await, ["completed"]);
}

#[tokio::test]
async fn a_worker_with_another_token_is_not_given_the_job() {
    let worker = start().await;
    let gateway = TestGateway::start(GatewayConfig {
        worker_tokens: Some(tokens("another")),
        ..gateway_config(&[&worker])
    })
    .await;
    let retrying = gateway.post(job("s")).await.until("retrying").await;
    assert!(
        retrying.json["message"]
            .as_str()
            .unwrap()
            .contains("WORKER_TOKEN")
    );
}

#[tokio::test]
async fn a_worker_at_an_https_address_is_asked_over_tls_and_by_a_certificate_that_is_trusted() {
    let (ca, folder) = (TestCa::new(), TempDir::new().unwrap());
    let (certificate, key) = ca.write_server_pem(folder.path());
    let worker = start_with(|config| config.tls = Some(TlsFiles { certificate, key })).await;
    let over_tls = |ca: Option<&TestCa>| GatewayConfig {
        git_workers: format!("https://{}", worker.url.authority()).parse().unwrap(),
        worker_ca_pem: ca.map(|ca| ca.pem().into_bytes()),
        ..gateway_config(&[])
    };
    // Without its authority, and with another one: nothing is sent.
    for config in [over_tls(None), over_tls(Some(&TestCa::new()))] {
        let gateway = TestGateway::start(config).await;
        let retrying = gateway.post(job("s")).await.until("retrying").await;
        let message = retrying.json["message"].as_str().unwrap();
        assert!(
            message.contains("could not be reached") && message.contains("certificate"),
            "{message}"
        );
    }
    let gateway = TestGateway::start(over_tls(Some(&ca))).await;
    let mut events = gateway.post(job("s")).await;
    events.until("preparing").await;
    worker.runner.go_on.notify_one();
    assert_eq!(events.names().await, ["completed"]);
    let (_, workers) = gateway.get("/workers").await;
    let address = workers["workers"][0]["address"].as_str().unwrap();
    assert!(address.starts_with("https://127.0.0.1:"), "{address}");
    assert_eq!(
        timeout(PATIENCE, worker.ended).await.unwrap().unwrap(),
        Ended::JobDone
    );
}

/// Hands connections on to a worker and counts them, once it is open; until then it closes them.
#[derive(Clone, Default)]
struct Door {
    is_open: Arc<AtomicBool>,
    passed: Arc<AtomicUsize>,
}

impl Door {
    #[expect(clippy::disallowed_methods, reason = "it stands for a network")]
    fn stand_before(&self, worker: &RealWorker, listener: TcpListener) {
        let (door, worker) = (self.clone(), worker.url.authority().to_owned());
        tokio::spawn(async move {
            loop {
                let (mut outside, _) = listener.accept().await.unwrap();
                if !door.is_open.load(Ordering::Acquire) {
                    continue;
                }
                door.passed.fetch_add(1, Ordering::Relaxed);
                let mut inside = TcpStream::connect(&worker).await.unwrap();
                // A side that breaks off is the test's to notice.
                tokio::spawn(async move { copy_bidirectional(&mut outside, &mut inside).await });
            }
        });
    }
}

#[tokio::test]
async fn a_worker_that_was_asked_over_tls_takes_its_job_on_that_connection() {
    let (ca, folder) = (TestCa::new(), TempDir::new().unwrap());
    let (certificate, key) = ca.write_server_pem(folder.path());
    let worker = start_with(|config| config.tls = Some(TlsFiles { certificate, key })).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let door = Door::default();
    door.stand_before(&worker, listener);
    let gateway = TestGateway::start(GatewayConfig {
        git_workers: format!("https://{address}").parse().unwrap(),
        worker_ca_pem: Some(ca.pem().into_bytes()),
        ..gateway_config(&[])
    })
    .await;
    let mut events = gateway.post(job("s")).await;
    // The worker is set aside now, and asked before it is tried again.
    events.until("retrying").await;
    door.is_open.store(true, Ordering::Release);
    events.until("preparing").await;
    assert_eq!(door.passed.load(Ordering::Relaxed), 1);
    worker.runner.go_on.notify_one();
    assert_eq!(events.names().await, ["completed"]);
    assert_eq!(
        timeout(PATIENCE, worker.ended).await.unwrap().unwrap(),
        Ended::JobDone
    );
}
