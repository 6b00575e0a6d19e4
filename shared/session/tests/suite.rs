//! One suite over every backend: what is saved comes back, and an older or damaged state never does so silently.
#![expect(clippy::unwrap_used, reason = "a test panics where its preparation fails")]

mod suite {
    mod collect;
    mod delete;
    mod open_jobs;
    pub(crate) mod scene;
    mod view;
}

use std::sync::Arc;

use mayfly_git::pack::PackFiles;
use mayfly_protocol::{JobId, JobKind, ObjectId, SessionId, TenantId};
use mayfly_session::{
    LoadError, MAX_WHOLE_BYTES, Manifest, PackEntry, PackKind, PackedObjects, SaveError, SessionStore,
};
use mayfly_storage::{
    Body, Fault, FaultyStore, MemoryStore, ObjectStore, Operation, Precondition, Rule, When,
};
use mayfly_testkit::repo::TestRepo;
use suite::scene::{backends, pack_files};
use time::macros::datetime;

fn store(storage: &Arc<dyn ObjectStore>) -> SessionStore {
    SessionStore::new(Arc::clone(storage), TenantId::default())
}

fn id() -> SessionId {
    "s1".parse().unwrap()
}

fn draft() -> Manifest {
    let at = datetime!(2026-01-02 03:04:05.678 UTC);
    Manifest::new(
        id(),
        "https://host/o/r".parse().unwrap(),
        "main".parse().unwrap(),
        at,
    )
}

/// The manifest as the next job would save it.
fn next(manifest: &Manifest) -> Manifest {
    let mut manifest = manifest.clone();
    manifest.record(JobId::new_now(), JobKind::ApplyChanges, None, manifest.updated_at);
    manifest
}

async fn overwrite(storage: &Arc<dyn ObjectStore>, key: &str, body: impl Into<Body>) {
    storage
        .put(&key.parse().unwrap(), body.into(), Precondition::None)
        .await
        .unwrap();
}

