//! The engine on which the test runs: one that is there already, or one that is started for the test and ended after it.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

use super::docker::Docker;
use super::stop::Stop;
use crate::run;

/// How long an engine may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long what is left of a Swarm may hold on to its bridge.
const BRIDGE_PATIENCE: Duration = Duration::from_secs(20);
/// The bridge that a Swarm makes, over which containers and their machine reach each other.
const BRIDGE: &str = "docker_gwbridge";
/// As a Swarm makes it: containers reach the machine over it, and not one another.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name=docker_gwbridge";
const NO_TALK: &str = "com.docker.network.bridge.enable_icc=false";
/// The bridges that an engine leaves on its machine when it ends.
const LINKS: [&str; 2] = ["docker0", BRIDGE];
/// What the test needs of Debian to start an engine by itself, and to clear away after it.
const PACKAGES: &[&str] = &["docker.io", "iptables", "iproute2"];

/// What was begun for the test's sake, and is ended after it.
#[derive(Debug, Default)]
pub(super) struct Engine {
    daemon: Option<(Child, TempDir)>,
    /// Bridges that were not there before its own daemon.
    links: Vec<&'static str>,
    is_own_swarm: bool,
    is_own_bridge: bool,
}

impl Engine {
    /// Finds an engine that is a Swarm of this one node and runs no service, or makes one.
    pub(super) fn take(root: &Path, docker: &Docker, may_start: bool, stop: &Stop) -> anyhow::Result<Self> {
        let mut engine = Self::default();
        if docker
            .attempt(&["info"], "")
            .is_ok_and(|ended| ended.is_good && !ended.stdout.contains("ERROR:"))
        {
            run::say("swarm-test: a Docker engine is there");
        } else if may_start {
            engine.links = LINKS.into_iter().filter(|link| !is_link(link)).collect();
            engine.daemon = Some(start_daemon(root, docker, stop)?);
        } else {
            bail!("no Docker engine answers here: start one, or give --start-engine (as root on Debian)");
        }
        if let Err(error) = engine.join_swarm(docker) {
            engine.end(root, docker);
            return Err(error);
        }
        Ok(engine)
    }

    fn join_swarm(&mut self, docker: &Docker) -> anyhow::Result<()> {
        let state = docker.text(&["info", "--format", "{{.Swarm.LocalNodeState}}"])?;
        if state == "inactive" {
            if !docker.attempt(&["network", "inspect", BRIDGE], "")?.is_good {
                // A Swarm makes it when it needs it; the test's servers listen on it before.
                docker.text(&[
                    "network",
                    "create",
                    "--opt",
                    BRIDGE_NAME,
                    "--opt",
                    NO_TALK,
                    BRIDGE,
                ])?;
                self.is_own_bridge = true;
            }
            docker.text(&["swarm", "init", "--advertise-addr", "127.0.0.1"])?;
            self.is_own_swarm = true;
            return Ok(());
        }
        let nodes = docker.lines(&["node", "ls", "--quiet"]);
        let nodes = nodes.context("the test wants a manager of a Swarm, since it drains its node")?;
        let services = docker.lines(&["service", "ls", "--format", "{{.Name}}"])?;
        if nodes.len() != 1 || !services.is_empty() {
            bail!(
                "this Swarm has {} nodes and the services [{}]; the test drains its node, so it wants a Swarm of one node that runs nothing",
                nodes.len(),
                services.join(", ")
            );
        }
        Ok(())
    }

    /// The machine's address on the Swarm's bridge: containers reach what listens there, and nobody outside of the machine does.
    pub(super) fn bridge_address(docker: &Docker) -> anyhow::Result<String> {
        let format = "{{range .IPAM.Config}}{{.Gateway}}{{end}}";
        let text = docker.text(&["network", "inspect", BRIDGE, "--format", format])?;
        Ok(text.split('/').next().unwrap_or_default().to_owned())
    }

    /// Ends what was begun; says what could not be ended.
    pub(super) fn end(self, root: &Path, docker: &Docker) {
        if self.is_own_swarm {
            report(docker.text(&["swarm", "leave", "--force"]));
        }
        if self.is_own_bridge && self.daemon.is_none() {
            report(remove_bridge(docker));
        }
        if let Some((mut daemon, folder)) = self.daemon {
            report(end_daemon(&mut daemon));
            // Not by the engine: what was killed on a bridge may keep it from being removed as long as the engine runs.
            for link in self.links.into_iter().filter(|link| is_link(link)) {
                report(delete_link(root, link));
            }
            report(unmount_below(folder.path()));
            report(folder.close());
        }
    }
}

