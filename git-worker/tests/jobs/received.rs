//! Many pulls: a session lists few packs of the remote, and so does what the tenant knows of the repository, which never begins anew.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mayfly_protocol::JobKind;
use mayfly_session::gc::{Gc, GcPolicy, GcSubject};
use mayfly_session::{KnownRepository, Manifest, PackEntry, PackKind};
use mayfly_storage::Metered;
use mayfly_testkit::repo::{BareRepo, TestRepo};
use serde_json::{Value, json};

use super::folds::{as_git_sees_it, counted, damage, is_whole, of_kind};
use super::rig::{Ran, Rig};

/// The packs of pulls that there are at most, beside the one of the clone.
const MOST: usize = 12;

/// A repository the first pack of which is larger than all that pulls bring after it.
fn published(rig: &Rig) -> BareRepo {
    let repo = TestRepo::sample();
    repo.write_noise("large.bin", 60_000, 1).commit("Large");
    repo.history(20);
    rig.host.publish(&repo, "app")
}

async fn pull(rig: &Rig, session: &str) -> Value {
    let ran = rig
        .job(JobKind::CloneRepository, rig.clone_body(session, "app"))
        .await;
    assert!(!ran.raw.contains("session_damaged"), "{}", ran.raw);
    ran.completed()
}

fn news(bare: &BareRepo, number: usize) -> String {
    let path = format!("notes/{}.txt", number % 9);
    bare.commit_behind_their_back("main", &path, &format!("note {number}\n"))
}

async fn base(rig: &Rig, session: &str) -> Vec<PackEntry> {
    of_kind(&rig.manifest(session).await.unwrap(), PackKind::Base)
}

async fn known(rig: &Rig, manifest: &Manifest) -> KnownRepository {
    rig.sessions().known_repository(&manifest.repo_url).await.unwrap()
}

/// Has a session pull so many commits, one by one.
async fn pull_news(rig: &Rig, session: &str, bare: &BareRepo, numbers: std::ops::Range<usize>) {
    for number in numbers {
        news(bare, number);
        pull(rig, session).await;
    }
}

/// The session changes, commits and pushes.
async fn commits(rig: &Rig, session: &str, bare: &BareRepo) {
    rig.write(session, "notes/0.txt", &format!("of {session}\n"))
        .await;
    let done = rig
        .commit(session, json!({"message": format!("Of {session}")}))
        .await;
    assert_eq!(done.completed()["filesChanged"], 1);
    assert_eq!(
        bare.show("main", "notes/0.txt"),
        format!("of {session}\n").as_bytes()
    );
    bare.fsck_strict();
}

