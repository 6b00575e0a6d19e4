//! Listing and deleting sessions, beside jobs that run.

use std::sync::Arc;
use std::time::Duration;

use mayfly_protocol::{ErrorCode, SessionId};
use mayfly_session::{DeleteError, LoadError, Manifest, PackKind, SaveError};
use mayfly_storage::{Fault, FaultyStore, MemoryStore, ObjectStore, Operation, Rule, When};
use mayfly_testkit::repo::TestRepo;

use super::scene::{backends, pack_files};
use crate::{MANIFEST_KEY, draft, id, next, overwrite, store};

const MINUTES: Duration = Duration::from_secs(600);

fn named(name: &str) -> Manifest {
    let mut manifest = next(&draft());
    manifest.session_id = name.parse().unwrap();
    manifest
}

async fn page(storage: &Arc<dyn ObjectStore>, after: Option<&str>, limit: usize) -> (Vec<String>, bool) {
    let after: Option<SessionId> = after.map(|id| id.parse().unwrap());
    let page = store(storage)
        .page(after.as_ref(), limit.try_into().unwrap())
        .await
        .unwrap();
    let ids = page.sessions.iter().map(|(id, _)| id.to_string());
    (ids.collect(), page.next.is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_by_id_and_in_pages() {
    for backend in backends().await {
        let storage = &backend.storage;
        assert_eq!(page(storage, None, 5).await, (vec![], false));
        // In the order of keys: `a-b/` lies before `a/`.
        for name in ["b", "a", "a-b", "a.b", "B"] {
            store(storage).save(None, named(name)).await.unwrap();
        }
        let other = mayfly_session::SessionStore::new(Arc::clone(storage), "other".parse().unwrap());
        other.save(None, named("hidden")).await.unwrap();
        overwrite(storage, "tenants/default/sessions/a/packs/x.pack", b"x".to_vec()).await;
        assert_eq!(
            page(storage, None, 3).await,
            (vec!["B".into(), "a-b".into(), "a.b".into()], true),
            "{}",
            backend.name
        );
        assert_eq!(
            page(storage, Some("a.b"), 3).await,
            (vec!["a".into(), "b".into()], false)
        );
        overwrite(
            storage,
            "tenants/default/sessions/b/manifest.json",
            b"rubbish".to_vec(),
        )
        .await;
        let found = store(storage).page(None, 9.try_into().unwrap()).await.unwrap();
        let (_, last) = found.sessions.last().unwrap();
        assert!(matches!(last, Err(LoadError::Damaged { .. })), "{last:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_with_its_own_packs_and_shared_ones_stay() {
    let repo = TestRepo::sample();
    repo.text(&["repack", "-adfq"]);
    let files = pack_files(&repo).remove(0);
    for backend in backends().await {
        let sessions = store(&backend.storage);
        let mut manifest = next(&draft());
        for kind in [PackKind::Base, PackKind::Job] {
            let entry = sessions.upload_pack(&manifest, &files, kind).await.unwrap();
            manifest.add_pack(entry);
        }
        let job_in_flight = sessions.save(None, manifest).await.unwrap();
        let deleted = sessions.delete(&id(), MINUTES).await.unwrap().unwrap();
        assert_eq!(
            (deleted.objects, deleted.bytes),
            (3, files.pack_bytes + files.index_bytes),
            "{}",
            backend.name
        );
        assert!(sessions.load(&id()).await.unwrap().is_none());
        assert_eq!(sessions.delete(&id(), MINUTES).await.unwrap(), None);
        let left = backend.storage.list("").await.unwrap();
        assert!(
            left.len() == 2
                && left
                    .iter()
                    .all(|object| object.key.as_str().contains("/repositories/"))
        );
        let late = sessions
            .save(Some(&job_in_flight), next(&job_in_flight.manifest))
            .await;
        assert!(matches!(late, Err(SaveError::Conflict { .. })), "{late:?}");
        sessions.save(None, next(&draft())).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_broke_off_shuts_the_session_and_is_taken_up() {
    let storage: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let before = store(&storage).save(None, next(&draft())).await.unwrap();
    overwrite(
        &storage,
        "tenants/default/sessions/s1/packs/x.pack",
        b"x".to_vec(),
    )
    .await;
    let broken = Rule::on(Operation::Delete, When::Nth(1), Fault::Unavailable);
    let faulty: Arc<dyn ObjectStore> = Arc::new(FaultyStore::new(Arc::clone(&storage), 0).with(broken));
    let error = store(&faulty).delete(&id(), MINUTES).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorageUnavailable);

    let sessions = store(&storage);
    let load = sessions.load(&id()).await.unwrap_err();
    assert_eq!(
        (matches!(load, LoadError::Deleting { .. }), load.code()),
        (true, ErrorCode::SessionBusy)
    );
    for save in [
        sessions.save(Some(&before), next(&before.manifest)).await,
        sessions.save(None, next(&draft())).await,
    ] {
        assert!(matches!(save, Err(SaveError::Conflict { .. })), "{save:?}");
    }
    let early = sessions.delete(&id(), MINUTES).await;
    assert!(matches!(early, Err(DeleteError::UnderWay { .. })), "{early:?}");
    let taken_up = sessions.delete(&id(), Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(taken_up.objects, 2);
    assert!(storage.list("").await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_deletions_one_goes_on_and_a_damaged_session_can_be_deleted() {
    for backend in backends().await {
        let sessions = store(&backend.storage);
        overwrite(&backend.storage, MANIFEST_KEY, b"rubbish".to_vec()).await;
        let races = (0..8).map(|_| async { sessions.delete(&id(), MINUTES).await });
        let outcomes = futures::future::join_all(races).await;
        let won = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Ok(Some(_))))
            .count();
        assert_eq!(won, 1, "{}: {outcomes:?}", backend.name);
        assert!(backend.storage.list("").await.unwrap().is_empty());
    }
}
