//! Backup of the bucket under load, and a fleet on what was restored from it, in the order that `docs/deploy.md` says.

use std::time::{Duration, Instant};

use serde_json::json;

use super::client::Client;
use super::docker::Docker;
use super::load::Account;
use super::peers::Peers;
use super::stack::Stack;
use super::stop::Stop;

const PATIENCE: Duration = Duration::from_secs(60);
const FLEET: &str = "fleet/";
const BACKUP: &str = "backup/";
const RESTORED: &str = "restored/";
const RESTORED_URL: &str = "s3://mayfly/restored";
const MANIFEST: &str = "/manifest.json";

/// Copies manifests first and everything else after them; says how many objects.
pub(super) fn back_up(peers: &Peers) -> anyhow::Result<usize> {
    let manifests = copy(peers, FLEET, BACKUP, |key| key.ends_with(MANIFEST))?;
    Ok(manifests + copy(peers, FLEET, BACKUP, |key| !key.ends_with(MANIFEST))?)
}

/// Restores into an empty place, moves the fleet there, and goes on with every session. Says how long the move took, and a line for each
/// session that does not go on.
pub(super) fn restore(
    docker: &Docker,
    stack: &mut Stack,
    peers: &Peers,
    client: &Client,
    accounts: &[Account],
    stop: &Stop,
) -> anyhow::Result<(Duration, Vec<String>)> {
    let begun = Instant::now();
    copy(peers, BACKUP, RESTORED, |key| !key.ends_with(MANIFEST))?;
    copy(peers, BACKUP, RESTORED, |key| key.ends_with(MANIFEST))?;
    stack.move_to(docker, RESTORED_URL, stop)?;
    stop.until("the gateway answers", PATIENCE, || {
        Ok(matches!(client.get("/workers"), Ok((200, _))))
    })?;
    let took = begun.elapsed();
    let mut faults = Vec::new();
    for account in accounts {
        if let Err(error) = goes_on(docker, peers, client, account) {
            faults.push(format!("restore: {}: {error:#}", account.session));
        }
        stop.check()?;
    }
    Ok((took, faults))
}

/// A session is as old as the backup: a pull brings it up to date, then it takes a change, and the remote its commit, once.
fn goes_on(docker: &Docker, peers: &Peers, client: &Client, account: &Account) -> anyhow::Result<()> {
    let Account { session, branch, .. } = account;
    let (status, _) = client.get(&format!("/sessions/{session}"))?;
    anyhow::ensure!(status == 200, "the session is not there: {status}");
    let subject = format!("{branch} restored");
    let (url, token) = (peers.repository_url(), &peers.token);
    let files = json!([{"path": format!("{session}/restored.txt"), "content": "restored\n"}]);
    for (path, body) in [
        (
            "/clone-repository",
            json!({"sessionId": session, "repoUrl": url, "branch": branch, "accessToken": token}),
        ),
        ("/apply-changes", json!({"sessionId": session, "files": files})),
        (
            "/commit-and-push",
            json!({"sessionId": session, "githubAccessToken": token, "message": subject}),
        ),
    ] {
        let seen = client.job(path, &body, &format!("restored-{session}-{path}"));
        anyhow::ensure!(seen.data.is_some(), "{path}: {}", seen.code.unwrap_or_default());
    }
    let (commits, _) = peers.commits(docker, branch)?;
    let times = commits.get(&subject).copied().unwrap_or_default();
    anyhow::ensure!(times == 1, "its commit is on the remote {times} times");
    let lost = account
        .commits
        .iter()
        .filter(|subject| !commits.contains_key(*subject))
        .count();
    anyhow::ensure!(lost == 0, "{lost} commits of before are not on the remote");
    Ok(())
}

/// Copies what is below a prefix and wanted. What is collected meanwhile need not be copied.
fn copy(peers: &Peers, from: &str, to: &str, is_wanted: impl Fn(&str) -> bool) -> anyhow::Result<usize> {
    let mut copied = 0;
    for key in peers.keys(from)?.iter().filter(|key| is_wanted(key)) {
        let name = key.strip_prefix(from).unwrap_or(key);
        copied += usize::from(peers.copy(key, &format!("{to}{name}"))?);
    }
    Ok(copied)
}
