//! Finds an object's place in a pack by the pack's index (version 2).
//!
//! Source of the format: gitformat-pack(5): a fanout table of 256 counts; then, sorted by id, all ids, all checksums, all offsets of
//! four bytes, and those offsets that need eight.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf as _, Bytes};
use mayfly_protocol::ObjectId;
use tokio::sync::OnceCell;

use super::window::Windows;
use super::{RangeSource, Stop};

const HEADER: [u8; 8] = [0xff, b't', b'O', b'c', 0, 0, 0, 2];
const TABLES_AT: u64 = 8 + 256 * 4;
const ID_BYTES: u64 = 20;
/// The two checksums at the end.
const TRAILER_BYTES: u64 = 40;
/// An index of at most so many bytes (about 75,000 objects) is read whole at once.
const MAX_WHOLE_BYTES: u64 = 2 * 1024 * 1024;
/// A larger one, of at most so many bytes, is read whole when that many lookups have been made that the pieces cost as much.
const MAX_KEPT_BYTES: u64 = 64 * 1024 * 1024;
/// Ids that are read at once out of a larger index: far more than a guess of the place is wrong by (in a million objects about 30).
const MAX_IDS: u64 = 1024;
/// An offset with this bit is the number of an offset of eight bytes.
const IS_LARGE: u32 = 1 << 31;

/// An index that is read by ranges.
pub(super) struct PackIndex<S> {
    file: Windows<S>,
    /// The beginning: the fanout table, or the whole where it is small.
    beginning: OnceCell<Beginning>,
    /// Bytes that were read piece by piece.
    read: AtomicU64,
    /// The whole, when as much has been read of it by pieces.
    whole: OnceCell<Bytes>,
}

struct Beginning {
    bytes: Bytes,
    fanout: Vec<u32>,
}

impl<S: RangeSource> PackIndex<S> {
    pub(super) fn new(source: S, bytes: u64) -> Self {
        Self {
            file: Windows::new(source, bytes),
            beginning: OnceCell::new(),
            read: AtomicU64::new(0),
            whole: OnceCell::new(),
        }
    }

    /// Where the object stands in the pack; `None` when it does not.
    pub(super) async fn find(&self, id: &ObjectId) -> Result<Option<u64>, Stop> {
        match self.position(id).await? {
            Some(position) => self.offset(position).await.map(Some),
            None => Ok(None),
        }
    }

    /// Whether the object is in the pack.
    pub(super) async fn has(&self, id: &ObjectId) -> Result<bool, Stop> {
        Ok(self.position(id).await?.is_some())
    }

    /// The object's place among the sorted ids.
    async fn position(&self, id: &ObjectId) -> Result<Option<u64>, Stop> {
        let fanout = &self.beginning().await?.fanout;
        let bucket = usize::from(id.as_bytes()[0]);
        let start = bucket.checked_sub(1).map_or(0, |before| fanout[before]);
        let (mut low, mut high) = (u64::from(start), u64::from(fanout[bucket]));
        let mut guess = guess(id, low, high);
        while low < high {
            let first = guess.saturating_sub(MAX_IDS / 2).clamp(low, high - 1);
            let count = (high - first).min(MAX_IDS);
            let ids = self.read(TABLES_AT + first * ID_BYTES, count * ID_BYTES).await?;
            let (ids, _) = ids.as_chunks::<20>();
            match ids.binary_search(id.as_bytes()) {
                Ok(at) => return Ok(Some(first + at as u64)),
                Err(0) => high = first,
                Err(at) if at == ids.len() => low = first + count,
                Err(_) => return Ok(None),
            }
            // The ids of an honest pack are spread evenly, and the first guess was right.
            guess = low + (high - low) / 2;
        }
        Ok(None)
    }

    async fn offset(&self, position: u64) -> Result<u64, Stop> {
        let objects = self.objects().await?;
        let offsets_at = TABLES_AT + objects * (ID_BYTES + 4);
        let small = self.read(offsets_at + position * 4, 4).await?.get_u32();
        if small & IS_LARGE == 0 {
            return Ok(u64::from(small));
        }
        let large_at = offsets_at + objects * 4 + u64::from(small & !IS_LARGE) * 8;
        if large_at + 8 + TRAILER_BYTES > self.file.bytes() {
            return Err(Stop::Damaged(
                "an offset in its index leads behind the index's end",
            ));
        }
        Ok(self.read(large_at, 8).await?.get_u64())
    }

    async fn objects(&self) -> Result<u64, Stop> {
        Ok(self
            .beginning()
            .await?
            .fanout
            .last()
            .copied()
            .map_or(0, u64::from))
    }

    async fn read(&self, at: u64, bytes: u64) -> Result<Bytes, Stop> {
        let slice = |from: &Bytes| {
            let range = usize::try_from(at).ok().zip(usize::try_from(at + bytes).ok());
            let (start, end) = range.filter(|(_, end)| *end <= from.len())?;
            Some(from.slice(start..end))
        };
        if let Some(piece) = slice(&self.beginning().await?.bytes) {
            return Ok(piece);
        }
        let so_far = self.read.fetch_add(bytes, Ordering::Relaxed);
        if so_far < self.file.bytes() || self.file.bytes() > MAX_KEPT_BYTES {
            return self.file.exactly(at, bytes).await;
        }
        let whole = self
            .whole
            .get_or_try_init(|| self.file.exactly(0, self.file.bytes()));
        slice(whole.await?).ok_or(Stop::Damaged(
            "something in its index leads behind the index's end",
        ))
    }

    async fn beginning(&self) -> Result<&Beginning, Stop> {
        self.beginning.get_or_try_init(|| self.read_beginning()).await
    }

    async fn read_beginning(&self) -> Result<Beginning, Stop> {
        let whole = self.file.bytes();
        let wanted = if whole <= MAX_WHOLE_BYTES {
            whole
        } else {
            TABLES_AT
        };
        let bytes = self.file.exactly(0, wanted).await?;
        let table = bytes.strip_prefix(&HEADER).and_then(|rest| rest.get(..256 * 4));
        let table = table.ok_or(Stop::Damaged("its index is not one of version 2"))?;
        let (counts, _) = table.as_chunks::<4>();
        let fanout: Vec<u32> = counts.iter().map(|count| u32::from_be_bytes(*count)).collect();
        let objects = fanout.last().copied().map_or(0, u64::from);
        let needed = TABLES_AT + objects * (ID_BYTES + 4 + 4) + TRAILER_BYTES;
        if !fanout.is_sorted() || needed > whole {
            return Err(Stop::Damaged("the counts of its index are wrong"));
        }
        Ok(Beginning { bytes, fanout })
    }
}

/// Where an id stands among those that share its first byte, if they are spread evenly.
fn guess(id: &ObjectId, low: u64, high: u64) -> u64 {
    let [_, a, b, c, d, ..] = *id.as_bytes();
    let part = u128::from(u32::from_be_bytes([a, b, c, d]));
    low + ((u128::from(high - low) * part) >> 32) as u64
}
