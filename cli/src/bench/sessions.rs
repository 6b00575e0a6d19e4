//! `mayfly bench sessions`: our jobs against the naive design, which clones with the git CLI and moves an archive of the whole
//! workspace out of the storage and back with every job.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use mayfly_storage::StorageUrl;
use tokio_util::task::TaskTracker;

use super::figures::{Figures, Side};
use super::made::Size;
use super::place::{Origin, Place, Storage};
use super::report::{Measured, Report};
use super::run;
use crate::args::StorageArgs;
use crate::signal;

/// What is measured, and how often.
#[derive(Debug, Args)]
pub(crate) struct SessionsArgs {
    #[command(flatten)]
    origin: OriginArgs,
    /// Where both sides keep sessions: `file:///folder` or `s3://bucket/prefix`, in a place of its own below it that is removed at the end;
    /// a folder in TMP_DIR by default.
    #[arg(long)]
    storage_url: Option<StorageUrl>,
    #[command(flatten)]
    storage: StorageArgs,
    /// What is measured beside our jobs, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "git,bare,tar,zstd")]
    against: Vec<Rival>,
    /// Alternating runs of all sides.
    #[arg(long, default_value = "7")]
    runs: std::num::NonZeroU32,
    /// Files that are changed.
    #[arg(long, default_value = "5")]
    files: std::num::NonZeroUsize,
    /// Folder for everything that is made; all of it is removed at the end.
    #[arg(long, env = "TMP_DIR", default_value = "/tmp")]
    tmp_dir: PathBuf,
    /// File that all figures are written to, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// The repositories; one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct OriginArgs {
    /// A git repository, bare or not; it is copied first. Of several, how the cost of each job grows from the first one's is told.
    #[arg(long)]
    repository: Vec<PathBuf>,
    /// Make a repository with so many bytes of packs, such as `10MB`, `100MB` or `1GB`.
    #[arg(long)]
    make_repository: Option<Size>,
    /// Make repositories of several sizes, and tell how the cost of each job grows with them.
    #[arg(long, value_delimiter = ',')]
    sweep: Vec<Size>,
}

impl OriginArgs {
    fn origins(&self) -> Vec<Origin> {
        let paths = self.repository.iter().cloned().map(Origin::Path);
        let mut sizes: Vec<Size> = self
            .make_repository
            .into_iter()
            .chain(self.sweep.clone())
            .collect();
        sizes.sort_unstable();
        sizes.dedup();
        paths.chain(sizes.into_iter().map(Origin::Made)).collect()
    }
}

/// What our jobs are measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rival {
    /// `git clone`.
    Git,
    /// `git clone --bare`.
    Bare,
    /// The git CLI with a plain tar.
    Tar,
    /// The git CLI with a tar in `zstd -3`.
    Zstd,
    /// Nothing.
    None,
}

impl Rival {
    fn side(self) -> Option<Side> {
        match self {
            Self::Git => Some(Side::GitClone),
            Self::Bare => Some(Side::GitCloneBare),
            Self::Tar => Some(Side::Tar),
            Self::Zstd => Some(Side::TarZstd),
            Self::None => None,
        }
    }
}

pub(crate) async fn command(args: SessionsArgs) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("mayfly-bench-")
        .tempdir_in(&args.tmp_dir)
        .with_context(|| format!("no folder can be made in {}", args.tmp_dir.display()))?;
    let url = match &args.storage_url {
        Some(url) => url.clone(),
        None => StorageUrl::directory(&folder.path().canonicalize()?)?,
    };
    let storage = Storage::below(&url, args.storage.clone())?;
    let signals = TaskTracker::new();
    let stop = signal::shutdown_token(&signals)?;
    let measuring = Box::pin(measure(&args, folder.path(), &storage));
    let measured = stop.run_until_cancelled(measuring).await;
    let measured = measured.unwrap_or_else(|| Err(anyhow::anyhow!("stopped by a signal; nothing is kept")));
    let removed = storage.remove(None).await;
    let report = Report::new(storage.kind(), args.runs.get(), args.files.get(), measured?);
    report.print()?;
    if let Some(file) = &args.json {
        let file =
            std::fs::File::create(file).with_context(|| format!("{} cannot be written", file.display()))?;
        serde_json::to_writer_pretty(file, &report)?;
    }
    removed.context("what the bench stored could not be removed")
}

/// Measures all repositories in turn, run by run.
async fn measure(args: &SessionsArgs, folder: &Path, storage: &Storage) -> anyhow::Result<Vec<Measured>> {
    let sides: Vec<Side> = args.against.iter().filter_map(|rival| rival.side()).collect();
    let mut places = Vec::new();
    for (number, origin) in args.origin.origins().into_iter().enumerate() {
        tracing::info!(repository = %origin, "preparing");
        let folder = folder.join(format!("repository-{number}"));
        let place = Place::prepare(folder, origin, args.files.get(), storage.clone()).await?;
        places.push((place, Figures::default()));
    }
    for number in 0..args.runs.get() {
        for (place, figures) in &mut places {
            tracing::info!(run = number + 1, of = args.runs, repository = %place.description.name, "measuring");
            Box::pin(run::run(place, number, &sides, figures)).await?;
        }
    }
    let mut measured = Vec::new();
    for (place, figures) in places {
        measured.push(Measured {
            repository: place.description.clone(),
            figures,
        });
        place.close().await?;
    }
    Ok(measured)
}
