//! The cases of the suite: each takes a fresh store, whichever it is.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, stream};
use mayfly_storage::digest::ContentHash;
use mayfly_storage::probe::{ProbeSize, conditional_writes};
use mayfly_storage::{Key, MAX_REPLACEMENT_BYTES, ObjectStore, Precondition, StorageError, Version};

use crate::Fixture;

/// Above every size from which a store sends a file in parts.
const LARGE_BYTES: usize = 40 * 1024 * 1024 + 12345;
const ANY: u64 = u64::MAX;

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Bytes that do not repeat, so that parts in the wrong order are seen.
pub(crate) fn content(bytes: usize) -> Bytes {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let words = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(bytes).collect::<Vec<u8>>().into()
}

async fn put(
    store: &dyn ObjectStore,
    at: &str,
    bytes: &'static [u8],
    precondition: Precondition,
) -> Result<Version, StorageError> {
    store.put(&key(at), bytes.into(), precondition).await
}

fn lost<T: std::fmt::Debug>(outcome: &Result<T, StorageError>) {
    assert!(
        matches!(outcome, Err(StorageError::PreconditionFailed { .. })),
        "{outcome:?}"
    );
}

fn not_found<T: std::fmt::Debug>(outcome: &Result<T, StorageError>) {
    assert!(
        matches!(outcome, Err(StorageError::NotFound { .. })),
        "{outcome:?}"
    );
}

fn too_large<T: std::fmt::Debug>(outcome: &Result<T, StorageError>) {
    assert!(
        matches!(outcome, Err(StorageError::TooLarge { .. })),
        "{outcome:?}"
    );
}

fn is_empty_folder(path: &Path) -> bool {
    std::fs::read_dir(path).unwrap().next().is_none()
}

pub(crate) async fn an_object_comes_back_as_it_was_written(fixture: Fixture) {
    let store = &*fixture.store;
    let written = put(store, "a/b=c+d@e-f_g.h/0", b"\0\xffbytes\r\n", Precondition::None)
        .await
        .unwrap();
    let object = store.get(&key("a/b=c+d@e-f_g.h/0"), ANY).await.unwrap();
    assert_eq!(object.bytes.as_ref(), b"\0\xffbytes\r\n");
    assert_eq!(object.version, written);
    assert_eq!(store.head(&key("a/b=c+d@e-f_g.h/0")).await.unwrap(), Some(9));
    let to = fixture.file("out");
    std::fs::write(&to, "what was there before").unwrap();
    assert_eq!(
        store.download(&key("a/b=c+d@e-f_g.h/0"), &to, 9).await.unwrap(),
        9
    );
    assert_eq!(std::fs::read(to).unwrap(), b"\0\xffbytes\r\n");
}

pub(crate) async fn an_empty_object_is_an_object(fixture: Fixture) {
    let store = &*fixture.store;
    let version = put(store, "empty", b"", Precondition::IfAbsent).await.unwrap();
    assert_eq!(store.head(&key("empty")).await.unwrap(), Some(0));
    assert!(store.get(&key("empty"), 0).await.unwrap().bytes.is_empty());
    assert!(store.get_range(&key("empty"), 0..5).await.unwrap().is_empty());
    assert_eq!(
        store
            .download(&key("empty"), &fixture.file("out"), 0)
            .await
            .unwrap(),
        0
    );
    let file = fixture.file("in");
    std::fs::write(&file, "").unwrap();
    store
        .put(&key("empty"), file.into(), Precondition::IfMatch(version))
        .await
        .unwrap();
}

pub(crate) async fn an_absent_object_is_told_from_a_failure(fixture: Fixture) {
    let store = &*fixture.store;
    put(store, "here/it/is", b"x", Precondition::None).await.unwrap();
    for absent in [
        "gone",
        "here",
        "here/it",
        "here/it/was",
        "here/it/is/not",
        "a/b/c",
    ] {
        let absent = key(absent);
        not_found(&store.get(&absent, ANY).await);
        not_found(&store.get_range(&absent, 0..1).await);
        not_found(&store.get_range(&absent, 1..1).await);
        not_found(&store.download(&absent, &fixture.file("out"), ANY).await);
        assert_eq!(store.head(&absent).await.unwrap(), None);
    }
    assert!(is_empty_folder(fixture.files.path()));
}

