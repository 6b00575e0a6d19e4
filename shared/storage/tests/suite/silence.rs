//! A server that takes requests and says nothing: how often it is asked before an operation is given up.

use std::num::NonZeroUsize;
use std::time::Duration;

use mayfly_storage::{Key, ObjectStore, Precondition, StorageError, StorageOptions};
use mayfly_testkit::chaos_proxy::{Fate, Refusal};

use crate::s3_only::{Bucket, Proxy};

/// Does one operation, and gives how many requests it made before it was given up.
async fn given_up<T: std::fmt::Debug>(
    fate: fn() -> Fate,
    operation: impl AsyncFnOnce(&dyn ObjectStore, &Key) -> Result<T, StorageError>,
) -> u64 {
    let (bucket, proxy) = (Bucket::new(), Proxy::new(move |_| fate()));
    let options = StorageOptions {
        operation_timeout: Duration::from_millis(300),
        ..bucket.options(&proxy.endpoint())
    };
    let store = bucket.open(&options).await;
    let error = operation(&*store, &"a/pointer".parse().unwrap())
        .await
        .unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    store.settle().await;
    proxy.requests()
}

#[tokio::test]
async fn silence_is_given_up_after_the_time_of_two_attempts() {
    let stall = || Fate::Stall;
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("out");
    let limit = NonZeroUsize::MIN;
    for (what, requests) in [
        (
            "get",
            given_up(stall, async |store, key| store.get(key, 9).await).await,
        ),
        (
            "range",
            given_up(stall, async |store, key| store.get_range(key, 0..9).await).await,
        ),
        (
            "download",
            given_up(stall, async |store, key| store.download(key, &to, 9).await).await,
        ),
        (
            "head",
            given_up(stall, async |store, key| store.head(key).await).await,
        ),
        (
            "delete",
            given_up(stall, async |store, key| store.delete(key).await).await,
        ),
        (
            "list",
            given_up(stall, async |store, _| store.list("").await).await,
        ),
        (
            "page",
            given_up(stall, async |store, _| store.list_folder("", None, limit).await).await,
        ),
        (
            "uploads",
            given_up(stall, async |store, _| store.unfinished().await).await,
        ),
    ] {
        assert!((1..=2).contains(&requests), "{what}: {requests} requests");
    }
    // A write whose answers did not come is looked for, once.
    for precondition in [Precondition::None, Precondition::IfAbsent] {
        let requests = given_up(stall, async |store, key| {
            store.put(key, b"x".to_vec().into(), precondition.clone()).await
        });
        assert!((2..=3).contains(&requests.await));
    }
    // In parts it does not begin.
    let large = vec![7; 17 << 20];
    let requests = given_up(stall, async |store, key| {
        store.put(key, large.into(), Precondition::None).await
    });
    assert!((1..=2).contains(&requests.await));
}

#[tokio::test]
async fn a_server_that_refuses_at_once_is_asked_four_times() {
    let refuse = || Fate::Answer(Refusal::internal_error());
    let requests = given_up(refuse, async |store, key| store.get(key, 9).await);
    assert_eq!(requests.await, 4);
    let requests = given_up(refuse, async |store, key| {
        store.put(key, b"x".to_vec().into(), Precondition::None).await
    });
    assert!(requests.await > 4, "it is looked for as well");
}
