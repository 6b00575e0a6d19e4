//! What only S3 has: a network in between, signatures, parts, and servers with ways of their own.

use std::error::Error;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, Request, StatusCode};
use mayfly_protocol::SecretString;
use mayfly_storage::probe::{ProbeError, ProbeSize, conditional_writes};
use mayfly_storage::{
    Key, ObjectStore, OpenError, Precondition, S3Credentials, S3Options, StorageError, StorageOptions,
    Version,
};
use mayfly_testkit::chaos_proxy::{Chaos, ChaosProxy, Fate, Refusal, Seen};
use mayfly_testkit::https::TestCa;
use mayfly_testkit::moto::Moto;
use mayfly_testkit::s3::S3Place;
use mayfly_testkit::{port, wait};
use uuid::Uuid;

const CANARY: &str = "canary-secret-access-key";

/// A proxy that fails on purpose, before a real server.
pub(crate) struct Proxy {
    chaos: Chaos,
    running: ChaosProxy,
}

impl Proxy {
    /// Before moto.
    pub(crate) fn new(script: impl FnMut(&Seen) -> Fate + Send + 'static) -> Self {
        Self::before(&Moto::shared().endpoint(), script)
    }

    fn before(upstream: &str, script: impl FnMut(&Seen) -> Fate + Send + 'static) -> Self {
        let chaos = Chaos::by(script);
        let running = chaos.proxy("s3", upstream);
        Self { chaos, running }
    }

    pub(crate) fn endpoint(&self) -> String {
        self.running.origin()
    }

    pub(crate) fn requests(&self) -> u64 {
        self.chaos.requests()
    }
}

/// A bucket of one test on the shared server.
pub(crate) struct Bucket(String);

impl Bucket {
    pub(crate) fn new() -> Self {
        let bucket = Self(format!("b-{}", Uuid::new_v4()));
        Moto::shared().create_bucket(&bucket.0);
        bucket
    }

    pub(crate) fn options(&self, endpoint: &str) -> StorageOptions {
        options(endpoint, "some-key-id", CANARY)
    }

    pub(crate) async fn open(&self, options: &StorageOptions) -> Arc<dyn ObjectStore> {
        open(&format!("s3://{}/some/prefix", self.0), options).await
    }

    async fn through(&self, proxy: &Proxy) -> Arc<dyn ObjectStore> {
        self.open(&self.options(&proxy.endpoint())).await
    }

    pub(crate) async fn direct(&self) -> Arc<dyn ObjectStore> {
        self.open(&self.options(&Moto::shared().endpoint())).await
    }
}

fn options(endpoint: &str, id: &str, secret: &str) -> StorageOptions {
    StorageOptions {
        s3: S3Options {
            endpoint: Some(endpoint.to_owned()),
            region: Some("us-east-1".to_owned()),
            credentials: Some(S3Credentials {
                access_key_id: id.to_owned(),
                secret_access_key: SecretString::from(secret),
            }),
            ..S3Options::default()
        },
        ..StorageOptions::default()
    }
}

/// Bounds that a test can wait for.
fn hasty(options: StorageOptions) -> StorageOptions {
    StorageOptions {
        operation_timeout: Duration::from_millis(300),
        connect_timeout: Duration::from_millis(300),
        attempts: NonZeroU32::new(2).unwrap(),
        max_backoff: Duration::from_millis(10),
        ..options
    }
}

/// A store of the test's own on a server.
pub(crate) async fn open_place(place: &S3Place) -> Arc<dyn ObjectStore> {
    let options = options(&place.endpoint, &place.access_key_id, &place.secret_access_key);
    open(&place.fresh_url(), &options).await
}

async fn open(url: &str, options: &StorageOptions) -> Arc<dyn ObjectStore> {
    mayfly_storage::open(&url.parse().unwrap(), options)
        .await
        .unwrap()
}

fn key() -> Key {
    Key::new("a/pointer").unwrap()
}

async fn put(
    store: &dyn ObjectStore,
    content: &'static str,
    precondition: Precondition,
) -> Result<Version, StorageError> {
    store.put(&key(), content.as_bytes().into(), precondition).await
}

