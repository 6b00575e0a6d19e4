//! What both sides work on: a repository on a git host, and a storage.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use mayfly_git_server::{Access, GitServer, GitServerConfig, Permission, Traffic, init_bare};
use mayfly_protocol::SecretString;
use mayfly_storage::StorageUrl;
use serde::Serialize;

use super::made::{self, Size};
use super::{git, text_files};
use crate::args::StorageArgs;

/// The repository's name on its host.
const NAME: &str = "repository";

/// Where a repository comes from.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// One that is there.
    Path(PathBuf),
    /// One that is made.
    Made(Size),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Made(size) => size.fmt(f),
        }
    }
}

/// What a repository is like.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Description {
    /// Its path, or the size that it was to have.
    pub(crate) name: String,
    /// The bytes of its packs.
    pub(crate) pack_bytes: u64,
    pub(crate) objects: u64,
    /// The files of the branch that is cloned.
    pub(crate) files: usize,
}

/// A repository on a git host of its own, with the storage that sessions of it are kept in.
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    pub(crate) storage: Storage,
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) branch: String,
    /// The files that are changed.
    pub(crate) paths: Vec<String>,
    pub(crate) description: Description,
    bare: PathBuf,
    host: GitServer,
}

impl Place {
    /// Puts the repository below a git host in `folder`, and starts that.
    pub(crate) async fn prepare(
        folder: PathBuf,
        origin: Origin,
        files: usize,
        storage: Storage,
    ) -> anyhow::Result<Self> {
        let root = folder.join("host");
        let work = root.clone();
        let (bare, branch, paths, description) = mayfly_telemetry::task::blocking(move || {
            let bare = put(&work, &origin)?;
            let branch = git::text(&bare, &["symbolic-ref", "--short", "HEAD"])?;
            let paths = text_files::choose(&bare, &branch, files)?;
            let description = describe(&bare, &branch, &origin)?;
            anyhow::Ok((bare, branch, paths, description))
        })
        .await?;
        let token = uuid::Uuid::new_v4().to_string();
        let access = Access {
            token: SecretString::from(token.clone()),
            user: "bench".to_owned(),
            permission: Permission::Write,
        };
        let host = GitServer::start(GitServerConfig {
            root,
            tokens: vec![access],
            anonymous: Permission::None,
        })
        .await?;
        Ok(Self {
            folder,
            storage,
            url: host.url(NAME),
            token,
            branch,
            paths,
            description,
            bare,
            host,
        })
    }

    /// A name that no other place of the bench has.
    pub(crate) fn name(&self) -> &str {
        self.folder
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or(NAME)
    }

    /// The line that a side adds to each of the files.
    pub(crate) fn change(side: &str, run: u32) -> String {
        format!("// {side} run {run}\n")
    }

    /// The files as the host has them, each with a line added.
    pub(crate) fn changed_files(&self, side: &str, run: u32) -> anyhow::Result<Vec<(&str, String)>> {
        let change = |path: &String| {
            let content = git::bytes(&self.bare, &["show", &format!("{}:{path}", self.branch)])?;
            let content = String::from_utf8(content).with_context(|| format!("`{path}` is not UTF-8"))?;
            anyhow::Ok(content + &Self::change(side, run))
        };
        self.paths
            .iter()
            .map(|path| change(path).map(|content| (path.as_str(), content)))
            .collect()
    }

    /// Someone else's commit on the branch, which changes the same files.
    pub(crate) fn commit_news(&self, run: u32) -> anyhow::Result<()> {
        let files = self.changed_files("news", run)?;
        let branch = &self.branch;
        let now = std::time::UNIX_EPOCH.elapsed()?.as_secs();
        git::fast_import(&self.bare, |out| {
            write!(
                out,
                "commit refs/heads/{branch}\ncommitter Grace <grace@example.com> {now} +0000\ndata 5\nnews\n\
                 from refs/heads/{branch}^0\n"
            )?;
            for (path, content) in files {
                write!(out, "M 100644 inline {path}\ndata {}\n{content}\n", content.len())?;
            }
            Ok(())
        })
    }

