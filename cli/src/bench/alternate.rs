//! The two sides of the comparison. Each step is a whole process (or several, one after the other), accounted for by the system.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use mayfly_protocol::JobKind;
use serde_json::{Value, json};

use super::measure::{self, Usage};
use super::table::Sample;
use crate::client::Client;

/// The session that our side's jobs work in.
pub(crate) const SESSION: &str = "bench";

/// What both sides work on.
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) branch: String,
    pub(crate) paths: Vec<String>,
}

impl Place {
    /// The text that a run adds to each of the files.
    fn change(run: u32, side: &str) -> String {
        format!("// {side} run {run}\n")
    }
}

/// Our side: one worker process a job, sessions in a folder.
pub(crate) struct Ours<'a> {
    place: &'a Place,
    run: u32,
    folder: PathBuf,
}

impl<'a> Ours<'a> {
    pub(crate) fn new(place: &'a Place, run: u32) -> anyhow::Result<Self> {
        let folder = place.folder.join(format!("ours-{run}"));
        std::fs::create_dir_all(folder.join("tmp"))?;
        Ok(Self { place, run, folder })
    }

    /// Clones into a session; the second one of a storage finds a repository that is known.
    pub(crate) async fn clone_repository(&self, session: &str) -> anyhow::Result<Sample> {
        let body = json!({"sessionId": session, "repoUrl": self.place.url, "accessToken": self.place.token});
        self.job(JobKind::CloneRepository, body).await
    }

    pub(crate) async fn create_branch(&self) -> anyhow::Result<Sample> {
        let body = json!({"sessionId": SESSION, "userRequest": "bench", "branchName": format!("ours/{}", self.run),
            "githubAccessToken": self.place.token});
        self.job(JobKind::CreateBranch, body).await
    }

    /// Changes the files, and then commits and pushes; only the commit is measured, since the naive side's edits cost nothing either.
    pub(crate) async fn commit(&self) -> anyhow::Result<Sample> {
        let place = self.place;
        let mut files = Vec::new();
        let bare = place.folder.join("host/repository.git");
        for path in &place.paths {
            let mut content = git_output(&bare, &["show", &format!("{}:{path}", place.branch)])?;
            content.push_str(&Place::change(self.run, "ours"));
            files.push(json!({"path": path, "content": content}));
        }
        self.job(
            JobKind::ApplyChanges,
            json!({"sessionId": SESSION, "files": files}),
        )
        .await?;
        let body = json!({"sessionId": SESSION, "githubAccessToken": place.token});
        self.job(JobKind::CommitAndPush, body).await
    }

    async fn job(&self, kind: JobKind, body: Value) -> anyhow::Result<Sample> {
        let figures = self.folder.join("usage.json");
        let log = self.folder.join("worker.log");
        let mut worker = self.start_worker(&figures, &log)?;
        let outcome = Client::new(format!("http://{}", address(&mut worker)?))?
            .run(kind, &body, |_| {})
            .await?;
        let ended = mayfly_telemetry::task::blocking(move || worker.wait()).await?;
        if let Err(failure) = outcome.result {
            bail!(
                "{} failed with `{}`: {}",
                kind.path(),
                failure.code,
                failure.error
            );
        }
        anyhow::ensure!(ended.success(), "the worker ended with {ended}");
        let (storage_read, storage_written) = moved(&log)?;
        Ok(Sample {
            usage: measure::read(&figures)?,
            storage_read,
            storage_written,
        })
    }

    fn start_worker(&self, figures: &Path, log: &Path) -> anyhow::Result<Child> {
        let mut command = measure::measured(figures)?;
        command
            .arg(std::env::current_exe()?)
            .args([
                "git-worker",
                "--port",
                "0",
                "--announce",
                "--allow-private-git-hosts",
                "--log-format",
                "json",
            ])
            .arg("--tmp-dir")
            .arg(self.folder.join("tmp"))
            .arg("--storage-url")
            .arg(format!("file://{}", self.folder.join("storage").display()))
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(log)?);
        command.spawn().context("a worker could not be started")
    }

    pub(crate) fn remove(self) -> anyhow::Result<()> {
        Ok(std::fs::remove_dir_all(&self.folder)?)
    }
}

/// Waits for the line in which a worker says where it listens.
fn address(worker: &mut Child) -> anyhow::Result<String> {
    let out = worker
        .stdout
        .take()
        .context("the worker has no standard output")?;
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    let address = line
        .trim()
        .strip_prefix("listening on ")
        .context("the worker did not say where it listens")?;
    Ok(address.to_owned())
}

/// The bytes to and from the storage that the worker counted, from the last line of its log.
fn moved(log: &Path) -> anyhow::Result<(u64, u64)> {
    let text = std::fs::read_to_string(log)?;
    let entry = text
        .lines()
        .rev()
        .find(|line| line.contains("storage.read_bytes"));
    let entry: Value =
        serde_json::from_str(entry.context("the worker's log has no account of the storage")?)?;
    let figure = |name: &str| entry[name].as_u64().unwrap_or_default();
    Ok((figure("storage.read_bytes"), figure("storage.written_bytes")))
}

