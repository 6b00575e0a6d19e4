//! What was really deployed, read from the engine and from the kernel: `docker stack deploy` leaves out options without a word.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::docker::Docker;
use super::stack::Stack;

const USER: &str = "10001:10001";
const DAY_SECS: f64 = 86_400.0;
/// The roles, with the networks that each may be in.
const ROLES: &[(&str, &[&str])] = &[
    ("gateway", &["code-fleet", "git-fleet"]),
    ("git-worker", &["git-fleet"]),
    ("code-worker", &["code-fleet"]),
];

/// What stands beside two gateways, with its user and its network; none of it needs a folder to write into.
const BESIDE: &[(&str, &str, &str)] = &[("redis", "999:999", "redis"), ("balancer", "99:99", "edge")];

/// What is not as it has to be, and a line for each role on what is.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) faults: Vec<String>,
    pub(super) lines: Vec<String>,
}

/// Looks at every container of the stack.
pub(super) fn inspect(docker: &Docker, stack: &Stack) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    for (role, networks) in ROLES {
        let mut count = 0;
        for id in docker.containers(&stack.service_label(role))? {
            // A worker may end between two looks.
            let Ok(container) = docker.json(&["inspect", "--format", "{{json .}}", &id]) else {
                continue;
            };
            count += 1;
            let expected: Vec<String> = networks.iter().map(|network| stack.service(network)).collect();
            for fault in faults(&container, *role == "gateway", &expected) {
                findings.faults.push(format!("{role}: {fault}"));
            }
            if let Some((status, owner)) = process_status(&container) {
                findings.faults.extend(
                    process_faults(&status, owner)
                        .into_iter()
                        .map(|fault| format!("{role}: {fault}")),
                );
            }
        }
        if count == 0 {
            findings
                .faults
                .push(format!("{role}: no container could be looked at"));
        }
        let service = docker.json(&[
            "service",
            "inspect",
            &stack.service(role),
            "--format",
            "{{json .}}",
        ])?;
        findings.faults.extend(
            service_faults(&service)
                .into_iter()
                .map(|fault| format!("{role}: {fault}")),
        );
        findings.lines.push(format!(
            "{role}: {count} containers: read-only root, no capabilities in force, user {USER}, tmpfs on /tmp, networks {}",
            networks.join(" and ")
        ));
    }
    Ok(findings)
}

/// What is not as it has to be of what stands beside two gateways.
pub(super) fn beside_two_gateways(docker: &Docker, stack: &Stack) -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    for (role, user, network) in BESIDE {
        let ids = docker.containers(&stack.service_label(role))?;
        if ids.len() != 1 {
            faults.push(format!("{role}: {} containers run", ids.len()));
        }
        for id in ids {
            let container = docker.json(&["inspect", "--format", "{{json .}}", &id])?;
            let (joined, is_among) = networks_within(&container, &[stack.service(network)]);
            let networks = (is_among, "it is in other networks", joined);
            let wrong = options(&container, user).into_iter().chain([networks]);
            let wrong = wrong.filter(|(holds, ..)| !holds);
            faults.extend(wrong.map(|(_, what, found)| format!("{role}: {what}: {found}")));
        }
    }
    Ok(faults)
}

fn networks_within<'a>(container: &'a Value, networks: &[String]) -> (&'a Value, bool) {
    let joined = &container["NetworkSettings"]["Networks"];
    let is_among = joined
        .as_object()
        .is_none_or(|map| map.keys().all(|name| networks.contains(name)));
    (joined, is_among)
}

fn faults(container: &Value, may_publish: bool, networks: &[String]) -> Vec<String> {
    let checks = options(container, USER)
        .into_iter()
        .chain(places(container, may_publish, networks));
    let wrong = checks.filter(|(holds, ..)| !holds);
    wrong.map(|(_, what, found)| format!("{what}: {found}")).collect()
}

/// Whether something holds, what is wrong otherwise, and what was found.
type Check<'a> = (bool, &'static str, &'a Value);

fn options<'a>(container: &'a Value, expected_user: &str) -> [Check<'a>; 7] {
    let (host, user) = (&container["HostConfig"], &container["Config"]["User"]);
    let is_limited = |name: &str| host[name].as_i64().is_some_and(|limit| limit > 0);
    let (root, dropped, added) = (&host["ReadonlyRootfs"], &host["CapDrop"], &host["CapAdd"]);
    [
        (*root == true, "the root filesystem can be written", root),
        (
            *dropped == json!(["ALL"]),
            "capabilities are not all dropped",
            dropped,
        ),
        (
            added.as_array().is_none_or(Vec::is_empty),
            "capabilities are added",
            added,
        ),
        (
            host["Privileged"] == false,
            "it is privileged",
            &host["Privileged"],
        ),
        (*user == expected_user, "the user is another", user),
        (
            is_limited("PidsLimit"),
            "processes have no limit",
            &host["PidsLimit"],
        ),
        (is_limited("Memory"), "memory has no limit", &host["Memory"]),
    ]
}

/// What of the machine and of its networks is in reach.
fn places<'a>(container: &'a Value, may_publish: bool, networks: &[String]) -> [Check<'a>; 4] {
    let ports = &container["HostConfig"]["PortBindings"];
    let publishes = ports.as_object().is_some_and(|ports| !ports.is_empty());
    let (joined, is_among) = networks_within(container, networks);
    let mounts = &container["Mounts"];
    let any = |fits: fn(&Value) -> bool| mounts.as_array().is_some_and(|list| list.iter().any(fits));
    let has_tmpfs = any(|mount| mount["Destination"] == "/tmp" && mount["Type"] == "tmpfs");
    let has_folder = any(|mount| {
        let place = mount["Destination"].as_str().unwrap_or_default();
        mount["Type"] == "bind" && !place.starts_with("/run/secrets/")
    });
    [
        (may_publish || !publishes, "a port is published", ports),
        (is_among, "it is in other networks", joined),
        (has_tmpfs, "/tmp is no tmpfs", mounts),
        (!has_folder, "a folder of the machine is mounted", mounts),
    ]
}

