//! Writes an index of version 2.
//!
//! Source of the format: gitformat-pack(5): a fanout table of 256 counts; then, sorted by id, all ids, all checksums, all offsets of
//! four bytes, and those offsets that need eight; the checksum of the pack, and that of all before it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use super::records::{Entry, ID_BYTES, Id};
use super::sorter::Merge;
use crate::fetch::FetchError;

const HEADER: [u8; 8] = [0xff, b't', b'O', b'c', 0, 0, 0, 2];
const TABLES_AT: u64 = 8 + 256 * 4;
/// Offsets from here on need eight bytes; their place holds a number with this bit.
const LARGE: u64 = 1 << 31;
const BUFFER_BYTES: usize = 256 * 1024;

/// Writes the index of so many objects, whose lines come in order.
pub(super) fn write(
    file: &File,
    objects: u32,
    mut lines: Merge<32>,
    pack_hash: &Id,
    stop: &AtomicBool,
) -> Result<(), FetchError> {
    let disk = FetchError::from_disk;
    let count = u64::from(objects);
    let checksums_at = TABLES_AT + count * ID_BYTES as u64;
    let mut ids = Column::at(file, TABLES_AT);
    let mut checksums = Column::at(file, checksums_at);
    let mut offsets = Column::at(file, checksums_at + count * 4);
    let mut large_offsets = Column::at(file, checksums_at + count * 8);
    let mut large: u32 = 0;
    let mut fanout = [0u32; 256];
    while let Some(line) = lines.next().map_err(disk)? {
        let Entry { offset, crc } = Entry::of(&line);
        fanout[usize::from(line[0])] += 1;
        ids.put(&line[..ID_BYTES]).map_err(disk)?;
        checksums.put(&crc.to_be_bytes()).map_err(disk)?;
        let mut short = offset;
        if offset >= LARGE {
            large_offsets.put(&offset.to_be_bytes()).map_err(disk)?;
            short = LARGE | u64::from(large);
            large += 1;
        }
        offsets.put(&(short as u32).to_be_bytes()).map_err(disk)?;
        if stop.load(Ordering::Relaxed) {
            return Err(FetchError::Cancelled);
        }
    }
    for column in [&mut ids, &mut checksums, &mut offsets] {
        column.flush().map_err(disk)?;
    }
    large_offsets.put(pack_hash).map_err(disk)?;
    let end = large_offsets.flush().map_err(disk)?;
    let mut beginning = Column::at(file, 0);
    beginning.put(&HEADER).map_err(disk)?;
    let mut sum = 0u32;
    for count in fanout {
        sum += count;
        beginning.put(&sum.to_be_bytes()).map_err(disk)?;
    }
    beginning.flush().map_err(disk)?;
    let hash = hash(file, end)?;
    file.write_all_at(hash.as_slice(), end).map_err(disk)
}

/// A part of the file that is written from its beginning to its end.
struct Column<'f> {
    file: &'f File,
    next: u64,
    waiting: Vec<u8>,
}

impl<'f> Column<'f> {
    fn at(file: &'f File, start: u64) -> Self {
        Self {
            file,
            next: start,
            waiting: Vec::new(),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what waits, and tells where the next would go.
    fn flush(&mut self) -> io::Result<u64> {
        self.file.write_all_at(&self.waiting, self.next)?;
        self.next += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(self.next)
    }
}

/// The checksum of the first bytes of the file: its parts were not written in their order.
fn hash(file: &File, bytes: u64) -> Result<gix_hash::ObjectId, FetchError> {
    let mut hasher = gix_hash::hasher(gix_hash::Kind::Sha1);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut at = 0;
    while at < bytes {
        let count = buffer
            .len()
            .min(usize::try_from(bytes - at).unwrap_or(usize::MAX));
        let piece = &mut buffer[..count];
        file.read_exact_at(piece, at).map_err(FetchError::from_disk)?;
        hasher.update(piece);
        at += count as u64;
    }
    hasher
        .try_finalize()
        .map_err(|error| FetchError::Unindexable(error.into()))
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use mayfly_testkit::git;
    use proptest::prelude::*;

    use super::super::sorter::Sorter;
    use super::*;

    /// The lines of an index as git reads them.
    fn shown(entries: &[(Id, Entry)]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(folder.path().to_owned(), 1000);
        for (id, entry) in entries {
            sorter.push(entry.in_index(id)).unwrap();
        }
        let lines = sorter.finish().unwrap().merge(1000).unwrap();
        let path = folder.path().join("x.idx");
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        let stop = AtomicBool::new(false);
        write(&file, entries.len() as u32, lines, &[9; 20], &stop).unwrap();
        let stdin = Stdio::from(File::open(path).unwrap());
        git::text(
            git::command(folder.path())
                .args(["show-index", "--object-format=sha1"])
                .stdin(stdin),
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]
        #[test]
        fn git_reads_it_also_beyond_two_and_four_gigabytes(
            entries in prop::collection::btree_map(
                any::<Id>(),
                (prop_oneof![0..100u64, LARGE - 2..LARGE + 2, (1 << 32) - 2..(1u64 << 32) + 2, 0..1u64 << 60], any::<u32>()),
                0..40,
            ),
        ) {
            let entries: Vec<_> = entries.into_iter().map(|(id, (offset, crc))| (id, Entry { offset, crc })).collect();
            let expected: Vec<String> = entries
                .iter()
                .map(|(id, Entry { offset, crc })| format!("{offset} {} ({crc:08x})", gix_hash::ObjectId::from(*id)))
                .collect();
            prop_assert_eq!(shown(&entries), expected.join("\n"));
        }
    }
}
