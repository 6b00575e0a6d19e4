//! Folders on disk, held open: what is made in one is named relative to it by one component, and no link is followed.
//!
//! Whatever stands at a name already is an error and is not touched. This module must not know git.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;

use super::CheckoutError;

/// An open folder.
pub(super) struct Folder(OwnedFd);

impl Folder {
    /// Opens a folder that must be empty.
    pub(super) fn open_empty(path: &Path) -> Result<Self, CheckoutError> {
        let failed =
            |source: io::Error| CheckoutError::io("open the folder", path.as_os_str().as_bytes(), source);
        let mut entries = fs::read_dir(path).map_err(failed)?;
        if entries.next().is_some() {
            return Err(CheckoutError::NotEmpty {
                path: path.to_owned(),
            });
        }
        let folder = File::open(path).map_err(failed)?;
        Ok(Self(folder.into()))
    }

    /// Makes a folder, and opens it.
    pub(super) fn make_folder(&self, name: &[u8]) -> io::Result<Self> {
        mkdirat(&self.0, name, Mode::from_bits_truncate(0o777))?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(Self(openat(&self.0, name, flags, Mode::empty())?))
    }

    /// Makes an empty file, and opens it for writing.
    pub(super) fn make_file(&self, name: &[u8], is_executable: bool) -> io::Result<File> {
        let mode = if is_executable { 0o777 } else { 0o666 };
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.0, name, flags, Mode::from_bits_truncate(mode))?;
        Ok(File::from(file))
    }

    /// Makes a symbolic link.
    pub(super) fn make_link(&self, name: &[u8], target: &[u8]) -> io::Result<()> {
        Ok(symlinkat(target, &self.0, name)?)
    }
}

/// Empties a folder again when its checkout fails, also by a panic.
pub(super) struct EmptyAgain<'a> {
    folder: Option<&'a Path>,
}

impl<'a> EmptyAgain<'a> {
    pub(super) fn new(folder: &'a Path) -> Self {
        Self { folder: Some(folder) }
    }

    /// All went well.
    pub(super) fn keep(mut self) {
        self.folder = None;
    }

    /// Empties the folder, and gives back the failure with what went wrong in doing so.
    pub(super) fn empty(mut self, failure: CheckoutError) -> CheckoutError {
        let emptied = self.folder.take().map(|path| (path, empty(path)));
        match emptied {
            Some((path, Err(source))) => CheckoutError::Leftover {
                path: path.to_owned(),
                failure: Box::new(failure),
                source,
            },
            _ => failure,
        }
    }
}

impl Drop for EmptyAgain<'_> {
    fn drop(&mut self) {
        if let Some(folder) = self.folder {
            // The panic that leads here is what has to be told.
            let _emptied = empty(folder);
        }
    }
}

/// Removes all that is in a folder. Links go, and not what they point to.
fn empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use mayfly_protocol::ErrorCode;

    use super::*;

    #[test]
    fn what_stands_there_is_neither_followed_nor_changed() {
        let outside = tempfile::tempdir().unwrap();
        let target = outside.path().join("target");
        fs::write(&target, "kept").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open_empty(dir.path()).unwrap();
        symlink(&target, dir.path().join("file")).unwrap();
        symlink(outside.path().join("absent"), dir.path().join("dangling")).unwrap();
        symlink(outside.path(), dir.path().join("folder")).unwrap();
        for name in [b"file".as_slice(), b"dangling", b"folder"] {
            assert!(folder.make_file(name, false).is_err());
            assert!(folder.make_folder(name).is_err());
            assert!(folder.make_link(name, b"x").is_err());
        }
        assert_eq!(fs::read(&target).unwrap(), b"kept");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_panic_leaves_the_folder_empty_and_what_links_lead_to() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "kept").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open_empty(dir.path()).unwrap();
        let panicked = std::panic::catch_unwind(|| {
            let _guard = EmptyAgain::new(dir.path());
            folder.make_file(b"file", true).unwrap();
            folder
                .make_folder(b"folder")
                .unwrap()
                .make_folder(b"in it")
                .unwrap();
            symlink(outside.path(), dir.path().join("link")).unwrap();
            panic!("on purpose");
        });
        assert!(panicked.is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(outside.path().join("kept").exists());
    }

    #[test]
    fn a_full_disk_has_a_code_of_its_own() {
        for (errno, code) in [
            (nix::errno::Errno::ENOSPC, ErrorCode::DiskFull),
            (nix::errno::Errno::EDQUOT, ErrorCode::DiskFull),
            (nix::errno::Errno::EACCES, ErrorCode::Internal),
        ] {
            assert_eq!(CheckoutError::io("write", b"file", errno).code(), code);
        }
    }
}
