//! The folder of a job's own, which goes whatever happens.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mayfly_protocol::{JobId, Source};
use mayfly_telemetry::task;
use mayfly_tmp_folder::{TmpFolder, remove_tree};
use tokio::time::timeout;

/// A folder that exists, is empty, and is only the owner's.
pub(crate) struct Scratch {
    folder: TmpFolder,
}

impl Scratch {
    /// Makes `mayfly-tmp-<source>-<job id>-<random>` in `tmp_dir`.
    pub(crate) async fn make(tmp_dir: PathBuf, source: Source, job_id: &JobId) -> io::Result<Self> {
        let purpose = format!("{source}-{job_id}");
        let folder = task::blocking(move || TmpFolder::make(&tmp_dir, &purpose)).await?;
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
        self.folder.was_removed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_folder_goes_with_all_that_is_in_it() {
        let tmp_dir = tempfile::tempdir().unwrap();
        let job_id = JobId::new_now();
        let mut scratch = Scratch::make(tmp_dir.path().to_owned(), Source::GitWorker, &job_id)
            .await
            .unwrap();
        let name = scratch.path().file_name().unwrap().to_str().unwrap();
        assert!(
            name.starts_with(&format!("mayfly-tmp-git-worker-{job_id}-")),
            "{name}"
        );
        std::fs::create_dir_all(scratch.path().join("a/b")).unwrap();
        std::fs::write(scratch.path().join("a/b/file"), b"x").unwrap();
        scratch.remove(Duration::from_secs(60)).await;
        scratch.remove(Duration::from_secs(60)).await;
        assert_eq!(std::fs::read_dir(tmp_dir.path()).unwrap().count(), 0);
    }
}
