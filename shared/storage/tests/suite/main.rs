//! One suite over every store: the promises of the port, held against a directory, memory and a real S3 server, and what is particular to each.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod cases;
mod directory_only;
mod proxy;
mod s3_only;

use std::path::Path;
use std::sync::Arc;

use mayfly_storage::{ObjectStore, StorageOptions, StorageUrl};
use mayfly_testkit::moto::Moto;
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

async fn s3() -> Fixture {
    let bucket = s3_only::Bucket::new();
    Fixture::new(bucket.open(&bucket.options(&Moto::shared().endpoint())).await, ())
}

macro_rules! over {
    ($backend:ident: $($case:ident)*) => {
        mod $backend {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    crate::cases::$case(crate::$backend().await).await;
                }
            )*
        }
    };
}

macro_rules! suite {
    ($($backend:ident)*) => {
        $(over! { $backend:
            an_object_comes_back_as_it_was_written
            an_empty_object_is_an_object
            an_absent_object_is_told_from_a_failure
            ranges_stop_at_the_end_of_the_object
            limits_hold
            a_write_without_condition_replaces
            a_create_only_write_never_replaces
            a_swap_needs_the_current_version
            the_probe_is_satisfied
            one_of_32_creators_wins
            no_increment_is_lost_by_racing_writers
            a_listing_has_all_pages_in_order
            a_listing_keeps_to_its_prefix
            a_large_file_goes_up_and_comes_down
            a_large_body_goes_up_and_comes_down
            a_large_file_is_created_once
            a_failed_download_leaves_no_file
            a_file_that_is_missing_is_named
            removing_twice_is_fine
            errors_name_the_operation_and_the_key
        })*
    };
}

suite! { directory memory s3 }
