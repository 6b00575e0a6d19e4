//! Jobs and collections on one storage, call by call in an order by chance, with kills, stalls and a clock that runs: whatever a manifest lists is
//! there, always, contents of Git LFS included; and when the jobs are gone, so is all that they left.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mayfly_protocol::lfs::{LfsId, LfsPointer};
use mayfly_protocol::{JobId, JobKind, ObjectId, SessionId, TenantId};
use mayfly_session::gc::{Gc, GcPolicy};
use mayfly_session::{
    Brought, FoldedPacks, LfsEntry, LfsOrigin, LfsWeek, Manifest, PackEntry, PackKind, PackScope, Session,
    SessionStore,
};
use mayfly_storage::ObjectStore;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use time::OffsetDateTime;

use super::world::{Actor, World, pack_files};

const MINUTE: Duration = Duration::from_secs(60);
const LONGEST_JOB: Duration = Duration::from_secs(3600);

fn policy() -> GcPolicy {
    let grace = LONGEST_JOB + 10 * MINUTE;
    GcPolicy {
        session_ttl: Some(2 * grace),
        grace,
        outcome_retention: None,
        longest_job: LONGEST_JOB,
    }
}

/// Numbers by chance that can be had again (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// One job: clones where there is no session, and otherwise pulls or changes it. Contents repeat, so that packs of different jobs are the same.
async fn job(
    storage: Arc<dyn ObjectStore>,
    id: SessionId,
    (content, now): (u64, std::time::SystemTime),
    folder: Arc<TempDir>,
) {
    let sessions = SessionStore::new(storage, TenantId::default());
    let Ok(found) = sessions.load(&id).await else {
        return;
    };
    let mut manifest = match &found {
        Some(session) => session.manifest.clone(),
        None => {
            let (url, branch) = ("https://host/o/r".parse().unwrap(), "main".parse().unwrap());
            Manifest::new(id, url, branch, now.into())
        }
    };
    let done = match (&found, content % 3) {
        (None, _) => clone(&sessions, &mut manifest, content, &folder).await,
        (Some(_), 0) => fetch(&sessions, &mut manifest, content, &folder).await,
        (Some(_), _) => change(&sessions, &mut manifest, content, &folder).await,
    };
    let has_lfs = manifest.lfs.is_some() || (found.is_none() && content.is_multiple_of(2));
    let done = match has_lfs {
        true => done.and(lfs(&sessions, &mut manifest, (content, now.into()), &folder).await),
        false => done,
    };
    if done.is_some() {
        manifest.record(JobId::new_now(), JobKind::ApplyChanges, None, now.into());
        let _may_conflict = sessions.save(found.as_ref(), manifest).await;
    }
}

async fn clone(
    sessions: &SessionStore,
    manifest: &mut Manifest,
    content: u64,
    folder: &TempDir,
) -> Option<()> {
    if let Some(known) = sessions.known_repository(&manifest.repo_url).await {
        manifest.packs.clone_from(&known.packs);
        if content.is_multiple_of(2) {
            let tip = known.tips.values().next()?;
            manifest.replace_trees(tip.trees.clone());
            return Some(());
        }
    }
    fetch(sessions, manifest, content, folder).await
}

/// What came from a remote: a pack, and one of the trees; remembered for other clones before the session is saved. A job that folds lists one
/// pack in place of all that came before.
async fn fetch(
    sessions: &SessionStore,
    manifest: &mut Manifest,
    content: u64,
    folder: &TempDir,
) -> Option<()> {
    if let Some(known) = sessions.known_repository(&manifest.repo_url).await {
        known.list_in(manifest);
    }
    let base = pack_files(folder, &format!("base {content}"));
    let base = sessions.upload_pack(manifest, &base, PackKind::Base).await.ok()?;
    manifest.add_pack(base.clone());
    let trees = pack_files(folder, &format!("trees {content}"));
    let trees = sessions
        .upload_pack(manifest, &trees, PackKind::Trees)
        .await
        .ok()?;
    manifest.replace_trees(trees);
    let commit = ObjectId::from_bytes([content as u8; 20]);
    manifest.head = Some(commit);
    manifest.refs.insert("refs/heads/main".into(), commit);
    let is_base = |pack: &&PackEntry| pack.kind == PackKind::Base;
    let of: Vec<_> = manifest.packs.iter().filter(is_base).cloned().collect();
    let mut brought = Brought {
        have: content.is_multiple_of(2).then(Vec::new),
        packs: vec![base],
        folded: None,
    };
    if of.len() > 2 {
        let into = pack_files(folder, &format!("folded {content} {}", manifest.generation.0));
        let into = sessions.upload_pack(manifest, &into, PackKind::Base).await.ok()?;
        manifest.replace_packs(&of, [into.clone()]);
        brought.folded = Some(FoldedPacks { of, into });
    }
    sessions.remember(manifest, commit, &brought).await;
    Some(())
}

