//! The figures of a run as tables, and what has to hold at its end.

use std::collections::BTreeMap;
use std::time::Duration;

use super::client::Client;
use super::docker::Docker;
use super::events::Restart;
use super::load::{Account, Job};
use super::peers::Peers;

/// A step of the test: its name and when it began, since 1970.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) begun: Duration,
    pub(super) ended: Duration,
    /// Git workers, where the step measures how many jobs they do.
    pub(super) replicas: Option<u32>,
}

/// A line for each step: how many jobs, how long they waited, how long slots were empty.
pub(super) fn steps_table(steps: &[Step], jobs: &[Job], restarts: &[Restart]) -> Vec<String> {
    let mut lines = vec![
        "| step | seconds | jobs ended well | with an error | queue wait p50, p99, worst (s) | restart interval p50, worst (s) | workers lost with a job | longest silence (s) |".to_owned(),
        "|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    for (index, step) in steps.iter().enumerate() {
        let mine: Vec<&Job> = jobs.iter().filter(|job| job.step == index).collect();
        let good = mine.iter().filter(|job| job.seen.data.is_some()).count();
        let mut waits: Vec<f64> = mine
            .iter()
            .filter_map(|job| job.seen.waited)
            .map(|wait| wait.as_secs_f64())
            .collect();
        waits.sort_by(f64::total_cmp);
        let mut empty = intervals(restarts, step);
        empty.sort_by(f64::total_cmp);
        let silence = mine.iter().map(|job| job.seen.silence).max().unwrap_or_default();
        lines.push(format!(
            "| {} | {:.0} | {good} | {} | {}, {}, {} | {}, {} | {} | {:.1} |",
            step.name,
            (step.ended - step.begun).as_secs_f64(),
            mine.len() - good,
            part(&waits, 0.5),
            part(&waits, 0.99),
            part(&waits, 1.0),
            part(&empty, 0.5),
            part(&empty, 1.0),
            mine.iter().map(|job| job.seen.attempts).sum::<usize>(),
            silence.as_secs_f64(),
        ));
    }
    lines
}

/// Jobs a minute against what the formula gives: replicas x 60 / (job time + restart interval).
pub(super) fn capacity_table(steps: &[Step], jobs: &[Job], restarts: &[Restart]) -> Vec<String> {
    let mut lines = vec![
        "| replicas | job time (mean, s) | restart interval (mean, s) | jobs a minute by the formula | measured |".to_owned(),
        "|---|---|---|---|---|".to_owned(),
    ];
    for (index, step) in steps.iter().enumerate() {
        let Some(replicas) = step.replicas else { continue };
        let ran: Vec<f64> = jobs
            .iter()
            .filter(|job| job.step == index)
            .filter_map(|job| job.seen.ran)
            .map(|ran| ran.as_secs_f64())
            .collect();
        let (run, restart) = (mean(&ran), mean(&intervals(restarts, step)));
        let ended = jobs
            .iter()
            .filter(|job| job.seen.data.is_some() && ended_within(job, step))
            .count();
        let measured = ended as f64 * 60.0 / (step.ended - step.begun).as_secs_f64();
        let formula = f64::from(replicas) * 60.0 / (run + restart);
        lines.push(format!(
            "| {replicas} | {run:.2} | {restart:.2} | {formula:.0} | {measured:.0} |"
        ));
    }
    lines
}

fn ended_within(job: &Job, step: &Step) -> bool {
    let took = job.seen.waited.unwrap_or_default() + job.seen.ran.unwrap_or_default();
    (step.begun..step.ended).contains(&(job.at + took))
}

/// How long slots were empty after containers that ended by themselves within the step.
fn intervals(restarts: &[Restart], step: &Step) -> Vec<f64> {
    let within = |restart: &&Restart| {
        restart.is_good && (step.begun..step.ended).contains(&Duration::from_nanos(restart.at_nanos))
    };
    restarts
        .iter()
        .filter(within)
        .map(|restart| restart.interval.as_secs_f64())
        .collect()
}

