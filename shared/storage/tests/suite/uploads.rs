//! Streamed writes and listings by level: the promises that every store keeps, and what only S3 and a directory have of them.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use axum::http::Method;
use bytes::Bytes;
use mayfly_storage::{DirectoryStore, Key, ObjectStore, Precondition, StorageError, StorageOptions, Upload};
use mayfly_testkit::chaos_proxy::{Fate, Refusal, Seen};
use mayfly_testkit::wait;

use crate::Fixture;
use crate::cases::content;
use crate::s3_only::{Bucket, Proxy};

const MIB: usize = 1024 * 1024;
/// What S3 wants of a part at least.
const PART: usize = 5 * MIB;
const ANY: u64 = u64::MAX;

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

async fn write_all(upload: &mut Box<dyn Upload>, bytes: &Bytes) -> Result<(), StorageError> {
    // No piece has the size of a part, or divides it.
    for piece in bytes.chunks(65_515) {
        upload.write(bytes.slice_ref(piece)).await?;
    }
    Ok(())
}

async fn is_empty(store: &dyn ObjectStore) -> bool {
    store.settle().await;
    store.list("").await.unwrap().is_empty() && store.unfinished().await.unwrap().is_empty()
}

pub(crate) async fn a_stream_becomes_an_object_at_its_end(fixture: Fixture) {
    let store = &*fixture.store;
    for size in [0, 1, 8 * MIB, 8 * MIB + 1, 33 * MIB + 7] {
        let (at, bytes) = (key(&format!("packs/{size}")), content(size));
        let mut upload = store.upload(&at).await.unwrap();
        write_all(&mut upload, &bytes).await.unwrap();
        assert_eq!(store.head(&at).await.unwrap(), None, "{size}");
        assert_eq!(upload.complete().await.unwrap(), size as u64);
        assert!(store.get(&at, ANY).await.unwrap().bytes == bytes, "{size}");
        store.delete(&at).await.unwrap();
    }
    assert!(is_empty(store).await);
}

pub(crate) async fn a_stream_that_is_given_up_leaves_nothing(fixture: Fixture) {
    let store = &*fixture.store;
    for size in [0, 100, 20 * MIB] {
        let mut upload = store.upload(&key("a/b")).await.unwrap();
        write_all(&mut upload, &content(size)).await.unwrap();
        upload.abort().await;
        assert!(is_empty(store).await, "{size}");
        let mut upload = store.upload(&key("a/b")).await.unwrap();
        write_all(&mut upload, &content(size)).await.unwrap();
        drop(upload);
        assert!(is_empty(store).await, "{size}");
    }
}

pub(crate) async fn a_level_is_listed_in_pages(fixture: Fixture) {
    let store = &*fixture.store;
    for at in ["t/a/1", "t/a/2/3", "t/a-b/1", "t/a.b", "t/aa", "t/b/x/y", "u/1"] {
        store
            .put(&key(at), b"x".as_slice().into(), Precondition::None)
            .await
            .unwrap();
    }
    for (prefix, expected) in [
        ("t/", "t/a-b/ t/a.b t/a/ t/aa t/b/"),
        ("t/a", "t/a-b/ t/a.b t/a/ t/aa"),
        ("t/a/", "t/a/1 t/a/2/"),
        ("", "t/ u/"),
        ("t", "t/"),
        ("x/", ""),
        ("../", ""),
    ] {
        for limit in [1, 2, 100] {
            let found = level(store, prefix, limit).await;
            assert_eq!(found.join(" "), expected, "{prefix:?} by {limit}");
        }
    }
    let behind = store
        .list_folder("t/", Some("t/a/"), NonZeroUsize::MAX)
        .await
        .unwrap();
    assert_eq!((behind.folders, behind.next), (vec!["t/b/".to_owned()], None));
    assert_eq!((behind.objects.len(), behind.objects[0].bytes), (1, 1));
}

/// Goes through all pages.
async fn level(store: &dyn ObjectStore, prefix: &str, limit: usize) -> Vec<String> {
    let (mut found, mut after) = (Vec::new(), None::<String>);
    loop {
        let limit = NonZeroUsize::new(limit).unwrap();
        let page = store.list_folder(prefix, after.as_deref(), limit).await.unwrap();
        assert!(page.objects.len() + page.folders.len() <= limit.get());
        let objects = page.objects.iter().map(|meta| meta.key.to_string());
        let mut names: Vec<String> = objects.chain(page.folders).collect();
        names.sort();
        found.extend(names);
        match page.next {
            Some(next) => after = Some(next),
            None => return found,
        }
    }
}

