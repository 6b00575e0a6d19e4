//! Serialises the writers of a key between threads and processes. Must not know what is written.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::digest::ContentHash;
use crate::error::Subject;
use crate::{Key, StorageError};

/// How many lock files there are. All processes that use a folder must agree, so this is part of the format of the folder.
const LOCK_FILES: u8 = 64;
const FIRST_PAUSE: Duration = Duration::from_micros(200);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// The lock files of a store.
#[derive(Debug, Clone)]
pub(super) struct KeyLocks {
    folder: PathBuf,
    timeout: Duration,
}

/// Says that the lock of a key was not to be had in time.
#[derive(Debug, thiserror::Error)]
#[error("another writer has held the lock for more than {} ms; if no process writes, see what holds the files in .mayfly-locks", .0.as_millis())]
struct LockTimeout(Duration);

impl KeyLocks {
    /// The locks in `folder`; a writer waits for one no longer than `timeout`.
    pub(super) fn create(folder: PathBuf, timeout: Duration) -> io::Result<Self> {
        let locks = Self { folder, timeout };
        (0..LOCK_FILES).try_for_each(|index| locks.open(index).map(drop))?;
        Ok(locks)
    }

    /// Takes the lock of a key, and blocks until it is free; it is released when the file is dropped, or its process ends.
    pub(super) fn lock(&self, subject: &Subject, key: &Key) -> Result<File, StorageError> {
        let index = ContentHash::of(key.as_str().as_bytes()).first_byte() % LOCK_FILES;
        let file = self.open(index).map_err(|error| subject.unavailable(error))?;
        let deadline = Instant::now() + self.timeout;
        let mut pause = FIRST_PAUSE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(subject.unavailable(error)),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(subject.unavailable(LockTimeout(self.timeout)));
                }
                Err(TryLockError::WouldBlock) => thread::sleep(pause),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn open(&self, index: u8) -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.folder.join(format!("{index:02}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Operation;

    #[test]
    fn a_held_lock_is_waited_for_no_longer_than_the_timeout() {
        let folder = tempfile::tempdir().unwrap();
        let locks = KeyLocks::create(folder.path().to_owned(), Duration::from_millis(20)).unwrap();
        let key = Key::new("a").unwrap();
        let subject = Subject::new(Operation::Put, &key);
        let held = locks.lock(&subject, &key).unwrap();
        assert!(locks.lock(&subject, &key).unwrap_err().is_transient());
        drop(held);
        assert!(locks.lock(&subject, &key).is_ok());
    }
}