/// What a job makes: a pack of the session; a job that folds lists two in place of all that were there.
async fn change(
    sessions: &SessionStore,
    manifest: &mut Manifest,
    content: u64,
    folder: &TempDir,
) -> Option<()> {
    let own = pack_files(folder, &format!("job {content}"));
    let own = sessions.upload_pack(manifest, &own, PackKind::Job).await.ok()?;
    if content.is_multiple_of(5) {
        let past = pack_files(folder, &format!("past {content} {}", manifest.generation.0));
        let past = sessions.upload_pack(manifest, &past, PackKind::Past).await.ok()?;
        let is_own = |pack: &&PackEntry| pack.scope == PackScope::Session;
        let folded: Vec<_> = manifest.packs.iter().filter(is_own).cloned().collect();
        manifest.replace_packs(&folded, [past]);
    }
    manifest.add_pack(own);
    Some(())
}

/// What a pull with Git LFS and a change do with a content, by the week in which the job began.
async fn lfs(
    sessions: &SessionStore,
    manifest: &mut Manifest,
    (content, now): (u64, OffsetDateTime),
    folder: &TempDir,
) -> Option<()> {
    let (week, bytes) = (LfsWeek::of(now), format!("content {content}").into_bytes());
    let pointer = LfsPointer {
        id: LfsId::from_bytes(Sha256::digest(&bytes).into()),
        bytes: bytes.len() as u64,
    };
    let blob = ObjectId::from_bytes([content as u8; 20]);
    if sessions
        .lfs_entries(manifest, None)
        .await
        .ok()?
        .contains_key(&blob)
    {
        return Some(());
    }
    let is_made_here = content.is_multiple_of(3);
    let is_there = !is_made_here
        && sessions
            .take_up_lfs_content(manifest, (&pointer, week), folder.path())
            .await
            .ok()?;
    if !is_there {
        let put = sessions.put_lfs_content(manifest, (&pointer.id, week), bytes);
        put.await.ok()?;
    }
    let origin = match is_made_here {
        true => LfsOrigin::Job,
        false => LfsOrigin::Remote,
    };
    let entry = LfsEntry {
        blob,
        oid: pointer.id,
        size: pointer.bytes,
        week,
    };
    let added = sessions.add_lfs_entries(manifest, vec![entry], (origin, week));
    added.await.ok()
}

/// Somebody who looks at a session, or a job that does not save: reads all its packs, one after the other, and gives one that is gone.
async fn read(storage: Arc<dyn ObjectStore>, id: SessionId) -> Option<(Manifest, String)> {
    let sessions = SessionStore::new(storage, TenantId::default());
    let manifest = sessions.load(&id).await.ok()??.manifest;
    let folder = tempfile::tempdir().unwrap();
    for entry in &manifest.packs {
        // What is there is no real pack, so only that it is there counts.
        let read = sessions.download_pack(&manifest, entry, folder.path()).await;
        let error = read.err().map(|error| error.to_string()).unwrap_or_default();
        if error.contains("there is no such object") {
            return Some((manifest, error));
        }
    }
    None
}

/// What a reader did not find is of a session that is gone, or being deleted.
async fn assert_gone(sessions: &SessionStore, (manifest, error): (Manifest, String), seed: u64) {
    if let Ok(Some(now)) = sessions.load(&manifest.session_id).await {
        let is_another = now.manifest.created_at != manifest.created_at;
        assert!(is_another, "seed {seed}: a reader lost what it read: {error}");
    }
}

async fn collect(storage: Arc<dyn ObjectStore>) {
    let gc = Gc::new(storage, policy()).unwrap();
    let _may_fail = gc.run(&mut |_| {}).await;
}

/// The packs that are listed anywhere, as parts of keys, with who lists them.
async fn listed(sessions: &SessionStore) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let name = |who: &str, pack: &PackEntry| {
        let scope = match pack.scope {
            PackScope::Repository => "/repositories/".to_owned(),
            PackScope::Session => format!("/sessions/{who}/"),
        };
        (scope, pack.name.to_string())
    };
    let page = sessions.page(None, 100.try_into().unwrap()).await.unwrap();
    for (id, session) in page.sessions {
        let packs = session.map(|session: Session| session.manifest.packs);
        found.extend(packs.iter().flatten().map(|pack| name(id.as_str(), pack)));
    }
    let known = sessions
        .known_repository(&"https://host/o/r".parse().unwrap())
        .await;
    if let Some(known) = known {
        let trees = known.tips.values().map(|tip| &tip.trees);
        found.extend(known.packs.iter().chain(trees).map(|pack| name("known", pack)));
    }
    found
}

