//! Walks the entries of a pack while it arrives (gitformat-pack(5)), notes what is in it, and holds each to the limits: what a delta
//! will make is known from its first bytes, so nothing is resolved that is too large. Whole objects are hashed on the way.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use gix_hash::Hasher;
use gix_pack::data;
use gix_pack::data::entry::Header;
use gix_zlib::{Decompress, FlushDecompress, Status};

use super::FetchError;
use super::index::{Notes, Noting, begun, ended, id_of};
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

/// The entries of one pack, after its header.
pub(crate) struct Entries<W> {
    input: Input<W>,
    left: u32,
    limits: TransferLimits,
    counters: Arc<Counters>,
    inflate: Decompress,
    scratch: Box<[u8]>,
    unpacked: u64,
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
            unpacked: 0,
        })
    }

    /// Objects that are still to come.
    pub(crate) fn left(&self) -> u32 {
        self.left
    }

    /// Reads all that is left: every object, and the end of the pack, whose checksum it gives.
    pub(crate) fn read(mut self, notes: &mut Notes) -> Result<gix_hash::ObjectId, FetchError> {
        while self.left > 0 {
            self.entry(notes)?;
            self.left -= 1;
            self.counters.received.fetch_add(1, Ordering::Relaxed);
        }
        self.input.finish()
    }

    fn entry(&mut self, notes: &mut Notes) -> Result<(), FetchError> {
        let start = self.input.offset();
        let (entry, header) = self.header(start)?;
        let claimed = entry.decompressed_size;
        self.check_object(claimed)?;
        let mut sums = Sums {
            crc: crc32fast::Hasher::new(),
            id: entry.header.as_kind().map(|kind| begun(kind, claimed)),
        };
        sums.crc.update(&header);
        let beginning = self.inflate(claimed, &mut sums)?;
        let (what, size) = match (sums.id, entry.header) {
            (Some(id), _) => (Noting::Whole(ended(id)?), claimed),
            (None, Header::OfsDelta { base_distance }) => {
                let base = Header::verified_base_pack_offset(start, base_distance)
                    .ok_or(bad("a delta has its base outside of the pack"))?;
                (Noting::OnPlace(base), self.delta_result(&beginning)?)
            }
            (None, Header::RefDelta { base_id }) => {
                (Noting::OnId(id_of(base_id)?), self.delta_result(&beginning)?)
            }
            (None, _) => return Err(bad("the header of an object is damaged")),
        };
        self.add_unpacked(size)?;
        if matches!(what, Noting::Whole(_)) {
            self.counters.resolved.fetch_add(1, Ordering::Relaxed);
        }
        let noted = notes.note(what, start, sums.crc.finalize());
        noted.map_err(FetchError::from_disk)
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
    fn inflate(&mut self, claimed: u64, sums: &mut Sums) -> Result<Vec<u8>, FetchError> {
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
            sums.crc.update(&piece[..used]);
            self.input.take(used)?;
            match &mut sums.id {
                Some(id) => id.update(&self.scratch[..made]),
                None => {
                    let missing = DELTA_SIZES_BYTES - beginning.len();
                    beginning.extend_from_slice(&self.scratch[..made.min(missing)]);
                }
            }
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

/// What is computed while an entry is read.
struct Sums {
    /// Of its bytes in the pack.
    crc: crc32fast::Hasher,
    /// Of its content, if it is a whole object.
    id: Option<Hasher>,
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
}
