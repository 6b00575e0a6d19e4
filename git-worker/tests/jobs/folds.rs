//! Many jobs on one session: what the next one costs does not grow with them, and nothing of what they made is lost.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use mayfly_protocol::{ErrorCode, JobKind};
use mayfly_session::{Manifest, PackEntry, PackKind};
use mayfly_storage::{Metered, ObjectStore, Precondition};
use mayfly_testkit::git_host::{Fault, On};
use mayfly_testkit::repo::{BareRepo, GitFolder, TestRepo};
use serde_json::json;

use super::rig::{Ran, Rig};

/// The packs of jobs that there are at most; one job more folds them.
const MOST: usize = 7;

/// What jobs cost: calls to the storage, and bytes of content from and to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cost {
    calls: u64,
    read: u64,
    written: u64,
}

impl Cost {
    fn so_far(storage: &Metered) -> Self {
        Self {
            calls: storage.requests().total(),
            read: storage.read_bytes(),
            written: storage.written_bytes(),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            calls: self.calls - before.calls,
            read: self.read - before.read,
            written: self.written - before.written,
        }
    }

    /// Half as much again in calls, and twice as much in bytes, but for the history of 50 jobs in the manifest.
    fn is_about(self, other: Self, commits: u64) -> bool {
        // A change loads and saves the manifest once, a commit loads it once and saves it twice.
        let history = 5 * commits * 50 * 300;
        2 * self.calls <= 3 * other.calls
            && self.read <= 2 * other.read + history
            && self.written <= 2 * other.written + history
    }
}

/// A rig whose storage counts.
pub(super) async fn counted() -> (Rig, Arc<Metered>) {
    let mut rig = Rig::new().await;
    let metered = Arc::new(Metered::new(Arc::clone(&rig.storage)));
    rig.storage = Arc::clone(&metered) as Arc<dyn ObjectStore>;
    (rig, metered)
}

async fn commit(rig: &Rig, session: &str, number: usize) {
    let path = format!("notes/{}.txt", number % 10);
    rig.write(session, &path, &format!("note {number}\n")).await;
    rig.commit(session, json!({"message": format!("Note {number}")}))
        .await
        .completed();
}

/// All packs of a session in a repository of git's own.
pub(super) async fn as_git_sees_it(rig: &Rig, manifest: &Manifest, folder: &Path) -> GitFolder {
    let repo = BareRepo::init(folder, "session", "main");
    let into = repo.path().join("objects/pack");
    let packs = manifest.packs.iter();
    rig.sessions()
        .download_packs(manifest, packs, &into)
        .await
        .unwrap();
    GitFolder::at(repo.path())
}

/// The ids of all objects that a session holds.
async fn objects(rig: &Rig, session: &str) -> BTreeSet<String> {
    let (folder, manifest) = (tempfile::tempdir().unwrap(), rig.manifest(session).await.unwrap());
    let repo = as_git_sees_it(rig, &manifest, folder.path()).await;
    let ids = repo.text(&["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"]);
    ids.lines().map(str::to_owned).collect()
}

/// Git finds everything that the session stands on, in its packs alone.
pub(super) async fn is_whole(rig: &Rig, session: &str) {
    let (folder, manifest) = (tempfile::tempdir().unwrap(), rig.manifest(session).await.unwrap());
    let repo = as_git_sees_it(rig, &manifest, folder.path()).await;
    let head = manifest.head.unwrap().to_string();
    repo.text(&["update-ref", "refs/heads/main", &head]);
    for (name, commit) in &manifest.refs {
        repo.text(&["update-ref", name, &commit.to_string()]);
    }
    repo.text(&["fsck", "--full", "--strict", "--no-dangling"]);
    repo.text(&["ls-tree", "-r", "-t", &manifest.worktree.to_string()]);
}

pub(super) fn of_kind(manifest: &Manifest, kind: PackKind) -> Vec<PackEntry> {
    let packs = manifest.packs.iter().filter(|entry| entry.kind == kind);
    packs.cloned().collect()
}

/// A session with as many packs of jobs as there are before a fold.
async fn before_a_fold(rig: &Rig, name: &str) -> BareRepo {
    let bare = rig.host.publish(&TestRepo::sample(), name);
    rig.clone(name, name).await;
    for number in 0..MOST {
        rig.write(name, &format!("notes/{number}.txt"), &format!("note {number}\n"))
            .await;
    }
    let manifest = rig.manifest(name).await.unwrap();
    assert_eq!(of_kind(&manifest, PackKind::Job).len(), MOST);
    bare
}

