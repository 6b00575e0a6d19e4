//! Indexes are those that git makes, byte for byte, whatever memory there is; and what cannot be indexed leaves nothing.

mod forged;

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use mayfly_testkit::git;
use mayfly_testkit::repo::TestRepo;
use proptest::prelude::*;
use tokio::sync::mpsc;

use self::forged::{Forged, Pack, Step};
use super::{Budget, IndexJob};
use crate::fetch::FetchError;
use crate::fetch::progress::Counters;
use crate::remote::TransferLimits;

/// Next to no memory: every run has a few records, every base is dropped at once, everything is large.
fn tiny(workers: usize) -> Budget {
    Budget {
        workers,
        sort_bytes: 100,
        bases_bytes: 0,
        large_bytes: 0,
    }
}

/// A little, so that some bases are kept and others are not.
fn little() -> Budget {
    Budget {
        workers: 2,
        sort_bytes: 4096,
        bases_bytes: 2000,
        large_bytes: 1000,
    }
}

fn budgets() -> [Budget; 4] {
    [Budget::default(), little(), tiny(1), tiny(3)]
}

fn index_with(
    pack: &[u8],
    into: &Path,
    budget: Budget,
    limits: TransferLimits,
    is_stopped: bool,
) -> Result<Vec<u8>, FetchError> {
    let (pieces, input) = mpsc::channel(4);
    let counters = Arc::new(Counters::default());
    let job = IndexJob {
        into: into.to_owned(),
        limits,
        counters: counters.clone(),
        budget,
        stop: Arc::new(AtomicBool::new(is_stopped)),
        input,
    };
    let files = std::thread::scope(|scope| {
        scope.spawn(move || {
            for piece in pack.chunks(1000) {
                if pieces.blocking_send(Bytes::copy_from_slice(piece)).is_err() {
                    break;
                }
            }
        });
        job.run()
    })?
    .unwrap();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(count(&counters.resolved), count(&counters.total));
    assert_eq!(u64::from(files.objects), count(&counters.received));
    assert_eq!(std::fs::read(&files.pack).unwrap(), pack);
    assert_eq!(std::fs::read_dir(into).unwrap().count(), 2);
    let index = std::fs::read(&files.index).unwrap();
    assert_eq!(index.len() as u64, files.index_bytes);
    Ok(index)
}

fn index(pack: &[u8], budget: Budget) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    index_with(pack, folder.path(), budget, TransferLimits::default(), false).unwrap()
}

/// Why the pack has no index; nothing of it may be left.
fn refused(pack: &[u8], budget: Budget, limits: TransferLimits) -> FetchError {
    let folder = tempfile::tempdir().unwrap();
    let refused = index_with(pack, folder.path(), budget, limits, false).unwrap_err();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    refused
}

/// The index that git makes; `None` when it refuses the pack.
fn by_git(pack: &[u8]) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let (file, index) = (folder.path().join("x.pack"), folder.path().join("x.idx"));
    std::fs::write(&file, pack).unwrap();
    let command = ["index-pack", "-o", "x.idx", "x.pack"];
    let made = git::output(git::command(folder.path()).args(command));
    made.status.success().then(|| std::fs::read(index).unwrap())
}

#[track_caller]
fn assert_as_git(pack: &[u8]) {
    let expected = by_git(pack).unwrap();
    for budget in budgets() {
        let name = format!("{budget:?}");
        assert!(index(pack, budget) == expected, "another index with {name}");
    }
}

/// A repository with long files that change little, folders, a file that does not compress, and tags.
fn repository() -> TestRepo {
    let repo = TestRepo::sample();
    for version in 0..60 {
        let text: String = (0..200)
            .map(|line| format!("{line}: {}\n", if line % 60 <= version { line * 7 } else { line }))
            .collect();
        repo.write("deep/in/folders/text.txt", text);
        repo.write(format!("files/{version}.txt"), format!("version {version}\n"));
        repo.commit("A version");
    }
    repo.write_noise("noise.bin", 300_000, 5);
    repo.write_many(300);
    repo.commit("Many");
    repo.annotated_tag("v1", "The first");
    repo
}

fn packed(repo: &TestRepo, options: &[&str]) -> Vec<u8> {
    let mut command = git::command(repo.path());
    command.args(["pack-objects", "--all", "--stdout", "--quiet", "--no-reuse-delta"]);
    git::stdout(command.args(options).stdin(Stdio::null()))
}

#[test]
fn packs_of_git_are_indexed_as_git_does() {
    let repo = repository();
    for options in [
        &["--delta-base-offset"][..],
        &["--delta-base-offset", "--window=100", "--depth=4000"],
        // Deltas that name their base by id.
        &["--window=50", "--depth=200"],
        // No deltas.
        &["--window=0"],
    ] {
        assert_as_git(&packed(&repo, options));
    }
}

