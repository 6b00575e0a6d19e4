//! Hosts that must not be reached, and hosts that lie.

use std::sync::Arc;
use std::time::Duration;

use mayfly_protocol::{ErrorCode, JobKind, ObjectId};
use mayfly_storage::{Fault as StorageFault, FaultyStore, Operation, Rule, When};
use mayfly_testkit::git_host::{Fault, GitHost, On};
use mayfly_testkit::repo::{BareRepo, TestRepo};
use serde_json::{Value, json};

use super::rig::Rig;

async fn clone_of(rig: &Rig, url: &str, code: ErrorCode) {
    let body = json!({"sessionId": "s", "repoUrl": url, "accessToken": rig.host.token()});
    rig.job(JobKind::CloneRepository, body).await.failed(code);
    assert!(rig.manifest("s").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_are_refused_in_every_spelling() {
    let mut rig = Rig::new().await;
    rig.policy.allow_private = false;
    for host in [
        "127.0.0.1",
        "localhost",
        "0x7f.1",
        "127.1",
        "2130706433",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "10.0.0.1",
        "169.254.169.254",
        "192.168.1.1",
        "[fe80::1]",
        "[64:ff9b::7f00:1]",
        "0.0.0.0",
        "[::]",
        "LOCALHOST",
        "127.0.0.1.",
        "127.0.1",
        "0177.0.0.1",
        "017700000001",
        "0x7f000001",
        "0x7F.0.0.0x1",
        "127.255.255.254",
        "%31%32%37.0.0.1",
        "\u{2460}\u{2461}\u{2466}.0.0.1",
        "127\u{3002}0\u{3002}0\u{3002}1",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "[::ffff:a9fe:a9fe]",
        "[0:0:0:0:0:ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b:1::1]",
        "[2002:7f00:1::]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "172.16.0.1",
        "172.31.255.255",
        "100.64.0.1",
        "100.100.100.200",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
    ] {
        clone_of(
            &rig,
            &format!("https://{host}:{}/o/r", rig.host.port()),
            ErrorCode::HostRefused,
        )
        .await;
    }
    assert!(rig.host.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_are_not_there_are_told_apart() {
    let mut rig = Rig::new().await;
    clone_of(&rig, "http://does-not-exist.invalid/o/r", ErrorCode::HostUnknown).await;
    let refused = mayfly_testkit::port::refused();
    clone_of(
        &rig,
        &format!("http://{}/o/r", refused.addr()),
        ErrorCode::RemoteUnreachable,
    )
    .await;
    let silent = mayfly_testkit::port::silent();
    rig.policy.idle_timeout = Duration::from_millis(300);
    clone_of(
        &rig,
        &format!("http://{}/o/r", silent.addr()),
        ErrorCode::RemoteTimeout,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_not_carried_to_another_origin() {
    let rig = Rig::new().await;
    let other = GitHost::start();
    rig.host.publish(&TestRepo::sample(), "app");
    rig.host.fail(
        On::Any,
        Fault::Redirect {
            status: 302,
            origin: other.origin(),
        },
    );
    clone_of(&rig, &rig.host.url("app"), ErrorCode::RedirectRefused).await;
    assert!(other.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_lie_end_as_an_error() {
    let rig = Rig::new().await;
    let repo = TestRepo::sample();
    repo.history(20);
    rig.host.publish(&repo, "app");
    for (on, fault, code) in [
        (
            On::FetchAdvertisement,
            Fault::ContentType("text/html".into()),
            ErrorCode::NotGit,
        ),
        (
            On::FetchAdvertisement,
            Fault::status(500),
            ErrorCode::RemoteUnavailable,
        ),
        (
            On::FetchAdvertisement,
            Fault::too_many_requests("3"),
            ErrorCode::RemoteRateLimited,
        ),
        (
            On::FetchAdvertisement,
            Fault::Lie(b"0000".to_vec()),
            ErrorCode::RemoteProtocol,
        ),
    ] {
        rig.host.fail(on, fault.clone());
        let body = rig.clone_body("s", "app");
        let ran = rig.job(JobKind::CloneRepository, body).await;
        ran.failed(code);
        rig.host.behave();
        assert!(rig.manifest("s").await.is_none(), "{fault:?}");
    }
    rig.clone("s", "app").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_while_bytes_arrive() {
    let mut rig = Rig::new().await;
    let repo = TestRepo::sample();
    repo.write_noise("noise.bin", 2 * 1024 * 1024, 1).commit("Noise");
    rig.host.publish(&repo, "app");
    let url = rig.host.url("app");
    let unlimited = rig.limits.clone();
    rig.limits.transfer.max_pack_bytes = 100_000;
    clone_of(&rig, &url, ErrorCode::RepositoryTooLarge).await;
    rig.limits = unlimited.clone();
    rig.limits.transfer.max_objects = 3;
    clone_of(&rig, &url, ErrorCode::TooManyObjects).await;
    rig.limits = unlimited.clone();
    rig.limits.transfer.max_object_bytes = 1024 * 1024;
    clone_of(&rig, &url, ErrorCode::ObjectTooLarge).await;
    rig.limits = unlimited;
    rig.clone("s", "app").await;
}

/// Moves `main` to a commit of a tree with one entry, written byte by byte: git itself would refuse to make it.
fn commit_raw_tree(bare: &BareRepo, entry: &[u8]) {
    let blob = bare.rev_parse("main:README.md");
    let blob: ObjectId = blob.parse().unwrap();
    let mut tree = entry.to_vec();
    tree.extend_from_slice(blob.as_bytes());
    let file = bare.path().join("raw-tree");
    std::fs::write(&file, tree).unwrap();
    let id = bare.text(&[
        "hash-object",
        "-t",
        "tree",
        "-w",
        "--literally",
        file.to_str().unwrap(),
    ]);
    let commit = bare.text(&[
        "-c",
        "user.name=x",
        "-c",
        "user.email=x",
        "commit-tree",
        "-m",
        "Hostile",
        &id,
    ]);
    bare.text(&["update-ref", "refs/heads/main", &commit]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_tree_is_not_taken_in() {
    let rig = Rig::new().await;
    for (number, entries) in [
        b"100644 .GIT\0".as_slice(),
        b"100644 ..\0",
        b"100644 a\\b\0",
        b"120000 .gitmodules\0",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("hostile{number}");
        let bare = rig.host.publish(&TestRepo::sample(), &name);
        commit_raw_tree(&bare, entries);
        clone_of(&rig, &rig.host.url(&name), ErrorCode::UnsafeTree).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_that_loses_the_race_or_fails_changes_nothing() {
    let mut rig = Rig::new().await;
    rig.host.publish(&TestRepo::sample(), "app");
    rig.clone("s", "app").await;
    let body: Value = json!({"files": [{"path": "a", "content": "a"}]});
    let before = rig.manifest("s").await;
    let good = Arc::clone(&rig.storage);
    for (operation, fault, code) in [
        (
            Operation::Get,
            StorageFault::Unavailable,
            ErrorCode::StorageUnavailable,
        ),
        (Operation::Get, StorageFault::Deny, ErrorCode::StorageDenied),
        (
            Operation::Download,
            StorageFault::Unavailable,
            ErrorCode::StorageUnavailable,
        ),
        (Operation::Put, StorageFault::DiskFull, ErrorCode::DiskFull),
        (
            Operation::Put,
            StorageFault::Unavailable,
            ErrorCode::StorageUnavailable,
        ),
        (Operation::Put, StorageFault::Conflict, ErrorCode::SessionConflict),
    ] {
        let faulty = FaultyStore::new(Arc::clone(&good), 0).with(Rule::on(operation, When::Always, fault));
        rig.storage = Arc::new(faulty);
        rig.apply("s", body.clone()).await.failed(code);
        rig.storage = Arc::clone(&good);
        assert_eq!(rig.manifest("s").await, before, "{operation:?} {fault:?}");
    }
}
