//! Damage of stored packs: announced, rebuilt where the remote or another pack has it, and never passed over.

use std::sync::Arc;

use mayfly_protocol::{ErrorCode, EventBody, JobKind};
use mayfly_session::{Manifest, PackKind};
use mayfly_storage::{Key, ObjectStore, Precondition};
use mayfly_testkit::repo::{BareRepo, TestRepo};
use serde_json::{Value, json};

use super::rig::{Ran, Rig};

/// What can happen to a stored file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    FlippedBit,
    CutShort,
    Longer,
    Empty,
    Missing,
    FlippedBitOfTheIndex,
    MissingIndex,
}

const ALL: [Damage; 7] = [
    Damage::FlippedBit,
    Damage::CutShort,
    Damage::Longer,
    Damage::Empty,
    Damage::Missing,
    Damage::FlippedBitOfTheIndex,
    Damage::MissingIndex,
];

/// Makes two tests of each of these: over a folder, and over a bucket.
macro_rules! over_both {
    ($($test:ident)*) => {
        mod in_a_folder {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    super::$test(super::Rig::new().await).await;
                }
            )*
        }
        mod in_a_bucket {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    super::$test(super::Rig::in_a_bucket().await).await;
                }
            )*
        }
    };
}

over_both! {
    a_damaged_trees_pack_is_made_anew_from_the_other_packs
    a_damaged_base_pack_comes_again_from_the_remote
    what_a_session_has_of_its_own_is_missed_and_never_replaced_by_an_older_state
    a_branch_is_created_without_a_look_at_what_is_not_pushed_with_it
    own_commits_that_the_remote_has_come_again_too
    a_clone_and_a_pull_do_without_damaged_packs_of_others
}

async fn replace(storage: &Arc<dyn ObjectStore>, key: &Key, change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) {
    let bytes = storage.get(key, u64::MAX).await.unwrap().bytes.to_vec();
    match change(bytes) {
        Some(bytes) => drop(storage.put(key, bytes.into(), Precondition::None).await.unwrap()),
        None => storage.delete(key).await.unwrap(),
    }
}

/// Damages every pack of a kind that the session lists, and gives how many.
async fn damage(rig: &Rig, session: &str, kind: PackKind, damage: Damage) -> usize {
    let manifest = rig.manifest(session).await.unwrap();
    let packs = manifest.packs.iter().filter(|entry| entry.kind == kind);
    let mut count = 0;
    for entry in packs {
        count += 1;
        let of_index = matches!(damage, Damage::FlippedBitOfTheIndex | Damage::MissingIndex);
        let name = format!("{}.{}", entry.name, if of_index { "idx" } else { "pack" });
        let listed = rig.storage.list("").await.unwrap();
        let found = listed
            .into_iter()
            .find(|object| object.key.to_string().ends_with(&name));
        let key = found.unwrap().key;
        replace(&rig.storage, &key, |mut bytes| match damage {
            Damage::FlippedBit => {
                // Behind the header, in every entry of a small pack that a reader can meet.
                let end = bytes.len() - 20;
                bytes[14..end]
                    .iter_mut()
                    .step_by(16)
                    .for_each(|byte| *byte ^= 0x10);
                Some(bytes)
            }
            Damage::FlippedBitOfTheIndex => {
                // The version: a reader by range meets it first.
                bytes[7] ^= 1;
                Some(bytes)
            }
            Damage::CutShort => {
                bytes.truncate(bytes.len() / 2);
                Some(bytes)
            }
            Damage::Longer => {
                bytes.extend_from_slice(&[0; 64]);
                Some(bytes)
            }
            Damage::Empty => Some(Vec::new()),
            Damage::Missing | Damage::MissingIndex => None,
        })
        .await;
    }
    count
}

/// Whether the stream names the damage before its end.
fn announces(ran: &Ran) -> bool {
    said(ran).any(|detail| detail["code"] == "session_damaged")
}

fn rebuilt_from(ran: &Ran) -> Option<String> {
    said(ran).find_map(|detail| Some(detail.get("rebuiltFrom")?.as_str()?.to_owned()))
}

fn said(ran: &Ran) -> impl Iterator<Item = &Value> {
    ran.events.iter().filter_map(|event| match &event.body {
        EventBody::Progress { detail, .. } => detail.as_ref(),
        _ => None,
    })
}

async fn session(rig: &Rig, name: &str) -> BareRepo {
    let repo = TestRepo::sample();
    repo.history(5);
    // Packs are found by their names, so no two repositories may have one in common.
    repo.write("name.txt", name).commit("Its name");
    let bare = rig.host.publish(&repo, name);
    rig.clone(name, name).await;
    rig.write(name, "mine.txt", "mine\n").await;
    bare
}

/// What a session is, whichever packs hold it.
fn state(manifest: &Manifest) -> Value {
    json!([
        manifest.branch,
        manifest.head,
        manifest.upstream,
        manifest.worktree
    ])
}

