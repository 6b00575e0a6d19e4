//! The one binary, `mayfly`: each role of the fleet is a command of it.
//!
//! Here the configuration is read, once, and handed on as typed values; nothing else in the workspace reads the environment.

mod args;
mod bench;
mod client;
mod confine;
mod demo;
mod gc;
mod health;
mod keys;
mod redis;
mod secret;
mod signal;
mod trace;
mod up;
mod webhook;
mod worker;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mayfly_telemetry::task;
use tokio_util::task::TaskTracker;

/// Mayfly: a fleet of one-job git workers behind a gateway.
#[derive(Debug, Parser)]
#[command(name = "mayfly", version, about, long_about = None)]
struct Cli {
    #[command(flatten)]
    log: args::LogArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway and a supervised fleet of workers on this machine.
    Up(up::UpArgs),
    /// Run the whole product once against a real git repository made for it, and show what happened.
    Demo(demo::DemoArgs),
    /// Measure Mayfly against what one would use instead.
    Bench(bench::BenchArgs),
    Clone(client::jobs::CloneArgs),
    Branch(client::jobs::BranchArgs),
    Apply(client::jobs::ApplyArgs),
    Commit(client::jobs::CommitArgs),
    Jobs(client::commands::JobsArgs),
    Watch(client::commands::WatchArgs),
    Cancel(client::commands::CancelArgs),
    Sessions(client::commands::SessionsArgs),
    Workers(client::commands::WorkersArgs),
    /// Make keys for the clients of a gateway.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Run the gateway.
    Gateway(args::GatewayArgs),
    /// Ask the role that runs here whether it is well: the health check of a container.
    Health(health::HealthArgs),
    /// Remove what is needed no more from the storage, or say what would be removed.
    Gc(gc::GcCommand),
    /// Run one git worker: it takes one job, and exits.
    GitWorker(args::GitWorkerArgs),
    /// Run one code worker: it takes one job, and exits.
    CodeWorker(args::CodeWorkerArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<client::ClientError>() {
            Some(error) => client::tell(error),
            None => {
                tracing::error!("{error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let is_quiet = cli.command.is_quiet();
    mayfly_telemetry::logging::init(cli.log.format.into(), cli.log.filter(is_quiet))?;
    if cli.command.is_role() {
        confine::confine()?;
    }
    if cli.command.is_gateway() {
        confine::allow_open_files()?;
    }
    let log_of_workers = cli.log.to_environment(is_quiet);
    std::panic::set_hook(Box::new(log_panic));
    // An error means that there is a provider already, which is what is wanted.
    let _already_there = rustls::crypto::ring::default_provider().install_default();
    let threads = cli.command.threads();
    match cli.command {
        Command::Up(args) => on(threads, up::command(args, log_of_workers)),
        Command::Demo(args) => on(threads, demo::command(args, log_of_workers)),
        Command::Bench(args) => on(threads, bench::command(args)),
        Command::Clone(args) => on(threads, client::jobs::clone(args)),
        Command::Branch(args) => on(threads, client::jobs::branch(args)),
        Command::Apply(args) => on(threads, client::jobs::apply(args)),
        Command::Commit(args) => on(threads, client::jobs::commit(args)),
        Command::Jobs(args) => on(threads, client::commands::jobs(args)),
        Command::Watch(args) => on(threads, client::commands::watch(args)),
        Command::Cancel(args) => on(threads, client::commands::cancel(args)),
        Command::Sessions(args) => on(threads, client::commands::sessions(args)),
        Command::Workers(args) => on(threads, client::commands::workers(args)),
        Command::Keys(command) => keys::command(command),
        Command::Gateway(args) => on(threads, serve(up::gateway_command(args))),
        Command::Gc(args) => on(threads, gc::command(args)),
        Command::Health(args) => on(threads, health::command(args)),
        Command::GitWorker(args) => {
            let confined = confine::git_worker(&args)?;
            on(threads, worker::git_worker(args, &confined))
        }
        Command::CodeWorker(args) => {
            let confined = confine::code_worker(&args)?;
            on(threads, worker::code_worker(args, &confined))
        }
    }
}

/// Runs a command with so many async threads.
fn on<E: Into<anyhow::Error>>(
    threads: usize,
    command: impl Future<Output = Result<(), E>>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(command);
    // A job that ignores its cancellation may still hold a blocking thread, which nobody waits for any more.
    runtime.shutdown_background();
    outcome.map_err(Into::into)
}

/// Runs a server on an async thread: the main thread would have to be woken for each connection.
async fn serve(server: impl Future<Output = anyhow::Result<()>> + Send + 'static) -> anyhow::Result<()> {
    match task::spawn(&TaskTracker::new(), server).await {
        Ok(served) => served,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Logs where a panic happened. Its text is left out: it may quote what a job was given, and so a secret.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(
        place,
        "a part of this process panicked; this is a defect of Mayfly"
    );
}

impl Command {
    /// Whether it serves others, with their secrets in its memory.
    fn is_role(&self) -> bool {
        matches!(
            self,
            Self::Up(_) | Self::Gateway(_) | Self::GitWorker(_) | Self::CodeWorker(_)
        )
    }

    /// Whether it has the streams of many clients.
    fn is_gateway(&self) -> bool {
        matches!(self, Self::Up(_) | Self::Gateway(_))
    }

    /// Whether it speaks to people, who want no log.
    fn is_quiet(&self) -> bool {
        matches!(
            self,
            Self::Demo(_)
                | Self::Clone(_)
                | Self::Branch(_)
                | Self::Apply(_)
                | Self::Commit(_)
                | Self::Jobs(_)
                | Self::Watch(_)
                | Self::Cancel(_)
                | Self::Sessions(_)
                | Self::Workers(_)
        )
    }

    /// Async threads: a worker has one job, and its heavy work is done on blocking threads.
    fn threads(&self) -> usize {
        match self {
            Self::Health(_) => 1,
            Self::GitWorker(_) | Self::CodeWorker(_) => 2,
            _ => std::thread::available_parallelism().map_or(2, usize::from),
        }
    }
}
