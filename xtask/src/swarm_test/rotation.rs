//! Another token for the fleet and another key for the client, as `docs/deploy.md` says: three deployments, with two of each valid meanwhile.

use std::time::{Duration, Instant};

use super::client::Client;
use super::docker::Docker;
use super::load::Job;
use super::peers::random_token;
use super::stack::Stack;
use super::stop::Stop;

/// Codes that a client would see if a process did not know a token or a key.
const REFUSALS: &[&str] = &["unauthorized", "forbidden", "worker_protocol"];

/// Changes both under load; says how long it took and what went wrong.
pub(super) fn rotate(
    docker: &Docker,
    stack: &mut Stack,
    client: &Client,
    stop: &Stop,
) -> anyhow::Result<(Duration, Vec<String>)> {
    let begun = Instant::now();
    let (old, new) = (stack.token.clone(), random_token(&mut fastrand::Rng::new()));
    let (old_key, new_key) = (stack.key.clone(), stack.new_key(docker)?);
    let both_keys = format!("{}\n{}\n", old_key.line, new_key.line);
    stack.redeploy(docker, &format!("{old},{new}"), &both_keys, stop)?;
    client.change_key(&new_key.key);
    stack.redeploy(docker, &format!("{new},{old}"), &both_keys, stop)?;
    stack.redeploy(docker, &new, &new_key.line, stop)?;
    let took = begun.elapsed();
    (stack.token, stack.key) = (new, new_key);
    let mut faults = Vec::new();
    let mut is_refused = false;
    stop.until("the gateway answers", Duration::from_secs(60), || {
        let answered = Client::new(stack.base_url(), &old_key.key).get("/workers");
        is_refused = matches!(answered, Ok((401, _)));
        Ok(answered.is_ok())
    })?;
    if !is_refused {
        faults.push("rotation: the old key is still taken".to_owned());
    }
    Ok((took, faults))
}

/// The jobs that a process refused because it did not know a token or a key.
pub(super) fn refusals(jobs: &[Job]) -> Vec<String> {
    let code = |job: &Job| job.seen.code.clone().unwrap_or_default();
    let refused = jobs
        .iter()
        .map(code)
        .filter(|code| REFUSALS.contains(&code.as_str()));
    refused
        .map(|code| format!("rotation: a client saw {code}"))
        .collect()
}
