//! What only a directory has: a file system under it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mayfly_storage::{
    DirectoryStore, Key, ObjectStore, OpenError, Precondition, StorageError, StorageOptions, StorageUrl,
};

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

async fn open(root: &Path) -> DirectoryStore {
    DirectoryStore::open(root, &StorageOptions::default())
        .await
        .unwrap()
}

async fn put(store: &DirectoryStore, at: &str) -> Result<(), StorageError> {
    let body = b"content".as_slice().into();
    store.put(&key(at), body, Precondition::None).await.map(drop)
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[tokio::test]
async fn an_object_is_a_file_of_its_name_and_nothing_else_stays() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path()).await;
    put(&store, "a/b").await.unwrap();
    let missing = root.path().join("missing");
    store
        .put(&key("a/c"), missing.into(), Precondition::None)
        .await
        .unwrap_err();
    assert_eq!(fs::read(root.path().join("a/b")).unwrap(), b"content");
    assert!(files_below(&root.path().join(".mayfly-tmp")).is_empty());
    store.delete(&key("a/b")).await.unwrap();
    assert!(
        !root.path().join("a").exists(),
        "empty folders go with the last object"
    );
}

#[tokio::test]
async fn what_is_stored_is_there_for_the_next_process() {
    let root = tempfile::tempdir().unwrap();
    put(&open(root.path()).await, "a/b").await.unwrap();
    let object = open(root.path()).await.get(&key("a/b"), 100).await.unwrap();
    assert_eq!(object.bytes, "content");
}

#[tokio::test]
async fn an_object_cannot_be_a_folder_as_well() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path()).await;
    put(&store, "a/b").await.unwrap();
    for at in ["a", "a/b/c"] {
        let error = put(&store, at).await.unwrap_err();
        assert!(matches!(error, StorageError::Occupied { .. }), "{at}: {error:?}");
    }
    assert_eq!(store.list("").await.unwrap().len(), 1);
}

#[tokio::test]
async fn links_are_refused_and_not_listed() {
    let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(root.path()).await;
    fs::write(outside.path().join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink(outside.path(), root.path().join("link")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), root.path().join("file")).unwrap();
    for at in ["link/secret", "link/new", "file"] {
        let denied = |outcome| {
            assert!(
                matches!(outcome, Err(StorageError::Denied { .. })),
                "{at}: {outcome:?}"
            );
        };
        denied(put(&store, at).await);
        denied(store.get(&key(at), 100).await.map(drop));
        denied(
            store
                .download(&key(at), &outside.path().join("out"), 100)
                .await
                .map(drop),
        );
        denied(store.delete(&key(at)).await);
    }
    assert!(store.list("").await.unwrap().is_empty());
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"secret");
    assert_eq!(files_below(outside.path()).len(), 1);
}

#[tokio::test]
async fn unfinished_files_of_a_crash_are_removed_at_a_later_start() {
    let root = tempfile::tempdir().unwrap();
    open(root.path()).await;
    let unfinished = root.path().join(".mayfly-tmp");
    for (name, age_hours) in [("put-old", 25), ("put-new", 1)] {
        let file = fs::File::create(unfinished.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age_hours * 3600))
            .unwrap();
    }
    let store = open(root.path()).await;
    assert_eq!(files_below(&unfinished), [unfinished.join("put-new")]);
    assert!(store.list("").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_root_that_cannot_be_a_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let url = StorageUrl::directory(&file).unwrap();
    let error = mayfly_storage::open(&url, &StorageOptions::default())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, OpenError::Folder { path, .. } if *path == file),
        "{error:?}"
    );
    assert!(error.to_string().contains(file.to_str().unwrap()));
}

#[tokio::test]
async fn a_root_that_is_gone_is_no_missing_object() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path()).await;
    fs::remove_dir_all(root.path()).unwrap();
    assert!(put(&store, "a").await.unwrap_err().is_transient());
}
