//! The images of the test: the base where no registry gives it, Mayfly's own under two tags, and one with the servers beside it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

use super::SwarmArgs;
use super::docker::Docker;
use crate::run;

/// The base of the `Dockerfile`.
const BASE: &str = "debian:bookworm-slim";
const SUITE: &str = "bookworm";
/// The last stage of the `Dockerfile` begins here, the first one here.
const LAST_STAGE: &str = "FROM ${BASE_IMAGE}";
const FIRST_STAGE: &str = "FROM ${BUILD_IMAGE} AS build";
/// In place of the first stage: what it makes was built outside of a container, against the same C library.
const PREBUILT_STAGE: &str =
    "FROM ${BASE_IMAGE} AS build\nCOPY image /image\nRUN chown 10001:10001 /image/var/lib/mayfly\n\n";
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Git over smart HTTP with a token, and an S3 server, which listen on the address that the command says; Redis and a balancer for the stack.
const PEERS: &str = "FROM debian:bookworm-slim
RUN apt-get update -qq \\
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends git haproxy lighttpd python3 redis-server >/dev/null \\
    && rm -rf /var/lib/apt/lists/*
COPY site-packages /opt/site-packages
COPY lighttpd.conf /etc/lighttpd/lighttpd.conf
ENV PYTHONPATH=/opt/site-packages
";
const LIGHTTPD: &str = include_str!("lighttpd.conf");

/// The images by their names, and which of them the test made.
#[derive(Debug)]
pub(super) struct Images {
    /// Mayfly.
    pub(super) mayfly: String,
    /// Mayfly again, of another version.
    pub(super) update: String,
    /// A version that cannot start.
    pub(super) broken: String,
    /// A program that tries what a worker must not be able to do.
    pub(super) probe: String,
    /// The servers beside it.
    pub(super) peers: String,
    made: Vec<String>,
    /// Images without a name that were there before: stages of earlier builds.
    nameless: Vec<String>,
}

impl Images {
    /// Names them for a run.
    pub(super) fn named(run: &str) -> Self {
        Self {
            mayfly: format!("mayfly-{run}:1"),
            update: format!("mayfly-{run}:2"),
            broken: format!("mayfly-{run}:broken"),
            probe: format!("mayfly-{run}-probe:1"),
            peers: format!("mayfly-{run}-peers:1"),
            made: Vec::new(),
            nameless: Vec::new(),
        }
    }

    /// Builds what is missing.
    pub(super) fn build(&mut self, root: &Path, docker: &Docker, args: &SwarmArgs) -> anyhow::Result<()> {
        self.nameless = nameless(docker)?;
        if !docker.attempt(&["image", "inspect", BASE], "")?.is_good {
            self.made.push(BASE.to_owned());
            base(root, docker)?;
        }
        for (name, version) in [
            (self.mayfly.clone(), "0.1.0"),
            (self.update.clone(), "0.1.0-next"),
        ] {
            run::say(&format!("swarm-test: building {name}"));
            self.made.push(name.clone());
            mayfly(root, docker, args, &name, version)?;
        }
        self.made.push(self.broken.clone());
        broken(docker, &self.mayfly, &self.broken)?;
        self.made.push(self.probe.clone());
        probe(root, docker, &self.mayfly, &self.probe)?;
        run::say(&format!("swarm-test: building {}", self.peers));
        self.made.push(self.peers.clone());
        peers(root, docker, &self.peers)
    }

    /// How large Mayfly's image is, and how much of it is beyond its base, in bytes.
    pub(super) fn sizes(&self, docker: &Docker) -> anyhow::Result<(u64, u64)> {
        let size = |name: &str| -> anyhow::Result<u64> {
            let text = docker.text(&["image", "inspect", name, "--format", "{{.Size}}"])?;
            text.parse().context("the size of an image is a number")
        };
        let whole = size(&self.mayfly)?;
        Ok((whole, whole.saturating_sub(size(BASE)?)))
    }

    /// Removes what was made.
    pub(super) fn remove(&self, docker: &Docker) {
        let stages = nameless(docker).unwrap_or_default();
        let stages = stages.iter().filter(|id| !self.nameless.contains(id));
        // The stages last: an image that is still named holds its own.
        for name in self.made.iter().rev().chain(stages) {
            let removed = docker.attempt(&["image", "rm", "--force", name], "");
            // One that was never built is no image that is left.
            if removed.is_ok_and(|ended| !ended.is_good && !ended.stderr.contains("No such image")) {
                run::say(&format!("swarm-test: left behind: the image {name}"));
            }
        }
    }
}

fn nameless(docker: &Docker) -> anyhow::Result<Vec<String>> {
    docker.lines(&["images", "--quiet", "--filter", "dangling=true"])
}

/// Pulls the base, or makes it by Debian's own installer where no registry answers.
fn base(root: &Path, docker: &Docker) -> anyhow::Result<()> {
    run::say(&format!("swarm-test: fetching {BASE}"));
    if docker.attempt(&["pull", "--quiet", BASE], "")?.is_good {
        return Ok(());
    }
    run::say("swarm-test: no registry gives it; making it by debootstrap");
    let folder = tempfile::Builder::new().prefix("mayfly-swarm-base-").tempdir()?;
    let script = format!(
        "command -v debootstrap >/dev/null || {{ apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null; }}
        debootstrap --variant=minbase --include=ca-certificates {SUITE} \"$1\" >/dev/null
        rm -rf \"$1\"/var/cache/apt/archives/*.deb \"$1\"/var/lib/apt/lists/*
        tar -C \"$1\" -c . | docker import - {BASE} >/dev/null"
    );
    let place = folder.path().display().to_string();
    let ended = run::capture(
        root,
        "bash",
        &["-euo", "pipefail", "-c", &script, "base", &place],
        &[],
        "",
    )?;
    if !ended.is_good {
        bail!("no image {BASE} can be had or made: {}", ended.stderr.trim());
    }
    Ok(())
}

fn mayfly(root: &Path, docker: &Docker, args: &SwarmArgs, name: &str, version: &str) -> anyhow::Result<()> {
    let version = format!("VERSION={version}");
    let mut build = vec![
        "build",
        "--quiet",
        "--force-rm",
        "--network",
        "host",
        "--tag",
        name,
        "--build-arg",
        &version,
    ];
    let build_image = args
        .from_source
        .as_ref()
        .map(|image| format!("BUILD_IMAGE={image}"));
    if let Some(image) = &build_image {
        build.extend(["--build-arg", image, "."]);
        return docker.text(&build).map(drop);
    }
    let context = prebuilt_context(root, &binary(root, args)?)?;
    let place = context.path().display().to_string();
    build.push(&place);
    docker.text(&build).map(drop)
}

/// The program that goes into the image.
fn binary(root: &Path, args: &SwarmArgs) -> anyhow::Result<PathBuf> {
    if let Some(path) = &args.binary {
        return Ok(root.join(path));
    }
    let mut arguments = vec!["build", "--locked", "--workspace", "--bin", "mayfly"];
    if args.release {
        arguments.push("--release");
    }
    if !run::succeeds(root, "cargo", &arguments, &[])? {
        bail!("mayfly does not build; cargo's own words are above");
    }
    let profile = if args.release { "release" } else { "debug" };
    Ok(target(root).join(profile).join("mayfly"))
}

/// A build context with the `Dockerfile` itself, but for the stage that compiles.
fn prebuilt_context(root: &Path, binary: &Path) -> anyhow::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("mayfly-swarm-image-").tempdir()?;
    let image = folder.path().join("image");
    for place in ["usr/local/bin", "var/lib/mayfly", "etc/ssl/certs"] {
        fs::create_dir_all(image.join(place))?;
    }
    let program = image.join("usr/local/bin/mayfly");
    fs::copy(binary, &program).with_context(|| format!("{} cannot be read", binary.display()))?;
    let path = program.display().to_string();
    if !run::capture(root, "strip", &[&path], &[], "")?.is_good {
        bail!("{} is no program that can be stripped", binary.display());
    }
    if Path::new(CERTIFICATES).exists() {
        fs::copy(CERTIFICATES, image.join(CERTIFICATES.trim_start_matches('/')))?;
    }
    let text = fs::read_to_string(root.join("Dockerfile"))?;
    fs::write(folder.path().join("Dockerfile"), without_compiling(&text)?)?;
    Ok(folder)
}

fn without_compiling(text: &str) -> anyhow::Result<String> {
    let parts = text
        .split_once(FIRST_STAGE)
        .and_then(|(head, rest)| Some((head, rest.find(LAST_STAGE).map(|at| &rest[at..])?)));
    let (head, tail) = parts.context("the Dockerfile has no longer the two stages that this test knows")?;
    Ok(format!("{head}{PREBUILT_STAGE}{tail}"))
}

fn broken(docker: &Docker, mayfly: &str, name: &str) -> anyhow::Result<()> {
    let text = format!("FROM {mayfly}\nENTRYPOINT [\"/no-such-program\"]\n");
    docker
        .fed(&["build", "--quiet", "--force-rm", "--tag", name, "-"], &text)
        .map(drop)
}

/// Mayfly's own image with another program in it.
fn probe(root: &Path, docker: &Docker, mayfly: &str, name: &str) -> anyhow::Result<()> {
    if !run::succeeds(
        root,
        "cargo",
        &["build", "--locked", "--workspace", "--example", "probe"],
        &[],
    )? {
        bail!("the probe does not build; cargo's own words are above");
    }
    let folder = tempfile::Builder::new().prefix("mayfly-swarm-probe-").tempdir()?;
    fs::copy(
        target(root).join("debug/examples/probe"),
        folder.path().join("probe"),
    )?;
    let text = format!("FROM {mayfly}\nCOPY probe /probe\nENTRYPOINT [\"/probe\"]\n");
    fs::write(folder.path().join("Dockerfile"), text)?;
    let place = folder.path().display().to_string();
    docker
        .text(&["build", "--quiet", "--force-rm", "--tag", name, &place])
        .map(drop)
}

fn target(root: &Path) -> PathBuf {
    root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

fn peers(root: &Path, docker: &Docker, name: &str) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("mayfly-swarm-peers-").tempdir()?;
    let venv = tools(root).join("ministack");
    let script = "cp -rL \"$1\"/lib/python3*/site-packages \"$2\"/site-packages";
    let (from, to) = (venv.display().to_string(), folder.path().display().to_string());
    if !run::capture(root, "bash", &["-euc", script, "copy", &from, &to], &[], "")?.is_good {
        bail!("the S3 server ministack is not at {from}: run `.ci/tools.sh` once");
    }
    fs::write(folder.path().join("lighttpd.conf"), LIGHTTPD)?;
    fs::write(folder.path().join("Dockerfile"), PEERS)?;
    docker
        .text(&[
            "build",
            "--quiet",
            "--force-rm",
            "--network",
            "host",
            "--tag",
            name,
            &to,
        ])
        .map(drop)
}

/// Where `.ci/tools.sh` puts the programs that only tests need.
fn tools(root: &Path) -> PathBuf {
    root.join(std::env::var_os("MAYFLY_TOOLS").unwrap_or_else(|| "target/tools".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stage_that_compiles_is_replaced() {
        let text = format!("ARG A\n{FIRST_STAGE}\nRUN cargo\n\n{LAST_STAGE}\nCOPY --from=build /image/ /\n");
        let expected = format!("ARG A\n{PREBUILT_STAGE}{LAST_STAGE}\nCOPY --from=build /image/ /\n");
        assert_eq!(without_compiling(&text).unwrap(), expected);
        assert!(without_compiling("FROM x").is_err());
        let own = include_str!("../../../Dockerfile");
        assert!(!without_compiling(own).unwrap().contains("cargo"));
    }
}
