//! Our side: one worker process a job, from its start to its exit.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context as _, bail, ensure};
use mayfly_protocol::JobKind;
use mayfly_telemetry::task;
use serde_json::{Value, json};

use super::figures::{Job, Sample};
use super::place::Place;
use super::process::Group;
use super::{measure, process};
use crate::client::{Gateway, follow_posted};

/// The session that the jobs work in.
const SESSION: &str = "bench";
/// Settings of the caller that would make a worker do other work than the other side's.
const NOT_INHERITED: [&str; 4] = ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "WORKER_TOKEN", "PORT"];

/// One run of our side, in a storage of its own.
pub(crate) struct Ours<'a> {
    place: &'a Place,
    run: u32,
    folder: PathBuf,
    storage: String,
}

impl<'a> Ours<'a> {
    pub(crate) fn new(place: &'a Place, run: u32) -> anyhow::Result<Self> {
        let storage = format!("{}/mayfly-{run}", place.name());
        let folder = place.folder.join(format!("mayfly-{run}"));
        std::fs::create_dir_all(folder.join("tmp"))?;
        Ok(Self {
            place,
            run,
            folder,
            storage,
        })
    }

    pub(crate) async fn run(&self, job: Job) -> anyhow::Result<Sample> {
        let place = self.place;
        let clone =
            |session: &str| json!({"sessionId": session, "repoUrl": place.url, "accessToken": place.token});
        match job {
            Job::CloneUnknown | Job::Pull => self.job(JobKind::CloneRepository, clone(SESSION)).await,
            Job::CloneKnown => self.job(JobKind::CloneRepository, clone("second")).await,
            Job::CreateBranch => {
                let body = json!({"sessionId": SESSION, "userRequest": "bench", "githubAccessToken": place.token,
                    "branchName": format!("mayfly/{}", self.run)});
                self.job(JobKind::CreateBranch, body).await
            }
            Job::ApplyChanges => {
                let files = place.changed_files("mayfly", self.run)?;
                let files: Vec<Value> = files
                    .into_iter()
                    .map(|(path, content)| json!({"path": path, "content": content}))
                    .collect();
                let body = json!({"sessionId": SESSION, "files": files});
                self.job(JobKind::ApplyChanges, body).await
            }
            Job::CommitAndPush => {
                let body = json!({"sessionId": SESSION, "githubAccessToken": place.token});
                self.job(JobKind::CommitAndPush, body).await
            }
        }
    }

    async fn job(&self, kind: JobKind, body: Value) -> anyhow::Result<Sample> {
        let figures = self.folder.join("usage.json");
        let log = self.folder.join("worker.log");
        let work = Box::pin(self.work(kind, &body, &figures, &log));
        let sample = process::account(self.place, &figures, work).await?;
        moved(&log, sample)
    }

    async fn work(&self, kind: JobKind, body: &Value, figures: &Path, log: &Path) -> anyhow::Result<()> {
        let (mut worker, group) = self.start_worker(figures, log)?;
        let (address, mut worker) =
            task::blocking(move || anyhow::Ok((address(&mut worker)?, worker))).await?;
        let asked = Gateway::local(&format!("http://{address}"))?;
        let outcome = follow_posted(&asked, kind, body, |_| {}).await?;
        let ended = task::blocking(move || worker.wait()).await?;
        group.ended();
        if let Err(failure) = outcome.result {
            bail!(
                "{} failed with `{}`: {}",
                kind.path(),
                failure.code,
                failure.error
            );
        }
        ensure!(ended.success(), "the worker ended with {ended}");
        Ok(())
    }

    fn start_worker(&self, figures: &Path, log: &Path) -> anyhow::Result<(Child, Group)> {
        let mut command = measure::measured(figures, true)?;
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        command
            .arg(measure::own_program()?)
            .args(["git-worker", "--port", "0", "--announce"])
            .args(["--allow-private-git-hosts", "--log-format", "json"])
            .arg("--tmp-dir")
            .arg(self.folder.join("tmp"))
            .envs(self.place.storage.environment(&self.storage))
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(log)?);
        process::start(&mut command)
    }

    pub(crate) async fn remove(self) -> anyhow::Result<()> {
        self.place.storage.remove(Some(&self.storage)).await?;
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

/// Adds what the worker counted at the storage, from its log.
fn moved(log: &Path, sample: Sample) -> anyhow::Result<Sample> {
    let text = std::fs::read_to_string(log)?;
    let entry = text
        .lines()
        .rev()
        .find(|line| line.contains("storage.read_bytes"))
        .context("the worker's log has no account of the storage")?;
    let entry: Value = serde_json::from_str(entry)?;
    let figure = |name: &str| {
        entry[name]
            .as_u64()
            .with_context(|| format!("the worker's log has no `{name}`"))
    };
    Ok(Sample {
        storage_read: figure("storage.read_bytes")?,
        storage_written: figure("storage.written_bytes")?,
        storage_calls: Some(figure("storage.calls")?),
        ..sample
    })
}
