//! `mayfly up`: a gateway and a supervised fleet on this machine; and `mayfly gateway`, which is a gateway alone.

use std::ffi::OsString;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use mayfly_gateway::{
    GatewayConfig, KeysConfig, LocalFleet, SessionsConfig, Supervisor, SupervisorConfig, WorkerKind,
    WorkerSource,
};
use mayfly_protocol::SecretString;
use mayfly_server::bearer::FleetTokens;
use mayfly_storage::{Race, StorageUrl};
use mayfly_telemetry::trace::Tracing;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::args::{GatewayArgs, GitArgs, QueueArgs, StorageArgs, extra_ca};
use crate::confine::SandboxArg;
use crate::gc::CollectArgs;
use crate::trace::TraceArgs;
use crate::webhook::WebhookArgs;
use crate::{redis, secret, signal, trace};

/// Variables for the processes that are started.
pub(crate) type Environment = Vec<(OsString, OsString)>;

/// How long the fleet may take until a worker is ready.
const READY: Duration = Duration::from_secs(30);
/// Between two looks at whether it is.
const READY_INTERVAL: Duration = Duration::from_millis(20);

/// Settings of a whole fleet.
#[derive(Debug, Clone, Args)]
pub(crate) struct UpArgs {
    /// Port that the gateway listens on, on loopback; 0 takes a free one.
    #[arg(long, env = "PORT", default_value = "8080")]
    port: u16,
    /// File of the keys that clients need, one a line (`mayfly keys new`); read again when it changes. Without it, none is asked for.
    #[arg(long = "api-keys-file", env = "GATEWAY_API_KEYS_FILE")]
    api_keys_file: Option<PathBuf>,
    /// Git jobs that may run at the same time.
    #[arg(long, env = "GIT_WORKER_COUNT", default_value = "2")]
    git_workers: NonZeroUsize,
    /// Code operations that may run at the same time.
    #[arg(long, env = "CODE_WORKER_COUNT", default_value = "1")]
    code_workers: NonZeroUsize,
    /// Folder for the workers' scratch folders.
    #[arg(long, env = "TMP_DIR", default_value = "/tmp")]
    tmp_dir: PathBuf,
    /// Where sessions are kept: `file:///folder` or `s3://bucket/prefix`; a folder `.mayfly/storage` here when absent.
    #[arg(long, env = "STORAGE_URL")]
    storage_url: Option<StorageUrl>,
    #[command(flatten)]
    storage: StorageArgs,
    #[command(flatten)]
    git: GitArgs,
    #[command(flatten)]
    queue: QueueArgs,
    #[command(flatten)]
    collect: CollectArgs,
    #[command(flatten)]
    webhooks: WebhookArgs,
    /// Whether workers start where the kernel cannot keep them from each other's files.
    #[arg(long, env = "SANDBOX", value_enum, default_value = "best-effort")]
    sandbox: SandboxArg,
    #[command(flatten)]
    trace: TraceArgs,
}

impl UpArgs {
    /// The fleet of the demo: everything below one folder, and git hosts on loopback allowed.
    pub(crate) fn for_demo(folder: &Path, git_workers: NonZeroUsize) -> anyhow::Result<Self> {
        #[derive(clap::Parser)]
        struct Defaults {
            #[command(flatten)]
            up: UpArgs,
        }
        let tmp_dir = folder.join("tmp");
        std::fs::create_dir_all(&tmp_dir)?;
        let Defaults { up } = clap::Parser::try_parse_from(["mayfly"])?;
        Ok(Self {
            port: 0,
            git_workers,
            tmp_dir,
            api_keys_file: None,
            storage_url: Some(format!("file://{}", folder.join("storage").display()).parse()?),
            git: GitArgs {
                allow_private_git_hosts: true,
                ..up.git.clone()
            },
            ..up
        })
    }
}

pub(crate) async fn command(args: UpArgs, log: Environment) -> anyhow::Result<()> {
    let tasks = TaskTracker::new();
    let shutdown = signal::shutdown_token(&tasks)?;
    let fleet = Fleet::start(args, log).await?;
    announce(fleet.address)?;
    fleet.run_until(shutdown).await
}

