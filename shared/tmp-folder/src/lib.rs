//! Folders of one process's own in `TMP_DIR`. They go when they are dropped; those of a process that was killed go when the next one looks.
//!
//! Whoever uses a folder holds a shared lock on it (flock(2), which the system releases when the process ends, however it ends). Whoever
//! gets an exclusive one therefore knows that nobody is left. This crate must not know what the folders are for.

use std::fs::{self, DirEntry, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use nix::unistd::geteuid;
use tempfile::TempDir;

/// What the name of every folder begins with. Nothing else in `TMP_DIR` may be called so.
const PREFIX: &str = "mayfly-tmp-";
const OWNER_ONLY: u32 = 0o700;
/// How often a folder is made that a sweep takes away before it is locked.
const ATTEMPTS: u32 = 10;

/// A folder that exists, is empty, and is only the owner's.
#[derive(Debug)]
pub struct TmpFolder {
    folder: TempDir,
    _use: Use,
}

/// Keeps a folder from being swept for as long as it lives.
#[derive(Debug)]
pub struct Use(#[expect(dead_code, reason = "the lock is released when it is dropped")] File);

impl TmpFolder {
    /// Makes `mayfly-tmp-<purpose>-<random>` in `tmp_dir`.
    pub fn make(tmp_dir: &Path, purpose: &str) -> io::Result<Self> {
        let prefix = format!("{PREFIX}{purpose}-");
        for _ in 0..ATTEMPTS {
            let folder = tempfile::Builder::new()
                .prefix(&prefix)
                .permissions(Permissions::from_mode(OWNER_ONLY))
                .tempdir_in(tmp_dir)?;
            if let Some(lock) = locked(folder.path())? {
                return Ok(Self { folder, _use: lock });
            }
        }
        let text = "each folder that was made was swept away before it could be used";
        Err(io::Error::other(text))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// From now on, leaves it where it is when it is dropped: it was removed already.
    pub fn was_removed(&mut self) {
        self.folder.disable_cleanup(true);
    }
}

/// Keeps a folder that another process made from being swept, should that process end before this one.
pub fn keep(folder: &Path) -> io::Result<Use> {
    let file = File::open(folder)?;
    // Without a lock it is as safe as its maker.
    if let Err(error) = file.try_lock_shared() {
        tracing::debug!(%error, "the folder `{}` cannot be locked", folder.display());
    }
    Ok(Use(file))
}

/// Takes the shared lock of a folder that was just made; `None` where a sweep was faster.
fn locked(path: &Path) -> io::Result<Option<Use>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    match file.try_lock_shared() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        // A file system without locks: a sweep cannot take the folder there either.
        Err(TryLockError::Error(_)) => return Ok(Some(Use(file))),
    }
    let (held, named) = (file.metadata()?, fs::symlink_metadata(path));
    let is_there = named.is_ok_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino()));
    Ok(is_there.then_some(Use(file)))
}

/// Removes the folders in `tmp_dir` whose process is gone, and says how many they were. What cannot be looked at or removed is left.
pub fn sweep(tmp_dir: &Path) -> io::Result<usize> {
    let mut swept = 0;
    for entry in fs::read_dir(tmp_dir)?.flatten() {
        if !is_ours(&entry) {
            continue;
        }
        match remove_unused(&entry.path()) {
            Ok(was_unused) => swept += usize::from(was_unused),
            Err(error) => tracing::warn!(%error, "the folder `{}` is left", entry.path().display()),
        }
    }
    Ok(swept)
}

/// Whether it is a folder such as [`TmpFolder::make`] makes, of this user.
fn is_ours(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let is_named_so = name.as_encoded_bytes().starts_with(PREFIX.as_bytes());
    // The folder itself: a link to one is none.
    is_named_so
        && entry.metadata().is_ok_and(|found| {
            found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o777 == OWNER_ONLY
        })
}

fn remove_unused(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    if file.try_lock().is_err() {
        return Ok(false);
    }
    remove_tree(path).map(|()| true)
}

/// Removes a tree, once more with every folder made writable where that was in the way; one that is not there is fine.
pub fn remove_tree(path: &Path) -> io::Result<()> {
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

    /// A folder whose process is gone.
    fn abandoned(tmp_dir: &Path) -> std::path::PathBuf {
        let mut folder = TmpFolder::make(tmp_dir, "test").unwrap();
        folder.was_removed();
        fs::write(folder.path().join("file"), "x").unwrap();
        let locked = folder.path().join("locked");
        fs::create_dir(&locked).unwrap();
        fs::write(locked.join("file"), "x").unwrap();
        fs::set_permissions(&locked, Permissions::from_mode(0o500)).unwrap();
        folder.path().to_owned()
    }

    #[test]
    fn a_folder_is_the_owners_and_goes_with_the_value() {
        let tmp_dir = tempfile::tempdir().unwrap();
        let folder = TmpFolder::make(tmp_dir.path(), "test").unwrap();
        let name = folder.path().file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("mayfly-tmp-test-"), "{name}");
        let mode = fs::metadata(folder.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, OWNER_ONLY);
        drop(folder);
        assert_eq!(fs::read_dir(tmp_dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_folders_that_nobody_uses_are_swept() {
        let tmp_dir = tempfile::tempdir().unwrap();
        let used = TmpFolder::make(tmp_dir.path(), "test").unwrap();
        let gone = abandoned(tmp_dir.path());
        let kept = abandoned(tmp_dir.path());
        let inherited = keep(&kept).unwrap();
        assert_eq!(sweep(tmp_dir.path()).unwrap(), 1);
        assert!(used.path().exists() && kept.exists() && !gone.exists());
        drop(inherited);
        assert_eq!(sweep(tmp_dir.path()).unwrap(), 1);
        assert!(used.path().exists() && !kept.exists());
    }

    #[test]
    fn what_only_looks_like_a_folder_of_ours_is_left() {
        let (tmp_dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(elsewhere.path().join("file"), "x").unwrap();
        let path = |name: &str| tmp_dir.path().join(name);
        std::os::unix::fs::symlink(elsewhere.path(), path("mayfly-tmp-link")).unwrap();
        fs::write(path("mayfly-tmp-file"), "x").unwrap();
        for (name, mode) in [("mayfly-tmp-open", 0o755), ("mayfly-data", 0o700)] {
            fs::create_dir(path(name)).unwrap();
            fs::set_permissions(path(name), Permissions::from_mode(mode)).unwrap();
        }
        assert_eq!(sweep(tmp_dir.path()).unwrap(), 0);
        assert_eq!(fs::read_dir(tmp_dir.path()).unwrap().count(), 4);
        assert!(elsewhere.path().join("file").exists());
    }

    #[test]
    fn a_folder_that_a_sweep_takes_is_made_again() {
        let tmp_dir = tempfile::tempdir().unwrap();
        let folder = abandoned(tmp_dir.path());
        let sweeping = File::open(&folder).unwrap();
        sweeping.try_lock().unwrap();
        assert!(locked(&folder).unwrap().is_none());
        remove_tree(&folder).unwrap();
        drop(sweeping);
        assert!(locked(&folder).unwrap().is_none());
    }
}
