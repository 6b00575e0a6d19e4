//! Objects in the storage, as whoever can write there may have left them: they are read, refused or passed over, and what is read can be kept again.

use std::sync::Arc;

use mayfly_protocol::lfs::LfsId;
use mayfly_protocol::{JobId, RepoUrl, SessionId, TenantId};
use mayfly_session::gc::{Gc, GcPolicy};
use mayfly_session::{
    Claimed, GatewayId, HexDigest, Kept, KeyArchive, KeyRecord, Lfs, LfsList, LfsOrigin, LfsWeek, Manifest,
    OpenJobs, OutcomeArchive, SessionStore,
};
use mayfly_storage::{Key, MemoryStore, ObjectStore, Precondition};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use crate::{Input, run};

const JOB: &str = "01890000-0000-7000-8000-000000000000";
/// The SHA-256 of `k`.
const KEY: &str = "8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a";
const REPOSITORY: &str = "https://host/o/r";

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte() % 7;
    let bytes = input.rest();
    let place = Place::new();
    run(async {
        match kind {
            0 => place.manifest(bytes).await,
            1 => place.outcome(bytes).await,
            2 => place.open_job(bytes).await,
            3 => place.sign_of_life(bytes).await,
            4 => place.idempotency_key(bytes).await,
            5 => place.lfs_list(bytes).await,
            _ => place.known_repository(bytes).await,
        }
        place.collect().await;
    });
}

struct Place {
    storage: Arc<dyn ObjectStore>,
    tenant: TenantId,
    job: JobId,
    session: SessionId,
    gateway: GatewayId,
}

impl Place {
    fn new() -> Self {
        Self {
            storage: Arc::new(MemoryStore::new()),
            tenant: TenantId::default(),
            job: JOB.parse().expect("an id"),
            session: "s1".parse().expect("an id"),
            gateway: JOB.parse().expect("an id"),
        }
    }

    fn sessions(&self) -> SessionStore {
        SessionStore::new(Arc::clone(&self.storage), self.tenant.clone())
    }

    async fn put(&self, key: &str, bytes: &[u8]) {
        let key: Key = key.parse().expect("a key");
        let put = self
            .storage
            .put(&key, bytes.to_vec().into(), Precondition::None)
            .await;
        put.expect("memory takes every write");
    }

    async fn manifest(&self, bytes: &[u8]) {
        self.put("tenants/default/sessions/s1/manifest.json", bytes).await;
        let sessions = self.sessions();
        let Ok(Some(session)) = sessions.load(&self.session).await else {
            return;
        };
        let manifest = session.manifest.clone();
        assert_eq!(manifest.session_id, self.session);
        let _packs = (manifest.known_tips(), manifest.listed_packs().count());
        if let Ok(saved) = sessions.save(Some(&session), manifest).await {
            let again = sessions
                .load(&self.session)
                .await
                .expect("what was saved is read")
                .expect("it is there");
            assert_eq!(again.manifest, saved.manifest);
        }
        // The packs are not there, which is damage, and nothing worse.
        for pack in session.manifest.listed_packs() {
            assert!(!pack.is_read_whole(u64::MAX) || pack.pack_bytes < u64::MAX);
        }
    }

    async fn outcome(&self, bytes: &[u8]) {
        self.put(&format!("tenants/default/jobs/{JOB}.json"), bytes).await;
        let archive = OutcomeArchive::new(Arc::clone(&self.storage));
        let Ok(Some(outcome)) = archive.find(&self.tenant, &self.job).await else {
            return;
        };
        assert_eq!(outcome.job_id, self.job);
        let ends = outcome.events.iter().filter(|it| it.event.is_terminal()).count();
        assert!(ends == 1 && outcome.terminal().is_some());
        match archive
            .keep(&self.tenant, &outcome)
            .await
            .expect("what was read can be kept")
        {
            Kept::Ours => {}
            Kept::Theirs(theirs) => assert_eq!(*theirs, outcome),
        }
    }

