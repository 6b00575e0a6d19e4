//! Reads single objects out of a pack that is far away, by ranges.
//!
//! What comes back is checked against the object's id, so a damaged pack or index gives an error and never another object.
//! This module must not know where the pack is kept.

mod entry;
mod index;
mod window;

use std::collections::HashSet;
use std::error::Error;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use mayfly_protocol::ObjectId;

use crate::delta;
use crate::object::ObjectKind;
use entry::{Base, Entry};
use index::PackIndex;
use window::Windows;

/// The longest chain of deltas that git makes (`--depth` is at most this).
const MAX_CHAIN: usize = 4095;
/// Bytes that a part of a delta chain may always have, however little the object itself may.
const MIN_PART_BYTES: u64 = 1024 * 1024;
/// How often the allowed size of one object all deltas of a chain together may have.
const MAX_CHAIN_FACTOR: u64 = 8;

/// A file that is read by ranges.
#[async_trait]
pub trait RangeSource: Send + Sync {
    /// Reads exactly these bytes.
    async fn read(&self, range: Range<u64>) -> Result<Bytes, RangeError>;
}

/// A range could not be read; what is inside says why.
#[derive(Debug, thiserror::Error)]
#[error("a range of the file could not be read")]
pub struct RangeError(#[source] pub Box<dyn Error + Send + Sync>);

/// An object could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PackReadError {
    /// The pack or its index could not be read.
    #[error("the pack could not be read")]
    Source(#[from] RangeError),
    /// The object, or something that it is a delta of, is larger than allowed.
    #[error("object {id} has more than {max} bytes, or is made of what has")]
    TooLarge {
        /// The object.
        id: ObjectId,
        /// The bound.
        max: u64,
    },
    /// The pack or its index is damaged.
    #[error("the pack is damaged at object {id}: {reason}")]
    Damaged {
        /// The object that was to be read.
        id: ObjectId,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Why reading stopped, before it is said at which object.
#[derive(Debug)]
enum Stop {
    Source(RangeError),
    TooLarge,
    Damaged(&'static str),
}

impl From<RangeError> for Stop {
    fn from(error: RangeError) -> Self {
        Self::Source(error)
    }
}

/// A pack and its index (version 2), read by ranges. Small indexes are read once and kept.
///
/// Source of the formats: gitformat-pack(5).
pub struct PackReader<S> {
    index: PackIndex<S>,
    pack: Windows<S>,
}

impl<S: RangeSource> PackReader<S> {
    /// A reader of the pack of `pack_bytes` bytes with the index of `index_bytes` bytes. Nothing is read yet.
    pub fn new(index: S, index_bytes: u64, pack: S, pack_bytes: u64) -> Self {
        Self {
            index: PackIndex::new(index, index_bytes),
            pack: Windows::new(pack, pack_bytes),
        }
    }

    /// Reads one object of at most `max_bytes`; `None` when the pack does not have it.
    pub async fn read_object(
        &self,
        id: &ObjectId,
        max_bytes: u64,
    ) -> Result<Option<(ObjectKind, Vec<u8>)>, PackReadError> {
        let id = *id;
        let outcome = self.resolve(&id, max_bytes).await.map_err(|stop| match stop {
            Stop::Source(error) => PackReadError::Source(error),
            Stop::TooLarge => PackReadError::TooLarge { id, max: max_bytes },
            Stop::Damaged(reason) => PackReadError::Damaged { id, reason },
        })?;
        match outcome {
            Some((kind, content)) if kind.hash(&content).ok() != Some(id) => Err(PackReadError::Damaged {
                id,
                reason: "its content has another id",
            }),
            outcome => Ok(outcome),
        }
    }

    async fn resolve(&self, id: &ObjectId, max: u64) -> Result<Option<(ObjectKind, Vec<u8>)>, Stop> {
        let Some(offset) = self.index.find(id).await? else {
            return Ok(None);
        };
        let part_max = max.max(MIN_PART_BYTES);
        let (deltas, kind, mut content) = self.read_chain(offset, max, part_max).await?;
        for delta in deltas.iter().rev() {
            content = delta::apply(&content, delta, part_max)
                .map_err(|_| Stop::Damaged("a delta does not fit what it builds on"))?;
        }
        if content.len() as u64 > max {
            Err(Stop::TooLarge)
        } else {
            Ok(Some((kind, content)))
        }
    }

    /// Reads the deltas from an object down to what they build on, which comes with its kind.
    async fn read_chain(
        &self,
        mut offset: u64,
        max: u64,
        part_max: u64,
    ) -> Result<(Vec<Vec<u8>>, ObjectKind, Vec<u8>), Stop> {
        let (mut deltas, mut total) = (Vec::new(), 0);
        let mut seen = HashSet::new();
        loop {
            if !seen.insert(offset) || seen.len() > MAX_CHAIN {
                return Err(Stop::Damaged(
                    "its chain of deltas is too long, or leads back to itself",
                ));
            }
            let Entry { base, content } = entry::read(&self.pack, offset, part_max).await?;
            total += content.len() as u64;
            offset = match base {
                Base::None(kind) => return Ok((deltas, kind, content)),
                Base::At(base) => base,
                Base::Id(base) => self
                    .index
                    .find(&base)
                    .await?
                    .ok_or(Stop::Damaged("what it builds on is not in the pack"))?,
            };
            check_result(&content, if deltas.is_empty() { max } else { part_max })?;
            if total > part_max.saturating_mul(MAX_CHAIN_FACTOR) {
                return Err(Stop::TooLarge);
            }
            deltas.push(content);
        }
    }
}

/// A delta says how large its result is, before anything is built.
fn check_result(delta: &[u8], max: u64) -> Result<(), Stop> {
    let (sizes, _) =
        delta::sizes(delta).map_err(|_| Stop::Damaged("a delta does not begin with its sizes"))?;
    if sizes.result > max {
        Err(Stop::TooLarge)
    } else {
        Ok(())
    }
}