/// The naive side: the git CLI, and an archive of everything.
pub(crate) struct Naive<'a> {
    place: &'a Place,
    run: u32,
    folder: PathBuf,
}

impl<'a> Naive<'a> {
    pub(crate) fn new(place: &'a Place, run: u32) -> anyhow::Result<Self> {
        let folder = place.folder.join(format!("naive-{run}"));
        std::fs::create_dir_all(&folder)?;
        Ok(Self { place, run, folder })
    }

    /// What the service would do: one branch, no tags, with a workspace.
    pub(crate) fn clone_repository(&self) -> anyhow::Result<Sample> {
        self.git(&[
            "clone",
            "--quiet",
            "--single-branch",
            "--no-tags",
            &self.place.url,
            "work",
        ])
    }

    /// The least that git itself can do.
    pub(crate) fn clone_bare(&self) -> anyhow::Result<Sample> {
        let sample = self.git(&[
            "clone",
            "--quiet",
            "--bare",
            "--single-branch",
            "--no-tags",
            &self.place.url,
            "bare",
        ])?;
        std::fs::remove_dir_all(self.folder.join("bare"))?;
        Ok(sample)
    }

    /// Puts the workspace into the storage, and removes it.
    pub(crate) fn archive(&self) -> anyhow::Result<Sample> {
        let usage = self.sh("tar -cf session.tar work && sync session.tar && rm -rf work")?;
        Ok(Sample {
            usage,
            storage_written: self.archive_bytes()?,
            storage_read: 0,
        })
    }

    /// Restore, branch, push, archive.
    pub(crate) fn create_branch(&self) -> anyhow::Result<Sample> {
        let run = self.run;
        self.in_workspace(&format!(
            "git checkout --quiet -b naive/{run} && git push --quiet origin naive/{run}"
        ))
    }

    /// Restore, change, commit, push, archive.
    pub(crate) fn commit(&self) -> anyhow::Result<Sample> {
        let (run, line) = (self.run, Place::change(self.run, "naive"));
        let files = self.place.paths.join("' '");
        self.in_workspace(&format!(
            "for file in '{files}'; do printf '%s' '{line}' >> \"$file\"; done && git add -A && \
             git commit --quiet -m bench && git push --quiet origin naive/{run}"
        ))
    }

    fn in_workspace(&self, script: &str) -> anyhow::Result<Sample> {
        let usage = self.sh(&format!(
            "tar -xf session.tar && cd work && {script} && cd .. && tar -cf session.tar work && \
             sync session.tar && rm -rf work"
        ))?;
        let bytes = self.archive_bytes()?;
        Ok(Sample {
            usage,
            storage_read: bytes,
            storage_written: bytes,
        })
    }

    fn archive_bytes(&self) -> anyhow::Result<u64> {
        Ok(std::fs::metadata(self.folder.join("session.tar"))?.len())
    }

    fn git(&self, args: &[&str]) -> anyhow::Result<Sample> {
        let figures = self.folder.join("usage.json");
        let mut command = measure::measured(&figures)?;
        command.arg("git").args(args);
        self.finish(command)?;
        Ok(Sample {
            usage: measure::read(&figures)?,
            ..Sample::default()
        })
    }

    fn sh(&self, script: &str) -> anyhow::Result<Usage> {
        let figures = self.folder.join("usage.json");
        let mut command = measure::measured(&figures)?;
        command.args(["sh", "-c", script]);
        self.finish(command)?;
        measure::read(&figures)
    }

    /// Runs git with the token in a header that only its environment holds.
    fn finish(&self, mut command: Command) -> anyhow::Result<()> {
        command
            .current_dir(&self.folder)
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "http.extraHeader")
            .env(
                "GIT_CONFIG_VALUE_0",
                format!("Authorization: Bearer {}", self.place.token),
            );
        let status = hermetic(&mut command).status()?;
        if status.success() {
            Ok(())
        } else {
            bail!("{command:?} ended with {status}")
        }
    }

    pub(crate) fn remove(self) -> anyhow::Result<()> {
        Ok(std::fs::remove_dir_all(&self.folder)?)
    }
}

/// Git without the settings of this machine.
fn hermetic(command: &mut Command) -> &mut Command {
    command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_AUTHOR_NAME", "bench")
        .env("GIT_AUTHOR_EMAIL", "bench@example.com")
        .env("GIT_COMMITTER_NAME", "bench")
        .env("GIT_COMMITTER_EMAIL", "bench@example.com")
        .stdin(Stdio::null())
}

/// Runs git in a folder, and gives what it wrote.
pub(crate) fn git_output(folder: &Path, args: &[&str]) -> anyhow::Result<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark prepares its repository with plain git"
    )]
    let mut command = Command::new("git");
    let output = hermetic(command.current_dir(folder).args(args))
        .output()
        .context("`git` could not be started")?;
    if !output.status.success() {
        bail!(
            "`git {}` failed: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let text = String::from_utf8(output.stdout).context("git wrote something other than UTF-8")?;
    Ok(if args.first() == Some(&"show") {
        text
    } else {
        text.trim_end().to_owned()
    })
}
