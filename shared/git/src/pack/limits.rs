//! Holds a pack to the limits that it met when it came from a remote, before it is read whole: whoever writes to the storage may have put
//! another in its place, with an index and a manifest to match.
//!
//! Only headers are read: how large each entry says that it is, what each delta says that it makes, and what it stands on. A library that reads the
//! pack then sets no more aside than was counted here. That the contents are what their ids say is for whoever reads them.

use gix_pack::data;
use gix_pack::data::entry::Header;
use gix_zlib::{Decompress, FlushDecompress};

use super::PackFiles;
use crate::delta;
use crate::remote::TransferLimits;

const SHA1: gix_hash::Kind = gix_hash::Kind::Sha1;
/// The most bytes of the two sizes that a delta begins with.
const DELTA_SIZES_BYTES: usize = 20;
/// Compressed bytes within which those sizes are found: a block of deflate begins with its codes.
const LOOK_BYTES: u64 = 1024;
/// The parts of an index (version 2): its magic number and version, the table of first bytes, and the two checksums at its end.
const INDEX_HEAD: &[u8] = b"\xfftOc\0\0\0\x02";
const FAN_OUT_BYTES: usize = 256 * 4;
const INDEX_TRAILER_BYTES: usize = 40;
const ID_BYTES: usize = 20;
/// Marks an offset that stands in the table of long ones.
const LONG_OFFSET: u32 = 1 << 31;
/// In the place of a base: there is none, the object is whole.
const WHOLE: u32 = u32::MAX;

/// What the objects of a pack may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackLimits {
    /// Objects.
    pub max_objects: u32,
    /// Bytes of one object, after its deltas.
    pub max_object_bytes: u64,
    /// Bytes of all objects together, after their deltas.
    pub max_unpacked_bytes: u64,
    /// Deltas that one object may stand on.
    pub max_delta_depth: u32,
}

impl From<&TransferLimits> for PackLimits {
    fn from(limits: &TransferLimits) -> Self {
        Self {
            max_objects: limits.max_objects,
            max_object_bytes: limits.max_object_bytes,
            max_unpacked_bytes: limits.max_unpacked_bytes,
            max_delta_depth: limits.max_delta_depth,
        }
    }
}

impl Default for PackLimits {
    fn default() -> Self {
        (&TransferLimits::default()).into()
    }
}