pub(crate) async fn ranges_stop_at_the_end_of_the_object(fixture: Fixture) {
    let store = &*fixture.store;
    put(store, "r", b"0123456789", Precondition::None).await.unwrap();
    for (range, expected) in [
        (0..10, "0123456789"),
        (0..1, "0"),
        (3..7, "3456"),
        (8..100, "89"),
        (9..u64::MAX, "9"),
        (10..11, ""),
        (100..200, ""),
        (4..4, ""),
    ] {
        let bytes = store.get_range(&key("r"), range.clone()).await.unwrap();
        assert_eq!(bytes, expected, "{range:?}");
    }
}

pub(crate) async fn limits_hold(fixture: Fixture) {
    let store = &*fixture.store;
    put(store, "l", b"0123456789", Precondition::None).await.unwrap();
    assert_eq!(store.get(&key("l"), 10).await.unwrap().bytes.len(), 10);
    too_large(&store.get(&key("l"), 9).await);
    too_large(&store.get(&key("l"), 0).await);
    too_large(&store.download(&key("l"), &fixture.file("out"), 9).await);
    assert!(is_empty_folder(fixture.files.path()));
    let version = store.get(&key("l"), 10).await.unwrap().version;
    let body = vec![0; MAX_REPLACEMENT_BYTES as usize + 1].into();
    too_large(&store.put(&key("l"), body, Precondition::IfMatch(version)).await);
    assert_eq!(store.head(&key("l")).await.unwrap(), Some(10));
}

pub(crate) async fn a_write_without_condition_replaces(fixture: Fixture) {
    let store = &*fixture.store;
    let first = put(store, "w", b"first", Precondition::None).await.unwrap();
    let second = put(store, "w", b"second", Precondition::None).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(store.get(&key("w"), ANY).await.unwrap().bytes, "second");
}

pub(crate) async fn a_create_only_write_never_replaces(fixture: Fixture) {
    let store = &*fixture.store;
    put(store, "c", b"first", Precondition::IfAbsent).await.unwrap();
    lost(&put(store, "c", b"second", Precondition::IfAbsent).await);
    lost(&put(store, "c", b"first", Precondition::IfAbsent).await);
    assert_eq!(store.get(&key("c"), ANY).await.unwrap().bytes, "first");
    store.delete(&key("c")).await.unwrap();
    put(store, "c", b"third", Precondition::IfAbsent).await.unwrap();
}

pub(crate) async fn a_swap_needs_the_current_version(fixture: Fixture) {
    let store = &*fixture.store;
    let first = put(store, "s", b"1", Precondition::None).await.unwrap();
    let second = put(store, "s", b"2", Precondition::IfMatch(first.clone()))
        .await
        .unwrap();
    lost(&put(store, "s", b"3", Precondition::IfMatch(first)).await);
    assert_eq!(store.get(&key("s"), ANY).await.unwrap().version, second);
    store.delete(&key("s")).await.unwrap();
    lost(&put(store, "s", b"4", Precondition::IfMatch(second)).await);
    assert_eq!(store.head(&key("s")).await.unwrap(), None);
}

pub(crate) async fn the_probe_is_satisfied(fixture: Fixture) {
    conditional_writes(&*fixture.store, ProbeSize::default())
        .await
        .unwrap();
    assert!(
        fixture.store.list("").await.unwrap().is_empty(),
        "the probe cleans up"
    );
}

pub(crate) async fn one_of_32_creators_wins(fixture: Fixture) {
    let racers = (0..32u8).map(|number| {
        let store = fixture.store.clone();
        async move {
            store
                .put(&key("race"), vec![number; 100].into(), Precondition::IfAbsent)
                .await
        }
    });
    let outcomes = join_all(racers).await;
    let winners: Vec<usize> = (0..32).filter(|&n| outcomes[n].is_ok()).collect();
    assert_eq!(winners.len(), 1);
    let stored = fixture.store.get(&key("race"), ANY).await.unwrap().bytes;
    assert_eq!(stored, vec![winners[0] as u8; 100]);
    outcomes
        .into_iter()
        .filter(Result::is_err)
        .for_each(|outcome| lost(&outcome));
}

