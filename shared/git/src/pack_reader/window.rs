//! Ranges of a file in blocks, the last few of which are kept: what a delta builds on often stands near it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::{RangeError, RangeSource, Stop};

const BLOCK_BYTES: u64 = 32 * 1024;
const KEPT_BLOCKS: usize = 32;

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
                let block = self
                    .exactly(start, BLOCK_BYTES.min(self.bytes.saturating_sub(start)))
                    .await?;
                self.keep(start, block.clone());
                block
            }
        };
        let skipped = usize::try_from(offset - start)
            .unwrap_or(usize::MAX)
            .min(block.len());
        Ok(block.slice(skipped..))
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
        kept.push_back((start, block));
        if kept.len() > KEPT_BLOCKS {
            kept.pop_front();
        }
    }
}
