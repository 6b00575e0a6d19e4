//! The other side: the git CLI, and an archive of everything, which each job takes out of the storage and puts back.

use std::path::PathBuf;
use std::process::Command;

use super::figures::{Job, Sample, Side};
use super::place::Place;
use super::{git, measure, process};

/// Clones of one run with the git CLI.
pub(crate) struct GitCli<'a> {
    place: &'a Place,
    folder: PathBuf,
}

impl<'a> GitCli<'a> {
    pub(crate) fn new(place: &'a Place, run: u32) -> anyhow::Result<Self> {
        let folder = place.folder.join(format!("git-{run}"));
        std::fs::create_dir_all(&folder)?;
        Ok(Self { place, folder })
    }

    /// What the service would do: one branch, no tags, with a workspace, which is left there.
    pub(crate) async fn clone_repository(&self) -> anyhow::Result<Sample> {
        self.clone_into("work", &[]).await
    }

    /// The least that git itself can do.
    pub(crate) async fn clone_bare(&self) -> anyhow::Result<Sample> {
        let sample = self.clone_into("bare", &["--bare"]).await?;
        std::fs::remove_dir_all(self.folder.join("bare"))?;
        Ok(sample)
    }

    async fn clone_into(&self, name: &str, how: &[&str]) -> anyhow::Result<Sample> {
        let figures = self.folder.join("usage.json");
        let mut command = measure::measured(&figures, false)?;
        command
            .args(["git", "clone", "--quiet", "--single-branch", "--no-tags"])
            .args(how)
            .args([&self.place.url, name])
            .current_dir(&self.folder);
        authorized(&mut command, self.place);
        process::account(self.place, &figures, process::finish(command)).await
    }

    /// Removes the workspace; whoever cloned into it for a job has to do that, too.
    pub(crate) async fn remove_workspace(&self) -> anyhow::Result<Sample> {
        let figures = self.folder.join("usage.json");
        let mut command = measure::measured(&figures, false)?;
        command.args(["rm", "-rf", "work"]).current_dir(&self.folder);
        process::account(self.place, &figures, process::finish(command)).await
    }

    pub(crate) fn remove(self) -> anyhow::Result<()> {
        Ok(std::fs::remove_dir_all(&self.folder)?)
    }
}

/// One run with archives of one kind.
pub(crate) struct Naive<'a> {
    place: &'a Place,
    run: u32,
    side: Side,
    folder: PathBuf,
    storage: String,
    /// The archive: in the storage, if that is a folder, otherwise a copy of it.
    archive: PathBuf,
}

impl<'a> Naive<'a> {
    /// `side` is [`Side::Tar`] or [`Side::TarZstd`].
    pub(crate) fn new(place: &'a Place, side: Side, run: u32) -> anyhow::Result<Self> {
        let name = match side {
            Side::TarZstd => "session.tar.zst",
            _ => "session.tar",
        };
        let folder = place.folder.join(format!("{name}-{run}"));
        std::fs::create_dir_all(&folder)?;
        let storage = format!("{}/{name}-{run}", place.name());
        let archive = match place.storage.folder(&storage) {
            Some(stored) => {
                std::fs::create_dir_all(&stored)?;
                stored.join(name)
            }
            None => folder.join(name),
        };
        Ok(Self {
            place,
            run,
            side,
            folder,
            storage,
            archive,
        })
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }

    /// Puts a fresh clone into the storage.
    pub(crate) async fn archive(&self, clones: &GitCli<'_>) -> anyhow::Result<Sample> {
        let from = clones.folder.display();
        let script = format!("cd '{from}' && {}", self.save());
        let sample = self.script(&script).await?;
        Ok(Sample {
            storage_written: self.archive_bytes()?,
            ..sample
        })
    }

    /// Does a job of a session that is in the storage.
    pub(crate) async fn run(&self, job: Job) -> anyhow::Result<Sample> {
        let branch = format!(
            "{}/{}",
            if self.side == Side::Tar { "tar" } else { "zstd" },
            self.run
        );
        let work = match job {
            Job::CloneUnknown | Job::CloneKnown | Job::Pull => "git pull --quiet --ff-only".to_owned(),
            Job::CreateBranch => {
                format!("git checkout --quiet -b {branch} && git push --quiet origin {branch}")
            }
            Job::ApplyChanges => {
                let (files, line) = (self.place.paths.join("' '"), Place::change("naive", self.run));
                format!("for file in '{files}'; do printf '%s' '{line}' >> \"$file\"; done")
            }
            Job::CommitAndPush => {
                format!("git add -A && git commit --quiet -m bench && git push --quiet origin {branch}")
            }
        };
        let storage_read = self.archive_bytes()?;
        let script = format!(
            "{} && cd work && {work} && cd .. && {} && rm -rf work",
            self.restore(),
            self.save()
        );
        let sample = self.script(&script).await?;
        Ok(Sample {
            storage_read,
            storage_written: self.archive_bytes()?,
            ..sample
        })
    }

    fn tar(&self) -> &'static str {
        match self.side {
            Side::TarZstd => "tar -I 'zstd -3'",
            _ => "tar",
        }
    }

    fn is_folder(&self) -> bool {
        self.place.storage.folder(&self.storage).is_some()
    }

    fn save(&self) -> String {
        let pack = format!("{} -cf \"$ARCHIVE\" work", self.tar());
        if self.is_folder() {
            format!("{pack} && sync \"$ARCHIVE\"")
        } else {
            format!("{pack} && \"$MAYFLY\" bench object put session \"$ARCHIVE\"")
        }
    }

    fn restore(&self) -> String {
        let unpack = format!("{} -xf \"$ARCHIVE\"", self.tar());
        if self.is_folder() {
            unpack
        } else {
            format!("rm -f \"$ARCHIVE\" && \"$MAYFLY\" bench object get session \"$ARCHIVE\" && {unpack}")
        }
    }

    fn archive_bytes(&self) -> anyhow::Result<u64> {
        Ok(std::fs::metadata(&self.archive)?.len())
    }

    async fn script(&self, script: &str) -> anyhow::Result<Sample> {
        let figures = self.folder.join("usage.json");
        let mut command = measure::measured(&figures, false)?;
        command
            .args(["sh", "-c", script])
            .current_dir(&self.folder)
            .env("MAYFLY", measure::own_program()?)
            .env("ARCHIVE", &self.archive)
            .env("RUST_LOG", "warn")
            .envs(self.place.storage.environment(&self.storage));
        authorized(&mut command, self.place);
        process::account(self.place, &figures, process::finish(command)).await
    }

    pub(crate) async fn remove(self) -> anyhow::Result<()> {
        self.place.storage.remove(Some(&self.storage)).await?;
        Ok(std::fs::remove_dir_all(&self.folder)?)
    }
}

/// Lets git push and fetch, with the token in a header that only its environment holds.
fn authorized(command: &mut Command, place: &Place) {
    git::hermetic(command)
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "http.extraHeader")
        .env(
            "GIT_CONFIG_VALUE_0",
            format!("Authorization: Bearer {}", place.token),
        );
}
