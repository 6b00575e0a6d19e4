//! The stack under test: `swarm.yml` and `deploy/swarm-s3.yml` as they are, with secrets, a port and a name of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::docker::Docker;
use super::peers::{Peers, free_port, random_token};
use super::stop::Stop;
use crate::run;

/// How long a node may take to start everything, or to end it.
const PATIENCE: Duration = Duration::from_secs(150);
/// How many git workers there are at first.
const REPLICAS: u32 = 4;

/// A deployed stack.
#[derive(Debug)]
pub(super) struct Stack {
    name: String,
    port: u16,
    /// The key of a client.
    pub(super) key: String,
}

/// What an engine holds, by name, so that what is left can be told.
#[derive(Debug, Default)]
pub(super) struct Holdings(BTreeSet<String>);

impl Holdings {
    /// Everything that there is now.
    pub(super) fn now(docker: &Docker) -> anyhow::Result<Self> {
        let mut all = BTreeSet::new();
        for (what, arguments) in [
            ("container", &["ps", "--all", "--format", "{{.Names}}"][..]),
            ("volume", &["volume", "ls", "--format", "{{.Name}}"]),
            ("network", &["network", "ls", "--format", "{{.Name}}"]),
            ("secret", &["secret", "ls", "--format", "{{.Name}}"]),
            ("config", &["config", "ls", "--format", "{{.Name}}"]),
            ("service", &["service", "ls", "--format", "{{.Name}}"]),
            (
                "image",
                &["images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"],
            ),
        ] {
            all.extend(
                docker
                    .lines(arguments)?
                    .into_iter()
                    .map(|name| format!("{what} {name}")),
            );
        }
        Ok(Self(all))
    }

