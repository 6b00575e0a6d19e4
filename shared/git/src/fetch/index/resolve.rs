//! Resolves the deltas of a pack that is complete: from each whole object to all that build on it, depth first, on several threads.
//!
//! The objects between a whole one and the one that is looked at are kept as far as a number of bytes allows; what was dropped is made
//! again when a further delta builds on it. So memory depends neither on the number of objects nor on how deep they stand.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use gix_pack::data;

use super::notes::Noted;
use super::roots::{Deltas, Root, Roots};
use super::sorter::Sorter;
use super::worker::Worker;
use super::{Budget, Lines};
use crate::fetch::FetchError;
use crate::fetch::progress::Counters;
use crate::remote::TransferLimits;

/// The pack as a file in memory.
pub(super) type Pack = data::File<gix_pack::MMap>;

/// What all threads see.
pub(super) struct Shared<'a> {
    pub(super) pack: &'a Pack,
    pub(super) deltas: &'a Deltas,
    pub(super) limits: &'a TransferLimits,
    pub(super) budget: &'a Budget,
    pub(super) counters: &'a Counters,
    /// Held by the one thread that works on large objects.
    pub(super) large: Mutex<()>,
    /// Bytes of objects that were made more than once.
    pub(super) made_again: AtomicU64,
    roots: Mutex<Roots<'a>>,
    stop: &'a AtomicBool,
    /// One of the threads has failed.
    has_failed: AtomicBool,
}

/// What the work needs from outside.
pub(super) struct Setting<'a> {
    pub(super) folder: &'a Path,
    pub(super) pack: &'a Pack,
    pub(super) limits: &'a TransferLimits,
    pub(super) budget: &'a Budget,
    pub(super) counters: &'a Counters,
    pub(super) stop: &'a AtomicBool,
}

/// The lines of the index, of whole objects and of deltas.
pub(super) fn resolve(setting: &Setting<'_>, noted: Noted) -> Result<Lines, FetchError> {
    let Setting { folder, budget, .. } = *setting;
    let disk = FetchError::from_disk;
    let (deltas, whole, mut lines) = Deltas::sort(folder, noted, budget).map_err(disk)?;
    if deltas.count() == 0 {
        return Ok(lines);
    }
    let shared = Shared {
        pack: setting.pack,
        deltas: &deltas,
        limits: setting.limits,
        budget,
        counters: setting.counters,
        large: Mutex::default(),
        made_again: AtomicU64::new(0),
        roots: Mutex::new(Roots::new(whole, &deltas, budget).map_err(disk)?),
        stop: setting.stop,
        has_failed: AtomicBool::new(false),
    };
    let work = || {
        let worked = work(&shared, folder);
        if worked.is_err() {
            shared.has_failed.store(true, Ordering::Relaxed);
        }
        worked
    };
    let all = thread::scope(|scope| {
        // What no thread can be had for, the others do.
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
        let others: Vec<_> = (1..budget.workers).filter_map(spawn).collect();
        let mut all = vec![work()];
        all.extend(others.into_iter().map(joined));
        all
    });
    let mut resolved = 0;
    let mut cancelled = false;
    for one in all {
        match one {
            Ok(one) => {
                resolved += one.records();
                lines.append(one);
            }
            // A thread ends so when another has failed, too.
            Err(FetchError::Cancelled) => cancelled = true,
            Err(error) => return Err(error),
        }
    }
    if cancelled {
        return Err(FetchError::Cancelled);
    }
    if resolved < deltas.count() {
        let what = "a delta builds on an object that it does not have";
        return Err(FetchError::BadPack { what });
    }
    Ok(lines)
}

fn joined<T>(handle: thread::ScopedJoinHandle<'_, T>) -> T {
    handle
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What one thread does: root by root, as long as there are any.
fn work(shared: &Shared<'_>, folder: &Path) -> Result<Lines, FetchError> {
    let lines = Sorter::new(folder.to_owned(), shared.budget.sort_bytes);
    let mut worker = Worker::new(shared, lines);
    while let Some(root) = shared.next_root()? {
        worker.resolve(root)?;
    }
    worker.finish().map_err(FetchError::from_disk)
}

impl Shared<'_> {
    fn next_root(&self) -> Result<Option<Root>, FetchError> {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner).next()
    }

    /// Fails when the work is to end: on a cancel, or when another thread has failed.
    pub(super) fn goes_on(&self) -> Result<(), FetchError> {
        if self.stop.load(Ordering::Relaxed) || self.has_failed.load(Ordering::Relaxed) {
            return Err(FetchError::Cancelled);
        }
        Ok(())
    }
}
