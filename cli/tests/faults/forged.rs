//! Packs that git would not make (gitformat-pack(5)).

use sha1::{Digest, Sha1};

/// The largest stored block of deflate (RFC 1951).
const MAX_BLOCK_BYTES: usize = 0xffff;

/// The kinds of entries.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Commit = 1,
    Tree = 2,
    Blob = 3,
}

/// A pack under construction.
pub(super) struct Pack {
    bytes: Vec<u8>,
    objects: u32,
}

impl Pack {
    pub(super) fn new() -> Self {
        Self {
            bytes: b"PACK\0\0\0\x02\0\0\0\0".to_vec(),
            objects: 0,
        }
    }

    /// Adds an object, and gives where it begins and its id.
    pub(super) fn object(&mut self, kind: Kind, content: &[u8]) -> (usize, [u8; 20]) {
        let name = match kind {
            Kind::Commit => "commit",
            Kind::Tree => "tree",
            Kind::Blob => "blob",
        };
        let start = self.entry(kind as u8, &[], content);
        let head = format!("{name} {}\0", content.len());
        let id = Sha1::new().chain_update(head).chain_update(content).finalize();
        (start, id.into())
    }

    /// Adds a delta that makes `size` bytes of the entry that begins at `base` and has `base_size`: the first byte, and no more of it is written down.
    pub(super) fn delta(&mut self, base: usize, base_size: u64, size: u64) -> usize {
        let mut distance = self.bytes.len() - base;
        let mut prefix = vec![(distance & 0x7f) as u8];
        while distance > 0x7f {
            distance = (distance >> 7) - 1;
            prefix.insert(0, 0x80 | (distance & 0x7f) as u8);
        }
        let instructions = [varint(base_size), varint(size), copies(base_size, size)].concat();
        self.entry(6, &prefix, &instructions)
    }

    fn entry(&mut self, kind: u8, prefix: &[u8], content: &[u8]) -> usize {
        let start = self.bytes.len();
        let mut byte = kind << 4 | (content.len() & 0x0f) as u8;
        let mut rest = content.len() >> 4;
        while rest > 0 {
            self.bytes.push(byte | 0x80);
            byte = (rest & 0x7f) as u8;
            rest >>= 7;
        }
        self.bytes.push(byte);
        self.bytes.extend_from_slice(prefix);
        self.bytes.extend_from_slice(&zlib(content));
        self.objects += 1;
        start
    }

    pub(super) fn finish(self) -> Vec<u8> {
        let count = self.objects;
        self.finish_claiming(count)
    }

    /// Ends the pack with this number of objects in its header, however many it has.
    pub(super) fn finish_claiming(mut self, objects: u32) -> Vec<u8> {
        self.bytes[8..12].copy_from_slice(&objects.to_be_bytes());
        let checksum = Sha1::digest(&self.bytes);
        self.bytes.extend_from_slice(&checksum);
        self.bytes
    }
}

/// A chain of deltas in a few hundred bytes, whose end has this size.
pub(super) fn chain(end: u64) -> Vec<u8> {
    let mut pack = Pack::new();
    let (mut at, _) = pack.object(Kind::Blob, &[b'x'; 16]);
    let mut size = 16;
    while size < end {
        let next = (size * 16).min(end);
        at = pack.delta(at, size, next);
        size = next;
    }
    pack.finish()
}

/// As many copies from the beginning of the base as it takes, of 16 MiB at most each.
fn copies(base: u64, size: u64) -> Vec<u8> {
    let mut instructions = Vec::new();
    let mut rest = size;
    while rest > 0 {
        let length = rest.min(base).min(0xff_ffff);
        let bytes = length.to_le_bytes();
        instructions.extend_from_slice(&[0xf0, bytes[0], bytes[1], bytes[2]]);
        rest -= length;
    }
    instructions
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// Content in blocks that are not compressed, as zlib frames it (RFC 1950).
fn zlib(content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x78, 0x01];
    let mut blocks = content.chunks(MAX_BLOCK_BYTES).peekable();
    loop {
        let block = blocks.next().unwrap_or_default();
        let is_last = blocks.peek().is_none();
        let length = u16::try_from(block.len()).unwrap();
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
