//! Walks the entries of a pack while it arrives (gitformat-pack(5)), and holds each to the limits: what a delta will make is known
//! from its first bytes, so nothing is resolved that is too large.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use gix_pack::data::entry::Header;
use gix_pack::data::{self, input};
use gix_zlib::{Decompress, FlushDecompress, Status};

use super::FetchError;
use super::input::{HeaderReader, Input};
use super::progress::Counters;
use crate::remote::TransferLimits;

/// Bytes that are inflated at once; they are looked at and thrown away.
const SCRATCH_BYTES: usize = 32 * 1024;
/// The most bytes of the two sizes that a delta begins with.
const DELTA_SIZES_BYTES: usize = 20;
/// The most bytes of an entry's header: two sizes of ten bytes at most, or a size and an id.
const MAX_HEADER_BYTES: usize = 32;
const SHA1: gix_hash::Kind = gix_hash::Kind::Sha1;
/// The deepest chain that the indexing library can count.
const MAX_COUNTED_DEPTH: u64 = u16::MAX as u64;

/// The entries of one pack, after its header.
pub(crate) struct Entries<W> {
    input: Input<W>,
    left: u32,
    limits: TransferLimits,
    counters: Arc<Counters>,
    inflate: Decompress,
    scratch: Box<[u8]>,
    chains: Chains,
    unpacked: u64,
    failure: Option<FetchError>,
}

impl<W: Write> Entries<W> {
    /// Reads the header of the pack, and refuses one with too many objects before anything else is read.
    pub(crate) fn begin(
        mut input: Input<W>,
        limits: &TransferLimits,
        counters: Arc<Counters>,
    ) -> Result<Self, FetchError> {
        let mut header = [0; data::header::SIZE];
        input.take_exact(&mut header)?;
        let (_, objects) = data::header::decode(&header).map_err(|_| bad("it has no proper header"))?;
        let limit = limits.max_objects;
        if objects > limit {
            return Err(FetchError::TooManyObjects { objects, limit });
        }
        counters.total.store(u64::from(objects), Ordering::Relaxed);
        Ok(Self {
            input,
            left: objects,
            limits: limits.clone(),
            counters,
            inflate: Decompress::new(),
            scratch: vec![0; SCRATCH_BYTES].into(),
            chains: Chains::default(),
            unpacked: 0,
            failure: None,
        })
    }

    /// Objects that are still to come.
    pub(crate) fn left(&self) -> u32 {
        self.left
    }

    /// Reads the end of a pack without objects.
    pub(crate) fn finish_empty(mut self) -> Result<(), FetchError> {
        self.input.finish().map(|_| ())
    }

    /// Why the walk ended early, if it did.
    pub(crate) fn into_failure(self) -> Option<FetchError> {
        self.failure
    }

    fn entry(&mut self) -> Result<input::Entry, FetchError> {
        let start = self.input.offset();
        let (entry, header) = self.header(start)?;
        let claimed = entry.decompressed_size;
        self.check_object(claimed)?;
        let depth = self.chains.note(start, &entry.header)?;
        if depth > self.limits.max_delta_depth {
            return Err(bad("a chain of deltas is too long"));
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&header);
        let before = self.input.offset();
        let beginning = self.inflate(claimed, &mut crc)?;
        let size = match depth {
            0 => claimed,
            _ => self.delta_result(&beginning)?,
        };
        self.add_unpacked(size)?;
        let compressed_size = self.input.offset() - before;
        self.left -= 1;
        Ok(input::Entry {
            header: entry.header,
            header_size: header.len() as u16,
            pack_offset: start,
            compressed: None,
            compressed_size,
            crc32: Some(crc.finalize()),
            decompressed_size: claimed,
            trailer: if self.left == 0 {
                Some(self.input.finish()?)
            } else {
                None
            },
        })
    }

    /// Reads the header of an entry, and gives its bytes too.
    fn header(&mut self, start: u64) -> Result<(data::Entry, Bytes), FetchError> {
        let damaged = || bad("the header of an object is damaged");
        let piece = self.input.available()?;
        if piece.len() >= MAX_HEADER_BYTES {
            let entry = data::Entry::from_bytes(&piece, start, SHA1).map_err(|_| damaged())?;
            let header = piece.slice(..entry.header_size());
            self.input.take(header.len())?;
            return Ok((entry, header));
        }
        // It may go on in the next piece.
        let mut reader = HeaderReader {
            input: &mut self.input,
            bytes: Vec::with_capacity(MAX_HEADER_BYTES),
            failure: None,
        };
        match data::Entry::from_read(&mut reader, start, SHA1.len_in_bytes()) {
            Ok(entry) => Ok((entry, reader.bytes.into())),
            Err(_) => Err(reader.failure.unwrap_or_else(damaged)),
        }
    }

