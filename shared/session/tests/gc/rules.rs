//! What goes and what stays, case by case, on a storage with a clock of its own.

use std::sync::Arc;
use std::time::Duration;

use mayfly_protocol::lfs::LfsId;
use mayfly_protocol::{JobId, JobKind, JobOutcome, ObjectId, SessionId, TenantId};
use mayfly_session::gc::{Gc, GcLine, GcPolicy, GcSubject};
use mayfly_session::{Claimed, HexDigest, KeyArchive, KeyRecord};
use mayfly_session::{
    LfsEntry, LfsOrigin, LfsWeek, Manifest, OutcomeArchive, PackEntry, PackKind, SessionStore,
};
use mayfly_storage::{Fault, FaultyStore, ObjectStore, Precondition, Rule, When};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use time::OffsetDateTime;

use super::world::{Actor, World, pack_files};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

struct Scene {
    world: Arc<World>,
    storage: Arc<dyn ObjectStore>,
    sessions: SessionStore,
    folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        let world = World::new();
        let storage = world.open();
        Self {
            sessions: SessionStore::new(Arc::clone(&storage), TenantId::default()),
            storage,
            world,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn draft(&self, id: &str) -> Manifest {
        let (url, branch) = ("https://host/o/r".parse().unwrap(), "main".parse().unwrap());
        Manifest::new(id.parse().unwrap(), url, branch, self.world.now().into())
    }

    /// Saves a session with a base pack and a pack of its own.
    async fn session(&self, id: &str) -> SessionId {
        let mut manifest = self.draft(id);
        for kind in [PackKind::Base, PackKind::Job] {
            self.upload(&mut manifest, kind, true).await;
        }
        manifest.record(JobId::new_now(), JobKind::ApplyChanges, None, manifest.updated_at);
        self.sessions.save(None, manifest).await.unwrap();
        id.parse().unwrap()
    }

    async fn upload(&self, manifest: &mut Manifest, kind: PackKind, is_listed: bool) {
        let files = pack_files(&self.folder, &JobId::new_now().to_string());
        let entry = self.sessions.upload_pack(manifest, &files, kind).await.unwrap();
        if is_listed {
            manifest.add_pack(entry);
        }
    }

    async fn collect(&self) -> Vec<GcLine> {
        let mut lines = Vec::new();
        let gc = Gc::new(Arc::clone(&self.storage), GcPolicy::default()).unwrap();
        gc.run(&mut |line| lines.push(line.clone())).await.unwrap();
        lines
    }

    async fn count(&self, part: &str) -> usize {
        let keys = self.world.keys().await;
        keys.iter().filter(|key| key.contains(part)).count()
    }
}

fn subjects(lines: &[GcLine]) -> Vec<GcSubject> {
    lines.iter().map(|line| line.subject).collect()
}

#[tokio::test]
async fn a_session_goes_a_week_after_its_last_use_and_its_shared_packs_follow() {
    let scene = Scene::new();
    scene.session("s").await;
    scene.world.advance(7 * DAY - HOUR);
    assert_eq!(scene.collect().await, vec![]);
    scene.world.advance(HOUR);
    let lines = scene.collect().await;
    assert_eq!(subjects(&lines), [GcSubject::Session]);
    assert_eq!(lines[0].reason, "not used for 7days and not pinned");
    assert_eq!(
        (
            scene.count("/sessions/").await,
            scene.count("/repositories/").await
        ),
        (0, 2)
    );
    assert_eq!(subjects(&scene.collect().await), [GcSubject::RetiredPack]);
    scene.world.advance(6 * HOUR);
    let removed = [GcSubject::RepositoryObject; 2];
    assert_eq!(subjects(&scene.collect().await), removed);
    scene.collect().await;
    scene.world.advance(6 * HOUR);
    scene.collect().await;
    assert_eq!(scene.world.keys().await, ["gc/last-run.json"]);
}

#[tokio::test]
async fn a_pin_keeps_a_session_and_only_that_one() {
    let scene = Scene::new();
    let id = scene.session("s").await;
    assert!(scene.sessions.pin(&id).await.unwrap());
    scene.world.advance(30 * DAY);
    assert_eq!(scene.collect().await, vec![]);
    assert!(scene.sessions.unpin(&id).await.unwrap());
    assert_eq!(subjects(&scene.collect().await), [GcSubject::Session]);
    for pin in [scene.sessions.pin(&id).await, scene.sessions.unpin(&id).await] {
        assert!(!pin.unwrap(), "there is no session");
    }
    // The pin of one session does not hold the next of the same name.
    let id = scene.session("s").await;
    scene.sessions.pin(&id).await.unwrap();
    let pin = scene.world.keys().await;
    let pin = pin.iter().find(|key| key.contains("/pins/")).unwrap();
    let pin = pin.parse().unwrap();
    scene.sessions.delete(&id, DAY).await.unwrap();
    let put = scene
        .storage
        .put(&pin, b"late".to_vec().into(), Precondition::None);
    put.await.unwrap();
    scene.world.advance(HOUR);
    scene.session("s").await;
    scene.world.advance(7 * DAY);
    assert!(subjects(&scene.collect().await).contains(&GcSubject::Session));
}

#[tokio::test]
async fn what_jobs_left_that_died_goes_after_the_grace_and_what_is_listed_stays() {
    let scene = Scene::new();
    scene.session("s").await;
    let mut left = scene.draft("s");
    scene.upload(&mut left, PackKind::Job, false).await;
    scene.upload(&mut left, PackKind::Trees, false).await;
    let mut never = scene.draft("never");
    scene.upload(&mut never, PackKind::Job, false).await;
    scene.world.advance(6 * HOUR - Duration::from_secs(1));
    assert_eq!(scene.collect().await, vec![]);
    scene.world.advance(Duration::from_secs(1));
    let lines = scene.collect().await;
    let mut found = subjects(&lines);
    found.sort_by_key(|subject| format!("{subject:?}"));
    let object = GcSubject::SessionObject;
    assert_eq!(found, [GcSubject::RetiredPack, object, object, object, object]);
    scene.world.advance(6 * HOUR);
    assert_eq!(subjects(&scene.collect().await), [GcSubject::RepositoryObject; 2]);
    assert_eq!(scene.count("/packs/").await, 4, "those of the session");
}

/// Stores a content of Git LFS in the week of the world's clock, and names it in the manifest.
async fn add_content(scene: &Scene, manifest: &mut Manifest, content: u8) {
    let week = LfsWeek::of(scene.world.now().into());
    let (bytes, blob) = (vec![content; 9], ObjectId::from_bytes([content; 20]));
    let oid = LfsId::from_bytes(Sha256::digest(&bytes).into());
    let put = scene.sessions.put_lfs_content(manifest, (&oid, week), bytes);
    put.await.unwrap();
    let entry = LfsEntry {
        blob,
        oid,
        size: 9,
        week,
    };
    let origin = (LfsOrigin::Remote, week);
    let added = scene.sessions.add_lfs_entries(manifest, vec![entry], origin);
    added.await.unwrap();
}

/// Two sessions share a content; each has one of its own, and a job that died left one.
async fn sessions_with_contents(scene: &Scene) {
    for (id, own) in [("s", 1), ("t", 2)] {
        let mut manifest = scene.draft(id);
        add_content(scene, &mut manifest, 0).await;
        add_content(scene, &mut manifest, own).await;
        scene.sessions.save(None, manifest).await.unwrap();
    }
    add_content(scene, &mut scene.draft("never"), 3).await;
}

#[tokio::test]
async fn contents_of_lfs_go_when_their_week_is_over_and_no_session_names_them() {
    let scene = Scene::new();
    // A day before the end of the week.
    scene.world.advance(6 * DAY);
    sessions_with_contents(&scene).await;
    let counts = async || (scene.count("/contents/").await, scene.count("/lists/").await);
    assert_eq!(counts().await, (4, 4));
    scene.sessions.delete(&"t".parse().unwrap(), DAY).await.unwrap();
    scene.world.advance(DAY + 6 * HOUR - Duration::from_secs(1));
    assert_eq!(scene.collect().await, vec![], "the grace is not over");
    scene.world.advance(Duration::from_secs(1));
    let gc = Gc::new(Arc::clone(&scene.storage), GcPolicy::default()).unwrap();
    let mut would = Vec::new();
    let mut tell = |line: &GcLine| would.push((line.subject, line.key.clone()));
    // By this machine's clock, which is later than that of the world.
    gc.dry_run(&mut tell).await.unwrap();
    assert_eq!(counts().await, (4, 4));
    let lines = scene.collect().await;
    assert_eq!(subjects(&lines), [GcSubject::LfsObject; 4]);
    assert_eq!(
        lines[0].reason,
        "no session names it, and its week is over for 6h"
    );
    for line in &lines {
        assert!(would.contains(&(line.subject, line.key.clone())), "{line:?}");
    }
    // The lists of the one that is left, and what they name.
    assert_eq!(counts().await, (2, 2));
    let left = scene.sessions.load(&"s".parse().unwrap()).await.unwrap().unwrap();
    for entry in scene
        .sessions
        .lfs_entries(&left.manifest, None)
        .await
        .unwrap()
        .values()
    {
        scene.sessions.lfs_content(&left.manifest, entry).await.unwrap();
    }
    scene.world.advance(7 * DAY);
    assert_eq!(subjects(&scene.collect().await), [GcSubject::Session]);
    assert_eq!(subjects(&scene.collect().await), [GcSubject::LfsObject; 4]);
    assert_eq!(scene.world.keys().await, ["gc/last-run.json"]);
}

#[tokio::test]
async fn a_list_of_lfs_contents_that_cannot_be_read_holds_what_it_may_name() {
    let scene = Scene::new();
    sessions_with_contents(&scene).await;
    let keys = scene.world.keys().await;
    let session = scene.sessions.load(&"s".parse().unwrap()).await.unwrap().unwrap();
    let list = &session.manifest.lfs.unwrap().lists[0];
    let list = keys
        .iter()
        .find(|key| key.contains(&list.hash.to_string()))
        .unwrap();
    let rubbish = b"rubbish".to_vec().into();
    let list = list.parse().unwrap();
    let put = scene.storage.put(&list, rubbish, Precondition::None);
    put.await.unwrap();
    scene.sessions.pin(&"s".parse().unwrap()).await.unwrap();
    scene.world.advance(30 * DAY);
    let lines = scene.collect().await;
    assert_eq!(subjects(&lines), [GcSubject::Session, GcSubject::Kept]);
    assert!(lines[1].reason.contains("is not what it was"), "{lines:?}");
    assert_eq!(
        (scene.count("/contents/").await, scene.count("/lists/").await),
        (4, 4)
    );
}

#[tokio::test]
async fn what_a_job_replaced_stays_for_the_grace_after_that_however_old_it_is() {
    let scene = Scene::new();
    let id = scene.session("s").await;
    scene.world.advance(6 * DAY);
    let session = scene.sessions.load(&id).await.unwrap().unwrap();
    let mut manifest = session.manifest.clone();
    let is_own = |pack: &&PackEntry| pack.kind == PackKind::Job;
    let replaced: Vec<_> = manifest.packs.iter().filter(is_own).cloned().collect();
    manifest.replace_packs(&replaced, []);
    scene.upload(&mut manifest, PackKind::Past, true).await;
    scene.sessions.save(Some(&session), manifest).await.unwrap();
    scene.world.advance(6 * HOUR - Duration::from_secs(1));
    assert_eq!(scene.collect().await, vec![]);
    assert_eq!(scene.count("/sessions/s/packs/").await, 5, "and a mark");
    scene.world.advance(Duration::from_secs(1));
    let lines = scene.collect().await;
    assert_eq!(subjects(&lines), [GcSubject::SessionObject; 3], "{lines:?}");
    assert_eq!(scene.count("/sessions/s/packs/").await, 2);
}

#[tokio::test]
async fn a_session_that_cannot_be_read_holds_what_it_may_list() {
    let scene = Scene::new();
    scene.session("s").await;
    let key = "tenants/default/sessions/s/manifest.json".parse().unwrap();
    let rubbish = scene
        .storage
        .put(&key, b"rubbish".to_vec().into(), Precondition::None);
    rubbish.await.unwrap();
    scene.world.advance(30 * DAY);
    assert_eq!(subjects(&scene.collect().await), [GcSubject::Kept; 2]);
    assert_eq!(scene.count("/packs/").await, 4);
}

#[tokio::test]
async fn outcomes_are_kept_for_their_time() {
    let scene = Scene::new();
    let at = OffsetDateTime::UNIX_EPOCH;
    let outcome = JobOutcome {
        format_version: 1,
        job_id: JobId::new_now(),
        kind: JobKind::ApplyChanges,
        session_id: "s".parse().unwrap(),
        attempt: 1,
        accepted_at: at,
        started_at: at,
        finished_at: at,
        events_before: 0,
        events: Vec::new(),
    };
    let archive = OutcomeArchive::new(Arc::clone(&scene.storage));
    archive.keep(&TenantId::default(), &outcome).await.unwrap();
    let digest = HexDigest::of(b"key");
    let record = KeyRecord::new(outcome.job_id.clone(), digest.clone());
    let keys = KeyArchive::new(Arc::clone(&scene.storage));
    let claimed = keys.claim(&TenantId::default(), &digest, &record).await;
    assert_eq!(claimed.unwrap(), Claimed::Ours);
    scene.world.advance(7 * DAY - HOUR);
    assert_eq!(scene.collect().await, vec![]);
    scene.world.advance(HOUR);
    assert_eq!(subjects(&scene.collect().await), [GcSubject::Outcome; 2]);
    assert_eq!(scene.count("/jobs/").await, 0);
    assert_eq!(scene.count("/idempotency/").await, 0);
}

/// A collection that is killed before its n-th call to the storage, for every n: the next one takes up what it left.
#[tokio::test]
async fn a_collection_that_is_killed_anywhere_is_taken_up() {
    for calls in 0.. {
        let scene = Scene::new();
        let id = scene.session("pinned").await;
        scene.sessions.pin(&id).await.unwrap();
        scene.session("s").await;
        scene.world.advance(7 * DAY);
        let dead = Rule::on_any(When::After(calls), Fault::Unavailable);
        let faulty: Arc<dyn ObjectStore> =
            Arc::new(FaultyStore::new(Arc::clone(&scene.storage), 0).with(dead));
        let gc = Gc::new(faulty, GcPolicy::default()).unwrap();
        let mut lines = Vec::new();
        let ended = gc.run(&mut |line| lines.push(line.clone())).await;
        for _ in 0..4 {
            scene.world.advance(7 * HOUR);
            scene.collect().await;
        }
        let there = scene.sessions.load(&id).await.unwrap();
        assert!(there.is_some(), "{calls}: {lines:?}");
        assert_eq!(scene.count("/sessions/s/").await, 0, "{calls}");
        assert_eq!(
            scene.count("/packs/").await,
            4,
            "{calls}: those of the pinned one"
        );
        if ended.is_ok_and(|sums| sums.failed == 0) {
            return;
        }
    }
}

/// A pin that comes in at any moment of a collection, which is killed at any moment after that: a pin that was confirmed holds.
#[tokio::test]
async fn a_pin_that_was_given_holds_whenever_it_came() {
    let mut put_back = 0;
    for before in 0..24 {
        for after in 0..8 {
            let scene = Scene::new();
            let id = scene.session("s").await;
            scene.world.advance(7 * DAY);
            let mut collection = Actor::new(&scene.world, collect_once);
            let has_ended = collection.steps(before).await;
            let is_pinned = scene.sessions.pin(&id).await.unwrap_or(false);
            if !has_ended {
                collection.steps(after).await;
            }
            drop(collection);
            let is_shut = scene.sessions.load(&id).await.is_err();
            scene.world.advance(HOUR);
            scene.collect().await;
            if is_pinned {
                put_back += usize::from(is_shut);
                let there = scene.sessions.load(&id).await.unwrap();
                assert!(there.is_some(), "{before} steps, the pin, {after} steps");
                assert_eq!(scene.count("/sessions/s/packs/").await, 2);
            }
        }
    }
    assert!(put_back > 0, "no order had a session that was put back");
}

async fn collect_once(storage: Arc<dyn ObjectStore>) {
    let gc = Gc::new(storage, GcPolicy::default()).unwrap();
    let _may_fail = gc.run(&mut |_| {}).await;
}
