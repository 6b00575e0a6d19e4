//! Reads one entry of a pack: its header, and its content as far as it is compressed there.
//!
//! Source of the format: gitformat-pack(5), "pack-*.pack files have the following format".

use bytes::Bytes;
use mayfly_protocol::ObjectId;

use super::window::Windows;
use super::{RangeSource, Stop};
use crate::inflate::Inflation;
use crate::object::ObjectKind;

/// A header has at most ten bytes of kind and size, and twenty of what it builds on.
const MAX_HEADER_BYTES: usize = 32;
/// The bytes before the first entry, and those after the last.
const PACK_HEADER_BYTES: u64 = 12;
const PACK_TRAILER_BYTES: u64 = 20;
/// Bytes of the first range after an entry's first block; each one that follows is twice as long.
const FIRST_RUN_BYTES: u64 = 64 * 1024;
const MAX_RUN_BYTES: u64 = 1024 * 1024;

const DAMAGED_HEADER: Stop = Stop::Damaged("the header of an entry cannot be read");

/// What an entry builds on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    /// Nothing: it is a whole object.
    None(ObjectKind),
    /// The entry at this place.
    At(u64),
    /// The object with this id.
    Id(ObjectId),
}

/// An entry: a whole object, or a delta.
pub(super) struct Entry {
    pub(super) base: Base,
    pub(super) content: Vec<u8>,
}

struct Header {
    base: Base,
    /// Bytes of the content.
    bytes: u64,
    /// Bytes of the header itself.
    length: usize,
}

/// Reads the entry at `offset`, whose content may have at most `max` bytes.
pub(super) async fn read<S: RangeSource>(pack: &Windows<S>, offset: u64, max: u64) -> Result<Entry, Stop> {
    let end = pack.bytes().saturating_sub(PACK_TRAILER_BYTES);
    if offset < PACK_HEADER_BYTES || offset >= end {
        return Err(Stop::Damaged("its place is not inside the pack"));
    }
    let first = first_bytes(pack, offset).await?;
    let header = parse(&first, offset)?;
    if header.bytes > max {
        return Err(Stop::TooLarge);
    }
    let bytes = usize::try_from(header.bytes).map_err(|_| Stop::TooLarge)?;
    let mut inflation = Inflation::new(bytes);
    let damaged = |_| Stop::Damaged("the compressed content of an entry is damaged");
    let mut next = offset + first.len() as u64;
    let mut run = FIRST_RUN_BYTES;
    let mut is_done = inflation
        .feed(first.get(header.length..).unwrap_or_default())
        .map_err(damaged)?;
    while !is_done && next < end {
        let more = pack.run_from(next, run).await?;
        next += more.len() as u64;
        run = (run * 2).min(MAX_RUN_BYTES);
        is_done = inflation.feed(&more).map_err(damaged)?;
    }
    Ok(Entry {
        base: header.base,
        content: inflation.finish().map_err(damaged)?,
    })
}

/// The rest of the block at `offset`, and of the next one where that could cut the header.
async fn first_bytes<S: RangeSource>(pack: &Windows<S>, offset: u64) -> Result<Bytes, Stop> {
    let first = pack.block_from(offset).await?;
    let next = offset + first.len() as u64;
    if first.len() >= MAX_HEADER_BYTES || next >= pack.bytes() {
        return Ok(first);
    }
    Ok([first, pack.block_from(next).await?].concat().into())
}

fn parse(bytes: &[u8], offset: u64) -> Result<Header, Stop> {
    let (kind, size, rest) = kind_and_size(bytes).ok_or(DAMAGED_HEADER)?;
    let (base, rest) = match kind {
        1 => (Base::None(ObjectKind::Commit), rest),
        2 => (Base::None(ObjectKind::Tree), rest),
        3 => (Base::None(ObjectKind::Blob), rest),
        4 => (Base::None(ObjectKind::Tag), rest),
        6 => {
            let (distance, rest) = distance(rest).ok_or(DAMAGED_HEADER)?;
            let base = offset.checked_sub(distance).filter(|base| *base < offset);
            (Base::At(base.ok_or(DAMAGED_HEADER)?), rest)
        }
        7 => {
            let (id, rest) = rest.split_first_chunk::<20>().ok_or(DAMAGED_HEADER)?;
            (Base::Id(ObjectId::from_bytes(*id)), rest)
        }
        _ => return Err(DAMAGED_HEADER),
    };
    Ok(Header {
        base,
        bytes: size,
        length: bytes.len() - rest.len(),
    })
}

/// Three bits of kind and four of the size in the first byte, seven of the size in each that follows.
fn kind_and_size(bytes: &[u8]) -> Option<(u8, u64, &[u8])> {
    let (&first, mut rest) = bytes.split_first()?;
    let (kind, mut size) = (first >> 4 & 7, u64::from(first & 0x0f));
    let (mut byte, mut shift) = (first, 4);
    while byte & 0x80 != 0 {
        (byte, rest) = rest.split_first().map(|(byte, rest)| (*byte, rest))?;
        if shift > 56 {
            return None;
        }
        size |= u64::from(byte & 0x7f) << shift;
        shift += 7;
    }
    Some((kind, size, rest))
}

/// The distance back to what a delta builds on: seven bits a byte, the highest first, and one added for each further byte.
fn distance(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (&first, mut rest) = bytes.split_first()?;
    let (mut byte, mut value) = (first, u64::from(first & 0x7f));
    while byte & 0x80 != 0 {
        (byte, rest) = rest.split_first().map(|(byte, rest)| (*byte, rest))?;
        value = value
            .checked_add(1)?
            .checked_mul(128)?
            .checked_add(u64::from(byte & 0x7f))?;
    }
    Some((value, rest))
}
