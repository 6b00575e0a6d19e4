//! Packs while they arrive: the same index however they are cut and whatever memory there is, every object of which can be read and is what its
//! id says; the limits hold; and what is refused leaves nothing.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use mayfly_git::fuzzing::{Memory, apply_delta, index};
use mayfly_git::pack::{PackFiles, PackLimits};
use mayfly_git::remote::TransferLimits;
use mayfly_protocol::ObjectId;

use crate::indexes::{object_id, reader};
use crate::{Input, forged, run};

const MAX_OBJECT_BYTES: u64 = 4096;

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let (is_raw, step) = (input.byte() == b'R', 1 + input.below(40));
    let limits = TransferLimits {
        max_objects: 16,
        max_object_bytes: MAX_OBJECT_BYTES,
        max_unpacked_bytes: 16 * 1024,
        max_delta_depth: 5,
        ..TransferLimits::default()
    };
    let pack = match is_raw {
        true => input.rest().to_vec(),
        false => forged::pack(&mut input).bytes,
    };
    check_delta(&mut input);
    let (one, other) = (tempfile::tempdir(), tempfile::tempdir());
    let (one, other) = (one.expect("a folder"), other.expect("a folder"));
    let usual = index(&pack, pack.len(), Memory::Usual, one.path(), &limits);
    let frugal = index(&pack, step, Memory::Tiny, other.path(), &limits);
    match (usual, frugal) {
        (Ok(Some(usual)), Ok(Some(frugal))) => {
            let read = |path: &Path| fs::read(path).expect("it was made");
            assert_eq!(read(&usual.index), read(&frugal.index));
            assert_eq!(read(&usual.pack), pack);
            usual
                .check_limits(&PackLimits::from(&limits))
                .expect("what came in is within the limits");
            check_objects(&usual, read(&usual.index), pack);
        }
        (Ok(None), Ok(None)) | (Err(_), Err(_)) => {
            for folder in [&one, &other] {
                let left = fs::read_dir(folder.path()).expect("a folder").count();
                assert_eq!(left, 0, "what is refused leaves nothing");
            }
        }
        (usual, frugal) => panic!("{usual:?} is not {frugal:?}"),
    }
}

fn check_objects(files: &PackFiles, index: Vec<u8>, pack: Vec<u8>) {
    let objects = files.objects as usize;
    let ids: Vec<ObjectId> = index[8 + 1024..][..objects * 20]
        .as_chunks::<20>()
        .0
        .iter()
        .map(|id| ObjectId::from_bytes(*id))
        .collect();
    assert!(ids.is_sorted());
    let reader = reader(Bytes::from(index), Bytes::from(pack));
    for id in ids {
        let read = run(reader.read_object(&id, MAX_OBJECT_BYTES));
        let (kind, content) = read
            .expect("what was indexed can be read")
            .expect("it is in the index");
        assert_eq!(object_id(kind, &content), id);
    }
}

/// A delta makes as much as it says, or nothing.
fn check_delta(input: &mut Input<'_>) {
    let base = input.piece();
    let base = &base[..base.len().min(0x7f)];
    let delta = [&[base.len() as u8], input.rest()].concat();
    if let Some(result) = apply_delta(base, &delta, MAX_OBJECT_BYTES) {
        assert!(result.len() as u64 <= MAX_OBJECT_BYTES);
    }
}
