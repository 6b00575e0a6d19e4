//! Two gateways behind a balancer: under load secrets are changed and the stack is updated, which no client may hear, and a gateway is killed together with
//! workers, which may break a request, and loses no job that was accepted.

use std::time::{Duration, Instant};

use super::SwarmArgs;
use super::client::Client;
use super::docker::Docker;
use super::images::Images;
use super::load::{Account, Job, Load, Target};
use super::peers::Peers;
use super::stack::Stack;
use super::stop::Stop;
use super::{inspect, report, rotation};
use crate::run;

/// How long the stack may take to be ready, and how long the last jobs may take.
const PATIENCE: Duration = Duration::from_secs(120);
const GATEWAYS: usize = 2;
/// Git workers that the stack begins with.
const FLEET: usize = 4;
/// Workers that are killed together with a gateway, as when a node dies.
const KILLED_WORKERS: usize = 2;

/// Runs the part, and prints what it showed. True if nothing is wrong.
pub(super) fn run(
    args: &SwarmArgs,
    docker: &Docker,
    stop: &Stop,
    (images, peers): (&Images, &Peers),
    stack: &mut Stack,
) -> anyhow::Result<bool> {
    let client = Client::new(stack.base_url(), &stack.key.key);
    let took = wait_until_ready(docker, stop, stack, &client)?;
    note(&format!(
        "from deployment until both know idle workers: {took:.1} s"
    ));
    let beside = inspect::beside_two_gateways(docker, stack)?;
    let target = Target {
        client: client.clone(),
        repository: peers.repository_url(),
        token: peers.token.clone(),
        name: "pair",
    };
    let mut load = Load::start(&target, args.sessions / 2);
    let steps = under(&load, args, docker, stop, images, stack, &client);
    load.end();
    let ended = stop.until("every session has ended", PATIENCE, || Ok(load.is_over()));
    let Steps { replaced, mut faults } = steps?;
    ended?;
    faults.extend(beside);
    let jobs = load.jobs();
    let after = &jobs[replaced..];
    note(&format!(
        "a gateway and {KILLED_WORKERS} workers killed: {}",
        seen(after)
    ));
    faults.extend(losses(after));
    let accounts = load.accounts();
    faults.extend(checked(&client, docker, peers, &jobs, &accounts)?);
    faults
        .iter()
        .for_each(|fault| run::print(&format!("FAULT: two gateways: {fault}")));
    note(&format!("{} faults", faults.len()));
    Ok(faults.is_empty())
}

/// What the steps under load gave.
struct Steps {
    /// The jobs that were over when all gateways had been replaced in order, and before one was killed.
    replaced: usize,
    faults: Vec<String>,
}

fn under(
    load: &Load,
    args: &SwarmArgs,
    docker: &Docker,
    stop: &Stop,
    images: &Images,
    stack: &mut Stack,
    client: &Client,
) -> anyhow::Result<Steps> {
    let step = Duration::from_secs(args.step_secs);
    stop.pause(step)?;
    run::say("swarm-test: two gateways: token and keys changed");
    let (took, mut faults) = rotation::rotate(docker, stack, client, stop)?;
    stop.pause(step / 2)?;
    let jobs = load.jobs();
    note(&format!(
        "token and keys changed in three deployments: {:.0} s; {}",
        took.as_secs_f64(),
        seen(&jobs)
    ));
    faults.extend(refusals(&jobs, "secrets were changed"));
    run::say("swarm-test: two gateways: another image");
    let took = stack.upgrade(docker, &images.update, stop)?;
    stop.pause(step / 2)?;
    let all_jobs = load.jobs();
    let jobs = &all_jobs[jobs.len()..];
    note(&format!(
        "gateways and workers moved to another image: {:.0} s; {}",
        took.as_secs_f64(),
        seen(jobs)
    ));
    faults.extend(refusals(jobs, "the stack was updated"));
    run::say("swarm-test: two gateways: one of them killed, and workers with it");
    let gateways = stack.service_label("gateway");
    let both_run = || Ok(docker.containers(&gateways)?.len() == GATEWAYS);
    let mut killed: Vec<String> = docker.containers(&gateways)?.into_iter().take(1).collect();
    let workers = docker.containers(&stack.service_label("git-worker"))?;
    killed.extend(workers.into_iter().take(KILLED_WORKERS));
    let mut kill = vec!["kill", "--signal", "KILL"];
    kill.extend(killed.iter().map(String::as_str));
    if let Err(error) = docker.text(&kill) {
        // A worker may have ended by itself meanwhile.
        let still = docker.containers(&gateways)?;
        anyhow::ensure!(!killed.iter().any(|id| still.contains(id)), error);
    }
    stop.pause(step)?;
    stop.until("two gateways run again", PATIENCE, both_run)?;
    Ok(Steps {
        replaced: all_jobs.len(),
        faults,
    })
}

fn wait_until_ready(docker: &Docker, stop: &Stop, stack: &Stack, client: &Client) -> anyhow::Result<f64> {
    let gateways = stack.service_label("gateway");
    let took = stop.until(
        "two gateways behind a balancer know idle workers",
        PATIENCE,
        || {
            // Each of them is asked, in turn.
            let knows = |_| client.git_workers("idle") >= FLEET;
            Ok(docker.containers(&gateways)?.len() == GATEWAYS && (0..2 * GATEWAYS).all(knows))
        },
    )?;
    Ok(took.as_secs_f64())
}

fn note(line: &str) {
    run::print(&format!("- two gateways: {line}"));
}

/// What must hold at the end, and does not.
fn checked(
    client: &Client,
    docker: &Docker,
    peers: &Peers,
    jobs: &[Job],
    accounts: &[Account],
) -> anyhow::Result<Vec<String>> {
    let begun = Instant::now();
    let (mut faults, streams) = report::job_faults(client, jobs)?;
    let found = report::hold_against(client, docker, peers, accounts)?;
    note(&format!(
        "{streams} streams read again in {:.0} s, {} commits, of which {} are lost and {} doubled",
        begun.elapsed().as_secs_f64(),
        found.commits,
        found.lost,
        found.doubled,
    ));
    faults.extend(found.faults);
    Ok(faults)
}

/// Whatever a client was told that is no end of its job's own: while gateways are replaced in order nobody is to hear of it.
fn refusals(jobs: &[Job], while_what: &str) -> Vec<String> {
    let refused = jobs.iter().filter(|job| job.seen.data.is_none());
    refused
        .map(|job| format!("while {while_what} a client heard {:?}", job.seen.code))
        .collect()
}

/// Jobs that were accepted and not brought to an end of their own: another gateway has what it needs for that.
fn losses(jobs: &[Job]) -> Vec<String> {
    let codes = jobs.iter().filter_map(|job| job.seen.code.as_deref());
    let lost = codes.filter(|code| ["worker_lost", "gateway_lost", "lost"].contains(code));
    lost.map(|code| format!("after a gateway and workers were killed a client heard {code}"))
        .collect()
}

fn seen(jobs: &[Job]) -> String {
    let good = jobs.iter().filter(|job| job.seen.data.is_some()).count();
    let reconnects: usize = jobs.iter().map(|job| job.seen.reconnects).sum();
    let silence = jobs.iter().map(|job| job.seen.silence).max().unwrap_or_default();
    format!(
        "{good} jobs ended well, {} with an error ({}); streams taken up again {reconnects}; longest silence {:.1} s",
        jobs.len() - good,
        report::codes(jobs),
        silence.as_secs_f64()
    )
}