/// The kernel's word on the container's first process, and whom it lets read the process's environment (proc(5)).
fn process_status(container: &Value) -> Option<(String, u32)> {
    let pid = container["State"]["Pid"].as_u64().filter(|pid| *pid > 0)?;
    let owner = fs::metadata(format!("/proc/{pid}/environ")).ok()?.uid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some((status, owner))
}

fn process_faults(status: &str, owner: u32) -> Vec<String> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    let mut faults = Vec::new();
    for name in ["CapEff:", "CapPrm:", "CapBnd:"] {
        let set = field(name);
        if !set.trim_start_matches('0').is_empty() {
            faults.push(format!("{name} {set}"));
        }
    }
    let users = field("Uid:");
    if users.split_whitespace().any(|id| id != "10001") {
        faults.push(format!("Uid: {users}"));
    }
    if field("NoNewPrivs:") != "1" {
        faults.push("it may gain privileges".to_owned());
    }
    if owner != 0 {
        faults.push(format!(
            "processes of the user {owner} may read its environment and memory"
        ));
    }
    // 2: a filter of system calls is in force.
    if field("Seccomp:") != "2" {
        faults.push(format!("Seccomp: {}", field("Seccomp:")));
    }
    faults
}

fn service_faults(service: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let spec = &service["Spec"];
    let mode = &spec["EndpointSpec"]["Mode"];
    if mode != "dnsrr" {
        faults.push(format!("its addresses are behind one: {mode}"));
    }
    let restart = &spec["TaskTemplate"]["RestartPolicy"];
    if restart["Condition"] != "any" || restart["Delay"] != 0 {
        faults.push(format!("it is not started again at once: {restart}"));
    }
    faults
}

/// How long after its start a container wrote its first line, which it does when it listens.
pub(super) fn start_to_first_line(docker: &Docker, id: &str) -> anyhow::Result<Option<f64>> {
    let started = docker.text(&["inspect", "--format", "{{.State.StartedAt}}", id])?;
    let ended = docker.attempt(&["logs", "--timestamps", id], "")?;
    let log = if ended.stderr.is_empty() {
        ended.stdout
    } else {
        ended.stderr
    };
    let Some(line) = log
        .lines()
        .next()
        .and_then(|line| line.split_whitespace().next().map(str::to_owned))
    else {
        return Ok(None);
    };
    let (begin, end) = (seconds_of_day(&started)?, seconds_of_day(&line)?);
    // Past midnight the clock begins anew; and the engine may note the start after the first line.
    let secs = (end - begin).rem_euclid(DAY_SECS);
    Ok(Some(if secs > DAY_SECS / 2.0 { 0.0 } else { secs }))
}

/// The time of the day of `2026-01-02T03:04:05.678901234Z`.
fn seconds_of_day(text: &str) -> anyhow::Result<f64> {
    let time = text.split_once('T').map(|(_, time)| time.trim_end_matches('Z'));
    let mut parts = time.with_context(|| format!("`{text}` is no time"))?.split(':');
    let mut next = || parts.next().and_then(|part| part.parse::<f64>().ok());
    match (next(), next(), next()) {
        (Some(hours), Some(minutes), Some(seconds)) => Ok(hours * 3600.0 + minutes * 60.0 + seconds),
        _ => anyhow::bail!("`{text}` is no time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_held_against_what_is_wanted() {
        let good = "Uid:\t10001\t10001\t10001\t10001\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n";
        assert_eq!(process_faults(good, 0), [""; 0]);
        let bad = "Uid:\t0\t0\t0\t0\nCapEff:\t00000000a80425fb\nNoNewPrivs:\t0\nSeccomp:\t0\n";
        assert_eq!(process_faults(bad, 10_001).len(), 5);
    }

    #[test]
    fn what_was_left_out_is_found() {
        let good = json!({
            "HostConfig": {"ReadonlyRootfs": true, "CapDrop": ["ALL"], "CapAdd": null, "Privileged": false, "PidsLimit": 100,
                "Memory": 1, "PortBindings": {}},
            "Config": {"User": "10001:10001"},
            "NetworkSettings": {"Networks": {"s_git-fleet": {}}},
            "Mounts": [{"Destination": "/tmp", "Type": "tmpfs"}, {"Destination": "/run/secrets/x", "Type": "bind"}],
        });
        let networks = ["s_git-fleet".to_owned()];
        assert_eq!(faults(&good, false, &networks), [""; 0]);
        for (pointer, value) in [
            ("/HostConfig/ReadonlyRootfs", json!(false)),
            ("/HostConfig/CapDrop", json!(null)),
            ("/HostConfig/CapAdd", json!(["SYS_ADMIN"])),
            ("/HostConfig/PidsLimit", json!(null)),
            ("/HostConfig/PortBindings", json!({"5002/tcp": []})),
            ("/Config/User", json!("root")),
            ("/NetworkSettings/Networks", json!({"host": {}})),
            ("/Mounts/0/Type", json!("volume")),
            ("/Mounts/1/Destination", json!("/etc")),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(pointer).unwrap() = value;
            assert_eq!(faults(&bad, false, &networks).len(), 1, "{pointer}");
        }
    }

    #[test]
    fn times_are_read() {
        assert_eq!(seconds_of_day("2026-01-02T01:01:01.5Z").unwrap(), 3661.5);
        assert!(seconds_of_day("yesterday").is_err());
    }
}