const MANIFEST_KEY: &str = "tenants/default/sessions/s1/manifest.json";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_comes_back() {
    for backend in backends().await {
        let sessions = store(&backend.storage);
        assert!(sessions.load(&id()).await.unwrap().is_none(), "{}", backend.name);
        let first = sessions.save(None, next(&draft())).await.unwrap();
        let loaded = sessions.load(&id()).await.unwrap().unwrap();
        assert_eq!(loaded.manifest, first.manifest, "{}", backend.name);
        let second = sessions
            .save(Some(&loaded), next(&loaded.manifest))
            .await
            .unwrap();
        assert_eq!(second.manifest.generation.0, 2);
        let other = SessionStore::new(Arc::clone(&backend.storage), "other".parse().unwrap());
        assert!(
            other.load(&id()).await.unwrap().is_none(),
            "tenants share nothing"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_saves_one_wins() {
    for backend in backends().await {
        let sessions = store(&backend.storage);
        let base = sessions.save(None, next(&draft())).await.unwrap();
        let stale = sessions.save(None, next(&draft())).await;
        assert!(
            matches!(stale, Err(SaveError::Conflict { .. })),
            "{}",
            backend.name
        );
        let saves = (0..16).map(|_| {
            let (sessions, base) = (sessions.clone(), base.clone());
            async move { sessions.save(Some(&base), next(&base.manifest)).await }
        });
        let outcomes = futures::future::join_all(saves).await;
        let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(won, 1, "{}", backend.name);
        let lost = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Err(SaveError::Conflict { .. })))
            .count();
        assert_eq!(lost, 15, "{}", backend.name);
        let winner = outcomes.into_iter().find_map(Result::ok).unwrap();
        assert_eq!(
            sessions.load(&id()).await.unwrap().unwrap().manifest,
            winner.manifest
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_not_one_is_announced() {
    for backend in backends().await {
        let sessions = store(&backend.storage);
        sessions.save(None, next(&draft())).await.unwrap();
        let good = serde_json::to_value(next(&draft())).unwrap();
        let with = |field: &str, value: serde_json::Value| {
            let mut changed = good.clone();
            changed[field] = value;
            changed.to_string().into_bytes()
        };
        for (content, reason) in [
            (b"rubbish".to_vec(), "not JSON"),
            (b"{}".to_vec(), "no format version"),
            (with("formatVersion", 2.into()), "format 2"),
            (with("unknown", 1.into()), "does not fit"),
            (with("head", "HEAD".into()), "does not fit"),
            (with("sessionId", "other".into()), "that of session `other`"),
        ] {
            overwrite(&backend.storage, MANIFEST_KEY, content).await;
            match sessions.load(&id()).await {
                Err(error @ LoadError::Damaged { .. }) => {
                    assert!(error.to_string().contains(reason), "{error}");
                }
                other => panic!("{}: {other:?}", backend.name),
            }
        }
    }
}

/// A real repository, packed by git with deltas; gives the pack and the ids of all objects.
fn packed(repo: &TestRepo) -> (PackFiles, Vec<ObjectId>) {
    repo.history(40);
    repo.text(&["repack", "-adfq", "--depth=50", "--window=50"]);
    let ids = repo.text(&["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"]);
    let ids: Vec<ObjectId> = ids.lines().map(|line| line.parse().unwrap()).collect();
    (pack_files(repo).remove(0), ids)
}

fn small(manifest: &Manifest) -> impl Iterator<Item = &PackEntry> {
    let packs = manifest.packs.iter();
    packs.filter(|entry| entry.is_read_whole(MAX_WHOLE_BYTES))
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_come_back_whole_and_object_by_object() {
    let repo = TestRepo::sample();
    let (files, ids) = packed(&repo);
    for backend in backends().await {
        let sessions = store(&backend.storage);
        let mut manifest = draft();
        let entry = sessions
            .upload_pack(&manifest, &files, PackKind::Job)
            .await
            .unwrap();
        manifest.add_pack(entry.clone());
        let second = sessions
            .upload_pack(&manifest, &files, PackKind::Job)
            .await
            .unwrap();
        assert_eq!(second.hash, entry.hash);
        assert_ne!(second.name, entry.name, "what is stored twice has two names");
        let folder = tempfile::tempdir().unwrap();
        let back = sessions
            .download_packs(&manifest, small(&manifest), folder.path())
            .await
            .unwrap();
        assert_eq!(
            std::fs::read(&back[0].pack).unwrap(),
            std::fs::read(&files.pack).unwrap(),
            "{}",
            backend.name
        );

        let base = sessions
            .upload_pack(&manifest, &files, PackKind::Base)
            .await
            .unwrap();
        manifest.packs = vec![base];
        assert!(
            sessions
                .download_packs(&manifest, small(&manifest), folder.path())
                .await
                .unwrap()
                .is_empty()
        );
        let packed = PackedObjects::new(sessions.clone());
        let found = packed.read(&manifest, &ids, 1 << 20).await.unwrap();
        assert_eq!(
            (found.objects.len(), found.absent.len()),
            (ids.len(), 0),
            "{}",
            backend.name
        );
        for (id, kind, content) in &found.objects {
            assert_eq!(kind.hash(content).unwrap(), *id);
        }
        let absent = ObjectId::from_bytes([0xab; 20]);
        let found = packed.read(&manifest, &[ids[0], absent], 1 << 20).await.unwrap();
        assert_eq!((found.objects.len(), found.absent), (1, vec![absent]));
        let wanted = ids.iter().copied().chain([absent]).collect();
        assert_eq!(
            packed.first_absent(&manifest, wanted).await.unwrap(),
            Some(absent)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_missing_pack_is_announced() {
    let repo = TestRepo::sample();
    let (files, _) = packed(&repo);
    let storage: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let sessions = store(&storage);
    let mut manifest = draft();
    let entry = sessions
        .upload_pack(&manifest, &files, PackKind::Job)
        .await
        .unwrap();
    manifest.add_pack(entry.clone());
    let key = |extension: &str| format!("tenants/default/sessions/s1/packs/{}.{extension}", entry.name);
    let (pack, index) = (
        std::fs::read(&files.pack).unwrap(),
        std::fs::read(&files.index).unwrap(),
    );
    let flipped = |content: &[u8]| {
        let mut content = content.to_vec();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        content
    };
    let cut = |content: &[u8]| content[..content.len() - 1].to_vec();
    for (name, good, bad) in [
        (key("pack"), &pack, flipped(&pack)),
        (key("pack"), &pack, cut(&pack)),
        (key("idx"), &index, flipped(&index)),
        (key("idx"), &index, cut(&index)),
        (key("idx"), &index, Vec::new()),
    ] {
        overwrite(&storage, &name, bad).await;
        let folder = tempfile::tempdir().unwrap();
        let outcome = sessions
            .download_packs(&manifest, small(&manifest), folder.path())
            .await;
        assert!(
            matches!(outcome, Err(LoadError::Damaged { .. })),
            "{name}: {outcome:?}"
        );
        overwrite(&storage, &name, good.clone()).await;
    }
    storage.delete(&key("pack").parse().unwrap()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let outcome = sessions
        .download_packs(&manifest, small(&manifest), folder.path())
        .await;
    assert!(matches!(outcome, Err(LoadError::Damaged { .. })), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_whose_answer_was_lost_is_found_out() {
    let storage: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let base = store(&storage).save(None, next(&draft())).await.unwrap();
    let lost = Rule::on(Operation::Put, When::Nth(1), Fault::AnswerLost);
    let sessions =
        store(&(Arc::new(FaultyStore::new(Arc::clone(&storage), 0).with(lost)) as Arc<dyn ObjectStore>));
    let manifest = next(&base.manifest);
    let outcome = sessions.save(Some(&base), manifest.clone()).await;
    assert!(matches!(outcome, Err(SaveError::Storage { .. })), "{outcome:?}");
    let again = sessions.save(Some(&base), manifest.clone()).await.unwrap();
    assert_eq!(again.manifest, manifest);
    let other = sessions.save(Some(&base), next(&base.manifest)).await;
    assert!(matches!(other, Err(SaveError::Conflict { .. })), "{other:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_refuses_is_not_taken_for_an_empty_one() {
    let storage: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    for fault in [Fault::Deny, Fault::Unavailable] {
        let rule = Rule::on(Operation::Get, When::Always, fault);
        let sessions =
            store(&(Arc::new(FaultyStore::new(Arc::clone(&storage), 0).with(rule)) as Arc<dyn ObjectStore>));
        assert!(
            matches!(sessions.load(&id()).await, Err(LoadError::Storage { .. })),
            "{fault:?}"
        );
    }
}