async fn content(store: &dyn ObjectStore) -> String {
    let bytes = store.get(&key(), 1000).await.unwrap().bytes;
    String::from_utf8(bytes.into()).unwrap()
}

fn is_put(seen: &Seen) -> bool {
    seen.head.method == Method::PUT
}

fn is_swap(seen: &Seen) -> bool {
    seen.head.headers.contains_key("if-match")
}

fn lost<T: std::fmt::Debug>(outcome: &Result<T, StorageError>) {
    assert!(
        matches!(outcome, Err(StorageError::PreconditionFailed { .. })),
        "{outcome:?}"
    );
}

fn denied<T: std::fmt::Debug>(outcome: Result<T, StorageError>) -> StorageError {
    match outcome {
        Err(error @ StorageError::Denied { .. }) => error,
        other => panic!("{other:?}"),
    }
}

/// Fails the first `n` requests that fit.
fn first(n: u64, fits: fn(&Seen) -> bool, fate: fn() -> Fate) -> impl FnMut(&Seen) -> Fate + Send {
    let mut left = n;
    move |seen| {
        if left > 0 && fits(seen) {
            left -= 1;
            return fate();
        }
        Fate::Pass
    }
}

#[tokio::test]
async fn a_lost_answer_of_a_create_is_no_lost_race() {
    let bucket = Bucket::new();
    let proxy = Proxy::new(first(1, is_put, || Fate::LoseAnswer));
    let store = bucket.through(&proxy).await;
    let version = put(&*store, "mine", Precondition::IfAbsent).await.unwrap();
    assert_eq!(store.get(&key(), 100).await.unwrap().version, version);
    lost(&put(&*store, "mine", Precondition::IfAbsent).await);
}

#[tokio::test]
async fn a_lost_answer_of_a_swap_is_no_lost_race() {
    let bucket = Bucket::new();
    let proxy = Proxy::new(first(2, is_swap, || Fate::LoseAnswer));
    let store = bucket.through(&proxy).await;
    let old = put(&*store, "old", Precondition::IfAbsent).await.unwrap();
    let new = put(&*store, "new", Precondition::IfMatch(old.clone()))
        .await
        .unwrap();
    assert_eq!(content(&*store).await, "new");
    put(&*store, "newer", Precondition::IfMatch(new)).await.unwrap();
    lost(&put(&*store, "other", Precondition::IfMatch(old)).await);
}

#[tokio::test]
async fn a_write_whose_answers_are_all_lost_is_found_done() {
    let bucket = Bucket::new();
    let proxy = Proxy::new(first(100, is_put, || Fate::LoseAnswer));
    let store = bucket.through(&proxy).await;
    put(&*store, "mine", Precondition::IfAbsent).await.unwrap();
    assert_eq!(content(&*bucket.direct().await).await, "mine");
}

/// Another writer is there first.
fn rival(request: &mut Request<Bytes>) {
    without_conditions(request);
    request.headers_mut().remove("content-md5");
    *request.body_mut() = "theirs".into();
}

fn without_conditions(request: &mut Request<Bytes>) {
    request.headers_mut().remove("if-match");
    request.headers_mut().remove("if-none-match");
}

#[tokio::test]
async fn a_broken_connection_does_not_hide_a_lost_race() {
    let bucket = Bucket::new();
    let proxy = Proxy::new(first(1, is_put, || Fate::AlterAndLose(Box::new(rival))));
    let store = bucket.through(&proxy).await;
    lost(&put(&*store, "mine", Precondition::IfAbsent).await);
    assert_eq!(content(&*store).await, "theirs");
}

#[tokio::test]
async fn a_conflict_is_tried_again() {
    let bucket = Bucket::new();
    let conflict = || Fate::Answer(Refusal::new(StatusCode::CONFLICT, "ConditionalRequestConflict"));
    let proxy = Proxy::new(first(2, is_put, conflict));
    put(&*bucket.through(&proxy).await, "mine", Precondition::IfAbsent)
        .await
        .unwrap();
    let proxy = Proxy::new(first(100, is_put, conflict));
    let version = bucket.direct().await.get(&key(), 100).await.unwrap().version;
    lost(
        &put(
            &*bucket.through(&proxy).await,
            "new",
            Precondition::IfMatch(version),
        )
        .await,
    );
    assert_eq!(content(&*bucket.direct().await).await, "mine");
}

