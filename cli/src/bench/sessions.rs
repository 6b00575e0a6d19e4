//! `mayfly bench sessions`: our jobs against the naive design, which clones with the git CLI and moves an archive of the whole
//! workspace to the storage and back with every job.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use mayfly_git_server::{Access, GitServer, GitServerConfig, Permission};
use mayfly_protocol::SecretString;

use super::alternate::{Naive, Ours, Place};
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
    let mut rows = Vec::new();
    for name in [
        "clone, against git clone",
        "clone, against git clone --bare",
        "branch + apply + commit, against tar",
    ] {
        rows.push(Row {
            step: name.to_owned(),
            ..Row::default()
        });
    }
    for run in 0..args.runs.get() {
        tracing::info!(run, "measuring");
        let ours = Ours::new(&place, run)?;
        rows[0].ours.push(ours.clone_repository().await?);
        let naive = Naive::new(&place, run)?;
        rows[0].theirs.push(naive.clone_repository()?);
        rows[1].ours.push(
            Ours::new(&place, args.runs.get() + run)?
                .clone_repository()
                .await?,
        );
        rows[1].theirs.push(naive.clone_bare()?);
        rows[2].ours.push(ours.change().await?);
        naive.archive()?;
        rows[2].theirs.push(naive.change()?);
        ours.remove()?;
        naive.remove()?;
    }
    host.shutdown().await;
    table::print(&rows)?;
    if let Some(file) = &args.json {
        serde_json::to_writer_pretty(std::fs::File::create(file)?, &rows)?;
    }
    Ok(())
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