#[test]
fn an_object_that_is_there_twice_is_indexed_twice() {
    let mut pack = Pack::new();
    let first = pack.blob(b"some content");
    pack.blob(b"some content");
    pack.on_place(first, b"other content");
    pack.on_place(first, b"some content");
    pack.on_place(first, b"other content");
    assert_as_git(&pack.clone().finish());
    // By the id it is not clear which is meant; git refuses it, too.
    pack.on_id(pack.id_of(first), b"third content");
    let pack = pack.finish();
    assert_eq!(by_git(&pack), None);
    for budget in budgets() {
        let error = refused(&pack, budget, TransferLimits::default());
        assert!(error.to_string().contains("there twice"), "{error}");
    }
}

#[test]
fn objects_that_are_large_for_the_memory() {
    let mut pack = Pack::new();
    let noise = |seed| mayfly_testkit::repo::noise(200_000, seed);
    let mut base = pack.blob(&noise(1));
    for seed in 0..4 {
        let mut changed = noise(1);
        changed[1000..2000].copy_from_slice(&noise(seed)[..1000]);
        pack.on_place(base, &changed);
        base = pack.on_place(base, &[&changed[..], b"and more"].concat());
    }
    pack.blob(b"");
    assert_as_git(&pack.finish());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_pack_is_indexed_as_git_does(entries in prop::collection::vec(any::<Forged>(), 1..60)) {
        let pack = forged::pack(&entries);
        if by_git(&pack).is_some() {
            assert_as_git(&pack);
        } else {
            refused(&pack, tiny(2), TransferLimits::default());
        }
    }
}

#[test]
fn what_builds_on_nothing_is_refused() {
    let mut on_no_id = Pack::new();
    on_no_id.blob(b"x");
    on_no_id.on_unknown_id([7; 20], b"x", b"y");
    let mut between = Pack::new();
    // What stands inside of an object reads like an object, too.
    let mut inner = Pack::new();
    inner.blob(b"hidden");
    let hidden = inner.finish();
    let place = between.blob_stored(&hidden[12..hidden.len() - 20]);
    between.on_unknown_place(place, b"hidden", b"seen");
    for pack in [on_no_id, between] {
        let pack = pack.finish();
        for budget in [Budget::default(), tiny(2)] {
            let error = refused(&pack, budget, TransferLimits::default());
            assert!(error.to_string().contains("builds on an object"), "{error}");
        }
    }
}

#[test]
fn chains_are_as_long_as_allowed_and_no_longer() {
    let limits = TransferLimits {
        max_delta_depth: 5,
        ..TransferLimits::default()
    };
    for step in [Step::OnPlace, Step::OnId] {
        let mut pack = Pack::new();
        let mut last = pack.blob(b"0");
        for number in 1..=5 {
            last = pack.on(step, last, format!("{number}").as_bytes());
        }
        let folder = tempfile::tempdir().unwrap();
        let whole = pack.clone().finish();
        index_with(&whole, folder.path(), tiny(2), limits.clone(), false).unwrap();
        pack.on(step, last, b"6");
        let error = refused(&pack.finish(), tiny(2), limits.clone());
        assert!(
            error.to_string().contains("chain of deltas is too long"),
            "{error}"
        );
    }
}

/// Each base has two that build on it, and is made again for the second when there is no memory: a limit keeps that from going on for ever.
#[test]
fn making_bases_again_has_a_limit() {
    let mut pack = Pack::new();
    let mut base = pack.blob(&[b'x'; 1000]);
    for number in 0..50u8 {
        let next = pack.on_place(base, &[&[b'x'; 999][..], &[number]].concat());
        pack.on_place(base, &[number]);
        base = next;
    }
    let pack = pack.finish();
    let limits = TransferLimits {
        max_unpacked_bytes: 52 * 1000,
        ..TransferLimits::default()
    };
    let folder = tempfile::tempdir().unwrap();
    index_with(&pack, folder.path(), Budget::default(), limits.clone(), false).unwrap();
    let error = refused(&pack, tiny(1), limits);
    assert!(matches!(error, FetchError::RepositoryTooLarge { .. }), "{error}");
}

#[test]
fn a_cancel_leaves_nothing() {
    let pack = packed(&repository(), &["--delta-base-offset"]);
    for budget in [Budget::default(), tiny(3)] {
        let folder = tempfile::tempdir().unwrap();
        let cancelled = index_with(&pack, folder.path(), budget, TransferLimits::default(), true);
        assert!(matches!(cancelled, Err(FetchError::Cancelled)));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