/// The job that finds the damage, and all after it, go on as if nothing had been.
async fn goes_on(rig: &Rig, name: &str, bare: &BareRepo, context: &str) {
    rig.write(name, "later.txt", "later\n").await;
    let done = rig.commit(name, json!({"message": "Later"})).await;
    assert!(!announces(&done), "{context}: {}", done.raw);
    assert!(done.succeeded(), "{context}: {}", done.raw);
    assert_eq!(bare.show("main", "mine.txt"), b"mine\n", "{context}");
    assert_eq!(bare.show("main", "later.txt"), b"later\n", "{context}");
    bare.fsck_strict();
}

async fn a_damaged_trees_pack_is_made_anew_from_the_other_packs(rig: Rig) {
    for kind in ALL {
        let name = format!("{kind:?}");
        let bare = session(&rig, &name).await;
        let before = state(&rig.manifest(&name).await.unwrap());
        assert_eq!(damage(&rig, &name, PackKind::Trees, kind).await, 1);
        let asked = rig.host.requests().len();
        let changes = json!({"files": [{"path": "mine.txt", "content": "mine\n"}]});
        let ran = rig.apply(&name, changes).await;
        assert!(announces(&ran), "{name}: {}", ran.raw);
        assert_eq!(
            rebuilt_from(&ran).as_deref(),
            Some("its other packs"),
            "{name}: {}",
            ran.raw
        );
        assert!(ran.succeeded(), "{name}: {}", ran.raw);
        assert_eq!(rig.host.requests().len(), asked, "{name}");
        assert_eq!(state(&rig.manifest(&name).await.unwrap()), before, "{name}");
        goes_on(&rig, &name, &bare, &name).await;
    }
}

async fn a_damaged_base_pack_comes_again_from_the_remote(rig: Rig) {
    // What follows the end is not read.
    for kind in ALL.into_iter().filter(|kind| !matches!(kind, Damage::Longer)) {
        let name = format!("{kind:?}");
        let bare = session(&rig, &name).await;
        assert_eq!(damage(&rig, &name, PackKind::Base, kind).await, 1);
        rig.write(&name, "README.md", "# Changed\n").await;
        // The old side of the diff is read out of it.
        let ran = rig.commit(&name, json!({"message": "Changed"})).await;
        assert!(announces(&ran), "{name}: {}", ran.raw);
        assert_eq!(
            rebuilt_from(&ran).as_deref(),
            Some("the remote"),
            "{name}: {}",
            ran.raw
        );
        assert_eq!(ran.completed()["filesChanged"], 2, "{name}");
        assert_eq!(bare.show("main", "README.md"), b"# Changed\n");
        goes_on(&rig, &name, &bare, &name).await;
        // Neither do those who come later meet it.
        let other = rig.clone(&format!("{name}-other"), &name).await;
        assert_eq!(other["headSha"], bare.rev_parse("main"));
    }
}

async fn what_a_session_has_of_its_own_is_missed_and_never_replaced_by_an_older_state(rig: Rig) {
    for kind in ALL {
        let name = format!("{kind:?}");
        let bare = session(&rig, &name).await;
        assert_eq!(damage(&rig, &name, PackKind::Job, kind).await, 1);
        let before = rig.manifest(&name).await;
        let changes = json!({"files": [{"path": "a.txt", "content": "a\n"}]});
        for ran in [
            rig.commit(&name, json!({"message": "Lost"})).await,
            rig.apply(&name, changes).await,
        ] {
            assert!(announces(&ran), "{name}: {}", ran.raw);
            let failure = ran.failed(ErrorCode::SessionDamaged);
            assert!(!failure.retryable, "{name}: {}", failure.error);
        }
        assert_eq!(rig.manifest(&name).await, before, "{name}");
        assert_eq!(bare.log("main").len(), 8, "{name}");
    }
}

/// A branch needs no object where the remote has its commit; where it has not, what the session committed is needed.
async fn a_branch_is_created_without_a_look_at_what_is_not_pushed_with_it(rig: Rig) {
    let ask = |branch: &str| json!({"userRequest": "x", "branchName": branch});
    for kind in ALL {
        let name = format!("{kind:?}");
        let bare = session(&rig, &name).await;
        for pack in [PackKind::Trees, PackKind::Base] {
            assert_eq!(damage(&rig, &name, pack, kind).await, 1);
        }
        let before = state(&rig.manifest(&name).await.unwrap());
        let ran = rig.branch(&name, ask("made")).await;
        assert!(!announces(&ran), "{name}: {}", ran.raw);
        assert_eq!(ran.completed()["pushed"], true, "{name}");
        assert_eq!(bare.rev_parse("made"), bare.rev_parse("main"), "{name}");
        let after = state(&rig.manifest(&name).await.unwrap());
        assert_eq!((&after[1], &after[3]), (&before[1], &before[3]), "{name}");

        // The damage is met, and mended, by the job that needs what is lost; then the commit is there alone.
        let done = rig.commit(&name, json!({"message": "Mine", "push": false})).await;
        assert!(announces(&done), "{name}: {}", done.raw);
        done.completed();
        assert!(damage(&rig, &name, PackKind::Job, kind).await > 0);
        let before = rig.manifest(&name).await;
        let ran = rig.branch(&name, ask("lost")).await;
        assert!(announces(&ran), "{name}: {}", ran.raw);
        let failure = ran.failed(ErrorCode::SessionDamaged);
        assert!(!failure.retryable, "{name}: {}", failure.error);
        assert_eq!(rig.manifest(&name).await, before, "{name}");
        assert!(!bare.refs().contains_key("refs/heads/lost"), "{name}");
    }
}

