//! `/sessions` over HTTP: what clients can do to it. What it shows is compared with git where a whole fleet runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use mayfly_gateway::{GatewayConfig, SessionsConfig};
use mayfly_git::pack::PackFiles;
use mayfly_protocol::{ObjectId, TenantId};
use mayfly_session::{Manifest, PackKind, SessionStore};
use mayfly_storage::{MemoryStore, ObjectStore};
use mayfly_testkit::repo::TestRepo;
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::client::{self, get};
use crate::gateway::{TestGateway, config};
use crate::until::until_some;

/// More than all buffers between a gateway and a client that does not read take together.
const LARGE: usize = 24 * 1024 * 1024;

/// A storage with the session `s`, which has one file of so many bytes.
async fn storage(bytes: usize) -> Arc<dyn ObjectStore> {
    let repo = TestRepo::new();
    repo.write_noise("noise", bytes, 1).commit("noise");
    repo.text(&["repack", "-adfq"]);
    let storage: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let sessions = SessionStore::new(Arc::clone(&storage), TenantId::default());
    let now = OffsetDateTime::UNIX_EPOCH;
    let (url, branch) = ("https://host/o/r".parse().unwrap(), "main".parse().unwrap());
    let mut manifest = Manifest::new("s".parse().unwrap(), url, branch, now);
    manifest.head = Some(repo.rev_parse("HEAD").parse().unwrap());
    manifest.worktree = repo.rev_parse("HEAD^{tree}").parse().unwrap();
    let entry = sessions
        .upload_pack(&manifest, &pack_of(&repo), PackKind::Base)
        .await
        .unwrap();
    manifest.add_pack(entry);
    sessions.save(None, manifest).await.unwrap();
    storage
}

fn pack_of(repo: &TestRepo) -> PackFiles {
    let files = std::fs::read_dir(repo.path().join(".git/objects/pack")).unwrap();
    let mut files = files.flatten().map(|entry| entry.path());
    let pack = files
        .find(|file| file.extension().is_some_and(|it| it == "pack"))
        .unwrap();
    let content = std::fs::read(&pack).unwrap();
    let seal: [u8; 20] = content[content.len() - 20..].try_into().unwrap();
    let size = |file: &Path| std::fs::metadata(file).unwrap().len();
    let index = pack.with_extension("idx");
    PackFiles {
        pack_bytes: size(&pack),
        index_bytes: size(&index),
        hash: ObjectId::from_bytes(seal).to_string(),
        objects: 3,
        pack,
        index,
    }
}

async fn start(bytes: usize) -> (TestGateway, TempDir) {
    let tmp_dir = tempfile::tempdir().unwrap();
    let sessions = SessionsConfig {
        archives_at_once: 1,
        stall_timeout: Duration::from_millis(300),
        ..SessionsConfig::new(storage(bytes).await, tmp_dir.path().to_owned())
    };
    let config = GatewayConfig {
        sessions: Some(sessions),
        ..config(&[])
    };
    (TestGateway::start(config).await, tmp_dir)
}

fn left_in(tmp_dir: &TempDir) -> usize {
    std::fs::read_dir(tmp_dir.path()).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_no_client_would_send_by_itself_are_refused() {
    let (gateway, _tmp_dir) = start(100).await;
    for path in [
        "../noise",
        "..",
        "a/../noise",
        "%2e%2e/noise",
        "./noise",
        "/noise",
        "noise/",
        ".git",
        "%00",
    ] {
        let (status, refusal) = gateway.get(&format!("/sessions/s/files/{path}")).await;
        assert_eq!(
            (status, &refusal["code"]),
            (400, &"path_refused".into()),
            "{path}"
        );
    }
    let (status, refusal) = gateway.get("/sessions/../files/noise").await;
    assert_eq!((status, &refusal["field"]), (400, &"sessionId".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_an_archive_loses_it_and_gives_its_place_back() {
    let (mut gateway, tmp_dir) = start(LARGE).await;
    let stalled = gateway.send(get("/sessions/s/archive")).await;
    assert_eq!(stalled.status(), 200);
    let refused = gateway.send(get("/sessions/s/archive")).await;
    assert_eq!(
        (
            refused.status().as_u16(),
            refused.headers()["retry-after"].to_str().unwrap()
        ),
        (429, "2")
    );
    assert_eq!(client::json(refused).await["code"], "rate_limited");
    let whole = until_some("the place is free again", async || {
        let again = gateway.send(get("/sessions/s/archive")).await;
        (again.status() == 200).then_some(again)
    })
    .await;
    assert!(whole.into_body().collect().await.unwrap().to_bytes().len() > LARGE);
    assert!(
        stalled.into_body().collect().await.is_err(),
        "half an archive does not end like a whole one"
    );
    until_some("the scratch folders are gone", async || {
        (left_in(&tmp_dir) == 0).then_some(())
    })
    .await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_read_does_not_outlive_the_gateway() {
    let (mut gateway, tmp_dir) = start(LARGE).await;
    let unread = gateway.send(get("/sessions/s/archive")).await;
    assert_eq!(unread.status(), 200);
    gateway.stop().await;
    assert_eq!(left_in(&tmp_dir), 0);
}
