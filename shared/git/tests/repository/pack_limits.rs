//! Packs that are forged together with their index are held to limits before anything reads them; what git and this crate write passes.

use mayfly_git::pack::{PackFiles, PackLimitError, PackLimits};
use mayfly_testkit::pack::{self, Pack};
use tempfile::TempDir;

use crate::support::GitRepo;

const LIMITS: PackLimits = PackLimits {
    max_objects: 100,
    max_object_bytes: 1 << 20,
    max_unpacked_bytes: 4 << 20,
    max_delta_depth: 10,
};

/// Where the entries begin that the index knows, each under an id of its own.
fn numbered(starts: &[usize]) -> Vec<([u8; 20], usize)> {
    let ids = (0..).map(|number: u8| [number; 20]);
    ids.zip(starts.iter().copied()).collect()
}

fn files(folder: &TempDir, pack: &[u8], entries: &[([u8; 20], usize)]) -> PackFiles {
    let index = pack::index(pack, entries);
    let write = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    PackFiles {
        pack: write("pack-x.pack", pack),
        index: write("pack-x.idx", &index),
        hash: "0".repeat(40),
        objects: entries.len() as u32,
        pack_bytes: pack.len() as u64,
        index_bytes: index.len() as u64,
    }
}

fn checked(pack: Pack, entries: &[([u8; 20], usize)]) -> Result<(), PackLimitError> {
    let folder = tempfile::tempdir().unwrap();
    files(&folder, &pack.finish(), entries).check_limits(&LIMITS)
}

#[test]
fn what_git_and_the_scratch_repository_write_passes() {
    let repo = GitRepo::new();
    let mut text: Vec<String> = (0..600).map(|number| format!("line {number}")).collect();
    for number in 0..40 {
        text[number * 9 % 600] = format!("changed by {number}");
        repo.write("long", text.join("\n").as_bytes());
        repo.commit_all(&format!("commit {number}"));
    }
    let packed = repo.pack_all();
    packed.check_limits(&PackLimits::default()).unwrap();
    let few = PackLimits {
        max_objects: packed.objects - 1,
        ..PackLimits::default()
    };
    let refused = packed.check_limits(&few);
    assert!(matches!(refused, Err(PackLimitError::TooManyObjects { .. })));
    let shallow = PackLimits {
        max_delta_depth: 1,
        ..PackLimits::default()
    };
    let refused = packed.check_limits(&shallow);
    assert!(
        matches!(refused, Err(PackLimitError::TooDeep { .. })),
        "{refused:?}"
    );

    let scratch = crate::support::scratch_of(&repo);
    let folder = tempfile::tempdir().unwrap();
    let head = repo.id("HEAD");
    let written = scratch.write_trees_pack(&head, folder.path()).unwrap();
    written.check_limits(&PackLimits::default()).unwrap();
}

#[test]
fn an_object_is_as_large_as_its_last_delta_says() {
    let mut bomb = Pack::new();
    let base = bomb.blob(&[b'x'; 1 << 10]);
    let larger = bomb.grown(base, 1 << 10, 2 << 20);
    let refused = checked(bomb, &numbered(&[base, larger]));
    assert!(matches!(refused, Err(PackLimitError::ObjectTooLarge { bytes, .. }) if bytes == 2 << 20));
    // Small at its end, large in between.
    let mut bomb = Pack::new();
    let base = bomb.blob(&[b'x'; 1 << 10]);
    let larger = bomb.delta(base, &[pack::varint(2 << 20), pack::varint(1)].concat());
    let refused = checked(bomb, &numbered(&[base, larger]));
    assert!(matches!(refused, Err(PackLimitError::ObjectTooLarge { .. })));
    let mut bomb = Pack::new();
    let start = bomb.deflated_entry(3, 4 << 30, &[], b"no zlib at all");
    let refused = checked(bomb, &numbered(&[start]));
    assert!(matches!(refused, Err(PackLimitError::ObjectTooLarge { .. })));
}

#[test]
fn all_objects_together_have_a_limit() {
    let mut bomb = Pack::new();
    let mut starts = vec![bomb.blob(&[b'x'; 1 << 10])];
    for _ in 0..5 {
        starts.push(bomb.grown(starts[0], 1 << 10, 1 << 20));
    }
    let refused = checked(bomb, &numbered(&starts));
    assert!(matches!(refused, Err(PackLimitError::TooLarge { .. })));
}

#[test]
fn chains_have_a_limit_also_those_by_id_and_in_circles() {
    let chain = |length: usize| {
        let mut pack = Pack::new();
        let mut starts = vec![pack.blob(b"x")];
        for _ in 0..length {
            starts.push(pack.delta(starts[starts.len() - 1], &[1, 1, 0x90, 1]));
        }
        checked(pack, &numbered(&starts))
    };
    chain(10).unwrap();
    assert!(matches!(chain(11), Err(PackLimitError::TooDeep { limit: 10 })));
    // The last stands on the first, by its id, and the first on the last.
    let mut circle = Pack::new();
    let starts: Vec<usize> = [[1; 20], [0; 20]]
        .iter()
        .map(|base| circle.entry(7, 4, base, &[1, 1, 0x90, 1]))
        .collect();
    let refused = checked(circle, &numbered(&starts));
    assert!(
        matches!(refused, Err(PackLimitError::TooDeep { .. })),
        "{refused:?}"
    );
}

#[test]
fn what_the_index_does_not_know_is_not_stood_on() {
    let hidden = |known: fn(usize, usize) -> Vec<usize>| {
        let mut pack = Pack::new();
        let base = pack.blob(b"some longer content");
        let start = pack.delta(base, &[19, 1, 0x90, 1]);
        checked(pack, &numbered(&known(base, start)))
    };
    hidden(|base, start| vec![base, start]).unwrap();
    for refused in [
        hidden(|_, start| vec![start]),
        hidden(|base, start| vec![base + 1, start]),
        hidden(|base, _| vec![base, 5]),
        hidden(|base, start| vec![base, start, 1 << 20]),
    ] {
        assert!(
            matches!(refused, Err(PackLimitError::Inconsistent { .. })),
            "{refused:?}"
        );
    }
    let mut by_id = Pack::new();
    let start = by_id.entry(7, 4, &[9; 20], &[1, 1, 0x90, 1]);
    let refused = checked(by_id, &numbered(&[start]));
    assert!(matches!(refused, Err(PackLimitError::Inconsistent { .. })));
}

#[test]
fn an_index_that_is_none_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut pack = Pack::new();
    let start = pack.blob(b"x");
    let good = files(&folder, &pack.finish(), &numbered(&[start]));
    good.check_limits(&LIMITS).unwrap();
    let index = std::fs::read(&good.index).unwrap();
    for bytes in [
        Vec::new(),
        index[..index.len() - 1].to_vec(),
        index[..60].to_vec(),
        [&index[..8], &[0xff; 1024][..], &index[1032..]].concat(),
    ] {
        std::fs::write(&good.index, bytes).unwrap();
        assert!(good.check_limits(&LIMITS).is_err());
    }
}
