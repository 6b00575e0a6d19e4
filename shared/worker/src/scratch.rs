//! The folder of a job's own, which goes whatever happens.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mayfly_protocol::{JobId, Source};
use mayfly_telemetry::task;
use tempfile::TempDir;
use tokio::time::timeout;

const OWNER_ONLY: u32 = 0o700;

/// A folder that exists, is empty, and is only the owner's.
pub(crate) struct Scratch {
    folder: TempDir,
}

impl Scratch {
    /// Makes `mayfly-<source>-<job id>-<random>` in `tmp_dir`.
    pub(crate) async fn make(tmp_dir: PathBuf, source: Source, job_id: &JobId) -> io::Result<Self> {
        let prefix = format!("mayfly-{source}-{job_id}-");
        let folder = task::blocking(move || {
            tempfile::Builder::new()
                .prefix(&prefix)
                .permissions(Permissions::from_mode(OWNER_ONLY))
                .tempdir_in(tmp_dir)
        })
        .await?;
        Ok(Self { folder })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Removes the folder; it may be called again, should a runner that was left behind have made files since.
    ///
    /// The removal goes on after `grace`, but is no longer waited for.
    pub(crate) async fn remove(&mut self, grace: Duration) {
        let path = self.path().to_owned();
        let removal = task::blocking(move || remove_tree(&path));
        match timeout(grace, removal).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(path = %self.path().display(), %error, "the scratch folder could not be removed");
            }
            Err(_) => {
                tracing::error!(path = %self.path().display(), "the scratch folder takes too long to remove");
            }
        }
        self.folder.disable_cleanup(true);
    }
}

/// Removes a tree, once more with every folder made writable where that was in the way; one that is not there is fine.
fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(_) => {
            open_folders(path)?;
            fs::remove_dir_all(path)
        }
        Ok(()) => Ok(()),
    }
}

fn open_folders(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(OWNER_ONLY))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // The type of the entry itself: a link to a folder is not followed.
        if entry.file_type()?.is_dir() {
            open_folders(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_folder_is_the_owners_and_goes_with_all_that_is_in_it() {
        let tmp_dir = tempfile::tempdir().unwrap();
        let job_id = JobId::new_now();
        let mut scratch = Scratch::make(tmp_dir.path().to_owned(), Source::GitWorker, &job_id)
            .await
            .unwrap();
        let name = scratch.path().file_name().unwrap().to_str().unwrap();
        assert!(
            name.starts_with(&format!("mayfly-git-worker-{job_id}-")),
            "{name}"
        );
        let mode = fs::metadata(scratch.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, OWNER_ONLY);

        let locked = scratch.path().join("a/locked");
        fs::create_dir_all(&locked).unwrap();
        fs::write(locked.join("file"), b"x").unwrap();
        fs::set_permissions(&locked, Permissions::from_mode(0o500)).unwrap();
        scratch.remove(Duration::from_secs(60)).await;
        scratch.remove(Duration::from_secs(60)).await;
        assert_eq!(fs::read_dir(tmp_dir.path()).unwrap().count(), 0);
    }
}
