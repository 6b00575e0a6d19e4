//! The commands that are one worker.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use mayfly_git_worker::{GitLimits, GitWorker, GitWorkerConfig, Identity};
use mayfly_naming::{LlmConfig, Namer, Provider};
use mayfly_protocol::SecretString;
use mayfly_storage::{ObjectStore, Race};
use mayfly_telemetry::trace::Tracing;
use mayfly_worker::WorkerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::args::{CodeWorkerArgs, GitArgs, GitWorkerArgs, LlmArgs, LlmProvider, WorkerArgs};
use crate::confine::Confined;
use crate::{secret, signal, trace};

/// `mayfly git-worker`
pub(crate) async fn git_worker(args: GitWorkerArgs, confined: &Confined) -> anyhow::Result<()> {
    let start = Start::new(&args.worker, confined, args.port, "mayfly-git-worker").await?;
    let storage = args.storage.open(&args.storage_url, Race::UnlessNoted).await?;
    let runner = make_git_worker(&args.git, storage)?;
    let worker = runner.clone();
    start.announce(&args.worker)?;
    mayfly_worker::run(start.config, start.listener, runner, start.shutdown).await?;
    start.tracing.shutdown(trace::GRACE).await;
    let metered = worker.storage();
    let (read, written) = (metered.read_bytes(), metered.written_bytes());
    tracing::info!(
        storage.read_bytes = read,
        storage.written_bytes = written,
        storage.calls = metered.requests().total(),
        "bytes from and to the storage"
    );
    Ok(())
}

/// `mayfly code-worker`
pub(crate) async fn code_worker(args: CodeWorkerArgs, confined: &Confined) -> anyhow::Result<()> {
    let start = Start::new(&args.worker, confined, args.port, "mayfly-code-worker").await?;
    start.announce(&args.worker)?;
    mayfly_code_worker::run(start.config, start.listener, start.shutdown).await?;
    start.tracing.shutdown(trace::GRACE).await;
    Ok(())
}

/// What every worker process has before it takes a job.
struct Start {
    config: WorkerConfig,
    listener: TcpListener,
    address: SocketAddr,
    shutdown: CancellationToken,
    tracing: Tracing,
}

impl Start {
    async fn new(
        args: &WorkerArgs,
        confined: &Confined,
        port: u16,
        service: &'static str,
    ) -> anyhow::Result<Self> {
        let tracing = args.trace.open(service)?;
        let tasks = TaskTracker::new();
        let shutdown = signal::shutdown_token(&tasks)?;
        if args.exit_with_parent {
            signal::cancel_with_parent(&tasks, shutdown.clone());
        }
        let listener = TcpListener::bind((args.host, port))
            .await
            .with_context(|| format!("cannot listen on {}:{port}; choose another PORT", args.host))?;
        let address = listener.local_addr()?;
        let config = WorkerConfig {
            tmp_dir: confined.place.path().to_owned(),
            sandbox: confined.sandbox,
            tokens: secret::worker_tokens()?,
            tls: args.tls.files(),
            job_timeout: args.job_timeout,
            drain_grace: args.drain_grace,
            tracer: tracing.tracer(),
            ..WorkerConfig::default()
        };
        Ok(Self {
            config,
            listener,
            address,
            shutdown,
            tracing,
        })
    }

    fn announce(&self, args: &WorkerArgs) -> anyhow::Result<()> {
        tracing::info!(address = %self.address, sandbox = %self.config.sandbox, "listening");
        if args.announce {
            let mut out = std::io::stdout().lock();
            writeln!(out, "listening on {}", self.address).and_then(|()| out.flush())?;
        }
        Ok(())
    }
}

fn make_git_worker(args: &GitArgs, storage: Arc<dyn ObjectStore>) -> anyhow::Result<GitWorker> {
    let mut limits = GitLimits::default();
    limits.transfer.max_pack_bytes = args.max_repository_bytes;
    limits.transfer.max_object_bytes = args.max_object_bytes;
    limits.full_clone.max_objects = args.full_clone_max_objects;
    limits.full_clone.max_bytes = args.full_clone_max_bytes;
    limits.keep_ignored_bytes = args.keep_ignored_bytes;
    limits.lfs.max_bytes = args.max_lfs_bytes;
    let identity = Identity {
        name: args.commit_name.clone(),
        email: args.commit_email.clone(),
    };
    let namer = Namer::new(args.llm_client()?, llm_config(&args.llm)?);
    Ok(GitWorker::new(
        GitWorkerConfig { identity, limits },
        storage,
        args.git_client()?,
        namer,
    ))
}

/// The LLM that jobs use: with the configured key, or, where there is none, with the caller's.
fn llm_config(args: &LlmArgs) -> anyhow::Result<Option<LlmConfig>> {
    let (provider, base_url, key) = match args.llm_provider {
        LlmProvider::Anthropic => (Provider::Anthropic, &args.anthropic_base_url, "ANTHROPIC_API_KEY"),
        LlmProvider::Openai => (Provider::OpenAi, &args.openai_base_url, "OPENAI_API_KEY"),
    };
    let api_key: Option<SecretString> = secret::from_environment(key)?;
    let model = args
        .llm_model
        .clone()
        .unwrap_or_else(|| provider.default_model().to_owned());
    let config = LlmConfig::new(provider, base_url.clone(), model);
    Ok(Some(LlmConfig {
        api_key,
        timeout: args.llm_timeout,
        ..config
    }))
}