/// A pack breaks a limit, or is not what its index says.
#[derive(Debug, thiserror::Error)]
pub enum PackLimitError {
    /// The files cannot be opened.
    #[error("the pack or its index cannot be opened")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There are too many objects.
    #[error("the pack has {objects} objects, more than the limit of {limit}")]
    TooManyObjects {
        /// How many.
        objects: usize,
        /// The limit.
        limit: u32,
    },
    /// An object is too large.
    #[error("an object of the pack has {bytes} bytes, more than the limit of {limit}")]
    ObjectTooLarge {
        /// How large.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// All objects together are too large.
    #[error("the objects of the pack have more than the limit of {limit} bytes when unpacked")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// An object stands on too many others.
    #[error("a chain of deltas is longer than the limit of {limit}, or leads back to itself")]
    TooDeep {
        /// The limit.
        limit: u32,
    },
    /// The pack and its index do not go together.
    #[error("the pack is none, or its index is of another: {what}")]
    Inconsistent {
        /// What is wrong.
        what: &'static str,
    },
}

fn inconsistent(what: &'static str) -> PackLimitError {
    PackLimitError::Inconsistent { what }
}

impl PackFiles {
    /// Holds the pack to limits, by the headers of its entries.
    pub fn check_limits(&self, limits: &PackLimits) -> Result<(), PackLimitError> {
        let unreadable = |error: std::io::Error| PackLimitError::Unreadable(error.into());
        let index = std::fs::read(&self.index).map_err(unreadable)?;
        let index = Index::parse(&index).ok_or_else(|| inconsistent("the index cannot be read"))?;
        let limit = limits.max_objects;
        if u32::try_from(index.offsets.len()).map_or(true, |objects| objects > limit) {
            let objects = index.offsets.len();
            return Err(PackLimitError::TooManyObjects { objects, limit });
        }
        let pack = data::File::at(&self.pack, SHA1);
        let pack = pack.map_err(|error| PackLimitError::Unreadable(error.into()))?;
        let mut bases = Vec::with_capacity(index.offsets.len());
        let (mut unpacked, mut inflate) = (0_u64, Decompress::new());
        for start in &index.offsets {
            let Step { bytes, base } = step(&pack, (*start, &index), limits, &mut inflate)?;
            unpacked = unpacked.saturating_add(bytes);
            if unpacked > limits.max_unpacked_bytes {
                let limit = limits.max_unpacked_bytes;
                return Err(PackLimitError::TooLarge { limit });
            }
            bases.push(base.unwrap_or(WHOLE));
        }
        check_depths(&bases, limits.max_delta_depth)
    }
}

/// What an entry makes, and the place of the one that it stands on, in the order of the pack.
struct Step {
    bytes: u64,
    base: Option<u32>,
}

fn step(
    pack: &data::File<gix_pack::MMap>,
    (start, index): (u64, &Index<'_>),
    limits: &PackLimits,
    inflate: &mut Decompress,
) -> Result<Step, PackLimitError> {
    let is_inside = start >= data::header::SIZE as u64 && start < pack.pack_end() as u64;
    let entry = is_inside.then(|| pack.entry(start).ok()).flatten();
    let entry = entry.ok_or_else(|| inconsistent("an entry is none"))?;
    check_object(entry.decompressed_size, limits)?;
    let base = match entry.header {
        Header::OfsDelta { base_distance } => Some(Header::verified_base_pack_offset(start, base_distance)),
        Header::RefDelta { base_id } => Some(index.find(base_id.as_slice())),
        _ => None,
    };
    let Some(base) = base else {
        let bytes = entry.decompressed_size;
        return Ok(Step { bytes, base: None });
    };
    let base = base.and_then(|base| index.place(base));
    let base = base.ok_or_else(|| inconsistent("a delta stands on nothing that the index has"))?;
    let end = (entry.data_offset + LOOK_BYTES).min(pack.pack_end() as u64);
    let compressed = pack.entry_slice(entry.data_offset..end).unwrap_or_default();
    let (before, bytes) =
        delta_sizes(compressed, inflate).ok_or_else(|| inconsistent("a delta is damaged"))?;
    check_object(before, limits)?;
    check_object(bytes, limits)?;
    Ok(Step {
        bytes,
        base: Some(base),
    })
}

fn check_object(bytes: u64, limits: &PackLimits) -> Result<(), PackLimitError> {
    let limit = limits.max_object_bytes;
    if bytes > limit {
        return Err(PackLimitError::ObjectTooLarge { bytes, limit });
    }
    Ok(())
}

/// The sizes of what a delta is made of and of what it makes.
fn delta_sizes(compressed: &[u8], inflate: &mut Decompress) -> Option<(u64, u64)> {
    inflate.reset();
    let mut beginning = [0; DELTA_SIZES_BYTES];
    inflate
        .decompress(compressed, &mut beginning, FlushDecompress::None)
        .ok()?;
    let made = usize::try_from(inflate.total_out()).ok()?;
    let (sizes, _) = delta::sizes(beginning.get(..made)?).ok()?;
    Some((sizes.base, sizes.result))
}

/// Sees that no entry stands on more others than allowed. Each is looked at once, and once more for each that stands on it directly.
fn check_depths(bases: &[u32], limit: u32) -> Result<(), PackLimitError> {
    let mut depths = vec![0_u32; bases.len()];
    let mut chain = Vec::new();
    for start in 0..bases.len() {
        let mut at = start;
        while depths[at] == 0 && bases[at] != WHOLE {
            chain.push(at);
            if chain.len() > limit as usize {
                return Err(PackLimitError::TooDeep { limit });
            }
            at = bases[at] as usize;
        }
        let mut depth = depths[at];
        while let Some(entry) = chain.pop() {
            depth += 1;
            depths[entry] = depth;
        }
        if depth > limit {
            return Err(PackLimitError::TooDeep { limit });
        }
    }
    Ok(())
}

/// An index in memory.
struct Index<'a> {
    /// In order, one after the other.
    ids: &'a [u8],
    /// In the order of the ids.
    by_id: Vec<u64>,
    /// In order.
    offsets: Vec<u64>,
}

impl<'a> Index<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (body, _) = bytes.split_at_checked(bytes.len().checked_sub(INDEX_TRAILER_BYTES)?)?;
        let (fan_out, tables) = body.strip_prefix(INDEX_HEAD)?.split_at_checked(FAN_OUT_BYTES)?;
        let count = u32::from_be_bytes(*fan_out.last_chunk()?) as usize;
        let (ids, tables) = tables.split_at_checked(count.checked_mul(ID_BYTES)?)?;
        let (_checksums, tables) = tables.split_at_checked(count.checked_mul(4)?)?;
        let (short, long) = tables.split_at_checked(count.checked_mul(4)?)?;
        let (short, long) = (short.as_chunks::<4>().0, long.as_chunks::<8>().0);
        let offset = |short: &[u8; 4]| match u32::from_be_bytes(*short) {
            short if short & LONG_OFFSET == 0 => Some(u64::from(short)),
            place => long
                .get((place ^ LONG_OFFSET) as usize)
                .map(|long| u64::from_be_bytes(*long)),
        };
        let by_id: Vec<u64> = short.iter().map(offset).collect::<Option<_>>()?;
        let mut offsets = by_id.clone();
        offsets.sort_unstable();
        Some(Self { ids, by_id, offsets })
    }

    /// The place of the entry that begins there, in the order of the pack.
    fn place(&self, offset: u64) -> Option<u32> {
        let place = self.offsets.binary_search(&offset).ok()?;
        u32::try_from(place).ok()
    }

    fn find(&self, id: &[u8]) -> Option<u64> {
        let ids = self.ids.as_chunks::<ID_BYTES>().0;
        let at = ids.binary_search_by(|found| found.as_slice().cmp(id)).ok()?;
        self.by_id.get(at).copied()
    }
}
