//! `cargo xtask swarm-test`: the stack of `swarm.yml` on a real Swarm, under load, while things go wrong.
//!
//! It scales, updates, kills, cuts off and drains, and checks at the end that nothing was lost and nothing was done twice. What it makes, it
//! removes, also when it fails or is stopped. This module must not know how Mayfly works inside: it sees HTTP, git and the engine.

mod client;
mod course;
mod docker;
mod engine;
mod events;
mod holdings;
mod hostile;
mod images;
mod inspect;
mod isolation;
mod load;
mod pair;
mod peers;
mod report;
mod restore;
mod rotation;
mod stack;
mod stop;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::run;
use course::Course;
use docker::Docker;
use engine::Engine;
use holdings::Holdings;
use images::Images;
use peers::Peers;
use stack::{Gateways, Stack};
use stop::Stop;

/// What is tested, and on what.
#[derive(Debug, Clone, Args)]
pub(crate) struct SwarmArgs {
    /// Install and start a Docker engine where none answers (as root on Debian); it is ended after the test.
    #[arg(long)]
    start_engine: bool,
    /// Succeed, and say so, where there is no engine and none can be started.
    #[arg(long)]
    if_possible: bool,
    /// Build the image from a release build.
    #[arg(long)]
    release: bool,
    /// Build the image from this program, built against the same C library as the base image.
    #[arg(long, conflicts_with = "release")]
    binary: Option<PathBuf>,
    /// Build the image by the whole Dockerfile, in this image of Rust, such as `rust:1.95-slim-bookworm`.
    #[arg(long, conflicts_with_all = ["release", "binary"])]
    from_source: Option<String>,
    /// Only the part with so many gateways: one, with everything that may happen to its workers, or two behind a balancer.
    #[arg(long)]
    gateways: Option<Gateways>,
    /// Sessions that work at the same time.
    #[arg(long, default_value_t = 12)]
    sessions: usize,
    /// Seconds that each step of the load lasts.
    #[arg(long, default_value_t = 20)]
    step_secs: u64,
    /// The same number kills the same containers, as far as there are as many.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Minutes after which the test ends in any case.
    #[arg(long, default_value_t = 20)]
    minutes: u64,
}

/// Runs the whole test. True if everything held.
pub(crate) fn run(root: &Path, args: &SwarmArgs) -> anyhow::Result<bool> {
    let stop = Stop::listen(Duration::from_secs(args.minutes * 60))?;
    let docker = Docker::new(root);
    let engine = match Engine::take(root, &docker, args.start_engine, &stop) {
        Ok(engine) => engine,
        Err(error) if args.if_possible && !stop.is_due() => {
            run::say(&format!("swarm-test: NOT RUN: {error:#}"));
            return Ok(true);
        }
        Err(error) => return Err(error),
    };
    let result = on_engine(root, args, &docker, &stop);
    engine.end(root, &docker);
    result
}

fn on_engine(root: &Path, args: &SwarmArgs, docker: &Docker, stop: &Stop) -> anyhow::Result<bool> {
    let before = Holdings::now(docker)?;
    let mut random = fastrand::Rng::new();
    let run = format!("st{:06x}", random.u32(0..0x0100_0000));
    let mut images = Images::named(&run);
    let peers = Peers::named(&run, Engine::bridge_address(docker)?, &mut random)?;
    let built = images.build(root, docker, args);
    let result = built.and_then(|()| {
        peers.start(docker, &images.peers, stop)?;
        let is_wanted = |gateways| args.gateways.is_none_or(|wanted| wanted == gateways);
        let mut is_good = true;
        if is_wanted(Gateways::One) {
            is_good &= on_stack(docker, &run, Gateways::One, |stack| {
                stack.deploy(docker, &images, &peers)?;
                Course::new(args, docker, stop, &images, &peers, stack)?.run()
            })?;
        }
        if is_wanted(Gateways::Two) {
            is_good &= on_stack(docker, &run, Gateways::Two, |stack| {
                stack.deploy(docker, &images, &peers)?;
                pair::run(args, docker, stop, (&images, &peers), stack)
            })?;
        }
        Ok(is_good)
    });
    peers.remove(docker);
    images.remove(docker);
    let left = Holdings::now(docker)?.beyond(&before);
    for what in &left {
        run::print(&format!("FAULT: left on the engine: {what}"));
    }
    Ok(result? && left.is_empty())
}

/// Runs a part on a stack of its own, which is gone afterwards.
fn on_stack(
    docker: &Docker,
    run: &str,
    gateways: Gateways,
    part: impl FnOnce(&mut Stack) -> anyhow::Result<bool>,
) -> anyhow::Result<bool> {
    let mut stack = Stack::named(run, gateways)?;
    let result = part(&mut stack);
    run::say("swarm-test: clearing away");
    // A node that was drained when the test was stopped takes tasks again.
    if let Err(error) = Stack::restore(docker) {
        run::say(&format!("swarm-test: left behind: {error}"));
    }
    stack.remove(docker);
    result
}