    /// What is here and was not there before.
    pub(super) fn beyond(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

impl Stack {
    /// Chooses names and a port.
    pub(super) fn named(run: &str) -> anyhow::Result<Self> {
        Ok(Self {
            name: format!("mayfly-{run}"),
            port: free_port("0.0.0.0")?,
            key: String::new(),
        })
    }

    /// Where the gateway is.
    pub(super) fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The full name of a service.
    pub(super) fn service(&self, role: &str) -> String {
        format!("{}_{role}", self.name)
    }

    /// What its containers are found by.
    pub(super) fn label(&self) -> String {
        format!("com.docker.stack.namespace={}", self.name)
    }

    /// What the containers of a service are found by.
    pub(super) fn service_label(&self, role: &str) -> String {
        format!("com.docker.swarm.service.name={}", self.service(role))
    }

    fn secrets(&self) -> [String; 3] {
        ["worker-token", "api-keys", "aws-credentials"].map(|what| format!("{}-{what}", self.name))
    }

    /// Makes the secrets and deploys.
    pub(super) fn deploy(&mut self, docker: &Docker, image: &str, peers: &Peers) -> anyhow::Result<()> {
        let [worker_token, api_keys, aws_credentials] = self.secrets();
        let keys = docker.text(&[
            "run",
            "--rm",
            image,
            "keys",
            "new",
            "--tenant",
            "load",
            "--scope",
            "jobs,read,operate",
            "--requests-per-minute",
            "1000000",
            "--streams",
            "1000",
        ])?;
        let (key, line) = keys
            .split_once('\n')
            .context("`mayfly keys new` writes a key and its line")?;
        key.clone_into(&mut self.key);
        for (name, text) in [
            (&worker_token, random_token(&mut fastrand::Rng::new())),
            (&api_keys, line.to_owned()),
            (&aws_credentials, peers.aws_credentials()),
        ] {
            docker.fed(&["secret", "create", name, "-"], &text)?;
        }
        let settings = [
            ("MAYFLY_IMAGE", image.to_owned()),
            ("MAYFLY_PORT", self.port.to_string()),
            ("STORAGE_URL", peers.storage_url()),
            ("ALLOW_PRIVATE_GIT_HOSTS", "true".to_owned()),
            ("GIT_WORKER_REPLICAS", REPLICAS.to_string()),
            ("WORKER_TOKEN_SECRET", worker_token),
            ("API_KEYS_SECRET", api_keys),
            ("AWS_CREDENTIALS_SECRET", aws_credentials),
        ];
        let deploy = [
            "stack",
            "deploy",
            "--resolve-image",
            "never",
            "-c",
            "swarm.yml",
            "-c",
            "deploy/swarm-s3.yml",
            &self.name,
        ];
        docker.with(&settings).text(&deploy).map(drop)
    }

    /// Asks for so many git workers.
    pub(super) fn scale(&self, docker: &Docker, replicas: u32) -> anyhow::Result<()> {
        let wanted = format!("{}={replicas}", self.service("git-worker"));
        docker.text(&["service", "scale", "--detach", &wanted]).map(drop)
    }

    /// Moves the git workers to another image, and waits for Swarm's verdict, which has to be this one.
    pub(super) fn update(
        &self,
        docker: &Docker,
        image: &str,
        verdict: &str,
        stop: &Stop,
    ) -> anyhow::Result<Duration> {
        let service = self.service("git-worker");
        let before = service_image(docker, &service)?;
        docker.text(&[
            "service",
            "update",
            "--detach",
            "--no-resolve-image",
            "--image",
            image,
            &service,
        ])?;
        let format = "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}";
        let mut state = String::new();
        let took = stop.until("the update is over", PATIENCE, || {
            state = docker.text(&["service", "inspect", &service, "--format", format])?;
            Ok(matches!(
                state.as_str(),
                "completed" | "rollback_completed" | "paused" | "rollback_paused"
            ))
        })?;
        let now = service_image(docker, &service)?;
        let wanted = if verdict == "completed" { image } else { &before };
        if state != verdict || now != wanted {
            let tasks = docker.text(&[
                "service",
                "ps",
                &service,
                "--no-trunc",
                "--format",
                "{{.Image}} {{.CurrentState}} {{.Error}}",
            ])?;
            bail!(
                "the update to {image} ended as {state}, and not as {verdict}, with the image {now}; its tasks:\n{tasks}"
            );
        }
        Ok(took)
    }

    /// Takes everything off the node, and waits until nothing runs on it.
    pub(super) fn drain(&self, docker: &Docker, stop: &Stop) -> anyhow::Result<Duration> {
        set_availability(docker, "drain")?;
        stop.until("nothing of the stack runs on the drained node", PATIENCE, || {
            Ok(docker.containers(&self.label())?.is_empty())
        })
    }

    /// Lets the node take tasks again.
    pub(super) fn restore(docker: &Docker) -> anyhow::Result<()> {
        set_availability(docker, "active")
    }

    /// Removes the stack with its volumes and secrets; says what is left of it.
    pub(super) fn remove(&self, docker: &Docker) {
        let mut failures = Vec::new();
        let mut note = |result: anyhow::Result<()>| failures.extend(result.err());
        note(docker.text(&["stack", "rm", &self.name]).map(drop));
        note(self.wait_until_gone(docker));
        let label = format!("label={}", self.label());
        match docker.lines(&["volume", "ls", "--quiet", "--filter", &label]) {
            Ok(volumes) => {
                for volume in volumes {
                    note(docker.text(&["volume", "rm", "--force", &volume]).map(drop));
                }
            }
            Err(error) => note(Err(error)),
        }
        for secret in self.secrets() {
            if docker
                .attempt(&["secret", "inspect", &secret], "")
                .is_ok_and(|ended| ended.is_good)
            {
                note(docker.text(&["secret", "rm", &secret]).map(drop));
            }
        }
        for error in failures {
            run::say(&format!("swarm-test: left behind: {error}"));
        }
    }

    /// Its containers and networks go some time after the stack has gone. Not by the test's own clock, which may have run out.
    fn wait_until_gone(&self, docker: &Docker) -> anyhow::Result<()> {
        let end = std::time::Instant::now() + PATIENCE;
        let label = format!("label={}", self.label());
        loop {
            let containers = docker.lines(&["ps", "--all", "--quiet", "--filter", &label])?;
            let networks = docker.lines(&["network", "ls", "--quiet", "--filter", &label])?;
            if containers.is_empty() && networks.is_empty() {
                return Ok(());
            }
            if std::time::Instant::now() > end {
                bail!(
                    "{} containers and {} networks of {}",
                    containers.len(),
                    networks.len(),
                    self.name
                );
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

fn set_availability(docker: &Docker, availability: &str) -> anyhow::Result<()> {
    let node = docker.text(&["info", "--format", "{{.Swarm.NodeID}}"])?;
    docker
        .text(&["node", "update", "--availability", availability, &node])
        .map(drop)
}

fn service_image(docker: &Docker, service: &str) -> anyhow::Result<String> {
    let format = "{{.Spec.TaskTemplate.ContainerSpec.Image}}";
    docker.text(&["service", "inspect", service, "--format", format])
}