    async fn open_job(&self, bytes: &[u8]) {
        self.put(&format!("gateways/{JOB}/jobs/default/{JOB}.json"), bytes)
            .await;
        let archive = OpenJobs::new(Arc::clone(&self.storage));
        let found = archive.of(&self.gateway).await.expect("memory answers");
        assert_eq!(found.len(), 1);
        for job in found.into_iter().flatten() {
            let other = GatewayId::new_now();
            archive
                .write(&other, &job, None)
                .await
                .expect("what was read can be kept");
            let again = archive.of(&other).await.expect("memory answers");
            assert_eq!(again.into_iter().flatten().collect::<Vec<_>>(), [job]);
        }
    }

    async fn sign_of_life(&self, bytes: &[u8]) {
        self.put(&format!("gateways/{JOB}/alive.json"), bytes).await;
        let archive = OpenJobs::new(Arc::clone(&self.storage));
        let Ok(Some((sign, version))) = archive.sign(&self.gateway).await else {
            return;
        };
        let written = archive.write_sign(&self.gateway, &sign, Some(version)).await;
        written
            .expect("memory takes every write")
            .expect("nobody else writes");
        let again = archive
            .sign(&self.gateway)
            .await
            .expect("it is read")
            .expect("it is there");
        assert_eq!(again.0, sign);
    }

    async fn idempotency_key(&self, bytes: &[u8]) {
        self.put(&format!("tenants/default/idempotency/{KEY}.json"), bytes)
            .await;
        let archive = KeyArchive::new(Arc::clone(&self.storage));
        let record = KeyRecord::new(self.job.clone(), HexDigest::of(b"request"));
        let claimed = archive.claim(&self.tenant, &HexDigest::of(b"k"), &record).await;
        assert!(
            !matches!(claimed, Ok(Claimed::Ours)),
            "what is there is not taken for nothing"
        );
    }

    async fn lfs_list(&self, bytes: &[u8]) {
        let now = OffsetDateTime::UNIX_EPOCH;
        let url: RepoUrl = REPOSITORY.parse().expect("an address");
        let branch = "main".parse().expect("a name");
        let mut manifest = Manifest::new(self.session.clone(), url.clone(), branch, now);
        let hash = LfsId::from_bytes(Sha256::digest(bytes).into());
        let week = LfsWeek::of(now);
        self.put(&format!("{}lfs/{week}/lists/{hash}.json", folder(&url)), bytes)
            .await;
        let origin = LfsOrigin::Remote;
        let list = LfsList {
            hash,
            week,
            origin,
            objects: 1,
            bytes: 1,
        };
        manifest.lfs = Some(Lfs { lists: vec![list] });
        let sessions = self.sessions();
        if let Ok(entries) = sessions.lfs_entries(&manifest, None).await {
            assert!(entries.iter().all(|(blob, entry)| entry.blob == *blob));
            assert!(entries.len() <= bytes.len());
        }
        let saved = sessions.save(None, manifest).await;
        saved.expect("memory takes every write");
    }

    async fn known_repository(&self, bytes: &[u8]) {
        let url: RepoUrl = REPOSITORY.parse().expect("an address");
        self.put(&format!("{}known.json", folder(&url)), bytes).await;
        let sessions = self.sessions();
        let _hint = sessions.known_repository(&url).await;
        sessions.forget_known(&url, None).await;
        assert!(
            sessions
                .known_repository(&url)
                .await
                .is_none_or(|known| known.packs.is_empty())
        );
    }

    /// A collection makes of it what it can, and tells what it would remove.
    async fn collect(&self) {
        let gc = Gc::new(Arc::clone(&self.storage), GcPolicy::default()).expect("the usual policy");
        let _collected = gc.dry_run(&mut |_| {}).await;
    }
}

/// Where what came from a repository lies.
fn folder(url: &RepoUrl) -> String {
    let digest = Sha256::digest(url.identity().as_bytes());
    let digits: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("tenants/default/repositories/{digits}/")
}
