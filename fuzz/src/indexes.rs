//! Packs read through their indexes, both as whoever can write to the storage may have left them: an object is what its id says, or there is none.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use mayfly_git::object::ObjectKind;
use mayfly_git::pack::{PackFiles, PackLimits};
use mayfly_git::pack_reader::{PackReader, RangeError, RangeSource};
use mayfly_protocol::ObjectId;

use crate::{Input, forged, run};

const MAX_OBJECT_BYTES: u64 = 4096;

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let pack = forged::pack(&mut input);
    let (index, ids) = index(&pack, &mut input);
    check_limits(&pack.bytes, &index);
    let reader = reader(index.into(), pack.bytes.into());
    for id in &ids {
        if let Ok(Some((kind, content))) = run(reader.read_object(id, MAX_OBJECT_BYTES)) {
            assert_eq!(object_id(kind, &content), *id);
            assert!(content.len() as u64 <= MAX_OBJECT_BYTES);
        }
    }
    if let Ok(found) = run(reader.read_objects(&ids, MAX_OBJECT_BYTES)) {
        for (id, kind, content) in found.objects {
            assert_eq!(object_id(kind, &content), id);
        }
    }
    let _absent = run(reader.absent(&ids));
}

/// The limits are counted from the files, or the files are refused.
fn check_limits(pack: &[u8], index: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let files = PackFiles {
        pack: folder.path().join("a.pack"),
        index: folder.path().join("a.idx"),
        hash: "0".repeat(40),
        objects: 8,
        pack_bytes: pack.len() as u64,
        index_bytes: index.len() as u64,
    };
    std::fs::write(&files.pack, pack).expect("a file");
    std::fs::write(&files.index, index).expect("a file");
    let limits = PackLimits {
        max_object_bytes: MAX_OBJECT_BYTES,
        max_delta_depth: 5,
        ..PackLimits::default()
    };
    let _within = files.check_limits(&limits);
}

/// An index of the pack, in which some things are not so.
fn index(pack: &forged::Pack, input: &mut Input<'_>) -> (Vec<u8>, Vec<ObjectId>) {
    let mut entries: Vec<([u8; 20], u32)> = pack
        .ids
        .iter()
        .zip(&pack.offsets)
        .map(|(id, offset)| match input.byte() {
            b'o' => (*id, input.below(400) as u32),
            b'l' => (*id, 1 << 31 | u32::from(input.byte())),
            b'i' => ([input.byte(); 20], *offset as u32),
            _ => (*id, *offset as u32),
        })
        .collect();
    if input.byte() != b'u' {
        entries.sort_unstable();
    }
    let mut index = b"\xfftOc\0\0\0\x02".to_vec();
    for first in 0..=255_u8 {
        let count = entries.iter().filter(|(id, _)| id[0] <= first).count() as u32;
        index.extend(count.to_be_bytes());
    }
    index.extend(entries.iter().flat_map(|(id, _)| *id));
    index.extend(entries.iter().flat_map(|_| [0; 4]));
    index.extend(entries.iter().flat_map(|(_, offset)| offset.to_be_bytes()));
    index.extend_from_slice(input.piece());
    index.extend([0; 40]);
    for _ in 0..input.byte() % 4 {
        let (at, byte) = (input.below(index.len()), input.byte());
        index[at] = byte;
    }
    let lost = input.below(64);
    if lost < 8 {
        index.truncate(index.len() - lost * 7);
    }
    (
        index,
        entries.iter().map(|(id, _)| ObjectId::from_bytes(*id)).collect(),
    )
}

/// A reader of a pack in memory.
pub fn reader(index: Bytes, pack: Bytes) -> PackReader<Memory> {
    let (index_bytes, pack_bytes) = (index.len() as u64, pack.len() as u64);
    PackReader::new(Memory(index), index_bytes, Memory(pack), pack_bytes)
}

/// A file in memory.
pub struct Memory(Bytes);

#[async_trait]
impl RangeSource for Memory {
    async fn read(&self, range: Range<u64>) -> Result<Bytes, RangeError> {
        let (start, end) = (range.start as usize, range.end as usize);
        assert!(
            start <= end && end <= self.0.len(),
            "no range leads beyond the file"
        );
        Ok(self.0.slice(start..end))
    }
}

/// The name of an object by its content.
pub fn object_id(kind: ObjectKind, content: &[u8]) -> ObjectId {
    let kind = match kind {
        ObjectKind::Commit => "commit",
        ObjectKind::Tree => "tree",
        ObjectKind::Blob => "blob",
        ObjectKind::Tag => "tag",
    };
    ObjectId::from_bytes(forged::named(kind, content))
}
