//! The servers beside the Swarm, each a container of its own: an S3 server that is not ours, and git over smart HTTP.
//!
//! They share the machine's network and listen on the Swarm's bridge only, so that they outlive a node that is drained.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

use anyhow::Context as _;

use super::docker::Docker;
use super::hostile::FORGE;
use super::stop::Stop;
use crate::run;

const PATIENCE: Duration = Duration::from_secs(60);
const REPOSITORY: &str = "/srv/git/load.git";
/// Makes a repository with some files, and serves it.
const SERVE_GIT: &str = "mkdir -p /srv/git
export HOME=/srv GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@localhost GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@localhost
git init -q -b main /srv/seed && cd /srv/seed
for i in $(seq 1 200); do mkdir -p d$((i % 10)); seq $i $((i + 200)) >d$((i % 10))/f$i.txt; done
git add . && git commit -qm 'The first commit' && git clone -q --bare /srv/seed /srv/git/load.git
git -C /srv/git/load.git config http.receivepack true
exec lighttpd -D -f /etc/lighttpd/lighttpd.conf";
const SERVE_S3: &str = "import sys; sys.argv = sys.argv[:1]; from ministack.app import main; main()";

/// The two servers.
#[derive(Debug)]
pub(super) struct Peers {
    address: String,
    s3_port: u16,
    git_port: u16,
    s3: String,
    git: String,
    /// What the git server takes as a password.
    pub(super) token: String,
}

impl Peers {
    /// Chooses ports and a token.
    pub(super) fn named(run: &str, address: String, random: &mut fastrand::Rng) -> anyhow::Result<Self> {
        Ok(Self {
            s3_port: free_port(&address)?,
            git_port: free_port(&address)?,
            address,
            s3: format!("mayfly-{run}-s3"),
            git: format!("mayfly-{run}-git"),
            token: random_token(random),
        })
    }

    /// Starts both, and waits until they listen.
    pub(super) fn start(&self, docker: &Docker, image: &str, stop: &Stop) -> anyhow::Result<()> {
        let bind = format!("BIND_HOST={}", self.address);
        let s3_port = format!("GATEWAY_PORT={}", self.s3_port);
        let git_port = format!("GIT_PORT={}", self.git_port);
        docker.text(&[
            "run",
            "--detach",
            "--init",
            "--network",
            "host",
            "--name",
            &self.s3,
            "--env",
            &bind,
            "--env",
            &s3_port,
            image,
            "python3",
            "-c",
            SERVE_S3,
        ])?;
        docker.text(&[
            "run",
            "--detach",
            "--init",
            "--network",
            "host",
            "--name",
            &self.git,
            "--env",
            &bind,
            "--env",
            &git_port,
            image,
            "bash",
            "-euc",
            SERVE_GIT,
        ])?;
        // By standard input: the token is in no argument, and in no description of the container.
        let users = format!("x-access-token:{}\n", self.token);
        docker.fed(
            &[
                "exec",
                "--interactive",
                &self.git,
                "bash",
                "-c",
                "umask 077; cat >/srv/users",
            ],
            &users,
        )?;
        for port in [self.s3_port, self.git_port] {
            let address = format!("{}:{port}", self.address);
            stop.until(&format!("{address} listens"), PATIENCE, || {
                Ok(std::net::TcpStream::connect(&address).is_ok())
            })?;
        }
        self.make_bucket()
    }

    fn bucket(&self) -> String {
        format!("http://{}:{}/mayfly", self.address, self.s3_port)
    }

    fn make_bucket(&self) -> anyhow::Result<()> {
        let answer = ureq::put(self.bucket()).send_empty();
        answer.context("the S3 server makes no bucket")?;
        Ok(())
    }

    /// The keys of all objects below a prefix.
    pub(super) fn keys(&self, prefix: &str) -> anyhow::Result<Vec<String>> {
        let mut keys = Vec::new();
        loop {
            // What is listed in the order of the keys goes on after the last one.
            let after = keys.last().cloned().unwrap_or_default();
            let mut answer = ureq::get(self.bucket())
                .query("list-type", "2")
                .query("prefix", prefix)
                .query("start-after", &after)
                .call()
                .context("the S3 server does not list")?;
            let text = answer.body_mut().read_to_string()?;
            keys.extend(words_of(&text, "Key"));
            if !text.contains("<IsTruncated>true</IsTruncated>") {
                return Ok(keys);
            }
        }
    }