async fn own_commits_that_the_remote_has_come_again_too(rig: Rig) {
    let bare = session(&rig, "s").await;
    rig.commit("s", json!({"message": "Pushed"})).await.completed();
    assert!(damage(&rig, "s", PackKind::Job, Damage::Missing).await > 0);
    let before = state(&rig.manifest("s").await.unwrap());
    let ran = rig
        .job(
            JobKind::CreateBranch,
            rig.with_token(
                "s",
                json!({"userRequest": "x", "baseBranch": "main", "branchName": "x"}),
            ),
        )
        .await;
    ran.completed();
    let ran = rig.commit("s", json!({})).await;
    assert!(announces(&ran), "{}", ran.raw);
    assert_eq!(rebuilt_from(&ran).as_deref(), Some("the remote"), "{}", ran.raw);
    assert_eq!(ran.completed()["committed"], false);
    let after = rig.manifest("s").await.unwrap();
    assert_eq!(state(&after)[1], before[1]);
    rig.write("s", "later.txt", "later\n").await;
    rig.commit("s", json!({"message": "Later"})).await.completed();
    assert_eq!(bare.show("x", "mine.txt"), b"mine\n");
    bare.fsck_strict();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_the_damage_stays_until_somebody_pulls() {
    let rig = Rig::new().await;
    session(&rig, "s").await;
    damage(&rig, "s", PackKind::Base, Damage::Missing).await;
    damage(&rig, "s", PackKind::Trees, Damage::Missing).await;
    let changes = json!({"files": [{"path": "a.txt", "content": "a\n"}]});
    let ran = rig.apply("s", changes.clone()).await;
    assert!(announces(&ran), "{}", ran.raw);
    let failure = ran.failed(ErrorCode::SessionDamaged);
    assert!(failure.error.contains("token"), "{}", failure.error);
    let ran = rig.commit("s", json!({"message": "Mine"})).await;
    assert_eq!(rebuilt_from(&ran).as_deref(), Some("the remote"), "{}", ran.raw);
    ran.completed();
    rig.apply("s", changes).await.completed();
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_the_remote_cannot_mend_now_can_be_tried_again() {
    let rig = Rig::new().await;
    session(&rig, "s").await;
    damage(&rig, "s", PackKind::Base, Damage::Missing).await;
    damage(&rig, "s", PackKind::Trees, Damage::Missing).await;
    let before = rig.manifest("s").await;
    rig.host.fail(
        mayfly_testkit::git_host::On::UploadPack,
        mayfly_testkit::git_host::Fault::status(503),
    );
    let failure = rig
        .commit("s", json!({"message": "Mine"}))
        .await
        .failed(ErrorCode::SessionDamaged);
    assert!(failure.retryable, "{}", failure.error);
    assert_eq!(rig.manifest("s").await, before);
    rig.host.behave();
    rig.commit("s", json!({"message": "Mine"})).await.completed();
}

async fn a_clone_and_a_pull_do_without_damaged_packs_of_others(rig: Rig) {
    let bare = session(&rig, "s").await;
    rig.clone("other", "s").await;
    bare.commit_behind_their_back("main", "theirs.txt", "theirs\n");
    let body = rig.clone_body("s", "s");
    rig.job(JobKind::CloneRepository, body).await.completed();
    // The packs of the pull, which only `s` and what is known of the repository list.
    for kind in [PackKind::Base, PackKind::Trees] {
        damage(&rig, "s", kind, Damage::Missing).await;
    }
    bare.commit_behind_their_back("main", "more.txt", "more\n");
    for name in ["new", "other"] {
        let ran = rig.job(JobKind::CloneRepository, rig.clone_body(name, "s")).await;
        assert_eq!(ran.completed()["headSha"], bare.rev_parse("main"), "{name}");
        rig.write(name, "mine.txt", name).await;
    }
    let done = rig.commit("other", json!({"message": "Mine"})).await.completed();
    assert_eq!(done["filesChanged"], 1);
    bare.fsck_strict();
}
