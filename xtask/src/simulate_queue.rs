//! `cargo xtask simulate-queue`: the gateway's own queue under a day's load, in simulated time, beside plain first come, first served.
//!
//! The same jobs go through both orders. With the same seed, everything is the same.

mod load;
mod report;
mod world;

use std::path::Path;

use clap::Args;

use crate::run;
use load::Load;
use report::{Waits, line};
use world::{Order, simulate};

/// What is simulated.
#[derive(Debug, Clone, Args)]
pub(crate) struct SimulateArgs {
    /// Jobs.
    #[arg(long, default_value_t = 1_000_000)]
    jobs: usize,
    /// Workers.
    #[arg(long, default_value_t = 100)]
    workers: usize,
    /// Part of the workers' time that the jobs take.
    #[arg(long, default_value_t = 0.8)]
    utilisation: f64,
    /// Jobs that one tenant sends at once.
    #[arg(long, default_value_t = 10_000)]
    flood: usize,
    /// Milliseconds from the end of a worker's job until the next one listens: 50 under a supervisor, a second or more on Swarm.
    #[arg(long, default_value_t = 50)]
    restart_ms: u64,
    /// The same number gives the same jobs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Simulates, and prints the tables. In a build without optimisation it starts itself in one with.
pub(crate) fn run(root: &Path, args: &SimulateArgs) -> anyhow::Result<bool> {
    if cfg!(debug_assertions) {
        return run_optimised(root, args);
    }
    for line in tenants_table(args).into_iter().chain(replicas_table(args)) {
        run::print(&line);
    }
    Ok(true)
}

fn run_optimised(root: &Path, args: &SimulateArgs) -> anyhow::Result<bool> {
    let values = [
        ("--jobs", args.jobs.to_string()),
        ("--workers", args.workers.to_string()),
        ("--utilisation", args.utilisation.to_string()),
        ("--flood", args.flood.to_string()),
        ("--restart-ms", args.restart_ms.to_string()),
        ("--seed", args.seed.to_string()),
    ];
    let mut arguments = vec![
        "run",
        "--release",
        "--locked",
        "--quiet",
        "--package",
        "xtask",
        "--",
        "simulate-queue",
    ];
    for (name, value) in &values {
        arguments.extend([*name, value]);
    }
    run::succeeds(root, "cargo", &arguments, &[])
}

/// How long each tenant's jobs wait, in both orders.
fn tenants_table(args: &SimulateArgs) -> Vec<String> {
    let load = Load::bursts(args);
    let mut lines = vec![
        format!(
            "{} jobs, {} workers, {} tenants, one of which sends {} at once; mean job {:.2} s, longest {:.0} s, restart {:.2} s; seed {}",
            load.jobs.len(),
            args.workers,
            load.tenants.all,
            args.flood,
            load.mean().as_secs_f64(),
            load.longest().as_secs_f64(),
            load.restart.as_secs_f64(),
            args.seed,
        ),
        String::new(),
        "| tenants | jobs | fair: wait p50, p99, worst (s) | first come: wait p50, p99, worst (s) |"
            .to_owned(),
        "|---|---|---|---|".to_owned(),
    ];
    let fair = Waits::of(&load, &simulate(&load, args.workers, Order::Fair));
    let plain = Waits::of(&load, &simulate(&load, args.workers, Order::FirstCome));
    for group in report::GROUPS {
        lines.push(line(group.name(), fair.group(*group), plain.group(*group)));
    }
    lines.push(line(
        "of the 49, the one with the worst p99",
        &fair.worst_tenant(),
        &plain.worst_tenant(),
    ));
    let mean = load.mean().as_secs_f64();
    let in_jobs = |waits: &Waits| waits.group(report::Group::Newcomers).worst() / mean;
    lines.push(String::new());
    lines.push(format!(
        "A newcomer's first job during the flood waits, at worst: {:.2} mean job times (fair), {:.1} (first come).",
        in_jobs(&fair),
        in_jobs(&plain)
    ));
    lines.push(String::new());
    lines
}

/// Waits with as many workers as the formula says.
fn replicas_table(args: &SimulateArgs) -> Vec<String> {
    let mut lines = vec![
        "replicas = arrivals a second x (job time + restart time) / utilisation, with even arrivals of 40 a second:".to_owned(),
        String::new(),
        "| utilisation | replicas | wait p50, p99, worst (s) | jobs that waited not at all |".to_owned(),
        "|---|---|---|---|".to_owned(),
    ];
    for utilisation in [0.5, 0.7, 0.8, 0.9, 0.95] {
        const ARRIVALS_PER_SECOND: f64 = 40.0;
        let load = Load::even((args.jobs / 10).max(1), ARRIVALS_PER_SECOND, args);
        let busy = (load.mean() + load.restart).as_secs_f64();
        let replicas = (ARRIVALS_PER_SECOND * busy / utilisation).ceil() as usize;
        let waits = Waits::of(&load, &simulate(&load, replicas, Order::Fair));
        let all = waits.all();
        let at_once = 100.0 * all.part_at_once();
        lines.push(format!("| {utilisation} | {replicas} | {all} | {at_once:.1} % |"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> SimulateArgs {
        SimulateArgs {
            jobs: 20_000,
            workers: 100,
            utilisation: 0.8,
            flood: 4000,
            restart_ms: 50,
            seed: 7,
        }
    }

    #[test]
    fn a_flood_harms_its_own_tenant_and_hardly_another() {
        let args = small();
        let load = Load::bursts(&args);
        let outcome = simulate(&load, args.workers, Order::Fair);
        assert_eq!(outcome.len(), load.jobs.len(), "every job is begun");
        let fair = Waits::of(&load, &outcome);
        let plain = Waits::of(&load, &simulate(&load, args.workers, Order::FirstCome));
        let newcomers = |waits: &Waits| waits.group(report::Group::Newcomers).worst();
        let mean = load.mean().as_secs_f64();
        assert!(
            newcomers(&fair) <= mean,
            "{} s, a job takes {mean} s",
            newcomers(&fair)
        );
        assert!(newcomers(&plain) > 10.0 * mean, "{} s", newcomers(&plain));
        assert!(fair.group(report::Group::Flood).worst() > 10.0 * mean);
    }

    #[test]
    fn the_same_seed_gives_the_same_waits() {
        let args = small();
        let waits = || simulate(&Load::bursts(&args), args.workers, Order::Fair);
        assert_eq!(waits(), waits());
    }
}
