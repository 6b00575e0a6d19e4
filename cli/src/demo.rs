//! `mayfly demo`: the whole product once. A real repository is served over smart HTTP, a fleet is started, four jobs go through
//! the gateway, and then plain git is asked what the remote has.

mod report;
mod repository;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::Args;
use mayfly_git_server::{Access, GitServer, GitServerConfig, Permission};
use mayfly_protocol::{ExposeSecret as _, JobKind, SecretString};
use serde_json::{Value, json};

use crate::client::{Followed, Gateway, View, follow_posted};
use crate::up::{Environment, Fleet, UpArgs};
use report::Report;

/// Settings of the demo.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Folder for everything that the demo makes; all of it is removed at the end.
    #[arg(long, env = "TMP_DIR", default_value = "/tmp")]
    tmp_dir: PathBuf,
    /// Git workers to start.
    #[arg(long, default_value = "2")]
    git_workers: std::num::NonZeroUsize,
    /// Commits of history in the repository that is made.
    #[arg(long, default_value = "200")]
    commits: std::num::NonZeroU32,
}

/// The session that all jobs of the demo work in.
const SESSION: &str = "demo";
/// What the user asks for.
const WISH: &str = "Add a dark mode toggle to the settings page";

pub(crate) async fn command(args: DemoArgs, log: Environment) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("mayfly-demo-")
        .tempdir_in(&args.tmp_dir)
        .with_context(|| format!("no folder can be made in {}; set TMP_DIR", args.tmp_dir.display()))?;
    let mut report = Report::new();
    let bare = make_repository(folder.path(), args.commits.get(), &mut report).await?;
    let token = SecretString::from(uuid::Uuid::new_v4().to_string());
    let host = serve(folder.path(), token.clone()).await?;
    report.say(format!(
        "git host    {} (smart HTTP, with a token)",
        host.url(repository::NAME)
    ));

    let started = Instant::now();
    let up = UpArgs::for_demo(folder.path(), args.git_workers)?;
    let fleet = Fleet::start(up, log).await?;
    fleet.ready().await?;
    report.timing("fleet ready", started.elapsed());
    report.say(format!(
        "gateway     {} with {} git workers",
        fleet.url(),
        args.git_workers
    ));

    let worked = run_jobs(&fleet, &host.url(repository::NAME), &token, &mut report).await;
    let processes = fleet.pids();
    let stopped = fleet.stop().await;
    host.shutdown().await;
    let branch = worked?;
    stopped?;
    check(&bare, &branch, &mut report).await?;
    let files = files_left(folder.path())?;
    let running = processes.iter().filter(|pid| is_running(**pid)).count();
    folder.close().context("the demo's folder could not be removed")?;
    report.say(format!(
        "left behind {files} files in the workers' scratch folders, {running} processes"
    ));
    report.finish();
    anyhow::ensure!(
        files + running == 0,
        "the fleet left {files} files and {running} processes behind"
    );
    Ok(())
}

async fn make_repository(folder: &Path, commits: u32, report: &mut Report) -> anyhow::Result<PathBuf> {
    let (root, started) = (folder.join("host"), Instant::now());
    let bare = mayfly_telemetry::task::blocking(move || repository::make(&root, commits)).await?;
    report.timing("repository made", started.elapsed());
    Ok(bare)
}

async fn serve(folder: &Path, token: SecretString) -> anyhow::Result<GitServer> {
    let access = Access {
        token,
        user: "demo".to_owned(),
        permission: Permission::Write,
    };
    let config = GitServerConfig {
        root: folder.join("host"),
        tokens: vec![access],
        anonymous: Permission::None,
    };
    Ok(GitServer::start(config).await?)
}

/// Runs the four jobs, and gives the name of the branch that came of them.
async fn run_jobs(
    fleet: &Fleet,
    repo: &str,
    token: &SecretString,
    report: &mut Report,
) -> anyhow::Result<String> {
    let gateway = Gateway::local(&fleet.url())?;
    let token = token.expose_secret();
    job(
        &gateway,
        report,
        JobKind::CloneRepository,
        json!({"sessionId": SESSION, "repoUrl": repo, "accessToken": token}),
    )
    .await?;
    let branch = job(
        &gateway,
        report,
        JobKind::CreateBranch,
        json!({"sessionId": SESSION, "userRequest": WISH, "githubAccessToken": token}),
    )
    .await?;
    job(
        &gateway,
        report,
        JobKind::ApplyChanges,
        repository::changes(SESSION),
    )
    .await?;
    job(
        &gateway,
        report,
        JobKind::CommitAndPush,
        json!({"sessionId": SESSION, "githubAccessToken": token, "author": {"name": "Ada", "email": "ada@example.com"}}),
    )
    .await?;
    branch["branch"]
        .as_str()
        .map(str::to_owned)
        .context("the branch has no name")
}

async fn job(gateway: &Gateway, report: &mut Report, kind: JobKind, body: Value) -> anyhow::Result<Value> {
    let mut view = View::new(kind.path(), false);
    let outcome = follow_posted(gateway, kind, &body, |event| view.show(event)).await;
    drop(view);
    let Followed {
        result,
        first_event,
        elapsed,
    } = outcome?;
    match result {
        Ok(data) => {
            report.job(kind, first_event, elapsed, &data);
            Ok(data)
        }
        Err(failure) => bail!(
            "{} failed with `{}`: {}",
            kind.path(),
            failure.code,
            failure.error
        ),
    }
}

/// Asks plain git what the remote has.
async fn check(bare: &Path, branch: &str, report: &mut Report) -> anyhow::Result<()> {
    let (bare, branch) = (bare.to_owned(), branch.to_owned());
    let seen = mayfly_telemetry::task::blocking(move || repository::inspect(&bare, &branch)).await?;
    report.seen(&seen);
    Ok(())
}

/// Counts what the workers left in their scratch folders.
fn files_left(folder: &Path) -> anyhow::Result<usize> {
    let entries =
        std::fs::read_dir(folder.join("tmp")).context("the workers' scratch folder cannot be read")?;
    Ok(entries.count())
}

/// Whether a process with this id exists (proc(5)).
fn is_running(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}
