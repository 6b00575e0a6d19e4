//! Writes a pack and its index into a folder, on a thread of its own, while the pack arrives.

use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use tempfile::NamedTempFile;
use tokio::sync::mpsc;

use super::FetchError;
use super::entries::Entries;
use super::input::Input;
use super::progress::Counters;
use crate::pack::PackFiles;
use crate::remote::TransferLimits;

mod hash;
mod notes;
mod records;
mod resolve;
mod roots;
mod sorter;
mod table;
mod worker;
mod write;

pub(super) use hash::{begun, ended, id_of};
pub(super) use notes::{Notes, Noting};
use records::{Id, IndexRecord};
use resolve::{Pack, Setting};

const BUFFER_BYTES: usize = 64 * 1024;
const SHA1: gix_hash::Kind = gix_hash::Kind::Sha1;
/// The most threads that resolve deltas.
const MAX_WORKERS: usize = 8;

/// Lines of the index, sorted in runs.
type Lines = sorter::Runs<{ size_of::<IndexRecord>() }>;

/// What indexing may take of the machine. No figure but the size of the largest object adds to the memory that it needs.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    /// Threads that resolve deltas.
    pub(crate) workers: usize,
    /// Bytes of records that are sorted at once; there are a few such places, and one for each thread.
    pub(crate) sort_bytes: usize,
    /// Bytes of objects that one thread keeps since others build on them.
    pub(crate) bases_bytes: u64,
    /// What has more bytes is large: one thread at a time works on it.
    pub(crate) large_bytes: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MAX_WORKERS)),
            sort_bytes: 2 << 20,
            bases_bytes: 16 << 20,
            large_bytes: 4 << 20,
        }
    }
}

/// One pack to be indexed.
pub(crate) struct IndexJob {
    pub(crate) into: PathBuf,
    pub(crate) limits: TransferLimits,
    pub(crate) counters: Arc<Counters>,
    pub(crate) budget: Budget,
    /// Ends the work early.
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) input: mpsc::Receiver<Bytes>,
}

impl IndexJob {
    /// Does the work; `None` if the pack has no object. What is unfinished is in temporary files, which go when it fails.
    pub(crate) fn run(self) -> Result<Option<PackFiles>, FetchError> {
        let pack = temporary(&self.into)?;
        let out = BufWriter::with_capacity(BUFFER_BYTES, pack.reopen().map_err(FetchError::from_disk)?);
        let input = Input::new(self.input, out);
        let entries = Entries::begin(input, &self.limits, self.counters.clone())?;
        let objects = entries.left();
        let mut notes = Notes::new(&self.into, &self.budget);
        let hash = id_of(entries.read(&mut notes)?)?;
        if objects == 0 {
            return Ok(None);
        }
        // The pack is complete: its deltas can be resolved.
        let opened = Pack::at(pack.path(), SHA1).map_err(|error| FetchError::Unindexable(error.into()))?;
        let setting = Setting {
            folder: &self.into,
            pack: &opened,
            limits: &self.limits,
            budget: &self.budget,
            counters: &self.counters,
            stop: &self.stop,
        };
        let noted = notes.finish().map_err(FetchError::from_disk)?;
        let lines = resolve::resolve(&setting, noted)?;
        drop(opened);
        let index = temporary(&self.into)?;
        let lines = lines
            .merge(self.budget.sort_bytes)
            .map_err(FetchError::from_disk)?;
        write::write(index.as_file(), objects, lines, &hash, &self.stop)?;
        keep(&self.into, pack, index, (objects, &hash)).map(Some)
    }
}

fn temporary(folder: &Path) -> Result<NamedTempFile, FetchError> {
    tempfile::Builder::new()
        .prefix("incoming-")
        .tempfile_in(folder)
        .map_err(FetchError::from_disk)
}

/// Gives both files their names; if the second cannot get its own, the first goes too.
fn keep(
    folder: &Path,
    pack: NamedTempFile,
    index: NamedTempFile,
    (objects, hash): (u32, &Id),
) -> Result<PackFiles, FetchError> {
    let hash = gix_hash::ObjectId::from(*hash).to_string();
    let pack_path = folder.join(format!("pack-{hash}.pack"));
    let index_path = pack_path.with_extension("idx");
    let size = |file: &NamedTempFile| file.as_file().metadata().map(|data| data.len());
    let sizes = size(&pack).and_then(|pack| Ok((pack, size(&index)?)));
    let (pack_bytes, index_bytes) = sizes.map_err(FetchError::from_disk)?;
    let named = |error: tempfile::PersistError| FetchError::from_disk(error.error);
    pack.persist(&pack_path).map_err(named)?;
    if let Err(error) = index.persist(&index_path) {
        // The first error is the one to tell.
        let _removed = std::fs::remove_file(&pack_path);
        return Err(named(error));
    }
    Ok(PackFiles {
        pack: pack_path,
        index: index_path,
        hash,
        objects,
        pack_bytes,
        index_bytes,
    })
}

#[cfg(test)]
mod tests;