fn calls(storage: &Arc<Metered>) -> u64 {
    storage.requests().total()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_70_pulls_few_packs_are_listed_and_a_clone_brings_only_news() {
    const PULLS: usize = 70;
    let (rig, storage) = counted().await;
    let bare = published(&rig);
    rig.clone("s", "app").await;
    rig.clone("idle", "app").await;
    let first = base(&rig, "s").await[0].clone();
    let (mut costs, written) = (Vec::new(), storage.written_bytes());
    for number in 0..PULLS {
        news(&bare, number);
        let before = calls(&storage);
        let data = pull(&rig, "s").await;
        costs.push(calls(&storage) - before);
        assert!(data["objects"].as_u64().unwrap() <= 4, "{data}");
        let manifest = rig.manifest("s").await.unwrap();
        let (base, known) = (of_kind(&manifest, PackKind::Base), known(&rig, &manifest).await);
        assert!(base.len() <= 1 + MOST, "{number}: {base:?}");
        assert_eq!(known.packs, base);
        // It never begins anew, and what is large stays where it is.
        assert!(base.contains(&first), "{number}");
    }
    let (early, late) = (costs[..20].iter().max(), costs[50..].iter().max());
    assert!(late <= early.map(|most| most * 3 / 2).as_ref(), "{costs:?}");
    let per_pull = (storage.written_bytes() - written) / PULLS as u64;
    assert!(per_pull < 40_000, "{per_pull}");
    is_whole(&rig, "s").await;
    commits(&rig, "s", &bare).await;

    news(&bare, PULLS);
    let fresh = rig.clone("fresh", "app").await;
    assert!(fresh["objects"].as_u64().unwrap() <= 8, "{fresh}");
    assert_eq!(fresh["headSha"], bare.rev_parse("main"));
    let idle = pull(&rig, "idle").await;
    assert_eq!(
        (&idle["headSha"], &idle["objects"]),
        (&fresh["headSha"], &json!(0))
    );
    for session in ["fresh", "idle"] {
        assert!(base(&rig, session).await.len() <= 1 + MOST);
        is_whole(&rig, session).await;
        commits(&rig, session, &bare).await;
        pull(&rig, if session == "fresh" { "idle" } else { "fresh" }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_session_folds_the_others_take_up_when_they_pull_and_not_before() {
    let rig = Rig::new().await;
    let bare = published(&rig);
    for session in ["s", "pulls", "commits"] {
        rig.clone(session, "app").await;
    }
    let mut number = 0;
    while base(&rig, "s").await.len() <= base(&rig, "commits").await.len() {
        // Not all of them have pulled the last of it.
        for session in ["pulls", "commits"] {
            pull(&rig, session).await;
        }
        news(&bare, number);
        pull(&rig, "s").await;
        number += 1;
        assert!(number < 20, "nothing was folded");
        if base(&rig, "s").await.len() == 2 && number > 2 {
            break;
        }
    }
    let (own, before) = (base(&rig, "s").await, base(&rig, "pulls").await);
    assert!(own.len() == 2 && before.len() == number, "{own:?} {before:?}");
    pull(&rig, "pulls").await;
    assert_eq!(base(&rig, "pulls").await, own);
    // Who does not pull has what there was.
    assert_eq!(base(&rig, "commits").await.len(), before.len());
    is_whole(&rig, "commits").await;
    rig.write("commits", "mine.txt", "mine\n").await;
    pull(&rig, "commits").await;
    assert_eq!(base(&rig, "commits").await, own);
    for session in ["pulls", "commits"] {
        is_whole(&rig, session).await;
    }
    let done = rig.commit("commits", json!({"message": "Mine"})).await;
    assert_eq!(done.completed()["filesChanged"], 1);
    bare.fsck_strict();
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_fold_at_once_all_go_on_and_one_teaches_the_others() {
    let rig = Rig::new().await;
    let bare = published(&rig);
    let sessions = ["a", "b", "c"];
    for session in sessions {
        rig.clone(session, "app").await;
    }
    for number in 0..20 {
        news(&bare, number);
        let pulls = sessions.map(|session| pull(&rig, session));
        futures::future::join_all(pulls).await;
        let manifest = rig.manifest("a").await.unwrap();
        assert!(known(&rig, &manifest).await.packs.len() <= 1 + MOST);
    }
    for session in sessions {
        assert!(base(&rig, session).await.len() <= 1 + 2 * MOST);
        is_whole(&rig, session).await;
    }
    let fresh = rig.clone("fresh", "app").await;
    assert_eq!(fresh["objects"], 0);
    is_whole(&rig, "fresh").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_of_a_shallow_session_are_folded_for_it_alone() {
    let rig = Rig::new().await;
    let bare = published(&rig);
    let mut body = rig.clone_body("s", "app");
    body["depth"] = 1.into();
    rig.job(JobKind::CloneRepository, body).await.completed();
    pull_news(&rig, "s", &bare, 0..20).await;
    let manifest = rig.manifest("s").await.unwrap();
    assert!(!manifest.shallow.is_empty());
    assert!(of_kind(&manifest, PackKind::Base).len() <= 1 + MOST);
    assert!(
        rig.sessions()
            .known_repository(&manifest.repo_url)
            .await
            .is_none()
    );
    let folder = tempfile::tempdir().unwrap();
    let repo = as_git_sees_it(&rig, &manifest, folder.path()).await;
    let shallow: String = manifest.shallow.iter().map(|id| format!("{id}\n")).collect();
    std::fs::write(repo.path().join("shallow"), shallow).unwrap();
    repo.text(&[
        "update-ref",
        "refs/heads/main",
        &manifest.head.unwrap().to_string(),
    ]);
    assert_eq!(repo.log("main").len(), 21);
    repo.text(&["fsck", "--full", "--strict", "--no-dangling"]);
    commits(&rig, "s", &bare).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_is_left_out_and_mended_by_the_job_that_reads_it() {
    for is_gone in [false, true] {
        let rig = Rig::new().await;
        let bare = published(&rig);
        rig.clone("s", "app").await;
        pull_news(&rig, "s", &bare, 0..3).await;
        let hit = base(&rig, "s").await[2].clone();
        damage(&rig, &hit, is_gone).await;
        pull_news(&rig, "s", &bare, 3..12).await;
        let packs = base(&rig, "s").await;
        assert!(packs.contains(&hit) && packs.len() < 12, "{packs:?}");
        let mut body = rig.clone_body("s", "app");
        body["commit"] = bare.rev_parse("main~10").into();
        let moved: Ran = rig.job(JobKind::CloneRepository, body).await;
        assert!(moved.raw.contains("session_damaged"), "{}", moved.raw);
        moved.completed();
        rig.clone("s", "app").await;
        is_whole(&rig, "s").await;
    }
}

/// Makes everything in the storage look as if it had been written before.
fn date_back(folder: &Path, time: SystemTime) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => date_back(&entry.path(), time),
            false => {
                let file = std::fs::File::options().append(true).open(entry.path()).unwrap();
                file.set_modified(time).unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_tells_the_packs_that_were_folded_and_no_others() {
    let rig = Rig::new().await;
    let bare = published(&rig);
    rig.clone("s", "app").await;
    pull_news(&rig, "s", &bare, 0..4).await;
    rig.clone("old", "app").await;
    let old = base(&rig, "old").await;
    pull_news(&rig, "s", &bare, 4..20).await;
    let now = base(&rig, "s").await;
    assert!(old[1..].iter().all(|pack| !now.contains(pack)));
    let policy = GcPolicy {
        session_ttl: None,
        ..GcPolicy::default()
    };
    let long_ago = SystemTime::now() - 2 * policy.grace;
    date_back(rig.storage_folder(), long_ago - Duration::from_secs(60));
    let gc = Gc::new(Arc::clone(&rig.storage), policy).unwrap();
    let mut told = Vec::new();
    gc.dry_run(&mut |line| told.push(line.clone())).await.unwrap();
    let retired: Vec<_> = told
        .iter()
        .filter(|line| line.subject == GcSubject::RetiredPack)
        .collect();
    let names = |packs: &[PackEntry]| packs.iter().map(|pack| pack.name.to_string()).collect::<Vec<_>>();
    let is_told = |name: &String| retired.iter().any(|line| line.key.ends_with(name.as_str()));
    assert!(
        !names(&old).iter().any(is_told) && !names(&now).iter().any(is_told),
        "{told:?}"
    );
    // Of the packs of pulls, and of those that were folded twice.
    assert!(retired.len() > 12, "{told:?}");
    gc.run(&mut |_| {}).await.unwrap();
    for session in ["s", "old"] {
        is_whole(&rig, session).await;
        pull(&rig, session).await;
        assert_eq!(base(&rig, session).await.len(), now.len());
    }
    let manifest = rig.manifest("old").await.unwrap();
    assert_eq!(known(&rig, &manifest).await.packs, now);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_pushed_itself_is_not_taken_for_known() {
    let rig = Rig::new().await;
    let bare = published(&rig);
    rig.clone("s", "app").await;
    commits(&rig, "s", &bare).await;
    news(&bare, 1);
    pull(&rig, "s").await;
    rig.clone("fresh", "app").await;
    is_whole(&rig, "fresh").await;
    commits(&rig, "fresh", &bare).await;
}
