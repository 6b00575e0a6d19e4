//! Writes a pack and its index into a folder, on a thread of its own, while the pack arrives.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use gix_pack::data;
use tempfile::NamedTempFile;
use tokio::sync::mpsc;

use super::FetchError;
use super::entries::Entries;
use super::input::Input;
use super::progress::Counters;
use crate::pack::PackFiles;
use crate::remote::TransferLimits;

const BUFFER_BYTES: usize = 64 * 1024;
const SHA1: gix_hash::Kind = gix_hash::Kind::Sha1;
/// Bytes that the indexing library may need for an object of the pack, besides the object itself.
const BOOKKEEPING_BYTES: usize = 64;

/// One pack to be indexed.
pub(crate) struct IndexJob {
    pub(crate) into: PathBuf,
    pub(crate) limits: TransferLimits,
    pub(crate) counters: Arc<Counters>,
    /// Ends the work early.
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) input: mpsc::Receiver<Bytes>,
}

impl IndexJob {
    /// Does the work; `None` if the pack has no object. What is unfinished is in temporary files, which go when it fails.
    pub(crate) fn run(self) -> Result<Option<PackFiles>, FetchError> {
        let pack = temporary(&self.into)?;
        let index = temporary(&self.into)?;
        let out = BufWriter::with_capacity(BUFFER_BYTES, pack.reopen().map_err(FetchError::from_disk)?);
        let input = Input::new(self.input, out);
        let mut entries = Entries::begin(input, &self.limits, self.counters.clone())?;
        if entries.left() == 0 {
            return entries.finish_empty().map(|()| None);
        }
        let mut index_out = Noting::new(index.reopen().map_err(FetchError::from_disk)?);
        let written = gix_pack::index::write_data_iter_to_stream(
            gix_pack::index::Version::default(),
            || {
                // The pack is complete: the second pass resolves its deltas.
                let opened = Pack::at(pack.path(), SHA1).map_err(io::Error::other)?;
                Ok((resolver(self.counters.clone()), opened))
            },
            &mut entries,
            None,
            &mut gix_utils::progress::Discard,
            &mut index_out,
            &self.stop,
            SHA1,
            Some(alloc_limit(&self.limits, &self.counters)),
            data::Version::V2,
        );
        let outcome = match written {
            Ok(outcome) => outcome,
            Err(error) => {
                let is_stopped = self.stop.load(Ordering::Relaxed);
                return Err(cause(
                    entries.into_failure(),
                    index_out.failure,
                    is_stopped,
                    error,
                ));
            }
        };
        index_out.inner.flush().map_err(FetchError::from_disk)?;
        keep(&self.into, pack, index, &outcome).map(Some)
    }
}

/// The first real cause of a failure: the library's own error is opaque.
fn cause(
    entries: Option<FetchError>,
    disk: Option<io::Error>,
    is_stopped: bool,
    error: gix_error::Error,
) -> FetchError {
    if let Some(failure) = entries.or_else(|| disk.map(FetchError::from_disk)) {
        return failure;
    }
    if is_stopped {
        return FetchError::Cancelled;
    }
    FetchError::Unindexable(error.into())
}

fn temporary(folder: &Path) -> Result<NamedTempFile, FetchError> {
    tempfile::Builder::new()
        .prefix("incoming-")
        .tempfile_in(folder)
        .map_err(FetchError::from_disk)
}

/// Sizes of objects are checked as they arrive; this is the net below, wide enough for the library's own lists.
fn alloc_limit(limits: &TransferLimits, counters: &Counters) -> usize {
    let objects = usize::try_from(counters.total.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
    let largest = usize::try_from(limits.max_object_bytes).unwrap_or(usize::MAX);
    // Lists double as they grow.
    largest.max(objects.saturating_mul(2 * BOOKKEEPING_BYTES))
}

/// The pack as a file in memory.
type Pack = data::File<gix_pack::MMap>;

/// Gives the bytes of an entry, and counts the entries that are resolved.
fn resolver(
    counters: Arc<Counters>,
) -> impl for<'p> Fn(data::EntryRange, &'p Pack) -> Option<&'p [u8]> + Send + Clone {
    move |range, pack: &Pack| {
        counters.resolved.fetch_add(1, Ordering::Relaxed);
        pack.entry_slice(range)
    }
}

/// Gives both files their names; if the second cannot get its own, the first goes too.
fn keep(
    folder: &Path,
    pack: NamedTempFile,
    index: NamedTempFile,
    outcome: &gix_pack::index::write::Outcome,
) -> Result<PackFiles, FetchError> {
    let hash = outcome.data_hash.to_string();
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
        objects: outcome.num_objects,
        pack_bytes,
        index_bytes,
    })
}

/// A buffered file that keeps its first error.
struct Noting {
    inner: BufWriter<File>,
    failure: Option<io::Error>,
}

impl Noting {
    fn new(file: File) -> Self {
        Self {
            inner: BufWriter::with_capacity(BUFFER_BYTES, file),
            failure: None,
        }
    }

    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let copy = io::Error::from(error.kind());
            self.failure.get_or_insert(error);
            copy
        })
    }
}

impl Write for Noting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes);
        self.note(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.inner.flush();
        self.note(flushed)
    }
}
