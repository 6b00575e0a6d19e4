//! The pack of a clone goes to the storage while it arrives: it has a name of its own, and nothing stays of one that broke off.

use std::sync::Arc;

use mayfly_protocol::{ErrorCode, JobKind, SecretString};
use mayfly_session::PackKind;
use mayfly_storage::{
    Fault, FaultyStore, ObjectStore, Operation, Rule, S3Credentials, S3Options, StorageOptions, When,
};
use mayfly_testkit::git_host::{Fault as HostFault, On};
use mayfly_testkit::moto::Moto;
use mayfly_testkit::repo::TestRepo;

use super::rig::Rig;

/// More than S3 takes in one part.
const NOISE_BYTES: usize = 20 * 1024 * 1024;

/// A rig over a bucket.
async fn over_s3(bucket: &str) -> Rig {
    let moto = Moto::shared();
    moto.create_bucket(bucket);
    let options = StorageOptions {
        s3: S3Options {
            endpoint: Some(moto.endpoint()),
            region: Some("us-east-1".to_owned()),
            credentials: Some(S3Credentials {
                access_key_id: "id".to_owned(),
                secret_access_key: SecretString::from("key"),
            }),
            ..S3Options::default()
        },
        ..StorageOptions::default()
    };
    let url = format!("s3://{bucket}/some/prefix").parse().unwrap();
    let mut rig = Rig::new().await;
    rig.storage = mayfly_storage::open(&url, &options).await.unwrap();
    rig
}

fn large() -> TestRepo {
    let repo = TestRepo::sample();
    repo.write_noise("noise.bin", NOISE_BYTES, 1);
    repo.commit("Noise");
    repo
}

/// The keys of packs and indexes, and how many uploads are not ended.
async fn stored(storage: &dyn ObjectStore) -> (Vec<String>, usize) {
    let objects = storage.list("").await.unwrap();
    let keys = objects.iter().map(|object| object.key.to_string());
    let packs = keys.filter(|key| key.contains("/packs/")).collect();
    (packs, storage.unfinished().await.unwrap().len())
}

async fn each_breaks_off_without_a_trace(mut rig: Rig) {
    rig.host.publish(&large(), "r");
    rig.host.fail(On::UploadPack, HostFault::CutAfter(12_000_000));
    let cut = rig.job(JobKind::CloneRepository, rig.clone_body("s1", "r")).await;
    assert!(!cut.succeeded(), "{}", cut.raw);
    assert_eq!(stored(&*rig.storage).await, (vec![], 0));
    rig.host.behave();

    let good = Arc::clone(&rig.storage);
    for rule in [
        Rule::on(Operation::Upload, When::Nth(1), Fault::Unavailable),
        Rule::on(Operation::UploadWrite, When::Nth(200), Fault::Unavailable),
        Rule::on(Operation::UploadWrite, When::Nth(200), Fault::DiskFull),
    ] {
        let faulty = Arc::new(FaultyStore::new(Arc::clone(&good), 0).with(rule));
        rig.storage = faulty.clone();
        let ran = rig.job(JobKind::CloneRepository, rig.clone_body("s1", "r")).await;
        assert!(!ran.succeeded() && faulty.faults() == 1, "{}", ran.raw);
        assert_eq!(stored(&*good).await, (vec![], 0));
    }
    rig.storage = good;

    rig.limits.transfer.max_pack_bytes = 12_000_000;
    let ran = rig.job(JobKind::CloneRepository, rig.clone_body("s1", "r")).await;
    ran.failed(ErrorCode::RepositoryTooLarge);
    assert_eq!(stored(&*rig.storage).await, (vec![], 0));
    rig.limits.transfer.max_pack_bytes = u64::MAX;

    rig.clone("s1", "r").await;
    let manifest = rig.manifest("s1").await.unwrap();
    let base = manifest.packs.iter().find(|pack| pack.kind == PackKind::Base);
    let name = base.unwrap().name.to_string();
    let (keys, unfinished) = stored(&*rig.storage).await;
    let named = keys.iter().filter(|key| key.contains(&name)).count();
    assert_eq!((keys.len(), named, unfinished), (4, 2, 0), "{keys:?}");
    rig.write("s1", "a.txt", "a\n").await;
    let ran = rig.commit("s1", serde_json::json!({"message": "On it"})).await;
    assert!(ran.succeeded(), "{}", ran.raw);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_directory() {
    each_breaks_off_without_a_trace(Rig::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_bucket() {
    each_breaks_off_without_a_trace(over_s3("incoming").await).await;
}
