//! What the engine says of containers that start and end: restart intervals, and how many were killed.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;

use super::docker::Docker;

/// A container that started or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContainerEvent {
    /// Nanoseconds since 1970, by the engine's clock.
    pub(super) at_nanos: u64,
    /// The service and the slot, such as `mayfly-x_git-worker.3`.
    slot: String,
    /// The code with which it ended; none where it started.
    exit_code: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Line {
    #[serde(rename = "Action")]
    action: String,
    #[serde(rename = "Actor")]
    actor: Actor,
    #[serde(rename = "timeNano")]
    at_nanos: u64,
}

#[derive(Debug, Deserialize)]
struct Actor {
    #[serde(rename = "Attributes")]
    attributes: BTreeMap<String, String>,
}

/// Listens to the engine until it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    child: Child,
    reader: Option<JoinHandle<()>>,
    seen: Arc<Mutex<Vec<ContainerEvent>>>,
}

impl Watch {
    /// Listens to the containers of one service from now on.
    pub(super) fn start(docker: &Docker, service_label: &str) -> anyhow::Result<Self> {
        let label = format!("label={service_label}");
        let mut child = docker.follow(&[
            "events",
            "--format",
            "{{json .}}",
            "--filter",
            "type=container",
            "--filter",
            &label,
            "--filter",
            "event=start",
            "--filter",
            "event=die",
        ])?;
        let lines = BufReader::new(child.stdout.take().context("`docker events` has an output")?).lines();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        let reader = std::thread::spawn(move || {
            for event in lines.map_while(Result::ok).filter_map(|line| parse(&line)) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            }
        });
        Ok(Self {
            child,
            reader: Some(reader),
            seen,
        })
    }

    /// What happened up to now.
    pub(super) fn events(&self) -> Vec<ContainerEvent> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It may have ended with its engine.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn parse(line: &str) -> Option<ContainerEvent> {
    let line: Line = serde_json::from_str(line).ok()?;
    let task = line.actor.attributes.get("com.docker.swarm.task.name")?;
    let (slot, _task) = task.rsplit_once('.')?;
    Some(ContainerEvent {
        at_nanos: line.at_nanos,
        slot: slot.to_owned(),
        exit_code: (line.action == "die")
            .then(|| line.actor.attributes.get("exitCode").cloned().unwrap_or_default()),
    })
}

/// How a container ended, and how long its slot was empty after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Restart {
    /// When it ended.
    pub(super) at_nanos: u64,
    /// Whether it ended by itself, with code 0.
    pub(super) is_good: bool,
    /// Until the next container of the slot started.
    pub(super) interval: Duration,
}

/// Every end of a container that another one followed in its slot.
pub(super) fn restarts(events: &[ContainerEvent]) -> Vec<Restart> {
    let mut ended: BTreeMap<&str, (u64, bool)> = BTreeMap::new();
    let mut restarts = Vec::new();
    for event in events {
        match &event.exit_code {
            Some(code) => {
                ended.insert(&event.slot, (event.at_nanos, code == "0"));
            }
            None => {
                if let Some((at_nanos, is_good)) = ended.remove(event.slot.as_str()) {
                    let interval = Duration::from_nanos(event.at_nanos.saturating_sub(at_nanos));
                    restarts.push(Restart {
                        at_nanos,
                        is_good,
                        interval,
                    });
                }
            }
        }
    }
    restarts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(action: &str, task: &str, at: u64) -> String {
        format!(
            r#"{{"Action":"{action}","Actor":{{"Attributes":{{"com.docker.swarm.task.name":"{task}","exitCode":"0"}}}},"timeNano":{at}}}"#
        )
    }

    #[test]
    fn the_next_start_in_a_slot_ends_its_interval() {
        let lines = [
            line("start", "s_w.1.a", 1),
            line("die", "s_w.1.a", 10),
            line("die", "s_w.2.b", 11),
            line("start", "s_w.1.c", 40),
            "rubbish".to_owned(),
            line("start", "s_w.3.d", 50),
        ];
        let events: Vec<_> = lines.iter().filter_map(|line| parse(line)).collect();
        let expected = Restart {
            at_nanos: 10,
            is_good: true,
            interval: Duration::from_nanos(30),
        };
        assert_eq!(restarts(&events), [expected]);
    }
}
