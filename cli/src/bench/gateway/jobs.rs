//! Short jobs before workers that exit after each: at a steady rate, and in a flood.

use std::net::SocketAddr;
use std::time::Duration;

use mayfly_telemetry::task;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::TaskTracker;

use super::Bench;
use super::client::{Answer, End, post};
use super::side::{Running, Setup, Side};
use super::stubs::{Stubs, Wanted, free_port};
use super::table::{Figures, percentile, sorted_millis};
use super::tries;

/// How long a client of the flood waits after a job that failed before it sends the next.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Jobs that come at random at a share of what the workers can do.
pub(super) async fn steady(bench: &Bench<'_>, side: Side) -> anyhow::Result<Figures> {
    let coming = Coming {
        rate: bench.args.load * possible(bench),
        at_once: 1,
    };
    let (_stubs, running) = start(bench, side).await?;
    let load = coming.send(running.address, bench.seconds()).await;
    figures(running, &load).await
}

/// As many jobs, but twice as many at once as there are workers.
pub(super) async fn bursts(bench: &Bench<'_>, side: Side) -> anyhow::Result<Figures> {
    let coming = Coming {
        rate: bench.args.load * possible(bench),
        at_once: bench.args.workers.get() * 2,
    };
    let (_stubs, running) = start(bench, side).await?;
    let load = coming.send(running.address, bench.seconds()).await;
    figures(running, &load).await
}

/// Jobs a second that the workers can do.
fn possible(bench: &Bench<'_>) -> f64 {
    f64::from(bench.args.workers.get()) / (bench.job() + bench.restart()).as_secs_f64()
}

/// Twice as many clients as workers, each with one job after the other.
pub(super) async fn flood(bench: &Bench<'_>, side: Side) -> anyhow::Result<Figures> {
    let (_stubs, running) = start(bench, side).await?;
    let (told, mut answers) = mpsc::unbounded_channel();
    let (tasks, started) = (TaskTracker::new(), Instant::now());
    let (address, end) = (running.address, started + bench.seconds());
    for _ in 0..bench.args.workers.get() * 2 {
        let told = told.clone();
        task::spawn(&tasks, async move {
            while Instant::now() < end {
                let answer = post(address, |_| {}).await;
                let is_completed = answer.is_completed();
                // The receiver outlives all clients.
                let _received = told.send(answer);
                if !is_completed {
                    sleep(AFTER_FAILURE).await;
                }
            }
        });
    }
    drop(told);
    let mut load = Load::default();
    while let Some(answer) = answers.recv().await {
        load.sent += 1;
        load.answers.push(answer);
    }
    load.took = started.elapsed();
    figures(running, &load).await
}

async fn start(bench: &Bench<'_>, side: Side) -> anyhow::Result<(Stubs, Running)> {
    let count = bench.args.workers.get();
    let wanted = Wanted {
        first: 1,
        count,
        up: count,
        job: Some(bench.job()),
        restart: bench.restart(),
    };
    let stubs = Stubs::start(free_port()?, wanted).await?;
    let workers = stubs.addresses();
    let setup = Setup {
        tells_tries: true,
        ..Setup::of(&workers)
    };
    let running = bench.start(side, setup).await?;
    Ok((stubs, running))
}

/// Jobs that were sent, and what became of them.
#[derive(Default)]
pub(super) struct Load {
    pub(super) sent: usize,
    pub(super) answers: Vec<Answer>,
    pub(super) took: Duration,
}

impl Load {
    pub(super) fn completed(&self) -> usize {
        self.answers.iter().filter(|answer| answer.is_completed()).count()
    }

    /// The times of completed jobs, in milliseconds and in order.
    pub(super) fn times(&self) -> Vec<f64> {
        let completed = self.answers.iter().filter(|answer| answer.is_completed());
        sorted_millis(completed.map(|answer| answer.took))
    }

    pub(super) fn log_failures(&self, side: Side) {
        let failed = self.answers.iter().filter(|answer| !answer.is_completed());
        let mut ends: Vec<&End> = failed.map(|answer| &answer.end).collect();
        ends.sort_by_key(|end| format!("{end:?}"));
        for same in ends.chunk_by(|one, other| one == other) {
            tracing::info!(%side, jobs = same.len(), end = ?same[0], "jobs failed");
        }
    }
}

/// How jobs come that do not wait for one another.
pub(super) struct Coming {
    /// Jobs a second.
    pub(super) rate: f64,
    pub(super) at_once: u32,
}

impl Coming {
    /// Sends jobs with gaps as independent clients leave them (exponential), and waits for all.
    pub(super) async fn send(&self, address: SocketAddr, time: Duration) -> Load {
        let (told, mut answers) = mpsc::unbounded_channel();
        let (tasks, started) = (TaskTracker::new(), Instant::now());
        // The same jobs at the same times for every side.
        let mut chance = fastrand::Rng::with_seed(1);
        let (mut load, mut next) = (Load::default(), started);
        while next < started + time {
            sleep_until(next).await;
            for _ in 0..self.at_once {
                let told = told.clone();
                task::spawn(&tasks, async move {
                    // The receiver outlives all clients.
                    let _received = told.send(post(address, |_| {}).await);
                });
                load.sent += 1;
            }
            let gaps = -(1.0 - chance.f64()).ln() * f64::from(self.at_once);
            next += Duration::from_secs_f64(gaps / self.rate);
        }
        drop(told);
        while let Some(answer) = answers.recv().await {
            load.answers.push(answer);
        }
        load.took = started.elapsed();
        load
    }
}

/// Ends the side, and tells what became of the jobs.
async fn figures(running: Running, load: &Load) -> anyhow::Result<Figures> {
    let side = running.side;
    load.log_failures(side);
    let cpu = running.account().cpu;
    let tries = tries::of(running, load).await?;
    let completed = load.completed();
    let times = load.times();
    Ok(Figures::default()
        .with("jobs sent", load.sent as f64)
        .with("completed", completed as f64)
        .with("failed", (load.answers.len() - completed) as f64)
        .with("completed a second", completed as f64 / load.took.as_secs_f64())
        .with("tries a job", tries.mean())
        .with("first try, %", tries.first_share() * 100.0)
        .with("job p50, ms", percentile(&times, 0.5))
        .with("job p99, ms", percentile(&times, 0.99))
        .with("CPU a job, ms", cpu * 1000.0 / load.sent as f64))
}
