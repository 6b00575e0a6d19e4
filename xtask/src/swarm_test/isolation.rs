//! What a worker's container keeps in, and what the worker's own sandbox keeps in beyond it: a probe in a service beside the workers, deployed as they are.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;

use super::docker::Docker;
use super::stack::Stack;
use super::stop::Stop;

const PATIENCE: Duration = Duration::from_secs(60);
const DONE: &str = "done";
/// What the container alone refuses, without the sandbox.
const BY_THE_CONTAINER: &[&str] = &[
    "begin namespaces",
    "change the root",
    "list the home",
    "mount",
    "reach tasks.code-worker:3001",
    "read the machine's log",
    "write to /etc",
];
/// A secret that the service has as the workers have it. A worker reads its own; the probe is not told to.
const SECRET: &str = "/run/secrets/worker_token";
/// The container's first process, which here is the probe.
const FIRST: &str = "1";

type Outcomes = BTreeMap<String, String>;

/// Runs the probe without the sandbox and with it; says what was not refused, and how many attempts were.
pub(super) fn probed(
    docker: &Docker,
    stack: &Stack,
    image: &str,
    stop: &Stop,
) -> anyhow::Result<(Vec<String>, usize)> {
    let free = outcomes(docker, stack, image, "free", &[], stop)?;
    let confined = outcomes(docker, stack, image, "confined", &["--confined"], stop)?;
    let mut faults = Vec::new();
    for what in BY_THE_CONTAINER {
        if free.get(*what).is_none_or(|outcome| outcome == DONE) {
            faults.push(format!("isolation: a container lets a process {what}"));
        }
    }
    for (what, outcome) in &confined {
        // Its own process is the one that it may look at where it is the container's first.
        let is_own = what.starts_with("own: ") || what == "send it a signal";
        if (outcome == DONE) != is_own {
            faults.push(format!(
                "isolation: a confined process tried to {what}: {outcome}"
            ));
        }
    }
    Ok((
        faults,
        confined.values().filter(|outcome| *outcome != DONE).count(),
    ))
}

fn outcomes(
    docker: &Docker,
    stack: &Stack,
    image: &str,
    name: &str,
    more: &[&str],
    stop: &Stop,
) -> anyhow::Result<Outcomes> {
    let service = stack.service(&format!("probe-{name}"));
    let (label, network) = (stack.label(), stack.service("git-fleet"));
    let secret = stack.secret_as("worker_token");
    #[rustfmt::skip]
    let create = [
        "service", "create", "--detach", "--no-resolve-image", "--quiet", "--name", &service, "--label", &label, "--container-label", &label,
        "--restart-condition", "none", "--endpoint-mode", "dnsrr", "--network", &network, "--secret", &secret, "--user", "10001:10001",
        "--read-only", "--cap-drop", "ALL", "--mount", "type=tmpfs,target=/tmp,tmpfs-size=16777216", image,
        "--own", "/tmp", "--victim", FIRST, "--file", SECRET, "--reach", "tasks.code-worker:3001",
    ];
    docker.text(&[&create[..], more].concat())?;
    let mut text = String::new();
    let ended = stop.until("the probe has ended", PATIENCE, || {
        let state = docker.text(&["service", "ps", &service, "--format", "{{.CurrentState}}"])?;
        Ok(state.starts_with("Complete") || state.starts_with("Failed"))
    });
    if ended.is_ok() {
        text = docker.text(&["service", "logs", "--raw", &service])?;
    }
    docker.text(&["service", "rm", &service])?;
    ended?;
    serde_json::from_str(&text).with_context(|| format!("the probe says no JSON: {text}"))
}