async fn assert_whole(world: &Arc<World>, sessions: &SessionStore, seed: u64) {
    let there: BTreeSet<String> = world.keys().await.into_iter().collect();
    for (scope, pack) in listed(sessions).await {
        let is_there = |extension: &str| {
            let end = format!("/{pack}.{extension}");
            there
                .iter()
                .any(|key| key.contains(&scope) && key.ends_with(&end))
        };
        assert!(
            is_there("pack") && is_there("idx"),
            "seed {seed}: {scope} lists {pack}, which is gone"
        );
    }
}

/// Every content that a session names is there; gives how many lie in another week than the present one.
async fn assert_contents(world: &World, sessions: &SessionStore, seed: u64) -> usize {
    let this_week = LfsWeek::of(world.now().into());
    let mut older = 0;
    let page = sessions.page(None, 100.try_into().unwrap()).await.unwrap();
    for (id, session) in page.sessions {
        let Ok(session) = session else { continue };
        let manifest = &session.manifest;
        let entries = sessions.lfs_entries(manifest, None).await;
        let entries = entries.unwrap_or_else(|error| panic!("seed {seed}: session {id}: {error}"));
        for entry in entries.values() {
            let content = sessions.lfs_content(manifest, entry).await;
            assert!(content.is_ok(), "seed {seed}: session {id}: {content:?}");
            older += usize::from(entry.week != this_week);
        }
    }
    older
}

/// Runs one order of things. Collections may stand still for ever; jobs may not be older than the longest job.
async fn run(seed: u64) -> usize {
    const STEPS: u64 = 1500;
    let mut contents_of_older_weeks = 0;
    let (world, mut chance) = (World::new(), Chance(seed));
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let open = SessionStore::new(world.open(), TenantId::default());
    let (mut jobs, mut collections): (Vec<Actor<()>>, Vec<Actor<()>>) = (Vec::new(), Vec::new());
    let mut readers: Vec<Actor<Option<(Manifest, String)>>> = Vec::new();
    for step in 0..STEPS {
        world.advance(Duration::from_secs(match chance.below(100) {
            0..2 => 3600,
            2..8 => 600,
            _ => chance.below(20),
        }));
        if chance.below(300) == 0 {
            world.advance_to_the_end_of_the_week(Duration::from_secs(chance.below(7200)));
        }
        let too_old = |actor: &Actor<()>| world.now() >= actor.began + LONGEST_JOB;
        jobs.retain(|actor| !too_old(actor));
        readers.retain(|actor| world.now() < actor.began + LONGEST_JOB);
        if jobs.len() < 4 && chance.below(4) == 0 {
            let id: SessionId = format!("s{}", chance.below(12)).parse().unwrap();
            let (content, folder) = (chance.below(6), Arc::clone(&folder));
            let now = world.now();
            jobs.push(Actor::new(&world, |storage| {
                job(storage, id, (content, now), folder)
            }));
        }
        if readers.len() < 3 && chance.below(6) == 0 {
            let id: SessionId = format!("s{}", chance.below(12)).parse().unwrap();
            readers.push(Actor::new(&world, |storage| read(storage, id)));
        }
        if !readers.is_empty() {
            let at = chance.below(readers.len() as u64) as usize;
            if let Some(read) = readers[at].step().await {
                readers.swap_remove(at);
                if let Some(lost) = read {
                    assert_gone(&open, lost, seed).await;
                }
            }
        }
        if collections.len() < 5 && chance.below(5) == 0 {
            collections.push(Actor::new(&world, collect));
        }
        let actors = match chance.below(2) {
            0 => &mut jobs,
            _ => &mut collections,
        };
        if actors.is_empty() {
            continue;
        }
        let at = chance.below(actors.len() as u64) as usize;
        if world.now() < actors[at].sleeps_until {
            continue;
        }
        let mut is_over = chance.below(60) == 0;
        for _ in 0..chance.below(15) {
            is_over = is_over || actors[at].step().await.is_some();
        }
        if chance.below(3) == 0 {
            let stall = Duration::from_secs(chance.below(2 * LONGEST_JOB.as_secs()));
            actors[at].sleeps_until = world.now() + stall;
        }
        if is_over {
            actors.swap_remove(at);
        }
        if step % 5 == 0 {
            assert_whole(&world, &open, seed).await;
            contents_of_older_weeks += assert_contents(&world, &open, seed).await;
        }
    }
    drop((jobs, collections, readers));
    assert_whole(&world, &open, seed).await;
    world.advance(Duration::from_secs(7 * 24 * 3600));
    for _ in 0..8 {
        world.advance(2 * policy().grace);
        collect(world.open()).await;
    }
    assert_eq!(world.keys().await, ["gc/last-run.json"], "seed {seed}");
    contents_of_older_weeks
}

#[tokio::test]
async fn nothing_that_is_listed_goes_and_nothing_else_stays() {
    let mut contents_of_older_weeks = 0;
    for seed in 0..6 {
        contents_of_older_weeks += run(seed).await;
    }
    assert!(
        contents_of_older_weeks > 0,
        "no session had contents when their week was over"
    );
}
