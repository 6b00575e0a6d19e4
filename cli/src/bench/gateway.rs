//! `mayfly bench gateway`: our gateway against nginx and HAProxy, before the same stub workers.

mod account;
mod churn;
mod client;
mod jobs;
mod killed;
mod latency;
mod list;
mod names;
mod proxies;
mod side;
mod streams;
mod stub;
mod stub_host;
mod stubs;
mod table;
mod tries;

use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio_util::task::TaskTracker;

pub(crate) use stub_host::{StubsArgs, command as stubs_command};

use crate::signal;
use side::{Running, Setup, Side};
use table::{Measured, Report};

/// Open files that ten thousand streams need: a socket at each end of each, and some more.
const OPEN_FILES: u64 = 65_536;

/// What is measured, and how much of it.
#[derive(Debug, Args)]
pub(crate) struct GatewayBenchArgs {
    /// What is measured, separated by commas.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "latency,steady,bursts,flood,streams,churn,kill,list"
    )]
    measure: Vec<Measure>,
    /// What is measured beside our gateway: `nginx,haproxy`, `none` for ours alone.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "nginx,haproxy")]
    against: Vec<Rival>,
    /// Alternating runs of all sides.
    #[arg(long, default_value = "5")]
    runs: NonZeroU32,
    /// Stub workers for jobs.
    #[arg(long, default_value = "50")]
    workers: NonZeroU32,
    /// Milliseconds that a short job takes.
    #[arg(long, default_value = "20")]
    job_millis: NonZeroU64,
    /// Milliseconds for which a worker is away after its job.
    #[arg(long, default_value = "300")]
    restart_millis: NonZeroU64,
    /// Jobs of which the time to the first event is taken.
    #[arg(long, default_value = "500")]
    latency_jobs: NonZeroU32,
    /// Share of what the workers can do that is asked for under steady load.
    #[arg(long, default_value = "0.8")]
    load: f64,
    /// Seconds for which jobs are sent.
    #[arg(long, default_value = "5")]
    seconds: NonZeroU32,
    /// Concurrent streams, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000")]
    streams: Vec<NonZeroU32>,
    /// Seconds for which all streams are watched at an event a second, and a gateway that has nothing to do.
    #[arg(long, default_value = "20")]
    hold_seconds: NonZeroU32,
    /// Workers that are killed (SIGKILL) with a job.
    #[arg(long, default_value = "20")]
    kills: NonZeroU32,
    /// Addresses behind the name that changes.
    #[arg(long, default_value = "2000")]
    addresses: NonZeroU32,
    /// Addresses that are added to them, one after the other.
    #[arg(long, default_value = "20")]
    changes: NonZeroU32,
    /// Let our gateway note its jobs in a storage, a folder, which the others do not have.
    #[arg(long)]
    storage: bool,
    /// Folder for everything that is made; all of it is removed at the end.
    #[arg(long, env = "TMP_DIR", default_value = "/tmp")]
    tmp_dir: PathBuf,
    /// File that all figures are written to, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// A thing to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measure {
    /// The time to a worker's first event, with workers free.
    Latency,
    /// Jobs that come at a steady rate, below what the workers can do.
    Steady,
    /// The same in bursts of more jobs than there are workers.
    Bursts,
    /// More clients than workers, each with one job after the other.
    Flood,
    /// Many streams at an event a second.
    Streams,
    /// Jobs while workers are killed and others come.
    Churn,
    /// What a client hears when its worker is killed.
    Kill,
    /// A list of many addresses, which changes; our gateway alone.
    List,
}

/// What our gateway is measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rival {
    /// nginx.
    Nginx,
    /// HAProxy.
    Haproxy,
    /// Nothing.
    None,
}

/// What every measure has.
struct Bench<'a> {
    args: &'a GatewayBenchArgs,
    folder: &'a Path,
    sides: Vec<Side>,
    open_files: u64,
}

pub(crate) async fn command(args: GatewayBenchArgs) -> anyhow::Result<()> {
    let rivals = args.against.iter().filter_map(|rival| match rival {
        Rival::Nginx => Some(Side::Nginx),
        Rival::Haproxy => Some(Side::Haproxy),
        Rival::None => None,
    });
    let sides: Vec<Side> = [Side::Mayfly].into_iter().chain(rivals).collect();
    sides.iter().try_for_each(|side| side.check())?;
    let open_files = allow_open_files()?;
    check_streams(&args, open_files)?;
    let folder = tempfile::Builder::new()
        .prefix("mayfly-bench-")
        .tempdir_in(&args.tmp_dir)
        .with_context(|| format!("no folder can be made in {}", args.tmp_dir.display()))?;
    let bench = Bench {
        args: &args,
        folder: folder.path(),
        sides,
        open_files,
    };
    let signals = TaskTracker::new();
    let stop = signal::shutdown_token(&signals)?;
    let measured = stop.run_until_cancelled(Box::pin(bench.measure())).await;
    let measures =
        measured.unwrap_or_else(|| Err(anyhow::anyhow!("stopped by a signal; nothing is kept")))?;
    let report = Report {
        runs: args.runs.get(),
        measures,
    };
    report.print()?;
    if let Some(file) = &args.json {
        let file =
            std::fs::File::create(file).with_context(|| format!("{} cannot be written", file.display()))?;
        serde_json::to_writer_pretty(file, &report)?;
    }
    Ok(folder.close()?)
}

