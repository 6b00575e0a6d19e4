//! A collection of garbage on real S3 servers, whose clocks go on by days.

use std::sync::Arc;
use std::time::Duration;

use mayfly_protocol::lfs::LfsId;
use mayfly_protocol::{JobId, JobKind, ObjectId, SessionId, TenantId};
use mayfly_session::gc::{Gc, GcPolicy, GcSubject};
use mayfly_session::{LfsEntry, LfsOrigin, LfsWeek, Manifest, PackKind, SessionStore};
use mayfly_storage::ObjectStore;
use mayfly_testkit::chaos_proxy::{Chaos, Fate, Refusal};
use mayfly_testkit::repo::TestRepo;
use mayfly_testkit::s3::S3Place;
use mayfly_testkit::s3::clock::dated_later;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::scene::{open, pack_files};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The key by which a collection asks for the time.
const CLOCK: &str = "gc/last-run.json";

async fn session(sessions: &SessionStore, id: &str, repo: &TestRepo) -> SessionId {
    let now = OffsetDateTime::now_utc();
    let id: SessionId = id.parse().unwrap();
    let (url, branch) = ("https://host/o/r".parse().unwrap(), "main".parse().unwrap());
    let mut manifest = Manifest::new(id.clone(), url, branch, now);
    let files = pack_files(repo).remove(0);
    for kind in [PackKind::Base, PackKind::Job] {
        let entry = sessions.upload_pack(&manifest, &files, kind).await.unwrap();
        manifest.add_pack(entry);
        // And one that is not listed.
        sessions.upload_pack(&manifest, &files, kind).await.unwrap();
    }
    let (week, content) = (LfsWeek::of(now), id.as_str().as_bytes().to_vec());
    let entry = LfsEntry {
        blob: ObjectId::from_bytes([1; 20]),
        oid: LfsId::from_bytes(Sha256::digest(&content).into()),
        size: content.len() as u64,
        week,
    };
    let put = sessions.put_lfs_content(&manifest, (&entry.oid, week), content);
    put.await.unwrap();
    let origin = (LfsOrigin::Job, week);
    let added = sessions.add_lfs_entries(&mut manifest, vec![entry], origin);
    added.await.unwrap();
    manifest.record(JobId::new_now(), JobKind::ApplyChanges, None, now);
    sessions.save(None, manifest).await.unwrap();
    id
}

/// What a worker leaves behind that dies while it uploads.
async fn unfinished_upload(chaos: &Chaos, storage: &Arc<dyn ObjectStore>) {
    chaos.script(|seen| match seen.head.method.as_str() {
        "DELETE" => Fate::Answer(Refusal::internal_error()),
        _ => Fate::Pass,
    });
    let key = "tenants/default/sessions/kept/packs/died.pack".parse().unwrap();
    let mut upload = storage.upload(&key).await.unwrap();
    upload.write(vec![7; 9 << 20].into()).await.unwrap();
    upload.abort().await;
    chaos.behave();
    assert_eq!(storage.unfinished().await.unwrap().len(), 1);
}

async fn collect(chaos: &Chaos, storage: &Arc<dyn ObjectStore>, later: Duration) -> Vec<GcSubject> {
    chaos.script(dated_later(CLOCK, later));
    let gc = Gc::new(Arc::clone(storage), GcPolicy::default()).unwrap();
    let mut done = Vec::new();
    let sums = gc.run(&mut |line| done.push(line.subject)).await.unwrap();
    assert_eq!(sums.failed, 0);
    done.sort_by_key(|subject| format!("{subject:?}"));
    done
}

async fn on(place: &S3Place) {
    let chaos = Chaos::new();
    let proxy = chaos.proxy("s3", &place.endpoint);
    let storage = open(&place.through(proxy.origin())).await;
    let sessions = SessionStore::new(Arc::clone(&storage), TenantId::default());
    let repo = TestRepo::sample();
    repo.text(&["repack", "-adfq"]);
    let kept = session(&sessions, "kept", &repo).await;
    let old = session(&sessions, "old", &repo).await;
    assert!(sessions.pin(&kept).await.unwrap());
    unfinished_upload(&chaos, &storage).await;
    let before = storage.list("").await.unwrap().len();

    let now = collect(&chaos, &storage, Duration::ZERO).await;
    // moto says of every upload that it began in 2010.
    assert!(now.iter().all(|subject| *subject == GcSubject::Upload), "{now:?}");
    assert_eq!(storage.list("").await.unwrap().len(), before + 1);
    assert!(sessions.load(&old).await.unwrap().is_some());

    let mut first = collect(&chaos, &storage, 8 * DAY).await;
    first.retain(|subject| *subject != GcSubject::Upload);
    let [session, own, retired] = [
        GcSubject::Session,
        GcSubject::SessionObject,
        GcSubject::RetiredPack,
    ];
    assert_eq!(first, [retired, retired, session, own, own]);
    assert_eq!(storage.unfinished().await.unwrap(), vec![]);
    let second = collect(&chaos, &storage, 16 * DAY).await;
    let [lfs, shared] = [GcSubject::LfsObject, GcSubject::RepositoryObject];
    assert_eq!(second, [lfs, lfs, shared, shared, shared, shared, retired]);
    collect(&chaos, &storage, 24 * DAY).await;
    assert_eq!(collect(&chaos, &storage, 32 * DAY).await, []);

    assert!(sessions.load(&old).await.unwrap().is_none());
    let left = storage.list("").await.unwrap();
    let left: Vec<_> = left.iter().map(|object| object.key.as_str()).collect();
    // The note of the collection, what is known of the repository, two packs of two files, a list, a content, the manifest and its pin.
    assert_eq!(left.len(), 2 + 4 + 2 + 2, "{left:?}");
    let loaded = sessions.load(&kept).await.unwrap().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for entry in &loaded.manifest.packs {
        let pack = sessions.download_pack(&loaded.manifest, entry, folder.path());
        pack.await.unwrap();
    }
    let contents = sessions.lfs_entries(&loaded.manifest, None).await.unwrap();
    for entry in contents.values() {
        let content = sessions.lfs_content(&loaded.manifest, entry).await.unwrap();
        assert_eq!(content, b"kept".as_slice());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_needed_no_more_goes_from_every_server() {
    for start in [S3Place::moto, S3Place::ministack, S3Place::ceph] {
        on(tokio::task::block_in_place(start)).await;
    }
}
