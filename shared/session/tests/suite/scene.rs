//! What the suite runs over: each backend, and packs that git made.

use std::path::Path;
use std::sync::Arc;

use mayfly_git::pack::PackFiles;
use mayfly_protocol::ObjectId;
use mayfly_storage::{DirectoryStore, MemoryStore, ObjectStore, S3Credentials, StorageOptions};
use mayfly_testkit::repo::TestRepo;
use mayfly_testkit::s3::S3Place;

/// A backend, with what has to outlive the test.
pub(crate) struct Backend {
    pub(crate) name: &'static str,
    pub(crate) storage: Arc<dyn ObjectStore>,
    _keep: Option<tempfile::TempDir>,
}

pub(crate) async fn backends() -> Vec<Backend> {
    let folder = tempfile::tempdir().unwrap();
    let directory = DirectoryStore::open(folder.path(), &StorageOptions::default())
        .await
        .unwrap();
    vec![
        Backend {
            name: "memory",
            storage: Arc::new(MemoryStore::new()),
            _keep: None,
        },
        Backend {
            name: "directory",
            storage: Arc::new(directory),
            _keep: Some(folder),
        },
        s3("moto", S3Place::moto).await,
        s3("ministack", S3Place::ministack).await,
        s3("ceph", S3Place::ceph).await,
    ]
}

/// A prefix of its own on a real S3 server.
async fn s3(name: &'static str, start: fn() -> &'static S3Place) -> Backend {
    Backend {
        name,
        storage: open(tokio::task::block_in_place(start)).await,
        _keep: None,
    }
}

/// A prefix of its own at this place.
pub(crate) async fn open(place: &S3Place) -> Arc<dyn ObjectStore> {
    let mut options = StorageOptions::default();
    options.s3.endpoint = Some(place.endpoint.clone());
    options.s3.region = Some("us-east-1".to_owned());
    options.s3.credentials = Some(S3Credentials {
        access_key_id: place.access_key_id.clone(),
        secret_access_key: place.secret_access_key.clone().into(),
    });
    let url = place.fresh_url().parse().unwrap();
    mayfly_storage::open(&url, &options).await.unwrap()
}

/// The packs of a repository.
pub(crate) fn pack_files(repo: &TestRepo) -> Vec<PackFiles> {
    let files = std::fs::read_dir(repo.path().join(".git/objects/pack")).unwrap();
    let files = files.flatten().map(|entry| entry.path());
    let packs = files.filter(|file| file.extension().is_some_and(|it| it == "pack"));
    packs.map(pack_of).collect()
}

fn pack_of(pack: std::path::PathBuf) -> PackFiles {
    let index = pack.with_extension("idx");
    let content = std::fs::read(&pack).unwrap();
    let objects = u32::from_be_bytes(content[8..12].try_into().unwrap());
    let hash: [u8; 20] = content[content.len() - 20..].try_into().unwrap();
    let size = |file: &Path| std::fs::metadata(file).unwrap().len();
    PackFiles {
        pack_bytes: size(&pack),
        index_bytes: size(&index),
        hash: ObjectId::from_bytes(hash).to_string(),
        objects,
        pack,
        index,
    }
}
