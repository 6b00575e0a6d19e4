//! The time to a worker's first event where workers are free: one job at a time, each side in turn, all before the same workers.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;

use super::Bench;
use super::client::post;
use super::side::{Running, Setup, Side};
use super::stubs::{Stubs, Wanted, free_port};
use super::table::{Figures, percentile, sorted_millis};

/// Enough that no side comes back to one that is left alone after its job.
pub(super) const WORKERS: u32 = 64;
const JOB: Duration = Duration::from_millis(1);
/// Jobs before those that count.
const WARM_UP: usize = 50;

/// The times of one side.
struct Lane {
    side: Side,
    running: Option<Running>,
    times: Vec<Duration>,
    failed: usize,
}

/// Measures all sides of one run.
pub(super) async fn measure(bench: &Bench<'_>, run: u32) -> anyhow::Result<Vec<(Side, Figures)>> {
    let wanted = Wanted {
        first: 1,
        count: WORKERS,
        up: WORKERS,
        job: Some(JOB),
        restart: Duration::ZERO,
    };
    let stubs = Stubs::start(free_port()?, wanted).await?;
    let workers = stubs.addresses();
    let mut lanes = vec![Lane::new(Side::Direct, None)];
    for side in bench.order(run) {
        let running = bench.start(side, Setup::of(&workers)).await?;
        lanes.push(Lane::new(side, Some(running)));
    }
    let jobs = bench.args.latency_jobs.get() as usize;
    for number in 0..WARM_UP + jobs {
        let count = lanes.len();
        for turn in 0..count {
            let lane = &mut lanes[(number + turn) % count];
            lane.ask(workers[number % workers.len()], number >= WARM_UP).await;
        }
    }
    let direct = sorted_millis(lanes[0].times.iter().copied());
    let figures = lanes.iter().map(|lane| (lane.side, lane.figures(&direct)));
    let figures = figures.collect();
    for lane in lanes {
        if let Some(running) = lane.running {
            running.stop().await?;
        }
    }
    ensure!(!direct.is_empty(), "no worker answered");
    Ok(figures)
}

impl Lane {
    fn new(side: Side, running: Option<Running>) -> Self {
        Self {
            side,
            running,
            times: Vec::new(),
            failed: 0,
        }
    }

    async fn ask(&mut self, worker: SocketAddr, counts: bool) {
        let address = self.running.as_ref().map_or(worker, |running| running.address);
        let answer = post(address, |_| {}).await;
        match answer.first_event {
            Some(time) if answer.is_completed() => self.times.extend(counts.then_some(time)),
            _ => self.failed += 1,
        }
    }

    fn figures(&self, direct: &[f64]) -> Figures {
        let times = sorted_millis(self.times.iter().copied());
        let (p50, p99) = (percentile(&times, 0.5), percentile(&times, 0.99));
        let (direct50, direct99) = (percentile(direct, 0.5), percentile(direct, 0.99));
        Figures::default()
            .with("jobs", (self.times.len() + self.failed) as f64)
            .with("failed", self.failed as f64)
            .with("first event p50, ms", p50)
            .with("p99, ms", p99)
            .with("added p50, ms", p50 - direct50)
            .with("added p99, ms", p99 - direct99)
    }
}