fn mean(values: &[f64]) -> f64 {
    match values.is_empty() {
        true => 0.0,
        false => values.iter().sum::<f64>() / values.len() as f64,
    }
}

/// The value below which this part of the sorted values lies.
fn part(sorted: &[f64], part: f64) -> String {
    let Some(last) = sorted.len().checked_sub(1) else {
        return "-".to_owned();
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index of the slice"
    )]
    let index = (last as f64 * part).round() as usize;
    format!("{:.2}", sorted[index])
}

/// The codes with which jobs ended, and how often.
pub(super) fn codes(jobs: &[Job]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for code in jobs.iter().filter_map(|job| job.seen.code.as_deref()) {
        *counts.entry(code).or_default() += 1;
    }
    let list: Vec<String> = counts
        .iter()
        .map(|(code, count)| format!("{code} {count}"))
        .collect();
    list.join(", ")
}

/// What must hold of jobs, and does not; and how many jobs were looked at.
pub(super) fn job_faults(client: &Client, jobs: &[Job]) -> anyhow::Result<(Vec<String>, usize)> {
    let mut faults = Vec::new();
    let mut keys: BTreeMap<&str, &str> = BTreeMap::new();
    for Job { key, seen, .. } in jobs {
        let Some(id) = seen.id.as_deref() else { continue };
        if seen.terminals > 1 {
            faults.push(format!(
                "the client of job {id} saw {} terminal events",
                seen.terminals
            ));
        }
        match keys.insert(id, key) {
            None => {}
            // Sent again with its key, and answered with the same job.
            Some(before) if before == key => continue,
            Some(before) => faults.push(format!("the job {id} was given for the keys {before} and {key}")),
        }
        let found = client.terminals(id)?;
        if found != Some(1) {
            faults.push(format!(
                "the stream of job {id} has {found:?} terminal events; its client saw {} and the code {:?}",
                seen.terminals, seen.code
            ));
        }
    }
    Ok((faults, keys.len()))
}

/// What was found of the sessions and on the remote.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) faults: Vec<String>,
    pub(super) commits: usize,
    pub(super) lost: usize,
    pub(super) doubled: usize,
}

/// Holds the sessions and the remote against what the clients were told.
pub(super) fn hold_against(
    client: &Client,
    docker: &Docker,
    peers: &Peers,
    accounts: &[Account],
) -> anyhow::Result<Found> {
    let mut found = Found::default();
    for account in accounts {
        let name = &account.session;
        found.faults.extend(
            account
                .failure
                .iter()
                .map(|failure| format!("{name} gave up: {failure}")),
        );
        let (counts, tip) = peers.commits(docker, &account.branch)?;
        for subject in &account.commits {
            let count = counts.get(subject).copied().unwrap_or(0);
            found.commits += 1;
            found.lost += usize::from(count == 0);
            found.doubled += usize::from(count > 1);
            if count != 1 {
                found
                    .faults
                    .push(format!("the commit `{subject}` is on the remote {count} times"));
            }
        }
        let more = counts
            .values()
            .sum::<usize>()
            .saturating_sub(account.commits.len());
        if more > 0 && account.failure.is_none() {
            found.faults.push(format!(
                "{} has {more} commits that nobody asked for",
                account.branch
            ));
        }
        let (status, session) = client.get(&format!("/sessions/{name}"))?;
        if status != 200 || session["branch"] != account.branch.as_str() {
            found
                .faults
                .push(format!("the session {name} is lost: {status} {session}"));
        } else if session["headSha"] != tip.as_str() && account.failure.is_none() {
            found.faults.push(format!(
                "the session {name} stands at {}, the remote at {tip}",
                session["headSha"]
            ));
        }
    }
    let fsck = peers.fsck(docker)?;
    if !fsck.is_empty() {
        found.faults.push(format!("git fsck on the remote: {fsck}"));
    }
    Ok(found)
}
