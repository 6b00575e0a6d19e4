//! Two hundred running jobs and the end of their gateway: killed, or rolled over together with its workers. Each client reads on at the next
//! gateway, and hears one true end; those that come meanwhile send their jobs again, with the same key, and each job is done once.
//!
//! The gateways are processes; the workers are real ones in this process, of which each takes one job, runs it until it is told to go on, and comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use futures::stream::{self, StreamExt as _};
use mayfly_protocol::{
    ErrorCode, EventBody, Failure, Job, JobKind, JobOutcome, SecretString, Source, Stage, TenantId,
};
use mayfly_server::bearer::FleetTokens;
use mayfly_session::OutcomeArchive;
use mayfly_storage::{DirectoryStore, StorageOptions};
use mayfly_telemetry::task;
use mayfly_testkit::process::{Launch, Running};
use mayfly_testkit::sse::{Numbered, Stream, http_client};
use mayfly_testkit::wait::within;
use mayfly_worker::{JobContext, JobRunner, OutcomeNotKept, OutcomeStore, WorkerConfig};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::rig::Rig;

pub(super) const JOBS: usize = 200;
/// Clients that come just before the gateway ends, and as many while there is none.
const ARRIVALS: usize = 10;
/// Clients that begin their jobs at the same time.
const AT_ONCE: usize = 16;
const TOKEN: &str = "fleet-token";

/// The attempts that were begun, by session and job.
type Runs = BTreeMap<(String, String), Vec<u32>>;

/// When a job goes on.
#[derive(Clone)]
pub(super) struct Gates {
    waves: [CancellationToken; 3],
    runs: Arc<Mutex<Runs>>,
}

impl Gates {
    pub(super) fn new() -> Self {
        Self {
            waves: std::array::from_fn(|_| CancellationToken::new()),
            runs: Arc::default(),
        }
    }

    /// Waits until the job of this session may go on: before, during or after the outage; that of a new arrival may at once.
    async fn pass(&self, session: &str, job: &str, attempt: u32) {
        let key = (session.to_owned(), job.to_owned());
        self.runs.lock().unwrap().entry(key).or_default().push(attempt);
        if let Some(number) = session.strip_prefix('s') {
            let number: usize = number.parse().unwrap();
            self.waves[number % 3].cancelled().await;
        }
    }

    pub(super) fn open(&self, wave: usize) {
        self.waves[wave].cancel();
    }

    /// The job of each session was begun, and hardly any session has two.
    fn check(&self) {
        self.check_attempts();
        let runs = self.runs.lock().unwrap();
        let sessions: BTreeSet<&str> = runs.keys().map(|(session, _)| session.as_str()).collect();
        assert_eq!(sessions.len(), JOBS + 2 * ARRIVALS);
        let begun: usize = runs.values().map(Vec::len).sum();
        assert!(begun <= sessions.len() + JOBS / 20, "{runs:?}");
    }

    /// No attempt at a job was begun twice; a second one only for the few whose workers a starved machine kept from a sign of life for seconds.
    pub(super) fn check_attempts(&self) {
        let runs = self.runs.lock().unwrap();
        let rise = |attempts: &Vec<u32>| attempts.is_sorted_by(|one, next| one < next);
        assert!(runs.values().all(rise), "{runs:?}");
        let begun: usize = runs.values().map(Vec::len).sum();
        assert!(begun <= runs.len() + JOBS / 20, "{runs:?}");
    }

    /// The last attempt at this job.
    fn last_attempt(&self, session: &str, job: &str) -> u32 {
        let key = (session.to_owned(), job.to_owned());
        *self.runs.lock().unwrap()[&key].last().unwrap()
    }
}

struct Gated {
    gates: Gates,
    outcomes: Outcomes,
}

struct Outcomes(OutcomeArchive);

#[async_trait::async_trait]
impl OutcomeStore for Outcomes {
    async fn keep(&self, tenant: &TenantId, outcome: &JobOutcome) -> Result<(), OutcomeNotKept> {
        let kept = self.0.keep(tenant, outcome).await;
        kept.map(|_| ()).map_err(|error| OutcomeNotKept(error.into()))
    }
}

#[async_trait::async_trait]
impl JobRunner for Gated {
    fn source(&self) -> Source {
        Source::GitWorker
    }

    fn kinds(&self) -> &'static [JobKind] {
        &[JobKind::CreateBranch]
    }

    fn outcomes(&self) -> Option<&dyn OutcomeStore> {
        Some(&self.outcomes)
    }

    async fn run(&self, job: Job, context: JobContext) -> Result<Value, Failure> {
        context.events.stage(Stage::Preparing, "Preparing");
        let session = job.session_id().as_str();
        self.gates
            .pass(session, context.job_id.as_str(), context.attempt)
            .await;
        context.events.stage(Stage::Uploading, "Uploading");
        Ok(json!({"session": job.session_id(), "attempt": context.attempt}))
    }
}

/// Workers, and what asks them all to end.
pub(super) struct Workers {
    addresses: Vec<SocketAddr>,
    shutdown: CancellationToken,
}