#[tokio::test(flavor = "multi_thread")]
async fn after_200_commits_a_job_costs_what_it_cost_after_5() {
    const COMMITS: usize = 200;
    const WINDOW: usize = 8;
    let (rig, storage) = counted().await;
    let bare = rig.host.publish(&TestRepo::sample(), "app");
    let commits = bare.log("main").len();
    rig.clone("s", "app").await;
    let mut costs = Vec::new();
    for number in 0..COMMITS + WINDOW {
        let before = Cost::so_far(&storage);
        commit(&rig, "s", number).await;
        costs.push(Cost::so_far(&storage).since(before));
    }
    let sum = |window: &[Cost]| {
        window.iter().fold(Cost::default(), |sum, cost| Cost {
            calls: sum.calls + cost.calls,
            read: sum.read + cost.read,
            written: sum.written + cost.written,
        })
    };
    let (early, late) = (sum(&costs[5..5 + WINDOW]), sum(&costs[COMMITS..]));
    assert!(late.is_about(early, WINDOW as u64), "{late:?} after {early:?}");
    let most = |window: &[Cost]| window.iter().map(|cost| cost.calls).max();
    let (early, late) = (
        most(&costs[5..5 + WINDOW]).unwrap(),
        most(&costs[COMMITS..]).unwrap(),
    );
    assert!(late <= 2 * early, "{late} calls after {early}");

    let before = Cost::so_far(&storage);
    let branch = rig.branch("s", json!({"userRequest": "Add x"})).await;
    branch.completed();
    let cost = Cost::so_far(&storage).since(before);
    assert!(cost.calls <= 5, "{cost:?}");

    let manifest = rig.manifest("s").await.unwrap();
    assert!(of_kind(&manifest, PackKind::Job).len() <= MOST);
    assert!(
        of_kind(&manifest, PackKind::Past).len() <= 8,
        "{:?}",
        manifest.packs
    );
    let known = rig.sessions().known_repository(&manifest.repo_url).await.unwrap();
    let is_shared = |entry: &PackEntry| matches!(entry.kind, PackKind::Base | PackKind::Trees);
    let trees = known.tips.values().map(|tip| &tip.trees);
    assert!(known.packs.iter().chain(trees).all(is_shared));
    assert_eq!(bare.log("main").len(), commits + COMMITS + WINDOW);
    bare.fsck_strict();
    is_whole(&rig, "s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fold_loses_no_object() {
    let rig = Rig::new().await;
    let bare = before_a_fold(&rig, "s").await;
    for round in 0..3 {
        let before = objects(&rig, "s").await;
        commit(&rig, "s", 100 + round).await;
        let manifest = rig.manifest("s").await.unwrap();
        let after = objects(&rig, "s").await;
        assert!(before.is_subset(&after), "{:?}", before.difference(&after));
        let own = of_kind(&manifest, PackKind::Job).len();
        assert!(own < MOST, "{own}");
        assert!(of_kind(&manifest, PackKind::Past).len() <= round + 1);
        is_whole(&rig, "s").await;
        for number in own..MOST {
            rig.write("s", &format!("more/{number}.txt"), &format!("{round} {number}\n"))
                .await;
        }
    }
    bare.fsck_strict();
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_are_not_pushed_are_pushed_whole_after_folds() {
    let rig = Rig::new().await;
    let bare = rig.host.publish(&TestRepo::sample(), "app");
    let before = bare.log("main").len();
    rig.clone("s", "app").await;
    for number in 0..MOST + 3 {
        let path = format!("notes/{number}.txt");
        rig.write("s", &path, &format!("note {number}\n")).await;
        let body = json!({"message": format!("Note {number}"), "push": false});
        rig.commit("s", body).await.completed();
    }
    is_whole(&rig, "s").await;
    rig.branch("s", json!({"branchName": "all", "userRequest": "x"}))
        .await
        .completed();
    assert_eq!(bare.log("all").len(), before + MOST + 3);
    bare.fsck_strict();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_push_of_a_folding_job_leaves_the_session_as_it_was() {
    let rig = Rig::new().await;
    let bare = before_a_fold(&rig, "s").await;
    let before = rig.manifest("s").await.unwrap();
    bare.reject_pushes("not today");
    let refused = rig.commit("s", json!({"message": "Refused"})).await;
    refused.failed(ErrorCode::PushRejected);
    assert_eq!(rig.manifest("s").await.unwrap(), before);
    bare.install_hook("pre-receive", "exit 0");
    rig.commit("s", json!({"message": "Taken"})).await.completed();
    is_whole(&rig, "s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_whose_answer_is_lost_is_taken_up_with_the_folded_packs() {
    let rig = Rig::new().await;
    let bare = before_a_fold(&rig, "s").await;
    rig.host.fail(On::ReceivePack, Fault::LoseAnswer);
    let lost = rig.commit("s", json!({"message": "Lost"})).await;
    rig.host.behave();
    if !lost.succeeded() {
        assert_eq!(bare.log("main")[0], "Lost");
        rig.write("s", "later.txt", "later\n").await;
        rig.commit("s", json!({"message": "Later"})).await.completed();
        assert_eq!(bare.log("main")[..2], ["Later", "Lost"]);
    }
    is_whole(&rig, "s").await;
    bare.fsck_strict();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_folds_at_once_one_is_saved() {
    let rig = Rig::new().await;
    for round in 0..10 {
        let name = format!("s{round}");
        let bare = before_a_fold(&rig, &name).await;
        let changes = |path: &str| json!({"sessionId": name, "files": [{"path": path, "content": "x\n"}]});
        let (one, other) = tokio::join!(
            rig.job(JobKind::ApplyChanges, changes("one.txt")),
            rig.job(JobKind::ApplyChanges, changes("other.txt")),
        );
        assert!(one.succeeded() || other.succeeded(), "{}\n{}", one.raw, other.raw);
        for ran in [&one, &other].into_iter().filter(|ran| !ran.succeeded()) {
            ran.failed(ErrorCode::SessionConflict);
        }
        is_whole(&rig, &name).await;
        rig.commit(&name, json!({"message": "All"})).await.completed();
        assert_eq!(bare.show("main", "notes/6.txt"), b"note 6\n");
        bare.fsck_strict();
    }
}

fn announces_damage(ran: &Ran) -> bool {
    ran.raw.contains("session_damaged")
}

/// Flips bits in the content of a stored pack, or removes it.
pub(super) async fn damage(rig: &Rig, entry: &PackEntry, is_gone: bool) {
    let name = format!("{}.pack", entry.name);
    let listed = rig.storage.list("").await.unwrap();
    let found = listed.into_iter().find(|it| it.key.to_string().ends_with(&name));
    let key = found.unwrap().key;
    if is_gone {
        return rig.storage.delete(&key).await.unwrap();
    }
    let mut bytes = rig.storage.get(&key, u64::MAX).await.unwrap().bytes.to_vec();
    let end = bytes.len() - 20;
    bytes[14..end]
        .iter_mut()
        .step_by(16)
        .for_each(|byte| *byte ^= 0x10);
    let put = rig.storage.put(&key, bytes.into(), Precondition::None);
    put.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_of_the_past_hinders_no_fold_and_is_mended_by_the_job_that_reads_it() {
    for is_gone in [false, true] {
        let rig = Rig::new().await;
        let bare = rig.host.publish(&TestRepo::sample(), "s");
        rig.clone("s", "s").await;
        let mut number = 0;
        while of_kind(&rig.manifest("s").await.unwrap(), PackKind::Past).is_empty() {
            commit(&rig, "s", number).await;
            number += 1;
        }
        let past = of_kind(&rig.manifest("s").await.unwrap(), PackKind::Past);
        damage(&rig, &past[0], is_gone).await;
        // None of these looks at what was there before.
        for fresh in 0..2 * MOST {
            rig.write("s", &format!("fresh/{fresh}.txt"), "fresh\n").await;
        }
        rig.commit("s", json!({"message": "Fresh"})).await.completed();
        let folded = rig.manifest("s").await.unwrap();
        assert!(folded.packs.contains(&past[0]), "what is damaged is not folded");
        assert!(of_kind(&folded, PackKind::Past).len() > 1);

        let older = bare.rev_parse(&format!("main~{}", number - 1));
        let mut body = rig.clone_body("s", "s");
        body["commit"] = older.as_str().into();
        let moved = rig.job(JobKind::CloneRepository, body).await;
        assert!(announces_damage(&moved), "{}", moved.raw);
        assert_eq!(moved.completed()["headSha"], older);
        rig.clone("s", "s").await;
        is_whole(&rig, "s").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_replaced_is_marked_before_it_is_listed_no_more() {
    let rig = Rig::new().await;
    before_a_fold(&rig, "s").await;
    let before = of_kind(&rig.manifest("s").await.unwrap(), PackKind::Job);
    rig.write("s", "eighth.txt", "8\n").await;
    let after = rig.manifest("s").await.unwrap();
    let keys = rig.storage.list("").await.unwrap();
    let keys: Vec<String> = keys.iter().map(|object| object.key.to_string()).collect();
    for entry in &before {
        assert!(!after.packs.contains(entry));
        for extension in ["pack", "idx", "replaced"] {
            let name = format!("{}.{extension}", entry.name);
            assert!(keys.iter().any(|key| key.ends_with(&name)), "{name}");
        }
    }
    let marks = keys.iter().filter(|key| key.ends_with(".replaced")).count();
    assert_eq!(marks, MOST);
}