/// An upload that is under way is found, and discarding it makes it fail.
async fn is_found_and_discarded(store: &dyn ObjectStore) {
    let mut upload = store.upload(&key("a/b")).await.unwrap();
    write_all(&mut upload, &content(20 * MIB)).await.unwrap();
    let mut found = Vec::new();
    while found.is_empty() {
        found = wait::within("the upload shows", store.unfinished())
            .await
            .unwrap();
        tokio::task::yield_now().await;
    }
    store.discard(&found[0]).await.unwrap();
    store.discard(&found[0]).await.unwrap();
    let error = upload.complete().await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(is_empty(store).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_uploads_are_found_in_a_bucket() {
    is_found_and_discarded(&*Bucket::new().direct().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_uploads_are_found_in_a_directory() {
    let root = tempfile::tempdir().unwrap();
    let open = || async {
        DirectoryStore::open(root.path(), &StorageOptions::default())
            .await
            .unwrap()
    };
    let store = open().await;
    is_found_and_discarded(&store).await;
    // As a process leaves it that is killed.
    let left = root.path().join(".mayfly-tmp/upload-x");
    std::fs::write(&left, "12345").unwrap();
    std::fs::write(root.path().join(".mayfly-tmp/of-someone-else"), "").unwrap();
    let found = open().await.unfinished().await.unwrap();
    assert_eq!((found.len(), found[0].bytes), (1, Some(5)));
    store.discard(&found[0]).await.unwrap();
    assert!(!left.exists() && root.path().join(".mayfly-tmp/of-someone-else").exists());
}

#[tokio::test]
async fn a_directory_that_goes_away_fails_the_stream() {
    let root = tempfile::tempdir().unwrap();
    let store = DirectoryStore::open(root.path(), &StorageOptions::default())
        .await
        .unwrap();
    let mut upload = store.upload(&key("a/b")).await.unwrap();
    upload.write(content(MIB)).await.unwrap();
    std::fs::remove_dir_all(root.path()).unwrap();
    assert!(upload.complete().await.unwrap_err().is_transient());
    assert!(store.upload(&key("a/b")).await.unwrap_err().is_transient());
}

fn is_part(seen: &Seen) -> bool {
    seen.head.method == Method::PUT && seen.query().contains("partNumber")
}

fn is_end(seen: &Seen) -> bool {
    seen.head.method == Method::POST && seen.query().contains("uploadId")
}

fn is_begin(seen: &Seen) -> bool {
    seen.head.method == Method::POST && seen.query().contains("uploads")
}

/// A store whose requests fail by a script, with bounds that a test can wait for.
async fn through(bucket: &Bucket, proxy: &Proxy) -> std::sync::Arc<dyn ObjectStore> {
    let options = StorageOptions {
        operation_timeout: Duration::from_secs(2),
        min_bytes_per_second: NonZeroU32::MAX,
        attempts: NonZeroU32::new(2).unwrap(),
        max_backoff: Duration::from_millis(10),
        part_bytes: PART as u64,
        part_concurrency: 2,
        ..bucket.options(&proxy.endpoint())
    };
    bucket.open(&options).await
}

async fn stream(store: &dyn ObjectStore, bytes: &Bytes) -> Result<u64, StorageError> {
    let mut upload = store.upload(&key("a/b")).await?;
    write_all(&mut upload, bytes).await?;
    upload.complete().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_for_a_moment_is_sent_again() {
    const FAILS: [fn() -> Fate; 4] = [
        || Fate::Answer(Refusal::internal_error()),
        || Fate::Answer(Refusal::slow_down()),
        || Fate::LoseAnswer,
        || Fate::Stall,
    ];
    let bytes = content(3 * PART + 1);
    for fits in [is_begin, is_part, is_end] {
        for action in FAILS {
            let mut left = 1;
            let proxy = Proxy::new(move |seen| match fits(seen) && left > 0 {
                true => {
                    left -= 1;
                    action()
                }
                false => Fate::Pass,
            });
            let bucket = Bucket::new();
            let store = through(&bucket, &proxy).await;
            assert_eq!(stream(&*store, &bytes).await.unwrap(), bytes.len() as u64);
            assert!(store.get(&key("a/b"), ANY).await.unwrap().bytes == bytes);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_on_failing_ends_the_stream_and_leaves_nothing() {
    let bytes = content(6 * PART);
    for fits in [is_begin, is_part, is_end] {
        for action in [|| Fate::Answer(Refusal::slow_down()), || Fate::Stall] {
            let proxy = Proxy::new(move |seen| match fits(seen) {
                true => action(),
                false => Fate::Pass,
            });
            let bucket = Bucket::new();
            let store = through(&bucket, &proxy).await;
            let error = wait::within("the failure", stream(&*store, &bytes))
                .await
                .unwrap_err();
            assert!(error.is_transient(), "{error:?}");
            store.settle().await;
            assert!(is_empty(&*bucket.direct().await).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_whose_answers_are_all_lost_is_found_done() {
    let proxy = Proxy::new(|seen| match is_end(seen) {
        true => Fate::LoseAnswer,
        false => Fate::Pass,
    });
    let bucket = Bucket::new();
    let store = through(&bucket, &proxy).await;
    let bytes = content(2 * PART);
    assert_eq!(stream(&*store, &bytes).await.unwrap(), bytes.len() as u64);
    assert!(bucket.direct().await.get(&key("a/b"), ANY).await.unwrap().bytes == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_taken_than_may_be_in_memory() {
    let proxy = Proxy::new(|seen| match is_part(seen) {
        true => Fate::Stall,
        false => Fate::Pass,
    });
    let bucket = Bucket::new();
    let options = StorageOptions {
        part_bytes: PART as u64,
        part_concurrency: 2,
        ..bucket.options(&proxy.endpoint())
    };
    let store = bucket.open(&options).await;
    let mut upload = store.upload(&key("a/b")).await.unwrap();
    upload.write(content(2 * PART)).await.unwrap();
    wait::eventually("both parts are on their way", || proxy.requests() == 3).await;
    let more = tokio::select! {
        biased;
        written = upload.write(Bytes::from_static(b"x")) => Some(written),
        () = std::future::ready(()) => None,
    };
    assert!(more.is_none(), "{more:?}");
    drop(upload);
    assert!(is_empty(&*store).await);
}