pub(super) async fn workers(rig: &Rig, gates: &Gates, count: usize) -> Workers {
    let folder = rig.folder.path().join("storage");
    let storage = DirectoryStore::open(&folder, &StorageOptions::default())
        .await
        .unwrap();
    let storage: Arc<dyn mayfly_storage::ObjectStore> = Arc::new(storage);
    let (mut addresses, shutdown) = (Vec::new(), CancellationToken::new());
    for _ in 0..count {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        addresses.push(listener.local_addr().unwrap());
        let config = WorkerConfig {
            tmp_dir: rig.tmp(),
            tokens: Some(FleetTokens::parse(&SecretString::from(TOKEN)).unwrap()),
            drain_grace: Duration::from_secs(600),
            // Two hundred outcomes are kept at the same moment, on whatever disk there is.
            outcome_grace: Duration::from_secs(60),
            ..WorkerConfig::default()
        };
        let (gates, storage, shutdown) = (gates.clone(), Arc::clone(&storage), shutdown.clone());
        task::spawn(&TaskTracker::new(), async move {
            while !shutdown.is_cancelled() {
                let listener = TcpListener::from_std(listener.try_clone().unwrap()).unwrap();
                let runner = Gated {
                    gates: gates.clone(),
                    outcomes: Outcomes(OutcomeArchive::new(Arc::clone(&storage))),
                };
                let running = mayfly_worker::run(config.clone(), listener, runner, shutdown.clone());
                running.await.unwrap();
            }
        });
    }
    Workers { addresses, shutdown }
}

async fn gateway(rig: &Rig, workers: &[&Workers]) -> (Running, String) {
    start_gateway(launch(rig, workers)).await
}

/// A gateway of these workers that is to be started.
pub(super) fn launch(rig: &Rig, workers: &[&Workers]) -> Launch {
    let list: Vec<String> = workers
        .iter()
        .flat_map(|workers| &workers.addresses)
        .map(|it| format!("http://{it}"))
        .collect();
    rig.launch(&["gateway", "--port", "0", "--gateway-drain-grace-secs", "1"])
        .env("GIT_WORKERS", list.join(","))
        .env("WORKER_TOKEN", TOKEN)
}

pub(super) async fn start_gateway(launch: Launch) -> (Running, String) {
    let mut running = launch.start();
    let line = running.line_on_stdout("listening on ").await;
    let address = line.rsplit(' ').next().unwrap().to_owned();
    (running, format!("http://{address}"))
}

/// A client, with what it has read so far.
pub(super) struct Client {
    session: String,
    pub(super) job: String,
    stream: Option<Stream>,
    pub(super) read: Vec<Numbered>,
}

impl Client {
    /// Sends a job, and reads until its worker has said something.
    pub(super) async fn start(base: &str, number: usize) -> Self {
        let mut client = Self::send(base, number, "first").await;
        let Self { stream, read, .. } = &mut client;
        let stream = stream.as_mut().unwrap();
        while read
            .last()
            .is_none_or(|(_, event): &Numbered| event.source == Source::Gateway)
        {
            read.push(stream.next().await.unwrap());
        }
        client
    }

    /// Sends a job, which may have to wait.
    pub(super) async fn send(base: &str, number: usize, key: &str) -> Self {
        let session = format!("s{number}");
        let body = json!({"sessionId": session, "userRequest": "x"});
        let request = http_client().post(format!("{base}/create-branch"));
        let request = request.header("idempotency-key", format!("{key}-{session}"));
        let response = request.json(&body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        Self {
            session,
            job: response.headers()["x-job-id"].to_str().unwrap().to_owned(),
            stream: Some(Stream::of(response)),
            read: Vec::new(),
        }
    }

    fn is_over(&self) -> bool {
        self.read.last().is_some_and(|(_, event)| event.is_terminal())
    }

    /// Reads as long as the gateway sends anything, which may break off anywhere.
    pub(super) async fn read_on(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            while let Some(event) = stream.next().await {
                self.read.push(event);
            }
        }
    }

    /// Reads on from where it left off.
    pub(super) async fn resume(&mut self, base: &str) {
        if self.is_over() {
            return;
        }
        let last = self.read.last().unwrap().0;
        let request = http_client().get(format!("{base}/jobs/{}/events", self.job));
        let response = request
            .header("last-event-id", last.to_string())
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        self.stream = Some(Stream::of(response));
        self.read_on().await;
    }

    /// All that was read is one stream with one end, that of the job.
    pub(super) fn check(&self, gates: &Gates) {
        let numbers: Vec<u64> = self.read.iter().map(|(id, _)| *id).collect();
        let whole: Vec<u64> = (1..=numbers.len() as u64).collect();
        assert_eq!(numbers, whole, "{}", self.session);
        self.check_end(gates);
    }

    /// What was read has numbers that rise, and one end, that of the job.
    pub(super) fn check_end(&self, gates: &Gates) {
        assert!(
            self.read.windows(2).all(|pair| pair[0].0 < pair[1].0),
            "{}",
            self.session
        );
        let ends = self.read.iter().filter(|(_, event)| event.is_terminal()).count();
        assert_eq!(ends, 1, "{}", self.session);
        let data = mayfly_testkit::sse::completed(&self.read);
        let attempt = gates.last_attempt(&self.session, &self.job);
        assert_eq!(*data, json!({"session": self.session, "attempt": attempt}));
    }
}

