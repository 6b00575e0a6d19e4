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

/// Objects whose beginnings are brought together before they are read: their blocks are all kept then.
const READ_TOGETHER: usize = window::KEPT_BLOCKS / (1 + window::MAX_GAP_BLOCKS as usize);

/// What a pack has of the objects that were asked for.
#[derive(Debug, Default)]
pub struct Found {
    /// The objects.
    pub objects: Vec<(ObjectId, ObjectKind, Vec<u8>)>,
    /// The ids that are not in the pack.
    pub absent: Vec<ObjectId>,
}

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

impl Stop {
    fn at(self, id: ObjectId, max: u64) -> PackReadError {
        match self {
            Self::Source(error) => PackReadError::Source(error),
            Self::TooLarge => PackReadError::TooLarge { id, max },
            Self::Damaged(reason) => PackReadError::Damaged { id, reason },
        }
    }
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
        let outcome = self.resolve(&id, max_bytes).await;
        let outcome = outcome.map_err(|stop| stop.at(id, max_bytes))?;
        match outcome {
            Some((kind, content)) if kind.hash(&content).ok() != Some(id) => Err(PackReadError::Damaged {
                id,
                reason: "its content has another id",
            }),
            outcome => Ok(outcome),
        }
    }

    /// Reads those of the objects that the pack has, in the order in which they stand there, neighbours with one range. What is larger than
    /// `max_bytes` is neither among the objects nor absent.
    pub async fn read_objects(&self, ids: &[ObjectId], max_bytes: u64) -> Result<Found, PackReadError> {
        let (mut placed, mut found) = (Vec::new(), Found::default());
        for id in sorted(ids) {
            match self.find(&id).await? {
                Some(offset) => placed.push((offset, id)),
                None => found.absent.push(id),
            }
        }
        placed.sort_unstable();
        for group in placed.chunks(READ_TOGETHER) {
            let offsets: Vec<u64> = group.iter().map(|(offset, _)| *offset).collect();
            let Some((_, first)) = group.first() else { break };
            self.pack
                .bring(&offsets)
                .await
                .map_err(|stop| stop.at(*first, max_bytes))?;
            for (_, id) in group {
                match self.read_object(id, max_bytes).await {
                    Ok(Some((kind, content))) => found.objects.push((*id, kind, content)),
                    Ok(None) | Err(PackReadError::TooLarge { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(found)
    }

    /// Those of the objects that the pack does not have. Only the index is read.
    pub async fn absent(&self, ids: &[ObjectId]) -> Result<Vec<ObjectId>, PackReadError> {
        let mut absent = Vec::new();
        for id in sorted(ids) {
            if !self.has(&id).await? {
                absent.push(id);
            }
        }
        Ok(absent)
    }

    async fn find(&self, id: &ObjectId) -> Result<Option<u64>, PackReadError> {
        self.index.find(id).await.map_err(|stop| stop.at(*id, 0))
    }

    async fn has(&self, id: &ObjectId) -> Result<bool, PackReadError> {
        self.index.has(id).await.map_err(|stop| stop.at(*id, 0))
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

/// In order, so that an index is read from its beginning to its end.
fn sorted(ids: &[ObjectId]) -> Vec<ObjectId> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    ids
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
