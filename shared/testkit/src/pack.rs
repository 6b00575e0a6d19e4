//! Packs that git would not make (gitformat-pack(5)), with the index that belongs to them; and the answer of a host that sends one.
//!
//! It must not know who reads them.

use sha1::{Digest as _, Sha1};

/// The largest stored block of deflate (RFC 1951).
const MAX_BLOCK_BYTES: usize = 0xffff;
/// Bytes of the pack in one packet of the side band.
const PACKET_BYTES: usize = 60_000;

/// The kinds of whole objects.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A commit.
    Commit = 1,
    /// A tree.
    Tree = 2,
    /// A file.
    Blob = 3,
}

/// A pack under construction.
#[derive(Debug)]
pub struct Pack {
    bytes: Vec<u8>,
    objects: u32,
}

impl Default for Pack {
    fn default() -> Self {
        Self::new()
    }
}

impl Pack {
    /// One without objects.
    pub fn new() -> Self {
        Self {
            bytes: b"PACK\0\0\0\x02\0\0\0\0".to_vec(),
            objects: 0,
        }
    }

    /// Adds an object, and gives where it begins and its id.
    pub fn object(&mut self, kind: Kind, content: &[u8]) -> (usize, [u8; 20]) {
        let name = match kind {
            Kind::Commit => "commit",
            Kind::Tree => "tree",
            Kind::Blob => "blob",
        };
        let start = self.entry(kind as u8, content.len() as u64, &[], content);
        let head = format!("{name} {}\0", content.len());
        let id = Sha1::new().chain_update(head).chain_update(content).finalize();
        (start, id.into())
    }

    /// Adds a file, and gives where it begins.
    pub fn blob(&mut self, content: &[u8]) -> usize {
        self.object(Kind::Blob, content).0
    }

    /// Adds a delta with these instructions on the entry that begins at `base`.
    pub fn delta(&mut self, base: usize, instructions: &[u8]) -> usize {
        let mut distance = self.bytes.len() - base;
        let mut prefix = vec![(distance & 0x7f) as u8];
        while distance > 0x7f {
            distance = (distance >> 7) - 1;
            prefix.insert(0, 0x80 | (distance & 0x7f) as u8);
        }
        self.entry(6, instructions.len() as u64, &prefix, instructions)
    }

    /// Adds a delta that makes `size` bytes of the entry that begins at `base` and has `base_size`, by copies of it.
    pub fn grown(&mut self, base: usize, base_size: u64, size: u64) -> usize {
        self.delta(base, &copies(base_size, size))
    }

    /// Adds an entry of any type, claiming any size; `prefix` is what it names as its base.
    pub fn entry(&mut self, kind: u8, claimed: u64, prefix: &[u8], content: &[u8]) -> usize {
        self.deflated_entry(kind, claimed, prefix, &zlib(content))
    }

    /// The same with content that is compressed already, or is meant to be nothing of the kind.
    pub fn deflated_entry(&mut self, kind: u8, claimed: u64, prefix: &[u8], deflated: &[u8]) -> usize {
        let start = self.bytes.len();
        let mut byte = kind << 4 | (claimed & 0x0f) as u8;
        let mut rest = claimed >> 4;
        while rest > 0 {
            self.bytes.push(byte | 0x80);
            byte = (rest & 0x7f) as u8;
            rest >>= 7;
        }
        self.bytes.push(byte);
        self.bytes.extend_from_slice(prefix);
        self.bytes.extend_from_slice(deflated);
        self.objects += 1;
        start
    }

    /// Ends the pack.
    pub fn finish(self) -> Vec<u8> {
        let count = self.objects;
        self.finish_claiming(count)
    }

    /// Ends the pack with this number of objects in its header, however many it has.
    pub fn finish_claiming(mut self, objects: u32) -> Vec<u8> {
        self.bytes[8..12].copy_from_slice(&objects.to_be_bytes());
        let checksum = Sha1::digest(&self.bytes);
        self.bytes.extend_from_slice(&checksum);
        self.bytes
    }
}

/// An index (version 2) of a pack, that says of these ids that they begin there.
pub fn index(pack: &[u8], entries: &[([u8; 20], usize)]) -> Vec<u8> {
    let mut entries = entries.to_vec();
    entries.sort_unstable();
    let mut bytes = b"\xfftOc\0\0\0\x02".to_vec();
    for first in 0..=u8::MAX {
        let up_to = entries.iter().filter(|(id, _)| id[0] <= first).count() as u32;
        bytes.extend_from_slice(&up_to.to_be_bytes());
    }
    for (id, _) in &entries {
        bytes.extend_from_slice(id);
    }
    // Checksums of entries, which nobody holds against anything while reading.
    bytes.extend(std::iter::repeat_n(0, 4 * entries.len()));
    for (_, start) in &entries {
        bytes.extend_from_slice(&(*start as u32).to_be_bytes());
    }
    bytes.extend_from_slice(&pack[pack.len() - 20..]);
    let checksum = Sha1::digest(&bytes);
    bytes.extend_from_slice(&checksum);
    bytes
}

/// A chain of deltas in a few hundred bytes, whose end has this size; and where its entries begin.
pub fn chain(end: u64) -> (Vec<u8>, Vec<usize>) {
    let mut pack = Pack::new();
    let mut at = pack.blob(&[b'x'; 16]);
    let (mut size, mut starts) = (16, vec![at]);
    while size < end {
        let next = (size * 16).min(end);
        at = pack.grown(at, size, next);
        starts.push(at);
        size = next;
    }
    (pack.finish(), starts)
}

/// The instructions that make `size` bytes by as many copies from the beginning of the base as it takes, of 16 MiB at most each.
pub fn copies(base: u64, size: u64) -> Vec<u8> {
    let mut instructions = [varint(base), varint(size)].concat();
    let mut rest = size;
    while rest > 0 {
        let length = rest.min(base).min(0xff_ffff);
        let bytes = length.to_le_bytes();
        instructions.extend_from_slice(&[0xf0, bytes[0], bytes[1], bytes[2]]);
        rest -= length;
    }
    instructions
}

/// A size as a delta states it.
pub fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// The answer to a fetch by protocol 2 that sends this pack (gitprotocol-v2(5)).
pub fn fetch_answer(pack: &[u8]) -> Vec<u8> {
    let mut answer = b"000dpackfile\n".to_vec();
    for piece in pack.chunks(PACKET_BYTES) {
        answer.extend_from_slice(format!("{:04x}\x01", piece.len() + 5).as_bytes());
        answer.extend_from_slice(piece);
    }
    answer.extend_from_slice(b"0000");
    answer
}

/// Content in blocks that are not compressed, as zlib frames it (RFC 1950).
fn zlib(content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x78, 0x01];
    let mut blocks = content.chunks(MAX_BLOCK_BYTES).peekable();
    loop {
        let block = blocks.next().unwrap_or_default();
        let is_last = blocks.peek().is_none();
        let length = block.len() as u16;
        bytes.push(u8::from(is_last));
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&(!length).to_le_bytes());
        bytes.extend_from_slice(block);
        if is_last {
            break;
        }
    }
    let (low, high) = content.iter().fold((1u32, 0u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    bytes.extend_from_slice(&(high << 16 | low).to_be_bytes());
    bytes
}