/// All of them run at the end. They do not come at once: what is tried here is not a rush.
pub(super) async fn start_all(base: &str, numbers: Range<usize>) -> Vec<Client> {
    let starting = numbers.map(|number| Client::start(base, number));
    stream::iter(starting).buffered(AT_ONCE).collect().await
}

/// Everything is at its end, and what the gateway says of each job is that, too; the key of each is still that job.
async fn check_all(clients: &[Client], base: &str, gates: &Gates) {
    for client in clients {
        client.check(gates);
        let url = format!("{base}/jobs/{}", client.job);
        let view: Value = http_client().get(url).send().await.unwrap().json().await.unwrap();
        assert_eq!(view["state"], "completed", "{view}");
    }
    gates.check();
    let client = &clients[0];
    let body = json!({"sessionId": client.session, "userRequest": "x"});
    let request = http_client().post(format!("{base}/create-branch"));
    let again = request
        .header("idempotency-key", format!("first-{}", client.session))
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(again.headers()["x-job-id"], client.job.as_str());
}

/// Clients that come whether there is a gateway or not, and know where the next one is once it is there.
struct Arrivals {
    base: watch::Sender<String>,
    clients: Vec<JoinHandle<()>>,
}

impl Arrivals {
    fn new(base: &str) -> Self {
        Self {
            base: watch::Sender::new(base.to_owned()),
            clients: Vec::new(),
        }
    }

    fn come(&mut self) {
        for _ in 0..ARRIVALS {
            let client = arrive(format!("n{}", self.clients.len()), self.base.subscribe());
            self.clients.push(task::spawn(&TaskTracker::new(), client));
        }
    }

    /// Each hears the end of its job.
    async fn served(self, base: &str) {
        self.base.send_replace(base.to_owned());
        for client in self.clients {
            within("the end of a new job", client).await.unwrap();
        }
    }
}

/// Sends a job again until it is done, as the documentation of its errors says.
async fn arrive(session: String, mut base: watch::Receiver<String>) {
    let body = json!({"sessionId": session, "userRequest": "x"});
    let mut lost = 0;
    loop {
        let at = base.borrow_and_update().clone();
        let request = http_client().post(format!("{at}/create-branch"));
        let request = request.header("idempotency-key", format!("{session}-{lost}"));
        let end = match request.json(&body).send().await {
            Ok(response) if response.status() == 200 => Stream::of(response).rest().await.pop(),
            Ok(response) => {
                assert_eq!(response.status(), 503, "{session}");
                None
            }
            Err(_) => None,
        };
        match end.map(|(_, event)| event.body) {
            Some(EventBody::Completed { .. }) => return,
            Some(EventBody::Error(failure)) => {
                assert!(failure.retryable, "{session}: {failure:?}");
                lost += usize::from(failure.code == ErrorCode::WorkerLost);
            }
            // Refused, or broken off: whoever is next knows what became of it.
            Some(EventBody::Progress { .. }) | None => base.changed().await.unwrap(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateway_loses_no_running_job() {
    let rig = Rig::new();
    let gates = Gates::new();
    let workers = workers(&rig, &gates, JOBS + 2 * ARRIVALS).await;
    let (mut first, base) = gateway(&rig, &[&workers]).await;
    let mut clients = start_all(&base, 0..JOBS).await;
    let mut arrivals = Arrivals::new(&base);
    arrivals.come();
    gates.open(0);
    first.signal(Signal::SIGKILL);
    first.ended().await;
    arrivals.come();
    gates.open(1);
    // What a killed process had sent; then its connections are cut.
    join_all(clients.iter_mut().map(Client::read_on)).await;
    let (_second, base) = gateway(&rig, &[&workers]).await;
    let (_, (), ()) = tokio::join!(
        join_all(clients.iter_mut().map(|client| client.resume(&base))),
        arrivals.served(&base),
        async {
            gates.open(2);
        }
    );
    check_all(&clients, &base, &gates).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_gateway_and_workers_loses_nothing() {
    let rig = Rig::new();
    let gates = Gates::new();
    let old = workers(&rig, &gates, JOBS + ARRIVALS).await;
    let new = workers(&rig, &gates, 2 * ARRIVALS).await;
    let (mut first, base) = gateway(&rig, &[&old]).await;
    let mut clients = start_all(&base, 0..JOBS).await;
    let mut arrivals = Arrivals::new(&base);
    arrivals.come();
    let (_second, next) = gateway(&rig, &[&old, &new]).await;
    gates.open(0);
    first.signal(Signal::SIGTERM);
    old.shutdown.cancel();
    arrivals.come();
    join_all(clients.iter_mut().map(Client::read_on)).await;
    assert!(first.ended().await.success());
    gates.open(1);
    let (_, (), ()) = tokio::join!(
        join_all(clients.iter_mut().map(|client| client.resume(&next))),
        arrivals.served(&next),
        async {
            gates.open(2);
        }
    );
    check_all(&clients, &next, &gates).await;
}
