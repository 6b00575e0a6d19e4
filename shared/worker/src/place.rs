//! The folder of one worker process's own, in which its job's scratch folder is made.

use std::io;
use std::path::{Path, PathBuf};

use mayfly_tmp_folder::{TmpFolder, Use};

/// `TMP_DIR` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("TMP_DIR `{}` is not a folder that can be used; make it, or name another one", path.display())]
pub struct PlaceError {
    path: PathBuf,
    source: io::Error,
}

impl PlaceError {
    fn of(path: &Path, source: io::Error) -> Self {
        Self {
            path: path.to_owned(),
            source,
        }
    }
}

/// A folder in `TMP_DIR` that no other process uses. It goes when it is dropped, or with the next worker where the process is killed.
#[derive(Debug)]
pub struct Place {
    folder: TmpFolder,
    /// Whoever made `TMP_DIR` for this worker may be killed before the worker ends.
    _tmp_dir: Use,
}

impl Place {
    /// Removes what killed processes have left in `tmp_dir`, and makes the folder there.
    ///
    /// It comes before the process gives up what lies beyond its folder, and so before its threads.
    pub fn make(tmp_dir: &Path) -> Result<Self, PlaceError> {
        check(tmp_dir)?;
        let failed = |source| PlaceError::of(tmp_dir, source);
        let in_use = mayfly_tmp_folder::keep(tmp_dir).map_err(failed)?;
        sweep(tmp_dir);
        Ok(Self {
            folder: TmpFolder::make(tmp_dir, "process").map_err(failed)?,
            _tmp_dir: in_use,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Whether it is a folder.
pub(crate) fn check(tmp_dir: &Path) -> Result<(), PlaceError> {
    match std::fs::metadata(tmp_dir) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(PlaceError::of(tmp_dir, io::ErrorKind::NotADirectory.into())),
        Err(error) => Err(PlaceError::of(tmp_dir, error)),
    }
}

fn sweep(tmp_dir: &Path) {
    match mayfly_tmp_folder::sweep(tmp_dir) {
        Ok(0) => {}
        Ok(folders) => tracing::info!(folders, "removed what killed processes had left in TMP_DIR"),
        Err(error) => tracing::warn!(path = %tmp_dir.display(), %error, "TMP_DIR could not be swept"),
    }
}
