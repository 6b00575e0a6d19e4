//! The stack under test: `swarm.yml` and the files beside it as they are, with secrets, a port and a name of its own.

use std::time::Duration;

use anyhow::{Context as _, bail};

use super::docker::Docker;
use super::images::Images;
use super::peers::{Peers, free_port, random_token};
use super::stop::Stop;
use crate::run;

/// How long a node may take to start everything, or to end it.
const PATIENCE: Duration = Duration::from_secs(150);
/// How often the same is deployed while Swarm takes it back: a new worker that has done its job at once counts as one that failed.
const DEPLOYMENTS: u32 = 4;
/// How many git workers there are at first.
const REPLICAS: u32 = 4;
/// Every service of ours.
const ROLES: &[&str] = &["gateway", "git-worker", "code-worker"];

/// How many gateways a stack has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Gateways {
    One,
    /// With a Redis in common, behind a balancer.
    Two,
}

impl Gateways {
    /// What the stack is made of, beside `swarm.yml`.
    fn files(self) -> &'static [&'static str] {
        match self {
            Self::One => &["deploy/swarm-s3.yml"],
            Self::Two => &[
                "deploy/swarm-s3.yml",
                "deploy/swarm-redis.yml",
                "deploy/swarm-balancer.yml",
            ],
        }
    }
}

