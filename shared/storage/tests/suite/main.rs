//! One suite over every store: the promises of the port, held against a directory, memory and three real S3 servers, and what is particular to each.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod cases;
mod directory_only;
mod s3_only;
mod silence;
mod uploads;

use std::path::Path;
use std::sync::Arc;

use mayfly_storage::{ObjectStore, StorageOptions, StorageUrl};
use mayfly_testkit::s3::S3Place;
use tempfile::TempDir;

/// A fresh store, and what has to live as long as it.
pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// A folder for the files of the test.
    pub(crate) files: TempDir,
    _ground: Box<dyn Send>,
}

impl Fixture {
    fn new(store: Arc<dyn ObjectStore>, ground: impl Send + 'static) -> Self {
        Self {
            store,
            files: tempfile::tempdir().unwrap(),
            _ground: Box::new(ground),
        }
    }

    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.files.path().join(name)
    }
}

async fn directory() -> Fixture {
    let root = tempfile::tempdir().unwrap();
    Fixture::new(open_directory(&root.path().join("made")).await, root)
}

async fn open_directory(root: &Path) -> Arc<dyn ObjectStore> {
    let url = StorageUrl::directory(root).unwrap();
    mayfly_storage::open(&url, &StorageOptions::default())
        .await
        .unwrap()
}

async fn memory() -> Fixture {
    let url = "memory:".parse().unwrap();
    let store = mayfly_storage::open(&url, &StorageOptions::default())
        .await
        .unwrap();
    Fixture::new(store, ())
}

async fn moto() -> Fixture {
    s3(S3Place::moto).await
}

async fn ministack() -> Fixture {
    s3(S3Place::ministack).await
}

async fn ceph() -> Fixture {
    s3(S3Place::ceph).await
}

async fn s3(start: fn() -> &'static S3Place) -> Fixture {
    let place = tokio::task::block_in_place(start);
    Fixture::new(s3_only::open_place(place).await, ())
}

macro_rules! over {
    ($backend:ident: $($group:ident::$case:ident)*) => {
        mod $backend {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    crate::$group::$case(crate::$backend().await).await;
                }
            )*
        }
    };
}

macro_rules! suite {
    ($($backend:ident)*) => {
        $(over! { $backend:
            cases::an_object_comes_back_as_it_was_written
            cases::an_empty_object_is_an_object
            cases::an_absent_object_is_told_from_a_failure
            cases::ranges_stop_at_the_end_of_the_object
            cases::limits_hold
            cases::a_write_without_condition_replaces
            cases::a_create_only_write_never_replaces
            cases::a_swap_needs_the_current_version
            cases::the_probe_is_satisfied
            cases::one_of_32_creators_wins
            cases::no_increment_is_lost_by_racing_writers
            cases::a_listing_has_all_pages_in_order
            cases::a_listing_keeps_to_its_prefix
            cases::a_large_file_goes_up_and_comes_down
            cases::a_large_body_goes_up_and_comes_down
            cases::a_large_file_is_created_once
            cases::a_failed_download_leaves_no_file
            cases::a_file_that_is_missing_is_named
            cases::removing_twice_is_fine
            cases::errors_name_the_operation_and_the_key
            uploads::a_stream_becomes_an_object_at_its_end
            uploads::a_stream_that_is_given_up_leaves_nothing
            uploads::a_level_is_listed_in_pages
        })*
    };
}

suite! { directory memory moto ministack ceph }
