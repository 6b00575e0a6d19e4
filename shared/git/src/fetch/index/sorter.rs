//! Sorts records of fixed width that may be too many for memory: sorted runs go to a file without a name, and are merged from there.
//!
//! This module must not know what the records mean: their bytes are compared.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

/// The most bytes of one run that are read at once, and the fewest.
const MAX_READ_BYTES: usize = 64 * 1024;
const MIN_READ_BYTES: usize = 4 * 1024;

/// Takes records in any order.
pub(super) struct Sorter<const N: usize> {
    folder: PathBuf,
    /// Records that are sorted at once.
    room: usize,
    waiting: Vec<[u8; N]>,
    /// The file of the runs, made with the first.
    file: Option<Arc<File>>,
    runs: Vec<Run<N>>,
    written: u64,
}

impl<const N: usize> Sorter<N> {
    /// A sorter that holds about so many bytes in memory, and the rest in `folder`.
    pub(super) fn new(folder: PathBuf, memory_bytes: usize) -> Self {
        Self {
            folder,
            room: (memory_bytes / N).max(1),
            waiting: Vec::new(),
            file: None,
            runs: Vec::new(),
            written: 0,
        }
    }

    pub(super) fn push(&mut self, record: [u8; N]) -> io::Result<()> {
        self.waiting.push(record);
        if self.waiting.len() >= self.room {
            self.spill()?;
        }
        Ok(())
    }

    /// All that was taken, in sorted runs.
    pub(super) fn finish(mut self) -> io::Result<Runs<N>> {
        self.spill()?;
        Ok(Runs { runs: self.runs })
    }

    fn spill(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let file = match &self.file {
            Some(file) => file.clone(),
            None => self
                .file
                .insert(Arc::new(tempfile::tempfile_in(&self.folder)?))
                .clone(),
        };
        self.waiting.sort_unstable();
        let bytes = self.waiting.as_flattened();
        file.write_all_at(bytes, self.written)?;
        let start = self.written;
        self.written += bytes.len() as u64;
        self.runs.push(Run {
            file,
            next: start,
            end: self.written,
            read: Vec::new(),
            used: 0,
        });
        self.waiting.clear();
        Ok(())
    }
}

/// Sorted runs, perhaps of several sorters.
pub(super) struct Runs<const N: usize> {
    runs: Vec<Run<N>>,
}

impl<const N: usize> Runs<N> {
    pub(super) fn append(&mut self, mut others: Self) {
        self.runs.append(&mut others.runs);
    }

    /// How many records there are.
    pub(super) fn records(&self) -> u64 {
        self.runs.iter().map(|run| (run.end - run.next) / N as u64).sum()
    }

    /// All records in order; about so many bytes of them are in memory at a time.
    pub(super) fn merge(self, memory_bytes: usize) -> io::Result<Merge<N>> {
        let share = memory_bytes / self.runs.len().max(1);
        let at_once = share.clamp(MIN_READ_BYTES, MAX_READ_BYTES) / N * N;
        let mut merge = Merge {
            heap: BinaryHeap::with_capacity(self.runs.len()),
            runs: self.runs,
            at_once: at_once.max(N),
        };
        for (number, run) in merge.runs.iter_mut().enumerate() {
            if let Some(record) = run.next(merge.at_once)? {
                merge.heap.push(Reverse((record, number)));
            }
        }
        Ok(merge)
    }
}

/// The records of several runs, in order.
pub(super) struct Merge<const N: usize> {
    /// The next record of each run that is not at its end.
    heap: BinaryHeap<Reverse<([u8; N], usize)>>,
    runs: Vec<Run<N>>,
    at_once: usize,
}

impl<const N: usize> Merge<N> {
    pub(super) fn next(&mut self) -> io::Result<Option<[u8; N]>> {
        let Some(mut least) = self.heap.peek_mut() else {
            return Ok(None);
        };
        let Reverse((record, number)) = *least;
        match self.runs[number].next(self.at_once)? {
            Some(following) => *least = Reverse((following, number)),
            None => _ = PeekMut::pop(least),
        }
        Ok(Some(record))
    }
}

/// A part of a file, with records in order.
struct Run<const N: usize> {
    file: Arc<File>,
    next: u64,
    end: u64,
    /// What was read of it, and how much of that is used.
    read: Vec<u8>,
    used: usize,
}

impl<const N: usize> Run<N> {
    fn next(&mut self, at_once: usize) -> io::Result<Option<[u8; N]>> {
        if self.used == self.read.len() {
            if self.next == self.end {
                self.read = Vec::new();
                self.used = 0;
                return Ok(None);
            }
            let left = usize::try_from(self.end - self.next).unwrap_or(usize::MAX);
            self.read.resize(at_once.min(left), 0);
            self.file.read_exact_at(&mut self.read, self.next)?;
            self.next += self.read.len() as u64;
            self.used = 0;
        }
        let record = self.read[self.used..].first_chunk().copied();
        self.used += N;
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sorted(records: &[[u8; 3]], memory_bytes: usize, sorters: usize) -> Vec<[u8; 3]> {
        let folder = tempfile::tempdir().unwrap();
        let mut all = Runs { runs: Vec::new() };
        for part in records.chunks(records.len().div_ceil(sorters).max(1)) {
            let mut sorter = Sorter::new(folder.path().to_owned(), memory_bytes);
            for record in part {
                sorter.push(*record).unwrap();
            }
            all.append(sorter.finish().unwrap());
        }
        assert_eq!(all.records(), records.len() as u64);
        let mut merge = all.merge(memory_bytes).unwrap();
        let sorted = std::iter::from_fn(|| merge.next().unwrap()).collect();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        sorted
    }

    proptest! {
        #[test]
        fn any_records_are_sorted_in_any_memory(
            records in prop::collection::vec(any::<[u8; 3]>(), 0..300),
            memory_bytes in 0usize..1200,
            sorters in 1usize..4,
        ) {
            let mut expected = records.clone();
            expected.sort_unstable();
            prop_assert_eq!(sorted(&records, memory_bytes, sorters), expected);
        }
    }

    #[test]
    fn runs_longer_than_what_is_read_at_once() {
        let records: Vec<[u8; 3]> = (0..60_000u32)
            .map(|n| {
                let [_, a, b, c] = n.wrapping_mul(0x9e37_79b1).to_be_bytes();
                [a, b, c]
            })
            .collect();
        let mut expected = records.clone();
        expected.sort_unstable();
        assert_eq!(sorted(&records, 60_000, 2), expected);
    }
}
