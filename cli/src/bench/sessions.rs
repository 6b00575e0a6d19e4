//! `mayfly bench sessions`: our jobs against the naive design, which clones with the git CLI and moves an archive of the whole
//! workspace to the storage and back with every job.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use mayfly_git_server::{Access, GitServer, GitServerConfig, Permission};
use mayfly_protocol::SecretString;

use super::alternate::{Naive, Ours, Place, SESSION};
use super::table::{self, Row};

/// What is measured, and how often.
#[derive(Debug, Args)]
pub(crate) struct SessionsArgs {
    /// A git repository, bare or not; it is copied first.
    #[arg(long)]
    repository: PathBuf,
    /// Alternating runs of both sides.
    #[arg(long, default_value = "7")]
    runs: std::num::NonZeroU32,
    /// Files that each commit changes.
    #[arg(long, default_value = "5")]
    files: std::num::NonZeroUsize,
    /// Folder for everything that is made; all of it is removed at the end.
    #[arg(long, env = "TMP_DIR", default_value = "/tmp")]
    tmp_dir: PathBuf,
    /// File that every run's figures are written to, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

pub(crate) async fn command(args: SessionsArgs) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("mayfly-bench-")
        .tempdir_in(&args.tmp_dir)?;
    let (place, host) = prepare(&args, folder.path()).await?;
    let mut rows = STEPS.map(|step| Row {
        step: step.to_owned(),
        ..Row::default()
    });
    for run in 0..args.runs.get() {
        tracing::info!(run, "measuring");
        measure(&place, run, &mut rows).await?;
    }
    host.shutdown().await;
    table::print(&rows)?;
    if let Some(file) = &args.json {
        serde_json::to_writer_pretty(std::fs::File::create(file)?, &rows)?;
    }
    Ok(())
}

/// What is compared; both sides do each step in every run, one after the other.
const STEPS: [&str; 5] = [
    "clone of an unknown repository, against git clone",
    "the same, against git clone --bare",
    "clone of a known repository, against git clone",
    "create branch, against tar",
    "commit and push, against tar",
];

async fn measure(place: &Place, run: u32, rows: &mut [Row; 5]) -> anyhow::Result<()> {
    let (ours, naive) = (Ours::new(place, run)?, Naive::new(place, run)?);
    let unknown = ours.clone_repository(SESSION).await?;
    let git_clone = naive.clone_repository()?;
    rows[0].push(unknown, git_clone);
    rows[1].push(unknown, naive.clone_bare()?);
    rows[2].push(ours.clone_repository("second").await?, git_clone);
    naive.archive()?;
    rows[3].push(ours.create_branch().await?, naive.create_branch()?);
    rows[4].push(ours.commit().await?, naive.commit()?);
    ours.remove()?;
    naive.remove()
}

/// Copies the repository below a git host, and starts that.
async fn prepare(args: &SessionsArgs, folder: &Path) -> anyhow::Result<(Place, GitServer)> {
    let token = uuid::Uuid::new_v4().to_string();
    let access = Access {
        token: SecretString::from(token.clone()),
        user: "bench".to_owned(),
        permission: Permission::Write,
    };
    let root = folder.join("host");
    let config = GitServerConfig {
        root: root.clone(),
        tokens: vec![access],
        anonymous: Permission::None,
    };
    let (from, bare) = (args.repository.clone(), root.join("repository.git"));
    let (copy, files) = (bare.clone(), args.files.get());
    let (branch, paths) =
        mayfly_telemetry::task::blocking(move || copy_repository(&from, &copy, files)).await?;
    let host = GitServer::start(config).await?;
    let url = host.url("repository");
    Ok((
        Place {
            folder: folder.to_owned(),
            url,
            token,
            branch,
            paths,
        },
        host,
    ))
}

/// Copies a repository, and picks the files that the commits change: evenly spread over the tree.
fn copy_repository(from: &Path, bare: &Path, files: usize) -> anyhow::Result<(String, Vec<String>)> {
    let git = |args: &[&str]| super::alternate::git_output(bare, args);
    std::fs::create_dir_all(bare)?;
    let from = from
        .canonicalize()
        .with_context(|| format!("{} is no repository", from.display()))?;
    let from = from.to_str().context("the path of the repository is not UTF-8")?;
    git(&["clone", "--quiet", "--mirror", "--no-hardlinks", from, "."])?;
    git(&["config", "http.receivepack", "true"])?;
    git(&["config", "receive.autogc", "false"])?;
    let branch = git(&["symbolic-ref", "--short", "HEAD"])?;
    let listing = git(&["ls-tree", "-r", "--name-only", &branch])?;
    let sources: Vec<&str> = listing
        .lines()
        .filter(|path| path.ends_with(".rs") || path.ends_with(".c"))
        .collect();
    let step = (sources.len() / files).max(1);
    let paths = sources
        .iter()
        .step_by(step)
        .take(files)
        .map(|path| (*path).to_owned())
        .collect();
    Ok((branch, paths))
}
