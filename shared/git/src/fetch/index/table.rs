//! Sorted records in a file without a name, found by the bytes that they begin with. In memory is the key of one record in many.
//!
//! This module must not know what the records mean.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::sorter::Merge;

/// Records that are read at once.
const BLOCK_RECORDS: u64 = 128;
/// Blocks that a reader keeps: what is asked for stands close together.
const KEPT_BLOCKS: usize = 32;
const BUFFER_BYTES: usize = 64 * 1024;

/// Records of `N` bytes, sorted, of which the first `K` are the key.
pub(super) struct Table<const N: usize, const K: usize> {
    file: File,
    records: u64,
    /// The key of the first record of each block.
    keys: Vec<[u8; K]>,
}

impl<const N: usize, const K: usize> Table<N, K> {
    pub(super) fn write(folder: &Path, mut records: Merge<N>) -> io::Result<Self> {
        let file = tempfile::tempfile_in(folder)?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
        let mut keys = Vec::new();
        let mut count = 0;
        while let Some(record) = records.next()? {
            if count % BLOCK_RECORDS == 0 {
                keys.push(key(&record));
            }
            out.write_all(&record)?;
            count += 1;
        }
        Ok(Self {
            file: out.into_inner().map_err(io::IntoInnerError::into_error)?,
            records: count,
            keys,
        })
    }

    pub(super) fn records(&self) -> u64 {
        self.records
    }

    pub(super) fn reader(&self) -> Reader<'_, N, K> {
        Reader {
            table: self,
            kept: std::iter::repeat_with(|| None).take(KEPT_BLOCKS).collect(),
        }
    }

    fn read(&self, block: u64, into: &mut Vec<[u8; N]>) -> io::Result<()> {
        let first = block * BLOCK_RECORDS;
        let count = BLOCK_RECORDS.min(self.records - first);
        into.resize(count as usize, [0; N]);
        self.file.read_exact_at(into.as_flattened_mut(), first * N as u64)
    }
}

/// Reads a table.
pub(super) struct Reader<'t, const N: usize, const K: usize> {
    table: &'t Table<N, K>,
    /// Each block has one place.
    kept: Box<[Option<Block<N>>]>,
}

struct Block<const N: usize> {
    number: u64,
    records: Vec<[u8; N]>,
}

impl<const N: usize, const K: usize> Reader<'_, N, K> {
    /// The position of the first record with this key.
    pub(super) fn find(&mut self, wanted: &[u8; K]) -> io::Result<Option<u64>> {
        // The block that begins with this key or behind it; the first record with the key may be in the block before.
        let block = self.table.keys.partition_point(|first| first < wanted) as u64;
        let mut position = block * BLOCK_RECORDS;
        if let Some(before) = block.checked_sub(1) {
            let within = self.block(before)?;
            let at = within.partition_point(|record| key::<N, K>(record) < *wanted);
            position = before * BLOCK_RECORDS + at as u64;
        }
        Ok(self.at(position, wanted)?.map(|_| position))
    }

    /// The record at a position, if it has this key.
    pub(super) fn at(&mut self, position: u64, wanted: &[u8; K]) -> io::Result<Option<[u8; N]>> {
        Ok(self
            .get(position)?
            .filter(|record| key::<N, K>(record) == *wanted))
    }

    /// The record at a position; `None` behind the last.
    pub(super) fn get(&mut self, position: u64) -> io::Result<Option<[u8; N]>> {
        if position >= self.table.records {
            return Ok(None);
        }
        let at = (position % BLOCK_RECORDS) as usize;
        Ok(self.block(position / BLOCK_RECORDS)?.get(at).copied())
    }

    fn block(&mut self, number: u64) -> io::Result<&[[u8; N]]> {
        let place = &mut self.kept[(number % KEPT_BLOCKS as u64) as usize];
        let block = place.get_or_insert_with(|| Block {
            number: u64::MAX,
            records: Vec::new(),
        });
        if block.number != number {
            // What is read only in part is no block.
            block.number = u64::MAX;
            self.table.read(number, &mut block.records)?;
            block.number = number;
        }
        Ok(&block.records)
    }
}

/// The first bytes of a record.
fn key<const N: usize, const K: usize>(record: &[u8; N]) -> [u8; K] {
    const { assert!(K <= N) }
    let mut key = [0; K];
    key.copy_from_slice(&record[..K]);
    key
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sorter::Sorter;
    use super::*;

    fn table(records: &[[u8; 4]]) -> Table<4, 2> {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(folder.path().to_owned(), 4096);
        for record in records {
            sorter.push(*record).unwrap();
        }
        Table::write(folder.path(), sorter.finish().unwrap().merge(4096).unwrap()).unwrap()
    }

    proptest! {
        #[test]
        fn every_key_is_found_at_its_first_record_and_no_other(
            mut records in prop::collection::vec((0u8..6, 0u8..4, any::<[u8; 2]>()), 0..1500),
        ) {
            records.sort_unstable();
            let records: Vec<[u8; 4]> = records.iter().map(|(a, b, [c, d])| [*a, *b, *c, *d]).collect();
            let table = table(&records);
            let mut reader = table.reader();
            for wanted in (0..7u8).flat_map(|a| (0..5u8).map(move |b| [a, b])) {
                let expected = records.iter().position(|record| record[..2] == wanted);
                prop_assert_eq!(reader.find(&wanted).unwrap(), expected.map(|at| at as u64));
            }
            for (position, record) in records.iter().enumerate() {
                prop_assert_eq!(reader.get(position as u64).unwrap(), Some(*record));
            }
            prop_assert_eq!(reader.get(records.len() as u64).unwrap(), None);
        }
    }

    #[test]
    fn more_blocks_than_are_kept() {
        let records: Vec<[u8; 4]> = (0..20_000u32).map(|n| (n << 8).to_be_bytes()).collect();
        let table = table(&records);
        let mut reader = table.reader();
        for n in (0..20_000u32).map(|n| n * 7919 % 20_000) {
            assert_eq!(reader.get(u64::from(n)).unwrap(), Some((n << 8).to_be_bytes()));
        }
        assert_eq!(reader.find(&[0, 70]).unwrap(), Some(70 << 8));
    }
}
