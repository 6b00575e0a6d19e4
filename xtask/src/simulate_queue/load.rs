//! The jobs of a simulation: who sends what and when, and how long it takes.

use std::time::Duration;

use super::SimulateArgs;

/// Tenants that are there from the start; the first floods, and the ten that follow weigh four times as much.
const STEADY_TENANTS: u32 = 50;
const HEAVY_TENANTS: u32 = 10;
const HEAVY_WEIGHT: u32 = 4;
/// Tenants with one job each, which come one after the other from the flood on.
const NEWCOMERS: u32 = 50;
/// Jobs of a burst, in the mean.
const BURST: f64 = 5.0;
const SESSIONS: u32 = 5000;

/// Job times are by Pareto's law: many short ones, few very long ones.
const SHORTEST_SECS: f64 = 0.7;
const LONGEST_SECS: f64 = 600.0;
const TAIL: f64 = 1.5;

#[derive(Debug, Clone, Copy)]
pub(super) struct SimulatedJob {
    pub(super) tenant: u32,
    pub(super) session: u32,
    pub(super) at: Duration,
    pub(super) takes: Duration,
    /// Whether the flood was there, and had not yet been worked off by half, when it came.
    pub(super) in_flood: bool,
}

/// Who the tenants are, by number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tenants {
    pub(super) all: u32,
}

impl Tenants {
    pub(super) const FLOOD: u32 = 0;

    pub(super) fn weight(self, tenant: u32) -> u32 {
        match self.is_heavy(tenant) {
            true => HEAVY_WEIGHT,
            false => 1,
        }
    }

    pub(super) fn is_heavy(self, tenant: u32) -> bool {
        (1..=HEAVY_TENANTS).contains(&tenant)
    }

    pub(super) fn is_newcomer(self, tenant: u32) -> bool {
        tenant >= STEADY_TENANTS
    }
}

/// Jobs, in the order in which they come.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) tenants: Tenants,
    pub(super) jobs: Vec<SimulatedJob>,
    /// A worker does one job; its next process listens after this.
    pub(super) restart: Duration,
}

impl Load {
    /// Bursts of many tenants, and a flood after a third of the time.
    pub(super) fn bursts(args: &SimulateArgs) -> Self {
        let mut random = fastrand::Rng::with_seed(args.seed);
        let mut jobs = Vec::with_capacity(args.jobs);
        let steady = args.jobs.saturating_sub(args.flood + NEWCOMERS as usize);
        let restart = Duration::from_millis(args.restart_ms);
        let busy = mean_secs() + restart.as_secs_f64();
        let per_second = args.utilisation * args.workers as f64 / busy;
        let mut at = 0.0;
        while jobs.len() < steady {
            at += exponential(&mut random, BURST / per_second);
            let tenant = random.u32(0..STEADY_TENANTS);
            // As long as a burst of this mean is, by chance.
            while jobs.len() < steady {
                jobs.push(job(&mut random, tenant, at));
                if random.f64() < 1.0 / BURST {
                    break;
                }
            }
        }
        let flood_at = at / 3.0;
        let session = |random: &mut fastrand::Rng| random.u32(0..u32::MAX);
        for _ in 0..args.flood {
            let session = session(&mut random);
            jobs.push(SimulatedJob {
                session,
                ..job(&mut random, Tenants::FLOOD, flood_at)
            });
        }
        // For half of the time that the flood would keep all workers.
        let flooded = args.flood as f64 * busy / args.workers as f64 / 2.0;
        for newcomer in 0..NEWCOMERS {
            let at = flood_at + 0.001 + flooded * f64::from(newcomer) / f64::from(NEWCOMERS);
            jobs.push(job(&mut random, STEADY_TENANTS + newcomer, at));
        }
        for job in &mut jobs {
            job.in_flood = (seconds(flood_at)..seconds(flood_at + flooded)).contains(&job.at);
        }
        jobs.sort_by_key(|job| job.at);
        Self {
            tenants: Tenants {
                all: STEADY_TENANTS + NEWCOMERS,
            },
            jobs,
            restart,
        }
    }

    /// Single jobs of many tenants, each in a session of its own, so that they wait for workers alone.
    pub(super) fn even(jobs: usize, per_second: f64, args: &SimulateArgs) -> Self {
        let mut random = fastrand::Rng::with_seed(args.seed);
        let mut at = 0.0;
        let next = |_| {
            at += exponential(&mut random, 1.0 / per_second);
            let tenant = random.u32(0..STEADY_TENANTS);
            let session = random.u32(0..u32::MAX);
            SimulatedJob {
                session,
                ..job(&mut random, tenant, at)
            }
        };
        Self {
            tenants: Tenants { all: STEADY_TENANTS },
            jobs: (0..jobs).map(next).collect(),
            restart: Duration::from_millis(args.restart_ms),
        }
    }

    pub(super) fn mean(&self) -> Duration {
        let sum: Duration = self.jobs.iter().map(|job| job.takes).sum();
        sum.div_f64(self.jobs.len().max(1) as f64)
    }

    pub(super) fn longest(&self) -> Duration {
        self.jobs.iter().map(|job| job.takes).max().unwrap_or_default()
    }
}

fn job(random: &mut fastrand::Rng, tenant: u32, at: f64) -> SimulatedJob {
    let uniform = 1.0 - random.f64();
    let takes = (SHORTEST_SECS * uniform.powf(-1.0 / TAIL)).min(LONGEST_SECS);
    SimulatedJob {
        tenant,
        session: random.u32(0..SESSIONS),
        at: seconds(at),
        takes: seconds(takes),
        in_flood: false,
    }
}

/// The mean of Pareto's law, cut off at the longest.
fn mean_secs() -> f64 {
    let cut = (SHORTEST_SECS / LONGEST_SECS).powf(TAIL - 1.0);
    SHORTEST_SECS * (TAIL - cut) / (TAIL - 1.0)
}

fn exponential(random: &mut fastrand::Rng, mean: f64) -> f64 {
    -mean * (1.0 - random.f64()).ln()
}

pub(super) fn seconds(number: f64) -> Duration {
    Duration::from_secs_f64(number)
}