/// A Swarm that was left ends its last containers some time after that, and they hold on to the bridge. What a killed container or the Swarm's own balancer
/// has left on it goes by force.
fn remove_bridge(docker: &Docker) -> anyhow::Result<()> {
    let end = Instant::now() + BRIDGE_PATIENCE;
    loop {
        let removed = docker.text(&["network", "rm", BRIDGE]);
        if removed.is_ok() || Instant::now() > end {
            return removed.map(drop);
        }
        let format = "{{range .Containers}}{{println .Name}}{{end}}";
        let endpoints = docker.lines(&["network", "inspect", BRIDGE, "--format", format])?;
        for endpoint in endpoints.iter().filter(|endpoint| !endpoint.is_empty()) {
            // One that ends by itself meanwhile is gone, which is as good.
            let _gone = docker.attempt(&["network", "disconnect", "--force", BRIDGE, endpoint], "")?;
        }
        sleep(Duration::from_millis(500));
    }
}

fn is_link(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

fn delete_link(root: &Path, name: &str) -> anyhow::Result<()> {
    match run::succeeds(root, "ip", &["link", "delete", name], &[])? {
        true => Ok(()),
        false => bail!("the bridge {name}"),
    }
}

fn report<T, E: std::fmt::Display>(result: Result<T, E>) {
    if let Err(error) = result {
        run::say(&format!("swarm-test: left behind: {error}"));
    }
}

fn start_daemon(root: &Path, docker: &Docker, stop: &Stop) -> anyhow::Result<(Child, TempDir)> {
    install(root)?;
    let folder = tempfile::Builder::new()
        .prefix("mayfly-swarm-engine-")
        .tempdir()?;
    let log = File::create(folder.path().join("log"))?;
    let inside = |name: &str| folder.path().join(name).display().to_string();
    let (data, state, pid) = (inside("data"), inside("state"), inside("pid"));
    run::say("swarm-test: starting a Docker engine");
    let arguments = ["--data-root", &data, "--exec-root", &state, "--pidfile", &pid];
    let mut daemon = run::start(root, "dockerd", &arguments, Stdio::null(), log.into())?;
    let answers = stop.until("the engine answers", PATIENCE, || {
        if let Some(status) = daemon.try_wait()? {
            let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            let last = log.lines().last().unwrap_or("it wrote nothing");
            bail!("no engine can be started here: dockerd ended with {status}: {last}");
        }
        Ok(docker
            .attempt(&["info", "--format", "{{.ServerVersion}}"], "")?
            .is_good)
    });
    if let Err(error) = answers {
        report(end_daemon(&mut daemon));
        return Err(error);
    }
    Ok((daemon, folder))
}

/// Asks the engine to end, so that it takes its containers and mounts along; kills it when it does not.
fn end_daemon(daemon: &mut Child) -> anyhow::Result<()> {
    if daemon.try_wait()?.is_some() {
        return Ok(());
    }
    let pid = daemon.id().to_string();
    run::capture(Path::new("/"), "kill", &["-s", "TERM", &pid], &[], "")?;
    let end = Instant::now() + PATIENCE;
    while daemon.try_wait()?.is_none() {
        if Instant::now() > end {
            daemon.kill()?;
            daemon.wait()?;
            bail!("dockerd did not end by itself, and was killed");
        }
        sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// An engine that ends leaves the mount of its network namespace behind (proc_mounts(5): the second word of a line is the place).
fn unmount_below(folder: &Path) -> anyhow::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for place in places.filter(|place| Path::new(place).starts_with(folder)) {
        run::capture(Path::new("/"), "umount", &[place], &[], "")?;
    }
    Ok(())
}

fn install(root: &Path) -> anyhow::Result<()> {
    let is_there = |program: &str| run::capture(root, program, &["--version"], &[], "").is_ok();
    if ["dockerd", "docker", "iptables", "ip"].into_iter().all(is_there) {
        return Ok(());
    }
    run::say(&format!("swarm-test: installing by apt: {}", PACKAGES.join(" ")));
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(PACKAGES);
    let quiet = [("DEBIAN_FRONTEND".to_owned(), "noninteractive".to_owned())];
    let refreshed = run::capture(root, "apt-get", &["update", "-qq"], &quiet, "");
    let installed = refreshed.and_then(|_| run::capture(root, "apt-get", &arguments, &quiet, ""));
    match installed {
        Ok(ended) if ended.is_good => Ok(()),
        _ => bail!(
            "no engine can be started here: install the packages {} (as root, on Debian)",
            PACKAGES.join(" ")
        ),
    }
}