/// Says on standard output where the gateway listens.
fn announce(address: SocketAddr) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening on {address}")
        .and_then(|()| out.flush())
        .context("standard output is closed")
}

/// A running gateway with its workers. The gateway drains first, and then the workers are ended.
pub(crate) struct Fleet {
    address: SocketAddr,
    drain: CancellationToken,
    gateway: JoinHandle<anyhow::Result<()>>,
    workers: Workers,
    tracing: Tracing,
}

impl Fleet {
    pub(crate) async fn start(args: UpArgs, log: Environment) -> anyhow::Result<Self> {
        let tracing = args.trace.open("mayfly-gateway")?;
        let storage = storage_url(args.storage_url.clone())?;
        let opened = args.storage.open(&storage, Race::Now).await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port))
            .await
            .with_context(|| format!("cannot listen on 127.0.0.1:{}; choose another PORT", args.port))?;
        let address = listener.local_addr()?;
        let (drain, tasks) = (CancellationToken::new(), TaskTracker::new());
        let token = SecretString::from(uuid::Uuid::new_v4().to_string());
        let workers = Workers::start(&args, log, &storage, &token)?;
        let [git, code] = workers.fleets.clone();
        let config = GatewayConfig {
            git_workers: WorkerSource::Local(git),
            code_workers: WorkerSource::Local(code),
            worker_tokens: Some(FleetTokens::parse(&token)?),
            keys: args.api_keys_file.clone().map(KeysConfig::new),
            storage: Some(Arc::clone(&opened)),
            collect: args.collect.config(&opened)?,
            webhooks: args.webhooks.config(args.git.extra_ca_file())?,
            tracer: tracing.tracer(),
            sessions: Some(SessionsConfig::new(opened, args.tmp_dir.clone())),
            ..gateway_config(&args.queue)
        };
        let running = mayfly_gateway::run(config, listener, drain.clone());
        let gateway =
            mayfly_telemetry::task::spawn(&tasks, async move { running.await.map_err(anyhow::Error::from) });
        Ok(Self {
            address,
            drain,
            gateway,
            workers,
            tracing,
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The process ids of the workers that run now.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.workers.fleets.iter().flat_map(LocalFleet::pids).collect()
    }

    /// Waits until a git worker is ready.
    pub(crate) async fn ready(&self) -> anyhow::Result<()> {
        let url = format!("{}/ready", self.url());
        let http = reqwest::Client::builder().no_proxy().build()?;
        let waiting = async {
            loop {
                match http.get(&url).send().await {
                    Ok(answer) if answer.status().is_success() => return,
                    _ => tokio::time::sleep(READY_INTERVAL).await,
                }
            }
        };
        tokio::time::timeout(READY, waiting)
            .await
            .context("no worker became ready within 30 seconds")
    }

    /// Ends the fleet, and waits until every process is gone.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.drain.cancel();
        let ended = self.gateway.await;
        self.workers.stop().await;
        self.tracing.shutdown(trace::GRACE).await;
        ended.context("the gateway panicked")?
    }

    /// Runs until the token is cancelled, or the gateway ends by itself.
    async fn run_until(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        tokio::select! {
            () = shutdown.cancelled() => self.stop().await,
            ended = &mut self.gateway => {
                self.workers.stop().await;
                ended.context("the gateway panicked")?
            }
        }
    }
}

/// The supervisors of both kinds of worker.
struct Workers {
    fleets: [LocalFleet; 2],
    supervisors: [Supervisor; 2],
    end: CancellationToken,
}