    /// Inflates one object to its end, and gives its first bytes.
    fn inflate(&mut self, claimed: u64, crc: &mut crc32fast::Hasher) -> Result<Vec<u8>, FetchError> {
        self.inflate.reset();
        let mut beginning = Vec::with_capacity(DELTA_SIZES_BYTES);
        loop {
            let piece = self.input.available()?;
            let (used_before, made_before) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress(&piece, &mut self.scratch, FlushDecompress::None)
                .map_err(|_| bad("an object is damaged"))?;
            let used = (self.inflate.total_in() - used_before) as usize;
            let made = (self.inflate.total_out() - made_before) as usize;
            crc.update(&piece[..used]);
            self.input.take(used)?;
            let missing = DELTA_SIZES_BYTES - beginning.len();
            beginning.extend_from_slice(&self.scratch[..made.min(missing)]);
            if self.inflate.total_out() > claimed {
                return Err(bad("an object is longer than it says"));
            }
            if status == Status::StreamEnd {
                break;
            }
            if used == 0 && made == 0 {
                return Err(bad("an object is damaged"));
            }
        }
        if self.inflate.total_out() < claimed {
            return Err(bad("an object is shorter than it says"));
        }
        Ok(beginning)
    }

    /// The size of what a delta makes; its base is held to the limit, too.
    fn delta_result(&self, beginning: &[u8]) -> Result<u64, FetchError> {
        let damaged = || bad("a delta is damaged");
        let (base, rest) = size_varint(beginning).ok_or_else(damaged)?;
        let (result, _) = size_varint(rest).ok_or_else(damaged)?;
        self.check_object(base)?;
        self.check_object(result)?;
        Ok(result)
    }

    fn check_object(&self, bytes: u64) -> Result<(), FetchError> {
        let limit = self.limits.max_object_bytes;
        if bytes > limit {
            return Err(FetchError::ObjectTooLarge { bytes, limit });
        }
        Ok(())
    }

    fn add_unpacked(&mut self, bytes: u64) -> Result<(), FetchError> {
        self.unpacked = self.unpacked.saturating_add(bytes);
        let limit = self.limits.max_unpacked_bytes;
        if self.unpacked > limit {
            let what = " when unpacked";
            return Err(FetchError::RepositoryTooLarge { limit, what });
        }
        Ok(())
    }
}

/// The size hint is left at nothing: the number of objects is the remote's word, and would be taken for memory to set aside.
impl<W: Write> Iterator for Entries<W> {
    type Item = gix_error::Result<input::Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 || self.failure.is_some() {
            return None;
        }
        match self.entry() {
            Ok(entry) => {
                self.counters.received.fetch_add(1, Ordering::Relaxed);
                Some(Ok(entry))
            }
            Err(failure) => {
                self.failure = Some(failure);
                Some(Err(gix_error::message("the pack was refused").into()))
            }
        }
    }
}

/// How deep the chains of deltas are.
#[derive(Default)]
struct Chains {
    /// Where each delta begins, and on how many others it stands; in the order of the pack.
    deltas: Vec<(u64, u32)>,
    /// Deltas that name their base by its id: how deep these stand is not known before they are resolved.
    by_id: u64,
    deepest: u32,
}

impl Chains {
    /// The depth of an entry: 0 for a whole object.
    fn note(&mut self, start: u64, header: &Header) -> Result<u32, FetchError> {
        let depth = match *header {
            Header::OfsDelta { base_distance } => {
                let base = Header::verified_base_pack_offset(start, base_distance)
                    .ok_or(bad("a delta has its base outside of the pack"))?;
                1 + self.depth_at(base)
            }
            Header::RefDelta { .. } => {
                self.by_id += 1;
                1
            }
            _ => return Ok(0),
        };
        self.deltas.push((start, depth));
        self.deepest = self.deepest.max(depth);
        // The worst case: all deltas by id stand on each other, each with the deepest chain between.
        if self.by_id * u64::from(self.deepest) > MAX_COUNTED_DEPTH {
            return Err(bad("it has too many deltas that name their base by id"));
        }
        Ok(depth)
    }

    fn depth_at(&self, offset: u64) -> u32 {
        match self.deltas.binary_search_by_key(&offset, |(start, _)| *start) {
            Ok(index) => self.deltas[index].1,
            Err(_) => 0,
        }
    }
}

/// A size as a delta states it: seven bits a byte, the lowest first.
fn size_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut size = 0u64;
    for (index, byte) in bytes.iter().enumerate().take(9) {
        size |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((size, &bytes[index + 1..]));
        }
    }
    None
}

fn bad(what: &'static str) -> FetchError {
    FetchError::BadPack { what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_deltas_are_read() {
        assert_eq!(size_varint(&[0x91, 0x2e, 7]), Some((0x1711, &[7][..])));
        assert_eq!(size_varint(&[0x80; 10]), None);
        assert_eq!(size_varint(&[0x80]), None);
        assert_eq!(size_varint(&[]), None);
    }

    #[test]
    fn chains_are_counted() {
        let mut chains = Chains::default();
        let ofs = |base_distance| Header::OfsDelta { base_distance };
        assert_eq!(chains.note(12, &Header::Blob).unwrap(), 0);
        assert_eq!(chains.note(20, &ofs(8)).unwrap(), 1);
        assert_eq!(chains.note(30, &ofs(10)).unwrap(), 2);
        assert_eq!(chains.note(40, &ofs(28)).unwrap(), 1);
        assert!(chains.note(50, &ofs(50)).is_err());
        assert!(chains.note(50, &ofs(0)).is_err());
        let by_id = Header::RefDelta {
            base_id: gix_hash::Kind::Sha1.null(),
        };
        let refused = (0..=MAX_COUNTED_DEPTH / 2)
            .map(|n| chains.note(100 + n, &by_id))
            .filter(Result::is_err);
        assert_eq!(refused.count(), 1);
    }
}
