//! Packs as a forger makes them: proper framing and a true checksum, and within that whatever the bytes say.

use sha1::{Digest as _, Sha1};

use crate::Input;

/// A pack, and where each of its entries begins.
#[derive(Debug)]
pub struct Pack {
    pub bytes: Vec<u8>,
    pub offsets: Vec<u64>,
    /// The ids of whole objects, in the order of the entries; of deltas, made-up ones.
    pub ids: Vec<[u8; 20]>,
}

/// Makes a pack of some entries, and lies about its count where the bytes want so.
pub fn pack(input: &mut Input<'_>) -> Pack {
    let (entries, lie) = (input.below(8), input.byte());
    let mut pack = Pack {
        bytes: Vec::new(),
        offsets: Vec::new(),
        ids: Vec::new(),
    };
    let count = match lie {
        b'+' => entries + 1,
        b'-' => entries.saturating_sub(1),
        _ => entries,
    };
    pack.bytes.extend_from_slice(b"PACK\0\0\0\x02");
    pack.bytes.extend_from_slice(&(count as u32).to_be_bytes());
    for _ in 0..entries {
        pack.add(input);
    }
    let checksum = Sha1::digest(&pack.bytes);
    pack.bytes.extend_from_slice(&checksum);
    pack
}

impl Pack {
    fn add(&mut self, input: &mut Input<'_>) {
        let start = self.bytes.len() as u64;
        let (kind, back, lie) = (input.byte(), input.byte(), input.byte());
        let content = match kind {
            b'o' | b'r' if back & 1 == 0 => delta(input),
            _ => input.piece().to_vec(),
        };
        let before = self.offsets.len().checked_sub(1 + usize::from(back >> 1) % 8);
        let (code, base) = match kind {
            b'c' => (1, Vec::new()),
            b't' => (2, Vec::new()),
            b'g' => (4, Vec::new()),
            b'o' => (6, distance(start - before.map_or(12, |at| self.offsets[at]))),
            b'r' => (7, before.map_or([back; 20], |at| self.ids[at]).to_vec()),
            b'x' => (5, Vec::new()),
            _ => (3, Vec::new()),
        };
        let claimed = match lie {
            b'+' => content.len() + 1,
            b'-' => content.len().saturating_sub(1),
            b'!' => usize::MAX >> 8,
            _ => content.len(),
        };
        self.offsets.push(start);
        self.ids.push(id(code, &content));
        self.bytes.extend(header(code, claimed as u64));
        self.bytes.extend(base);
        self.bytes.extend(stored(&content));
    }
}

/// The name of a whole object; for anything else a name that no object has.
fn id(code: u8, content: &[u8]) -> [u8; 20] {
    match code {
        1 => named("commit", content),
        2 => named("tree", content),
        3 => named("blob", content),
        4 => named("tag", content),
        _ => named("delta", content),
    }
}

/// The SHA-1 by which git names an object.
pub fn named(kind: &str, content: &[u8]) -> [u8; 20] {
    let mut hash = Sha1::new();
    hash.update(format!("{kind} {}\0", content.len()));
    hash.update(content);
    hash.finalize().into()
}

/// A delta of some commands, whose sizes are what the bytes say.
fn delta(input: &mut Input<'_>) -> Vec<u8> {
    let mut delta = vec![input.byte() & 0x7f, input.byte() & 0x7f];
    for _ in 0..input.byte() % 8 {
        match input.byte() {
            b'c' => delta.extend([0x91, input.byte(), input.byte()]),
            _ => {
                let piece = input.piece();
                let piece = &piece[..piece.len().min(0x7f)];
                delta.push(piece.len() as u8);
                delta.extend_from_slice(piece);
            }
        }
    }
    delta
}

fn header(code: u8, mut bytes: u64) -> Vec<u8> {
    let mut header = vec![code << 4 | (bytes & 0x0f) as u8];
    bytes >>= 4;
    while bytes > 0 {
        *header.last_mut().expect("it has a first byte") |= 0x80;
        header.push((bytes & 0x7f) as u8);
        bytes >>= 7;
    }
    header
}

fn distance(mut back: u64) -> Vec<u8> {
    let mut bytes = vec![(back & 0x7f) as u8];
    back >>= 7;
    while back > 0 {
        back -= 1;
        bytes.push(0x80 | (back & 0x7f) as u8);
        back >>= 7;
    }
    bytes.reverse();
    bytes
}

/// The content in the form of zlib, uncompressed (RFC 1950, RFC 1951).
fn stored(content: &[u8]) -> Vec<u8> {
    let bytes = content.len() as u16;
    let mut stored = vec![0x78, 0x01, 0x01];
    stored.extend(bytes.to_le_bytes());
    stored.extend((!bytes).to_le_bytes());
    stored.extend_from_slice(content);
    let (mut low, mut high) = (1_u32, 0_u32);
    for byte in content {
        low = (low + u32::from(*byte)) % 65_521;
        high = (high + low) % 65_521;
    }
    stored.extend((high << 16 | low).to_be_bytes());
    stored
}