impl Workers {
    fn start(
        args: &UpArgs,
        mut env: Environment,
        storage: &StorageUrl,
        token: &SecretString,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("the running program cannot be found")?;
        env.extend(args.git.to_environment());
        env.push(("STORAGE_URL".into(), storage.to_string().into()));
        env.extend(args.storage.to_environment());
        env.extend(args.trace.to_environment());
        env.push(args.sandbox.to_environment());
        let end = CancellationToken::new();
        let start = |kind: WorkerKind, command: &str, workers: NonZeroUsize, reserve: usize| {
            let config = SupervisorConfig::new(
                kind,
                program.clone(),
                workers,
                args.tmp_dir.clone(),
                token.clone(),
            );
            let config = SupervisorConfig {
                args: vec![command.into()],
                env: env.clone(),
                reserve,
                ..config
            };
            Supervisor::start(config, end.clone())
        };
        let (git, git_supervisor) = start(
            WorkerKind::Git,
            "git-worker",
            args.git_workers,
            args.git_workers.get(),
        );
        let (code, code_supervisor) = start(WorkerKind::Code, "code-worker", args.code_workers, 1);
        Ok(Self {
            fleets: [git, code],
            supervisors: [git_supervisor, code_supervisor],
            end,
        })
    }

    async fn stop(self) {
        self.end.cancel();
        for supervisor in self.supervisors {
            supervisor.stopped().await;
        }
    }
}

/// Without a setting sessions are kept below the folder that the fleet is started in.
fn storage_url(given: Option<StorageUrl>) -> anyhow::Result<StorageUrl> {
    if let Some(url) = given {
        return Ok(url);
    }
    let folder = std::env::current_dir()
        .context("the current folder is gone")?
        .join(".mayfly/storage");
    std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    Ok(format!("file://{}", folder.display()).parse()?)
}

fn gateway_config(queue: &QueueArgs) -> GatewayConfig {
    GatewayConfig {
        queue_capacity: queue.queue_capacity,
        queue_timeout: queue.queue_timeout,
        job_attempts: queue.job_attempts,
        drain_grace: queue.gateway_drain_grace,
        ..GatewayConfig::default()
    }
}

/// `mayfly gateway`
pub(crate) async fn gateway_command(args: GatewayArgs) -> anyhow::Result<()> {
    let tasks = TaskTracker::new();
    let shutdown = signal::shutdown_token(&tasks)?;
    let workers = |name: &str, text: Option<&str>| -> anyhow::Result<WorkerSource> {
        text.unwrap_or_default().parse().with_context(|| name.to_owned())
    };
    if args.git_workers.is_none() && args.code_workers.is_none() {
        bail!("no workers are named: set GIT_WORKERS or CODE_WORKERS, or use `mayfly up`");
    }
    let storage = match &args.storage_url {
        None => None,
        Some(url) => Some(args.storage.open(url, Race::Now).await?),
    };
    let collect = storage.as_ref().map(|opened| args.collect.config(opened));
    let sessions = storage
        .clone()
        .map(|opened| SessionsConfig::new(opened, args.tmp_dir.clone()));
    let tracing = args.trace.open("mayfly-gateway")?;
    let coordination = args.redis.open(args.extra_ca_file.as_ref()).await?;
    let config = GatewayConfig {
        coordination,
        waiting_jobs_keys: redis::waiting_jobs_keys()?,
        git_workers: workers("GIT_WORKERS", args.git_workers.as_deref())?,
        code_workers: workers("CODE_WORKERS", args.code_workers.as_deref())?,
        worker_tokens: secret::worker_tokens()?,
        worker_ca_pem: extra_ca(args.extra_ca_file.as_ref())?,
        keys: args.api_keys_file.clone().map(KeysConfig::new),
        tls: args.tls.files(),
        storage,
        sessions,
        collect: collect.transpose()?.flatten(),
        webhooks: args.webhooks.config(args.extra_ca_file.as_ref())?,
        tracer: tracing.tracer(),
        ..gateway_config(&args.queue)
    };
    let listener = TcpListener::bind((args.host, args.port)).await.with_context(|| {
        format!(
            "cannot listen on {}:{}; choose another PORT",
            args.host, args.port
        )
    })?;
    announce(listener.local_addr()?)?;
    let ended = mayfly_gateway::run(config, listener, shutdown).await;
    tracing.shutdown(trace::GRACE).await;
    Ok(ended?)
}