/// Lets this process, and those that it starts, open as many files as are wanted, or as many as they may; and says how many that is.
fn allow_open_files() -> anyhow::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = hard.max(OPEN_FILES);
    if setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).is_ok() {
        return Ok(wanted);
    }
    // Only who has CAP_SYS_RESOURCE may go beyond the hard limit.
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// Refuses more streams than a gateway can have with two sockets for each.
fn check_streams(args: &GatewayBenchArgs, open_files: u64) -> anyhow::Result<()> {
    let most = open_files.saturating_sub(proxies::RESERVED_FILES as u64) / 2;
    let wanted = args
        .streams
        .iter()
        .max()
        .map_or(0, |streams| u64::from(streams.get()));
    ensure!(
        wanted <= most || !args.measure.contains(&Measure::Streams),
        "{wanted} streams want twice as many open files in one process, and {open_files} are allowed (`ulimit -H -n`): ask for no more than {most} with `--streams`"
    );
    Ok(())
}

impl Bench<'_> {
    /// Measures everything, run by run.
    async fn measure(&self) -> anyhow::Result<Vec<Measured>> {
        let mut measures = Vec::new();
        for measure in &self.args.measure {
            let sizes: Vec<u32> = match measure {
                Measure::Streams => self.args.streams.iter().map(|it| it.get()).collect(),
                _ => vec![0],
            };
            for size in sizes {
                measures.push(self.measure_one(*measure, size).await?);
            }
        }
        Ok(measures)
    }

    async fn measure_one(&self, measure: Measure, size: u32) -> anyhow::Result<Measured> {
        let (name, about) = self.describe(measure, size);
        let mut measured = Measured::new(name, about);
        for run in 0..self.args.runs.get() {
            tracing::info!(
                measure = measured.measure,
                run = run + 1,
                of = self.args.runs,
                "measuring"
            );
            if measure == Measure::Latency {
                for (side, figures) in latency::measure(self, run).await? {
                    measured.push(side, figures);
                }
                continue;
            }
            for side in self.order(run) {
                let figures = match measure {
                    Measure::Steady => jobs::steady(self, side).await,
                    Measure::Bursts => jobs::bursts(self, side).await,
                    Measure::Flood => jobs::flood(self, side).await,
                    Measure::Streams => streams::measure(self, side, size).await,
                    Measure::Churn => churn::measure(self, side).await,
                    Measure::Kill => killed::measure(self, side).await,
                    Measure::List if side == Side::Mayfly => list::measure(self).await,
                    Measure::List | Measure::Latency => continue,
                };
                let figures = figures.with_context(|| format!("{} of {side}", measured.measure))?;
                tracing::info!(measure = measured.measure, %side, ?figures, "measured");
                measured.push(side, figures);
            }
        }
        Ok(measured)
    }

    fn describe(&self, measure: Measure, size: u32) -> (String, String) {
        let args = self.args;
        let (workers, job, restart) = (args.workers, args.job_millis, args.restart_millis);
        let jobs = format!("{workers} workers, jobs of {job} ms, {restart} ms of restart after each");
        match measure {
            Measure::Latency => (
                "latency".to_owned(),
                format!(
                    "{} jobs in turn, {} free workers",
                    args.latency_jobs,
                    latency::WORKERS
                ),
            ),
            Measure::Steady => (
                "steady".to_owned(),
                format!(
                    "{jobs}; jobs come at random at {} of what that allows, for {} s",
                    args.load, args.seconds
                ),
            ),
            Measure::Bursts => (
                "bursts".to_owned(),
                format!(
                    "{jobs}; twice as many jobs at once as workers, at random at {} of what those allow, for {} s",
                    args.load, args.seconds
                ),
            ),
            Measure::Flood => (
                "flood".to_owned(),
                format!("{jobs}; twice as many clients as workers, for {} s", args.seconds),
            ),
            Measure::Streams => (
                format!("streams-{size}"),
                format!("{size} streams at an event a second, for {} s", args.hold_seconds),
            ),
            Measure::Churn => ("churn".to_owned(), churn::about(args)),
            Measure::Kill => (
                "kill".to_owned(),
                format!("{} workers are killed (SIGKILL) with a job", args.kills),
            ),
            Measure::List => (
                "list".to_owned(),
                format!(
                    "{} addresses behind a name, to which {} are added",
                    args.addresses, args.changes
                ),
            ),
        }
    }

    /// The sides; who begins changes from run to run.
    fn order(&self, run: u32) -> Vec<Side> {
        let mut sides = self.sides.clone();
        sides.rotate_left(run as usize % self.sides.len());
        sides
    }

    /// Starts a side in a folder of its own.
    async fn start(&self, side: Side, setup: Setup<'_>) -> anyhow::Result<Running> {
        let folder = self.folder.join(uuid::Uuid::new_v4().simple().to_string());
        std::fs::create_dir(&folder)?;
        let storage = format!("file://{}/storage", folder.display());
        let setup = Setup {
            folder: &folder,
            open_files: self.open_files,
            storage: self.args.storage.then_some(storage.as_str()),
            ..setup
        };
        Running::start(side, &setup).await
    }

    fn job(&self) -> Duration {
        Duration::from_millis(self.args.job_millis.get())
    }

    fn restart(&self) -> Duration {
        Duration::from_millis(self.args.restart_millis.get())
    }

    fn seconds(&self) -> Duration {
        Duration::from_secs(self.args.seconds.get().into())
    }
}
