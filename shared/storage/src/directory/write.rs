//! Writes and removals: stage, lock, check, rename, sync.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::{Builder, NamedTempFile};
use tracing::debug;

use super::layout::{Layout, sync_folder};
use super::lock::KeyLocks;
use super::upload;
use crate::digest::{ContentHash, copy_hashed};
use crate::error::Subject;
use crate::store::check_replacement;
use crate::{Body, Key, Precondition, StorageError, Version};

/// An unfinished file that nobody has written to for so long was left behind by a crash.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// How often a write makes its folders again because removals prune them at the same time.
const FOLDER_ATTEMPTS: u32 = 16;

pub(super) fn put(
    layout: &Layout,
    locks: &KeyLocks,
    subject: &Subject,
    key: &Key,
    body: &Body,
    precondition: &Precondition,
) -> Result<Version, StorageError> {
    check_replacement(subject, body.size_for(subject)?, precondition)?;
    if *precondition == Precondition::IfAbsent {
        // Spares the copy of a large file; the check that counts is made under the lock.
        check(layout, subject, key, precondition)?;
    }
    let (staged, version) = stage(layout, subject, body)?;
    put_staged(layout, locks, subject, key, staged, precondition)?;
    Ok(version)
}

/// Gives a file that is written and synced its place, if the condition holds.
pub(super) fn put_staged(
    layout: &Layout,
    locks: &KeyLocks,
    subject: &Subject,
    key: &Key,
    staged: NamedTempFile,
    precondition: &Precondition,
) -> Result<(), StorageError> {
    let lock = locks.lock(subject, key)?;
    check(layout, subject, key, precondition)?;
    let path = layout.path(key);
    move_into_place(layout, subject, key, staged, &path)?;
    drop(lock);
    if let Some(folder) = path.parent() {
        sync_unless_pruned(folder).map_err(|error| subject.of_io(error))?;
    }
    Ok(())
}

pub(super) fn delete(
    layout: &Layout,
    locks: &KeyLocks,
    subject: &Subject,
    key: &Key,
) -> Result<(), StorageError> {
    let lock = locks.lock(subject, key)?;
    if layout.size(subject, key)?.is_none() {
        return Ok(());
    }
    let path = layout.path(key);
    fs::remove_file(&path).map_err(|error| subject.of_io(error))?;
    drop(lock);
    if let Some(folder) = path.parent() {
        sync_unless_pruned(folder).map_err(|error| subject.of_io(error))?;
    }
    layout.prune_folders(key);
    Ok(())
}

/// Removes unfinished files that a crash left behind.
pub(super) fn sweep(layout: &Layout) {
    let now = SystemTime::now();
    for unfinished in upload::unfinished(layout).unwrap_or_default() {
        let age = now.duration_since(unfinished.alive_at).unwrap_or_default();
        if age > ABANDONED_AFTER && upload::discard(layout, &unfinished.id).is_ok() {
            debug!(
                file = unfinished.id.as_str(),
                "removed an unfinished file of an earlier process"
            );
        }
    }
}

fn stage(layout: &Layout, subject: &Subject, body: &Body) -> Result<(NamedTempFile, Version), StorageError> {
    let content = body.reader().map_err(|error| body.failed(subject, error))?;
    let write = || {
        let mut staged = Builder::new()
            .prefix(upload::PUT)
            .tempfile_in(layout.unfinished())?;
        let (hash, _) = copy_hashed(content, staged.as_file_mut())?;
        staged.as_file().sync_all()?;
        Ok((staged, hash))
    };
    let (staged, hash) = write().map_err(|error: io::Error| failed_to_stage(subject, error))?;
    Ok((staged, Version::new(hash.to_string())))
}

/// A folder of the store that is gone is no missing object.
pub(super) fn failed_to_stage(subject: &Subject, error: io::Error) -> StorageError {
    match error.kind() {
        io::ErrorKind::NotFound => subject.unavailable(error),
        _ => subject.of_io(error),
    }
}

fn check(
    layout: &Layout,
    subject: &Subject,
    key: &Key,
    precondition: &Precondition,
) -> Result<(), StorageError> {
    let size = layout.size(subject, key)?;
    let holds = match precondition {
        Precondition::None => true,
        Precondition::IfAbsent => size.is_none(),
        Precondition::IfMatch(_) => precondition.holds(current_version(layout, subject, key)?.as_ref()),
    };
    if holds {
        Ok(())
    } else {
        Err(subject.precondition_failed())
    }
}

fn current_version(layout: &Layout, subject: &Subject, key: &Key) -> Result<Option<Version>, StorageError> {
    let file = match layout.open_object(subject, key) {
        Ok((file, _)) => file,
        Err(StorageError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let hash = ContentHash::of_reader(file).map_err(|error| subject.of_io(error))?;
    Ok(Some(Version::new(hash.to_string())))
}

fn move_into_place(
    layout: &Layout,
    subject: &Subject,
    key: &Key,
    mut staged: NamedTempFile,
    path: &Path,
) -> Result<(), StorageError> {
    for _ in 0..FOLDER_ATTEMPTS {
        match layout.make_folders(subject, key) {
            Err(StorageError::NotFound { .. }) => continue,
            made => made?,
        }
        match staged.persist(path) {
            Ok(_) => return Ok(()),
            Err(error) if error.error.kind() == io::ErrorKind::NotFound => staged = error.file,
            Err(error) => return Err(subject.of_io(error.error)),
        }
    }
    Err(subject.unavailable("its folders are removed as fast as they are made"))
}

/// Another writer may have removed the object that was just written, and then the folder.
fn sync_unless_pruned(folder: &Path) -> io::Result<()> {
    match sync_folder(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        synced => synced,
    }
}