#[tokio::test]
async fn a_server_that_is_busy_for_a_moment_is_asked_again() {
    let bucket = Bucket::new();
    let proxy = Proxy::new(|seen| match seen.number % 2 {
        1 => Fate::Answer(Refusal::slow_down()),
        _ => Fate::Pass,
    });
    let store = bucket.through(&proxy).await;
    put(&*store, "mine", Precondition::IfAbsent).await.unwrap();
    assert_eq!(content(&*store).await, "mine");
    assert_eq!(store.list("").await.unwrap().len(), 1);
    assert_eq!(store.head(&key()).await.unwrap(), Some(4));
    store.delete(&key()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_form_of_etags_is_learnt_once() {
    let ceph = tokio::task::block_in_place(S3Place::ceph);
    let proxy = Proxy::before(&ceph.endpoint, |_| Fate::Pass);
    let store = open_place(&ceph.through(proxy.endpoint())).await;
    let first = put(&*store, "1", Precondition::IfAbsent).await.unwrap();
    let second = put(&*store, "2", Precondition::IfMatch(first.clone()))
        .await
        .unwrap();
    let before = proxy.requests();
    put(&*store, "3", Precondition::IfMatch(second)).await.unwrap();
    assert_eq!(proxy.requests(), before + 1, "no detours once it is known");
    lost(&put(&*store, "4", Precondition::IfMatch(first)).await);
    assert_eq!(content(&*store).await, "3");
    assert_eq!(store.list("").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_server_that_takes_no_form_of_etags_is_refused() {
    let proxy = Proxy::new(|seen| match is_swap(seen) {
        true => Fate::Answer(Refusal::new(
            StatusCode::PRECONDITION_FAILED,
            "PreconditionFailed",
        )),
        false => Fate::Pass,
    });
    let store = Bucket::new().through(&proxy).await;
    let version = put(&*store, "1", Precondition::IfAbsent).await.unwrap();
    let error = denied(put(&*store, "2", Precondition::IfMatch(version)).await);
    assert!(error.to_string().contains("in no form of If-Match"), "{error}");
}

#[tokio::test]
async fn a_server_that_ignores_conditions_fails_the_probe() {
    let proxy = Proxy::new(|_| Fate::Alter(Box::new(without_conditions)));
    let store = Bucket::new().through(&proxy).await;
    let error = conditional_writes(&*store, ProbeSize::default())
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ProbeError::CreateRace {
                winners: 32,
                writers: 32
            }
        ),
        "{error:?}"
    );
    assert!(store.list("").await.unwrap().is_empty());

    let proxy = Proxy::new(|seen| match is_swap(seen) {
        true => Fate::Alter(Box::new(without_conditions)),
        false => Fate::Pass,
    });
    let store = Bucket::new().through(&proxy).await;
    let error = conditional_writes(&*store, ProbeSize::default())
        .await
        .unwrap_err();
    assert!(
        matches!(error, ProbeError::SwapRace { winners: 32, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_read_that_breaks_off_is_taken_up_again() {
    const BYTES: usize = 300_000;
    let bucket = Bucket::new();
    let whole: Vec<u8> = (0..BYTES).map(|n| (n % 251) as u8).collect();
    bucket
        .direct()
        .await
        .put(&key(), whole.clone().into(), Precondition::None)
        .await
        .unwrap();

    let proxy = Proxy::new(|seen| match (seen.head.headers.get("range"), seen.number) {
        (None, 1) | (None, 3) => Fate::CutAnswer(100_000),
        (Some(range), 2) => {
            assert_eq!(range, "bytes=0-299999");
            Fate::CutAnswer(1)
        }
        _ => Fate::Pass,
    });
    let store = bucket.through(&proxy).await;
    assert_eq!(store.get(&key(), BYTES as u64).await.unwrap().bytes, whole);
    assert_eq!(proxy.requests(), 2);

    let proxy = Proxy::new(|seen| match (seen.number, seen.head.headers.get("range")) {
        (1, None) => Fate::CutAnswer(100_000),
        (2, Some(range)) => {
            assert!(!range.as_bytes().starts_with(b"bytes=0-"), "{range:?}");
            Fate::CutAnswer(100_000)
        }
        (_, Some(_)) => Fate::Pass,
        _ => Fate::Answer(Refusal::new(StatusCode::BAD_REQUEST, "NotResumed")),
    });
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("out");
    let store = bucket.through(&proxy).await;
    assert_eq!(
        store.download(&key(), &to, BYTES as u64).await.unwrap(),
        BYTES as u64
    );
    assert!(std::fs::read(to).unwrap() == whole);
    assert_eq!(proxy.requests(), 3);
}

fn large() -> Vec<u8> {
    vec![7; 17 * 1024 * 1024]
}

#[tokio::test]
async fn a_lost_answer_at_the_end_of_parts_is_no_failure() {
    let bucket = Bucket::new();
    let proxy = Proxy::new(first(
        1,
        |seen| seen.head.method == Method::POST && seen.query().contains("uploadId="),
        || Fate::LoseAnswer,
    ));
    let store = bucket.through(&proxy).await;
    store
        .put(&key(), large().into(), Precondition::IfAbsent)
        .await
        .unwrap();
    assert_eq!(store.head(&key()).await.unwrap(), Some(17 * 1024 * 1024));
    assert_eq!(Moto::shared().unfinished_uploads(&bucket.0), 0);
}

#[tokio::test]
async fn an_upload_that_fails_is_aborted() {
    let bucket = Bucket::new();
    let proxy = Proxy::new(|seen| match seen.query().contains("partNumber=2") {
        true => Fate::Answer(Refusal::new(StatusCode::FORBIDDEN, "AccessDenied")),
        false => Fate::Pass,
    });
    let store = bucket.through(&proxy).await;
    denied(store.put(&key(), large().into(), Precondition::None).await);
    assert_eq!(Moto::shared().unfinished_uploads(&bucket.0), 0);
    assert_eq!(store.head(&key()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_dropped_is_aborted() {
    let bucket = Bucket::new();
    let (stalled, reached) = tokio::sync::oneshot::channel();
    let mut stalled = Some(stalled);
    let proxy = Proxy::new(move |seen| {
        if seen.query().contains("partNumber=3") {
            let _ = stalled.take().map(|stalled| stalled.send(()));
            return Fate::Stall;
        }
        Fate::Pass
    });
    let store = bucket.through(&proxy).await;
    {
        let write_key = key();
        let write = store.put(&write_key, large().into(), Precondition::None);
        tokio::pin!(write);
        tokio::select! {
            outcome = &mut write => panic!("{outcome:?}"),
            reached = wait::within("the third part", reached) => reached.unwrap(),
        }
        assert_eq!(Moto::shared().unfinished_uploads(&bucket.0), 1);
    }
    wait::eventually("the abort", || Moto::shared().unfinished_uploads(&bucket.0) == 0).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let refused = port::refused();
    let endpoint = format!("http://{}", refused.addr());
    let store = open("s3://bucket", &hasty(options(&endpoint, "id", CANARY))).await;
    unavailable_everywhere(&*store).await;
}

#[tokio::test]
async fn a_server_that_says_nothing_is_unavailable() {
    let silent = port::silent();
    let endpoint = format!("http://{}", silent.addr());
    let store = open("s3://bucket", &hasty(options(&endpoint, "id", CANARY))).await;
    wait::within("the end of all waits", unavailable_everywhere(&*store)).await;
}

async fn unavailable_everywhere(store: &dyn ObjectStore) {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("out");
    let outcomes = [
        put(store, "x", Precondition::IfAbsent).await.map(drop),
        store.get(&key(), 1).await.map(drop),
        store.get_range(&key(), 0..1).await.map(drop),
        store.download(&key(), &to, 1).await.map(drop),
        store.head(&key()).await.map(drop),
        store.delete(&key()).await,
        store.list("").await.map(drop),
    ];
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        assert_no_canary(&error);
    }
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
}

fn assert_no_canary(error: &StorageError) {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(" {cause} {cause:?}");
        source = cause.source();
    }
    assert!(!text.contains(CANARY), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signatures_and_rights_are_checked_by_the_server() {
    let (moto, right) = tokio::task::block_in_place(|| Moto::start_checking("good"));
    let endpoint = moto.endpoint();
    let with = |secret: &str| options(&endpoint, &right.access_key_id, secret);
    let good = open("s3://good/x", &with(&right.secret_access_key)).await;
    let version = put(&*good, "1", Precondition::IfAbsent).await.unwrap();
    put(&*good, "2", Precondition::IfMatch(version)).await.unwrap();
    good.put(
        &Key::new("large").unwrap(),
        large().into(),
        Precondition::IfAbsent,
    )
    .await
    .unwrap();
    assert_eq!(good.list("").await.unwrap().len(), 2);

    let wrong_secret = open("s3://good/x", &with(CANARY)).await;
    let other_bucket = open("s3://other-bucket", &with(&right.secret_access_key)).await;
    let unknown_key = open("s3://good/x", &options(&endpoint, "AKIAUNKNOWN", CANARY)).await;
    for store in [wrong_secret, other_bucket, unknown_key] {
        for error in [
            denied(put(&*store, "x", Precondition::None).await),
            denied(put(&*store, "x", Precondition::IfAbsent).await),
            denied(store.get(&key(), 100).await),
            denied(store.head(&key()).await),
            denied(store.list("").await),
            denied(store.delete(&key()).await),
            denied(store.put(&key(), large().into(), Precondition::None).await),
        ] {
            assert_no_canary(&error);
        }
    }
}

#[tokio::test]
async fn a_bucket_that_is_missing_is_named_as_the_cause() {
    let store = open(
        "s3://no-such-bucket",
        &options(&Moto::shared().endpoint(), "id", CANARY),
    )
    .await;
    for error in [
        denied(put(&*store, "x", Precondition::IfAbsent).await),
        denied(store.get(&key(), 100).await),
        denied(store.list("").await),
    ] {
        assert!(error.to_string().contains("NoSuchBucket"), "{error}");
    }
}

#[tokio::test]
async fn objects_of_others_are_not_listed() {
    let bucket = Bucket::new();
    let options = bucket.options(&Moto::shared().endpoint());
    let ours = bucket.open(&options).await;
    put(&*ours, "x", Precondition::None).await.unwrap();
    let whole_bucket = open(&format!("s3://{}", bucket.0), &options).await;
    let beside = Key::new("some/prefix-beside/a").unwrap();
    whole_bucket
        .put(&beside, b"x".as_slice().into(), Precondition::None)
        .await
        .unwrap();
    assert_eq!(ours.list("").await.unwrap().len(), 1);
    assert_eq!(whole_bucket.list("some/prefix/").await.unwrap().len(), 1);
    assert_eq!(whole_bucket.list("").await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_by_its_file() {
    let ca = TestCa::new();
    let proxy = Chaos::new().tls_proxy("s3", &Moto::shared().endpoint(), &ca);
    let bucket = Bucket::new();
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("ca.pem");
    std::fs::write(&pem, ca.pem()).unwrap();
    let mut options = hasty(bucket.options(&proxy.origin()));
    options.operation_timeout = Duration::from_secs(30);
    assert!(
        put(&*bucket.open(&options).await, "x", Precondition::None)
            .await
            .unwrap_err()
            .is_transient()
    );
    options.s3.ca_bundle = Some(pem.clone());
    put(&*bucket.open(&options).await, "x", Precondition::None)
        .await
        .unwrap();

    for content in [
        "",
        "no certificate",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        std::fs::write(&pem, content).unwrap();
        let url = "s3://bucket".parse().unwrap();
        let error = mayfly_storage::open(&url, &options).await.unwrap_err();
        assert!(
            matches!(error, OpenError::CaBundle { .. }),
            "{content:?}: {error:?}"
        );
    }
}
