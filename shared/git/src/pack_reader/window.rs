//! Ranges of a file in blocks, the last few of which are kept: what a delta builds on often stands near it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{RangeError, RangeSource, Stop};

const BLOCK_BYTES: u64 = 32 * 1024;
pub(super) const KEPT_BLOCKS: usize = 96;
/// Blocks that are read at once where a block follows one that was read: commits, which are walked in order, stand in order.
const READ_AHEAD_BLOCKS: u64 = 4;
/// Blocks that nobody asked for, which are read all the same where two that are wanted stand on both sides of them.
pub(super) const MAX_GAP_BLOCKS: u64 = 2;
/// Ranges that are read at the same time.
const READ_AT_ONCE: usize = 4;

/// A file, read in blocks.
pub(super) struct Windows<S> {
    source: S,
    bytes: u64,
    kept: Mutex<VecDeque<(u64, Bytes)>>,
}

impl<S: RangeSource> Windows<S> {
    pub(super) fn new(source: S, bytes: u64) -> Self {
        Self {
            source,
            bytes,
            kept: Mutex::default(),
        }
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The bytes from `offset` to the end of its block; never none before the end of the file.
    pub(super) async fn block_from(&self, offset: u64) -> Result<Bytes, Stop> {
        let start = offset - offset % BLOCK_BYTES;
        let block = match self.kept(start) {
            Some(block) => block,
            None => {
                let follows = start >= BLOCK_BYTES && self.kept(start - BLOCK_BYTES).is_some();
                let blocks = if follows { READ_AHEAD_BLOCKS } else { 1 };
                self.bring_run(start, blocks).await?
            }
        };
        let skipped = usize::try_from(offset - start)
            .unwrap_or(usize::MAX)
            .min(block.len());
        Ok(block.slice(skipped..))
    }

    /// Reads the blocks that hold these places, those that stand near each other with one range.
    pub(super) async fn bring(&self, offsets: &[u64]) -> Result<(), Stop> {
        let blocks: BTreeSet<u64> = offsets.iter().map(|offset| offset / BLOCK_BYTES).collect();
        let missing = blocks
            .into_iter()
            .filter(|block| block * BLOCK_BYTES < self.bytes && self.kept(block * BLOCK_BYTES).is_none());
        let runs = runs(missing);
        let reads = runs
            .into_iter()
            .map(|(first, count)| self.bring_run(first * BLOCK_BYTES, count));
        stream::iter(reads)
            .buffer_unordered(READ_AT_ONCE)
            .try_for_each(|_| async { Ok(()) })
            .await
    }

    /// Reads and keeps some blocks from `start`, and gives the first.
    async fn bring_run(&self, start: u64, blocks: u64) -> Result<Bytes, Stop> {
        let run = self.run_from(start, blocks * BLOCK_BYTES).await?;
        let block_bytes = BLOCK_BYTES as usize;
        for (index, at) in (0..run.len()).step_by(block_bytes).enumerate() {
            let block = run.slice(at..run.len().min(at + block_bytes));
            self.keep(start + index as u64 * BLOCK_BYTES, block);
        }
        Ok(run.slice(..run.len().min(block_bytes)))
    }

    /// Up to `wanted` bytes from `offset`, fewer only at the end of the file.
    pub(super) async fn run_from(&self, offset: u64, wanted: u64) -> Result<Bytes, Stop> {
        self.exactly(offset, wanted.min(self.bytes.saturating_sub(offset)))
            .await
    }

    pub(super) async fn exactly(&self, offset: u64, bytes: u64) -> Result<Bytes, Stop> {
        if bytes == 0 {
            return Ok(Bytes::new());
        }
        let end = offset.checked_add(bytes).filter(|end| *end <= self.bytes);
        let end = end.ok_or(Stop::Damaged("something in it leads behind its end"))?;
        let read: Result<Bytes, RangeError> = self.source.read(offset..end).await;
        let read = read?;
        if read.len() as u64 == bytes {
            Ok(read)
        } else {
            Err(Stop::Damaged("a file is shorter than it should be"))
        }
    }

    fn kept(&self, start: u64) -> Option<Bytes> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter()
            .find(|(at, _)| *at == start)
            .map(|(_, block)| block.clone())
    }

    fn keep(&self, start: u64, block: Bytes) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(at, _)| *at != start);
        kept.push_back((start, block));
        if kept.len() > KEPT_BLOCKS {
            kept.pop_front();
        }
    }
}

/// Blocks in order as runs: the first of each, and how many.
fn runs(blocks: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for block in blocks {
        match runs.last_mut() {
            Some((first, count)) if block - (*first + *count) <= MAX_GAP_BLOCKS => {
                *count = block - *first + 1;
            }
            _ => runs.push((block, 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    #[test]
    fn near_blocks_are_read_together() {
        assert_eq!(
            super::runs([0, 1, 4, 8, 9, 20].into_iter()),
            [(0, 5), (8, 2), (20, 1)]
        );
    }
}
