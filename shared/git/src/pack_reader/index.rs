//! Finds an object's place in a pack by the pack's index (version 2).
//!
//! Source of the format: gitformat-pack(5): a fanout table of 256 counts; then, sorted by id, all ids, all checksums, all offsets of
//! four bytes, and those offsets that need eight.

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
/// Ids that are read at once out of a larger index.
const MAX_IDS: u64 = 3000;
/// An offset with this bit is the number of an offset of eight bytes.
const IS_LARGE: u32 = 1 << 31;

/// An index that is read by ranges.
pub(super) struct PackIndex<S> {
    file: Windows<S>,
    /// The beginning: the fanout table, or the whole where it is small.
    beginning: OnceCell<Beginning>,
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
        }
    }

    /// Where the object stands in the pack; `None` when it does not.
    pub(super) async fn find(&self, id: &ObjectId) -> Result<Option<u64>, Stop> {
        let fanout = &self.beginning().await?.fanout;
        let bucket = usize::from(id.as_bytes()[0]);
        let start = bucket.checked_sub(1).map_or(0, |before| fanout[before]);
        match self
            .position(id, u64::from(start), u64::from(fanout[bucket]))
            .await?
        {
            Some(position) => self.offset(position).await.map(Some),
            None => Ok(None),
        }
    }

    /// The object's place among the sorted ids, which is in `low..high` if anywhere.
    async fn position(&self, id: &ObjectId, mut low: u64, mut high: u64) -> Result<Option<u64>, Stop> {
        while low < high {
            let count = (high - low).min(MAX_IDS);
            let first = low + (high - low - count) / 2;
            let ids = self.read(TABLES_AT + first * ID_BYTES, count * ID_BYTES).await?;
            let (ids, _) = ids.as_chunks::<20>();
            match ids.binary_search(id.as_bytes()) {
                Ok(at) => return Ok(Some(first + at as u64)),
                Err(0) => high = first,
                Err(at) if at == ids.len() => low = first + count,
                Err(_) => return Ok(None),
            }
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
        let beginning = &self.beginning().await?.bytes;
        let range = usize::try_from(at).ok().zip(usize::try_from(at + bytes).ok());
        match range.filter(|(_, end)| *end <= beginning.len()) {
            Some((start, end)) => Ok(beginning.slice(start..end)),
            None => self.file.exactly(at, bytes).await,
        }
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
