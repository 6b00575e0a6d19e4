//! Packs that no git would write, entry by entry (gitformat-pack(5)).

use std::io::Write as _;

use gix_object::Kind;
use gix_zlib::Compression;
use gix_zlib::stream::deflate;
use mayfly_testkit::repo::noise;

use super::super::hash::hash;

const KINDS: [Kind; 4] = [Kind::Commit, Kind::Tree, Kind::Blob, Kind::Tag];

/// How a delta names its base.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    OnPlace,
    OnId,
}

/// A pack under construction.
#[derive(Clone)]
pub(super) struct Pack {
    bytes: Vec<u8>,
    objects: Vec<Object>,
}

#[derive(Clone)]
struct Object {
    offset: usize,
    kind: Kind,
    content: Vec<u8>,
}

impl Pack {
    pub(super) fn new() -> Self {
        Self {
            bytes: b"PACK\0\0\0\x02\0\0\0\0".to_vec(),
            objects: Vec::new(),
        }
    }

    /// Adds a blob, and gives its number.
    pub(super) fn blob(&mut self, content: &[u8]) -> usize {
        self.whole(Kind::Blob, content)
    }

    /// Adds a blob that is not compressed, and gives where its content begins.
    pub(super) fn blob_stored(&mut self, content: &[u8]) -> usize {
        self.entry(3, content.len(), &[]);
        self.bytes.extend_from_slice(&[0x78, 0x01, 0x01]);
        let bytes = content.len() as u16;
        self.bytes.extend_from_slice(&bytes.to_le_bytes());
        self.bytes.extend_from_slice(&(!bytes).to_le_bytes());
        let start = self.bytes.len();
        self.bytes.extend_from_slice(content);
        let (mut a, mut b) = (1u32, 0u32);
        for byte in content {
            a = (a + u32::from(*byte)) % 65521;
            b = (b + a) % 65521;
        }
        self.bytes.extend_from_slice(&(b << 16 | a).to_be_bytes());
        self.objects.last_mut().unwrap().content = content.to_vec();
        start
    }

    fn whole(&mut self, kind: Kind, content: &[u8]) -> usize {
        let number = KINDS.iter().position(|other| *other == kind).unwrap();
        self.entry(number as u8 + 1, content.len(), &[]);
        self.deflate(content);
        self.made(kind, content)
    }

    pub(super) fn on(&mut self, step: Step, base: usize, content: &[u8]) -> usize {
        match step {
            Step::OnPlace => self.on_place(base, content),
            Step::OnId => self.on_id(self.id_of(base), content),
        }
    }

    /// Adds a delta on the object of this number.
    pub(super) fn on_place(&mut self, base: usize, content: &[u8]) -> usize {
        let Object {
            offset,
            kind,
            content: base,
        } = self.objects[base].clone();
        self.on_unknown_place(offset, &base, content);
        self.made(kind, content)
    }

    pub(super) fn on_unknown_place(&mut self, place: usize, base: &[u8], content: &[u8]) {
        let mut distance = self.bytes.len() - place;
        let mut prefix = vec![(distance & 0x7f) as u8];
        while distance > 0x7f {
            distance = (distance >> 7) - 1;
            prefix.insert(0, 0x80 | (distance & 0x7f) as u8);
        }
        self.delta(6, &prefix, base, content);
    }

    /// Adds a delta on an object that is there, by its id.
    pub(super) fn on_id(&mut self, id: [u8; 20], content: &[u8]) -> usize {
        let known = (0..self.objects.len()).find(|number| self.id_of(*number) == id);
        let Object {
            kind, content: base, ..
        } = self.objects[known.unwrap()].clone();
        self.on_unknown_id(id, &base, content);
        self.made(kind, content)
    }

    pub(super) fn on_unknown_id(&mut self, id: [u8; 20], base: &[u8], content: &[u8]) {
        self.delta(7, &id, base, content);
    }

    fn delta(&mut self, kind: u8, prefix: &[u8], base: &[u8], content: &[u8]) {
        let delta = delta(base, content);
        self.entry(kind, delta.len(), prefix);
        self.deflate(&delta);
    }