pub(crate) async fn no_increment_is_lost_by_racing_writers(fixture: Fixture) {
    const WRITERS: u64 = 8;
    const INCREMENTS: u64 = 5;
    let store = &*fixture.store;
    put(store, "n", b"0", Precondition::None).await.unwrap();
    let writer = |name: u64| async move {
        for _ in 0..INCREMENTS {
            while !increment(store, name).await {}
        }
    };
    join_all((0..WRITERS).map(writer)).await;
    let last = store.get(&key("n"), ANY).await.unwrap().bytes;
    assert_eq!(read_number(&last), WRITERS * INCREMENTS);
}

/// Adds one; the writer's name makes the bytes differ from those of the others, as the port asks for.
async fn increment(store: &dyn ObjectStore, writer: u64) -> bool {
    let object = store.get(&key("n"), ANY).await.unwrap();
    let next = format!("{} {writer}", read_number(&object.bytes) + 1).into_bytes();
    match store
        .put(&key("n"), next.into(), Precondition::IfMatch(object.version))
        .await
    {
        Ok(_) => true,
        Err(StorageError::PreconditionFailed { .. }) => false,
        Err(error) => panic!("{error:?}"),
    }
}

fn read_number(bytes: &[u8]) -> u64 {
    let text = std::str::from_utf8(bytes).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

pub(crate) async fn a_listing_has_all_pages_in_order(fixture: Fixture) {
    const OBJECTS: usize = 1100;
    let store = &*fixture.store;
    let before = SystemTime::now() - Duration::from_secs(2);
    stream::iter(0..OBJECTS)
        .for_each_concurrent(16, |n| async move {
            let at = key(&format!("many/{}/{n}", n % 7));
            store
                .put(&at, vec![0; n % 5].into(), Precondition::None)
                .await
                .unwrap();
        })
        .await;
    let listed = store.list("many/").await.unwrap();
    let mut expected: Vec<String> = (0..OBJECTS).map(|n| format!("many/{}/{n}", n % 7)).collect();
    expected.sort();
    assert_eq!(
        listed.iter().map(|meta| meta.key.to_string()).collect::<Vec<_>>(),
        expected
    );
    for meta in listed {
        let n: usize = meta.key.as_str().rsplit('/').next().unwrap().parse().unwrap();
        assert_eq!(meta.bytes, n as u64 % 5);
        assert!(meta.modified > before, "{meta:?}");
    }
}

pub(crate) async fn a_listing_keeps_to_its_prefix(fixture: Fixture) {
    let store = &*fixture.store;
    for at in ["a", "ab/c", "ab/d/e", "ab-c", "abc", "b/ab"] {
        put(store, at, b"x", Precondition::None).await.unwrap();
    }
    for (prefix, expected) in [
        ("", "a ab-c ab/c ab/d/e abc b/ab"),
        ("a", "a ab-c ab/c ab/d/e abc"),
        ("ab", "ab-c ab/c ab/d/e abc"),
        ("ab/", "ab/c ab/d/e"),
        ("ab/d", "ab/d/e"),
        ("ab/d/e", "ab/d/e"),
        ("ab/d/e/", ""),
        ("abc/", ""),
        ("x", ""),
        ("../", ""),
        ("/", ""),
        ("ab//", ""),
        (".mayfly-", ""),
    ] {
        let listed: Vec<String> = store
            .list(prefix)
            .await
            .unwrap()
            .iter()
            .map(|meta| meta.key.to_string())
            .collect();
        assert_eq!(listed.join(" "), expected, "{prefix:?}");
    }
}

pub(crate) async fn a_large_file_goes_up_and_comes_down(fixture: Fixture) {
    let store = &*fixture.store;
    let (from, to) = (fixture.file("from"), fixture.file("to"));
    let bytes = content(LARGE_BYTES);
    std::fs::write(&from, &bytes).unwrap();
    store
        .put(&key("big"), from.clone().into(), Precondition::None)
        .await
        .unwrap();
    assert!(from.exists(), "the source is copied");
    assert_eq!(store.head(&key("big")).await.unwrap(), Some(LARGE_BYTES as u64));
    assert_eq!(
        store.download(&key("big"), &to, ANY).await.unwrap(),
        LARGE_BYTES as u64
    );
    let came_back = ContentHash::of_reader(std::fs::File::open(&to).unwrap()).unwrap();
    assert_eq!(came_back, ContentHash::of(&bytes));
    let range = 20_000_000..20_100_000;
    let part = store.get_range(&key("big"), range.clone()).await.unwrap();
    assert_eq!(part, bytes.slice(range.start as usize..range.end as usize));
}

pub(crate) async fn a_large_body_goes_up_and_comes_down(fixture: Fixture) {
    let bytes = content(LARGE_BYTES);
    fixture
        .store
        .put(&key("big"), bytes.clone().into(), Precondition::None)
        .await
        .unwrap();
    let object = fixture.store.get(&key("big"), ANY).await.unwrap();
    assert!(object.bytes == bytes);
}

pub(crate) async fn a_large_file_is_created_once(fixture: Fixture) {
    let file = fixture.file("from");
    std::fs::write(&file, content(LARGE_BYTES)).unwrap();
    let body = || file.clone().into();
    let version = fixture
        .store
        .put(&key("big"), body(), Precondition::IfAbsent)
        .await
        .unwrap();
    lost(
        &fixture
            .store
            .put(&key("big"), body(), Precondition::IfAbsent)
            .await,
    );
    let swap = Precondition::IfMatch(version);
    fixture
        .store
        .put(&key("big"), vec![1].into(), swap)
        .await
        .unwrap();
    assert_eq!(fixture.store.head(&key("big")).await.unwrap(), Some(1));
}

pub(crate) async fn a_failed_download_leaves_no_file(fixture: Fixture) {
    put(&*fixture.store, "d", b"0123456789", Precondition::None)
        .await
        .unwrap();
    let nowhere = fixture.file("missing-folder/out");
    let error = fixture
        .store
        .download(&key("d"), &nowhere, ANY)
        .await
        .unwrap_err();
    assert!(matches!(error, StorageError::LocalFile { .. }), "{error:?}");
    let folder = fixture.file("folder");
    std::fs::create_dir(&folder).unwrap();
    let error = fixture.store.download(&key("d"), &folder, ANY).await.unwrap_err();
    assert!(matches!(error, StorageError::LocalFile { .. }), "{error:?}");
    too_large(&fixture.store.download(&key("d"), &fixture.file("out"), 5).await);
    let left: Vec<_> = std::fs::read_dir(fixture.files.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["folder"]);
}

pub(crate) async fn a_file_that_is_missing_is_named(fixture: Fixture) {
    for bad in [fixture.file("missing"), fixture.files.path().to_owned()] {
        let error = fixture
            .store
            .put(&key("m"), bad.clone().into(), Precondition::None)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, StorageError::LocalFile { path, .. } if *path == bad),
            "{error:?}"
        );
    }
    assert_eq!(fixture.store.head(&key("m")).await.unwrap(), None);
}

pub(crate) async fn removing_twice_is_fine(fixture: Fixture) {
    let store = &*fixture.store;
    put(store, "x/y/z", b"x", Precondition::None).await.unwrap();
    put(store, "x/w", b"x", Precondition::None).await.unwrap();
    for _ in 0..2 {
        store.delete(&key("x/y/z")).await.unwrap();
    }
    store.delete(&key("x/y")).await.unwrap();
    store.delete(&key("x")).await.unwrap();
    assert_eq!(store.list("").await.unwrap().len(), 1);
    put(store, "x/y", b"now an object", Precondition::IfAbsent)
        .await
        .unwrap();
}

pub(crate) async fn errors_name_the_operation_and_the_key(fixture: Fixture) {
    let error = fixture.store.get(&key("a/b"), ANY).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "storage read of `a/b`: there is no such object"
    );
    assert!(error.source().is_none());
}