/// A stack, and what it is deployed with.
#[derive(Debug)]
pub(super) struct Stack {
    name: String,
    gateways: Gateways,
    port: u16,
    /// The key of a client.
    pub(super) key: Key,
    /// The token of the fleet.
    pub(super) token: String,
    image: String,
    peers_image: String,
    storage_url: String,
    /// The names of the secrets in force: the token's, the keys' and the bucket's.
    secrets: [String; 3],
    /// Those of several gateways, by the variables that name them.
    shared_secrets: Vec<(&'static str, String)>,
    /// Every secret that was made.
    made: Vec<String>,
}

/// How an update ended that cannot end well.
#[derive(Debug, Clone, Copy)]
pub(super) struct TakenBack {
    /// By Swarm itself, and not by hand.
    pub(super) is_taken_back: bool,
    /// Up to the old version's being back.
    pub(super) took: Duration,
}

/// A key, and the line of the gateway's file that knows it.
#[derive(Debug, Clone, Default)]
pub(super) struct Key {
    pub(super) key: String,
    pub(super) line: String,
}

impl Stack {
    /// Chooses names and a port.
    pub(super) fn named(run: &str, gateways: Gateways) -> anyhow::Result<Self> {
        let name = match gateways {
            Gateways::One => format!("mayfly-{run}"),
            Gateways::Two => format!("mayfly-{run}-two"),
        };
        Ok(Self {
            name,
            gateways,
            port: free_port("0.0.0.0")?,
            key: Key::default(),
            token: random_token(&mut fastrand::Rng::new()),
            image: String::new(),
            peers_image: String::new(),
            storage_url: String::new(),
            secrets: Default::default(),
            shared_secrets: Vec::new(),
            made: Vec::new(),
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

    /// The workers' secret, for a service that is deployed as they are.
    pub(super) fn secret_as(&self, target: &str) -> String {
        let [worker_token, ..] = &self.secrets;
        format!("source={worker_token},target={target},uid=10001,gid=10001,mode=0400")
    }

    /// Makes a key for a client.
    pub(super) fn new_key(&self, docker: &Docker) -> anyhow::Result<Key> {
        #[rustfmt::skip]
        let keys = docker.text(&[
            "run", "--rm", &self.image, "keys", "new", "--tenant", "load", "--scope", "jobs,read,operate",
            "--requests-per-minute", "1000000", "--streams", "1000",
        ])?;
        let (key, line) = keys
            .split_once('\n')
            .context("`mayfly keys new` writes a key and its line")?;
        Ok(Key {
            key: key.to_owned(),
            line: line.to_owned(),
        })
    }

    /// Makes a secret under a new name.
    fn make_secret(&mut self, docker: &Docker, what: &str, text: &str) -> anyhow::Result<String> {
        let name = format!("{}-{what}-{}", self.name, self.made.len());
        docker.fed(&["secret", "create", &name, "-"], text)?;
        self.made.push(name.clone());
        Ok(name)
    }

    /// Makes the secrets and deploys.
    pub(super) fn deploy(&mut self, docker: &Docker, images: &Images, peers: &Peers) -> anyhow::Result<()> {
        images.mayfly.clone_into(&mut self.image);
        images.peers.clone_into(&mut self.peers_image);
        self.storage_url = peers.storage_url();
        self.key = self.new_key(docker)?;
        let (token, line) = (self.token.clone(), self.key.line.clone());
        self.secrets = [
            self.make_secret(docker, "worker-token", &token)?,
            self.make_secret(docker, "api-keys", &line)?,
            self.make_secret(docker, "aws-credentials", &peers.aws_credentials())?,
        ];
        if self.gateways == Gateways::Two {
            self.make_shared_secrets(docker)?;
        }
        self.apply(docker)
    }

    /// What `deploy/swarm-redis.yml` asks for.
    fn make_shared_secrets(&mut self, docker: &Docker) -> anyhow::Result<()> {
        let mut random = fastrand::Rng::new();
        let (password, key) = (random_token(&mut random), random_token(&mut random));
        for (variable, what, text) in [
            (
                "REDIS_SETTINGS_SECRET",
                "redis-settings",
                format!("requirepass {password}\n"),
            ),
            (
                "REDIS_URL_SECRET",
                "redis-url",
                format!("redis://:{password}@redis:6379/0"),
            ),
            ("WAITING_JOBS_KEY_SECRET", "waiting-jobs-key", key),
        ] {
            let name = self.make_secret(docker, what, &text)?;
            self.shared_secrets.push((variable, name));
        }
        Ok(())
    }

    /// Deploys again with other secrets, as an operator changes them, and waits until every process has them.
    pub(super) fn redeploy(
        &mut self,
        docker: &Docker,
        tokens: &str,
        keys: &str,
        stop: &Stop,
    ) -> anyhow::Result<Duration> {
        self.secrets[0] = self.make_secret(docker, "worker-token", tokens)?;
        self.secrets[1] = self.make_secret(docker, "api-keys", keys)?;
        let [worker_token, ..] = self.secrets.clone();
        self.apply_until_all(docker, ROLES, &worker_token, stop)
    }

    /// Deploys again with another storage.
    pub(super) fn move_to(
        &mut self,
        docker: &Docker,
        storage_url: &str,
        stop: &Stop,
    ) -> anyhow::Result<Duration> {
        storage_url.clone_into(&mut self.storage_url);
        self.apply_until_all(docker, &["gateway", "git-worker"], storage_url, stop)
    }

    /// Deploys again with another image, as an operator updates the stack.
    pub(super) fn upgrade(&mut self, docker: &Docker, image: &str, stop: &Stop) -> anyhow::Result<Duration> {
        image.clone_into(&mut self.image);
        self.apply_until_all(docker, ROLES, image, stop)
    }

    /// Deploys, and waits until every task that shall run does, and is described with these words; what Swarm takes back is deployed again, as
    /// `docs/deploy.md` says.
    fn apply_until_all(
        &self,
        docker: &Docker,
        roles: &[&str],
        words: &str,
        stop: &Stop,
    ) -> anyhow::Result<Duration> {
        let mut took = Duration::ZERO;
        for _ in 0..DEPLOYMENTS {
            self.apply(docker)?;
            let mut taken_back = Vec::new();
            took += stop.until(&format!("every process has {words}"), PATIENCE, || {
                taken_back.clear();
                let mut is_over = true;
                for role in roles {
                    let service = self.service(role);
                    let is_settled = is_settled(&verdict(docker, &service)?);
                    // After a rollback Swarm may say `completed` again, of what it has gone back to.
                    if is_settled && !asks_for(docker, &service, words)? {
                        taken_back.push(*role);
                    } else {
                        is_over &= is_settled && all_run_with(docker, &service, words)?;
                    }
                }
                Ok(is_over)
            })?;
            if taken_back.is_empty() {
                return Ok(took);
            }
            run::say(&format!(
                "swarm-test: taken back and deployed again: {}",
                taken_back.join(", ")
            ));
        }
        bail!("Swarm took {words} back {DEPLOYMENTS} times")
    }

    fn apply(&self, docker: &Docker) -> anyhow::Result<()> {
        let [worker_token, api_keys, aws_credentials] = self.secrets.clone();
        let mut settings = vec![
            ("MAYFLY_IMAGE", self.image.clone()),
            ("STORAGE_URL", self.storage_url.clone()),
            ("ALLOW_PRIVATE_GIT_HOSTS", "true".to_owned()),
            ("GIT_WORKER_REPLICAS", REPLICAS.to_string()),
            ("WORKER_TOKEN_SECRET", worker_token),
            ("API_KEYS_SECRET", api_keys),
            ("AWS_CREDENTIALS_SECRET", aws_credentials),
        ];
        let port = self.port.to_string();
        match self.gateways {
            Gateways::One => settings.push(("MAYFLY_PORT", port)),
            Gateways::Two => settings.extend([
                ("MAYFLY_PORT", "0".to_owned()),
                ("GATEWAYS_PER_NODE", "2".to_owned()),
                ("BALANCER_PORT", port),
                ("BALANCER_CONFIG", format!("{}-balancer", self.name)),
                ("BALANCER_IMAGE", self.peers_image.clone()),
                ("REDIS_IMAGE", self.peers_image.clone()),
            ]),
        }
        settings.extend(self.shared_secrets.iter().cloned());
        let mut deploy = vec!["stack", "deploy", "--resolve-image", "never", "-c", "swarm.yml"];
        deploy.extend(self.gateways.files().iter().flat_map(|file| ["-c", *file]));
        deploy.push(&self.name);
        docker.with(&settings).text(&deploy).map(drop)
    }

    /// Asks for so many git workers.
    pub(super) fn scale(&self, docker: &Docker, replicas: u32) -> anyhow::Result<()> {
        let wanted = format!("{}={replicas}", self.service("git-worker"));
        docker.text(&["service", "scale", "--detach", &wanted]).map(drop)
    }

    /// Moves the git workers to another image that is good; what Swarm takes back is tried again, as `docs/deploy.md` says.
    pub(super) fn update(&self, docker: &Docker, image: &str, stop: &Stop) -> anyhow::Result<Duration> {
        let mut took = Duration::ZERO;
        for _ in 0..DEPLOYMENTS {
            let (became, moved) = self.move_to_image(docker, image, stop)?;
            took += moved;
            if became == image {
                return Ok(took);
            }
            run::say(&format!("swarm-test: {image} was taken back, and is tried again"));
        }
        bail!("Swarm took {image} back {DEPLOYMENTS} times")
    }

    /// Moves the git workers to an image that cannot start. Where Swarm does not take it back, it is gone back from by hand, as `docs/deploy.md` says.
    pub(super) fn update_in_vain(
        &self,
        docker: &Docker,
        image: &str,
        stop: &Stop,
    ) -> anyhow::Result<TakenBack> {
        let service = self.service("git-worker");
        let before = service_image(docker, &service)?;
        let (became, mut took) = self.move_to_image(docker, image, stop)?;
        if became != image {
            return Ok(TakenBack {
                is_taken_back: true,
                took,
            });
        }
        let tasks = "{{.Image}} {{.CurrentState}} {{.Error}}";
        let tasks = docker.text(&["service", "ps", &service, "--no-trunc", "--format", tasks])?;
        run::say(&format!(
            "swarm-test: {image} was not taken back; its tasks:\n{tasks}"
        ));
        docker.text(&["service", "rollback", "--detach", &service])?;
        let (now, back) = self.settled(docker, stop)?;
        if now != before {
            bail!("after `docker service rollback` the git workers have {now}, and not {before}");
        }
        took += back;
        Ok(TakenBack {
            is_taken_back: false,
            took,
        })
    }

    /// Asks for another image of the git workers; gives the image with which all of them are once the update or its rollback is over, and how long that took.
    ///
    /// Swarm's own verdict does not tell one from the other: after a rollback it soon says `completed`, of what it went back to.
    fn move_to_image(&self, docker: &Docker, image: &str, stop: &Stop) -> anyhow::Result<(String, Duration)> {
        let service = self.service("git-worker");
        #[rustfmt::skip]
        let update = ["service", "update", "--detach", "--no-resolve-image", "--image", image, &service];
        docker.text(&update)?;
        self.settled(docker, stop)
    }

    /// Waits until an update of the git workers or its rollback is over.
    fn settled(&self, docker: &Docker, stop: &Stop) -> anyhow::Result<(String, Duration)> {
        let service = self.service("git-worker");
        let mut became = String::new();
        let took = stop.until("the update is over", PATIENCE, || {
            let verdict = verdict(docker, &service)?;
            became = service_image(docker, &service)?;
            Ok(is_settled(&verdict) && all_run_with(docker, &service, &became)?)
        })?;
        Ok((became, took))
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
        for secret in &self.made {
            note(docker.text(&["secret", "rm", secret]).map(drop));
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

/// What Swarm says of a service's update; nothing where there was none. One that it gave up does not go on by itself.
fn verdict(docker: &Docker, service: &str) -> anyhow::Result<String> {
    let format = "{{if .UpdateStatus}}{{.UpdateStatus.State}} {{.UpdateStatus.Message}}{{end}}";
    let said = docker.text(&["service", "inspect", service, "--format", format])?;
    let (state, message) = said.split_once(' ').unwrap_or((&said, ""));
    if matches!(state, "paused" | "rollback_paused") {
        bail!("Swarm gave up the update of {service}: {message}");
    }
    Ok(state.to_owned())
}

/// Whether Swarm says that an update or a rollback is over.
fn is_settled(verdict: &str) -> bool {
    matches!(verdict, "completed" | "rollback_completed")
}

/// Whether the service is described with these words.
fn asks_for(docker: &Docker, service: &str, words: &str) -> anyhow::Result<bool> {
    let spec = docker.text(&["service", "inspect", service, "--format", "{{json .Spec}}"])?;
    Ok(spec.contains(words))
}

/// Whether every task that shall run is described with these words; one that ends meanwhile is not.
fn all_run_with(docker: &Docker, service: &str, words: &str) -> anyhow::Result<bool> {
    let filter = "desired-state=running";
    let tasks = docker.lines(&[
        "service",
        "ps",
        "--quiet",
        "--no-trunc",
        "--filter",
        filter,
        service,
    ])?;
    let described = |task: &String| {
        let ended = docker.attempt(
            &["inspect", "--type", "task", "--format", "{{json .Spec}}", task],
            "",
        );
        ended.is_ok_and(|ended| ended.is_good && ended.stdout.contains(words))
    };
    Ok(!tasks.is_empty() && tasks.iter().all(described))
}

fn service_image(docker: &Docker, service: &str) -> anyhow::Result<String> {
    let format = "{{.Spec.TaskTemplate.ContainerSpec.Image}}";
    docker.text(&["service", "inspect", service, "--format", format])
}