    pub(super) fn id_of(&self, number: usize) -> [u8; 20] {
        let object = &self.objects[number];
        hash(object.kind, &object.content).unwrap()
    }

    fn entry(&mut self, kind: u8, bytes: usize, prefix: &[u8]) {
        let offset = self.bytes.len();
        let mut byte = kind << 4 | (bytes & 0x0f) as u8;
        let mut rest = bytes >> 4;
        while rest > 0 {
            self.bytes.push(byte | 0x80);
            byte = (rest & 0x7f) as u8;
            rest >>= 7;
        }
        self.bytes.push(byte);
        self.bytes.extend_from_slice(prefix);
        self.objects.push(Object {
            offset,
            kind: Kind::Blob,
            content: Vec::new(),
        });
    }

    fn deflate(&mut self, content: &[u8]) {
        let mut out = deflate::Write::new(&mut self.bytes, Compression::BEST);
        out.write_all(content).unwrap();
        out.flush().unwrap();
    }

    fn made(&mut self, kind: Kind, content: &[u8]) -> usize {
        let last = self.objects.last_mut().unwrap();
        last.kind = kind;
        last.content = content.to_vec();
        self.objects.len() - 1
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let count = self.objects.len() as u32;
        self.bytes[8..12].copy_from_slice(&count.to_be_bytes());
        let mut hasher = gix_hash::hasher(gix_hash::Kind::Sha1);
        hasher.update(&self.bytes);
        let hash = hasher.try_finalize().unwrap();
        self.bytes.extend_from_slice(hash.as_slice());
        self.bytes
    }
}

/// A delta that copies what both begin and end with.
fn delta(base: &[u8], content: &[u8]) -> Vec<u8> {
    let mut delta = [varint(base.len()), varint(content.len())].concat();
    let both = base.iter().zip(content);
    let begin = both.take_while(|(one, other)| one == other).count();
    let both = base[begin..].iter().rev().zip(content[begin..].iter().rev());
    let end = both.take_while(|(one, other)| one == other).count();
    copy(&mut delta, 0, begin);
    for piece in content[begin..content.len() - end].chunks(0x7f) {
        delta.push(piece.len() as u8);
        delta.extend_from_slice(piece);
    }
    copy(&mut delta, base.len() - end, end);
    delta
}

fn copy(delta: &mut Vec<u8>, offset: usize, bytes: usize) {
    if bytes > 0 {
        delta.push(0xff);
        delta.extend_from_slice(&(offset as u32).to_le_bytes());
        delta.extend_from_slice(&(bytes as u32).to_le_bytes()[..3]);
    }
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// What an entry of a pack is to be: a kind, a choice among what is there, a size, and a seed for the content.
pub(super) type Forged = (u8, u16, u16, u8);

/// The pack of these entries.
pub(super) fn pack(entries: &[Forged]) -> Vec<u8> {
    let mut pack = Pack::new();
    let mut later = Vec::new();
    for &(what, choice, bytes, seed) in entries {
        let fresh = noise(usize::from(bytes % 700), u64::from(seed % 16));
        let known = pack.objects.len();
        let base = (known > 0).then(|| usize::from(choice) % known);
        match (what % 8, base) {
            (0 | 1, _) | (2..=5, None) => _ = pack.whole(KINDS[usize::from(choice % 4)], &fresh),
            (2..=5, Some(base)) => {
                let mut content = pack.objects[base].content.clone();
                let at = usize::from(seed) % (content.len() + 1);
                content.splice(at..at, fresh.iter().copied().take(20));
                let step = if what % 8 < 4 { Step::OnPlace } else { Step::OnId };
                pack.on(step, base, &content);
            }
            _ => {
                // Its base comes at the end.
                let id = hash(Kind::Blob, &fresh).unwrap();
                let content = [&fresh[..], b"and more"].concat();
                pack.on_unknown_id(id, &fresh, &content);
                pack.made(Kind::Blob, &content);
                later.push(fresh);
            }
        }
    }
    for content in later {
        pack.blob(&content);
    }
    pack.finish()
}