    /// What went to and from the git host so far.
    pub(crate) fn traffic(&self) -> Traffic {
        self.host.traffic()
    }

    pub(crate) async fn close(self) -> anyhow::Result<()> {
        self.host.shutdown().await;
        Ok(std::fs::remove_dir_all(&self.folder)?)
    }
}

/// Copies or makes the repository below `root`.
fn put(root: &Path, origin: &Origin) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(root)?;
    match origin {
        Origin::Made(size) => {
            let bare = init_bare(root, NAME, made::BRANCH)?;
            made::make(&bare, *size)?;
            Ok(bare)
        }
        Origin::Path(from) => {
            let from = from
                .canonicalize()
                .with_context(|| format!("{} is no repository", from.display()))?;
            let from = from.to_str().context("the path of the repository is not UTF-8")?;
            let bare = root.join(format!("{NAME}.git"));
            std::fs::create_dir(&bare)?;
            git::bytes(
                &bare,
                &["clone", "--quiet", "--mirror", "--no-hardlinks", from, "."],
            )?;
            for setting in ["http.receivepack=true", "receive.autogc=false", "gc.auto=0"] {
                let (key, value) = setting.split_once('=').unwrap_or((setting, "true"));
                git::bytes(&bare, &["config", key, value])?;
            }
            Ok(bare)
        }
    }
}

fn describe(bare: &Path, branch: &str, origin: &Origin) -> anyhow::Result<Description> {
    let counts = git::text(bare, &["count-objects", "-v"])?;
    let count = |name: &str| {
        let line = counts.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse::<u64>().ok())
    };
    let listing = git::bytes(bare, &["ls-tree", "-r", "-z", "--name-only", branch])?;
    Ok(Description {
        name: origin.to_string(),
        pack_bytes: count("size-pack:").context("git does not count packs")? * 1024,
        objects: count("in-pack:").context("git does not count objects")?,
        files: listing.iter().filter(|&&byte| byte == 0).count(),
    })
}

/// Where sessions and archives are kept, in a place of its own below what the user named.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    base: String,
    args: StorageArgs,
}

impl Storage {
    /// Takes a place below `url`, which several benches may share.
    pub(crate) fn below(url: &StorageUrl, args: StorageArgs) -> anyhow::Result<Self> {
        ensure!(url.is_shared(), "a storage in memory is not seen by the workers");
        let base = url.to_string();
        let base = format!(
            "{}/mayfly-bench-{}",
            base.trim_end_matches('/'),
            uuid::Uuid::new_v4()
        );
        Ok(Self { base, args })
    }

    /// The URL of one of the storages in it.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.base)
    }

    /// The folder of one of them, where it is one.
    pub(crate) fn folder(&self, name: &str) -> Option<PathBuf> {
        folder_of(&self.url(name))
    }

    /// What processes that use it find in their environment.
    pub(crate) fn environment(&self, name: &str) -> Vec<(OsString, OsString)> {
        let url = ("STORAGE_URL".into(), self.url(name).into());
        self.args.to_environment().into_iter().chain([url]).collect()
    }

    /// What kind of storage it is, in a word.
    pub(crate) fn kind(&self) -> &str {
        self.base.split(':').next().unwrap_or_default()
    }

    /// Removes one of them, or all.
    pub(crate) async fn remove(&self, name: Option<&str>) -> anyhow::Result<()> {
        let url = name.map_or_else(|| self.base.clone(), |name| self.url(name));
        if let Some(folder) = folder_of(&url) {
            return match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            };
        }
        let store = mayfly_storage::open(&url.parse()?, &self.args.options()).await?;
        for object in store.list("").await? {
            store.delete(&object.key).await?;
        }
        Ok(())
    }
}

fn folder_of(url: &str) -> Option<PathBuf> {
    url::Url::parse(url).ok()?.to_file_path().ok()
}