    /// Copies an object; false where there is none.
    pub(super) fn copy(&self, from: &str, to: &str) -> anyhow::Result<bool> {
        let copied = ureq::put(format!("{}/{to}", self.bucket()))
            .header("x-amz-copy-source", format!("/mayfly/{from}"))
            .send_empty();
        match copied {
            Ok(_) => Ok(true),
            Err(ureq::Error::StatusCode(404)) => Ok(false),
            Err(error) => Err(error).context("the S3 server does not copy"),
        }
    }

    /// The file of credentials for `deploy/swarm-s3.yml`.
    pub(super) fn aws_credentials(&self) -> String {
        format!(
            "[default]\naws_access_key_id = test\naws_secret_access_key = test\nregion = us-east-1\nendpoint_url = http://{}:{}\n",
            self.address, self.s3_port
        )
    }

    /// Where sessions are kept.
    pub(super) fn storage_url(&self) -> String {
        "s3://mayfly/fleet".to_owned()
    }

    /// The repository's address.
    pub(super) fn repository_url(&self) -> String {
        self.url_of("load")
    }

    /// The address of another repository.
    pub(super) fn url_of(&self, name: &str) -> String {
        format!("http://{}:{}/git/{name}.git", self.address, self.git_port)
    }

    /// Makes a repository that git itself would not make.
    pub(super) fn forge(&self, docker: &Docker, arguments: &[&str]) -> anyhow::Result<()> {
        let forge = ["exec", &self.git, "bash", "-euc", FORGE, "forge"];
        docker.text(&[&forge[..], arguments].concat()).map(drop)
    }

    /// What git says that a file of a repository holds.
    pub(super) fn file(&self, docker: &Docker, repository: &str, file: &str) -> anyhow::Result<String> {
        let folder = format!("/srv/git/{repository}.git");
        let git = ["exec", &self.git, "git", "-c", "safe.directory=*", "-C", &folder];
        docker.text(&[&git[..], &["cat-file", "blob", file]].concat())
    }

    /// The subjects of a branch's own commits with how often each is there, and the branch's tip.
    pub(super) fn commits(
        &self,
        docker: &Docker,
        branch: &str,
    ) -> anyhow::Result<(BTreeMap<String, usize>, String)> {
        let range = format!("main..{branch}");
        let git = [
            "exec",
            &self.git,
            "git",
            "-c",
            "safe.directory=*",
            "-C",
            REPOSITORY,
        ];
        let mut counts = BTreeMap::new();
        for subject in docker.lines(&[&git[..], &["log", "--format=%s", &range]].concat())? {
            *counts.entry(subject).or_default() += 1;
        }
        let tip = docker.text(&[&git[..], &["rev-parse", branch]].concat())?;
        Ok((counts, tip))
    }

    /// What `git fsck` says of the repository; nothing if it is whole.
    pub(super) fn fsck(&self, docker: &Docker) -> anyhow::Result<String> {
        let git = [
            "exec",
            &self.git,
            "git",
            "-c",
            "safe.directory=*",
            "-C",
            REPOSITORY,
        ];
        let ended = docker.attempt(&[&git[..], &["fsck", "--strict", "--no-dangling"]].concat(), "")?;
        Ok(if ended.is_good {
            String::new()
        } else {
            ended.stderr
        })
    }

    /// Removes both.
    pub(super) fn remove(&self, docker: &Docker) {
        for name in [&self.s3, &self.git] {
            if docker
                .attempt(&["container", "inspect", name], "")
                .is_ok_and(|ended| !ended.is_good)
            {
                continue;
            }
            if let Err(error) = docker.text(&["rm", "--force", "--volumes", name]) {
                run::say(&format!("swarm-test: left behind: {error}"));
            }
        }
    }
}

/// What stands in each element of this name.
fn words_of(text: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let parts = text.split(&open).skip(1);
    parts
        .filter_map(|part| Some(part.split_once(&close)?.0.to_owned()))
        .collect()
}

/// A port that nobody listens on now.
pub(super) fn free_port(address: &str) -> anyhow::Result<u16> {
    let listener =
        TcpListener::bind((address, 0)).with_context(|| format!("no port is free at {address}"))?;
    Ok(listener.local_addr()?.port())
}

/// 32 letters and digits.
pub(super) fn random_token(random: &mut fastrand::Rng) -> String {
    std::iter::repeat_with(|| random.alphanumeric())
        .take(32)
        .collect()
}
