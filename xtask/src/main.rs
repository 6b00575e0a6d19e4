//! The project's own commands: `cargo xtask tidy` checks the rules that no compiler knows, `cargo xtask test` checks everything,
//! `cargo xtask fuzz` tries the parsers with made-up bytes, `cargo xtask simulate-queue` the order of jobs, `cargo xtask swarm-test` the stack on a real Swarm.
//!
//! This program must not know what the crates do; it reads their sources, and starts cargo.

mod fuzz;
mod run;
mod simulate_queue;
mod suite;
mod swarm_test;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use fuzz::FuzzArgs;
use simulate_queue::SimulateArgs;
use swarm_test::SwarmArgs;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Checks the rules of the house: lengths, names, dependencies between crates, error codes, the lock file.
    Tidy,
    /// Checks formatting, lints, docs and the rules of the house, and runs all tests.
    Test {
        /// Runs the tests, and nothing else.
        #[arg(long)]
        quick: bool,
    },
    /// Feeds the parsers of outside bytes what a fuzzer makes up.
    Fuzz(FuzzArgs),
    /// Simulates a million jobs of many tenants in the gateway's queue, and prints how long they wait.
    SimulateQueue(SimulateArgs),
    /// Deploys `swarm.yml` on a real Swarm, puts it under load, breaks things, and checks that nothing was lost or done twice.
    SwarmTest(SwarmArgs),
}

fn main() -> anyhow::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask stands in the workspace's folder")?;
    let is_good = match Arguments::parse().command {
        Command::Tidy => tidy::run(root)?,
        Command::Test { quick: true } => suite::run_tests(root)?,
        Command::Test { quick: false } => suite::run_all(root)?,
        Command::Fuzz(args) => fuzz::run(root, &args)?,
        Command::SimulateQueue(args) => simulate_queue::run(root, &args)?,
        Command::SwarmTest(args) => swarm_test::run(root, &args)?,
    };
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
