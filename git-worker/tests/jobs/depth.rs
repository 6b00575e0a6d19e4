//! How much history a session has: by the caller's word, or by the service's choice; and how it gets more.

use mayfly_git_worker::FullCloneLimits;
use mayfly_protocol::{ErrorCode, EventBody, JobKind, Stage};
use mayfly_testkit::repo::{BareRepo, TestRepo};
use serde_json::{Value, json};

use super::rig::{Ran, Rig};

/// A repository of 32 commits, and limits that it exceeds.
async fn too_large() -> (Rig, BareRepo) {
    let mut rig = Rig::new().await;
    let repo = TestRepo::sample();
    repo.history(30);
    let bare = rig.host.publish(&repo, "app");
    rig.limits.full_clone.max_objects = 50;
    (rig, bare)
}

async fn clone(rig: &Rig, session: &str, change: Value) -> Ran {
    let mut body = rig.clone_body(session, "app");
    body.as_object_mut()
        .unwrap()
        .extend(change.as_object().unwrap().clone());
    rig.job(JobKind::CloneRepository, body).await
}

fn words(ran: &Ran, stage: Stage) -> Vec<(String, Option<Value>)> {
    let said = ran.events.iter().filter_map(|event| match &event.body {
        EventBody::Progress {
            stage: at,
            message,
            detail,
            ..
        } if *at == stage => Some((message.clone(), detail.clone())),
        _ => None,
    });
    said.collect()
}

/// The commits that plain git finds in the session's packs, from its head back to the boundary.
async fn boundary(rig: &Rig, session: &str) -> Vec<String> {
    let manifest = rig.manifest(session).await.unwrap();
    manifest.shallow.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_repository_is_cloned_whole_and_that_is_said() {
    let rig = Rig::new().await;
    rig.host.publish(&TestRepo::sample(), "app");
    let ran = clone(&rig, "s", json!({})).await;
    let data = ran.completed();
    assert_eq!(
        (&data["depth"], &data["filter"], &data["shallow"]),
        (&Value::Null, &Value::Null, &json!(false))
    );
    let reason = "all history is within 5000000 objects and 2147483648 bytes";
    assert_eq!(data["fetchedBecause"], reason);
    let (_, detail) = words(&ran, Stage::Cloned).pop().unwrap();
    assert_eq!(detail, Some(json!({"depth": null, "fetchedBecause": reason})));
    assert_eq!(rig.manifest("s").await.unwrap().fetched.reason, reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_objects_or_bytes_make_a_shallow_session_that_works() {
    let (mut rig, bare) = too_large().await;
    for (session, limits, reason) in [
        (
            "objects",
            FullCloneLimits {
                max_objects: 50,
                max_bytes: u64::MAX,
            },
            "objects, more than the 50 of a full clone",
        ),
        (
            "bytes",
            FullCloneLimits {
                max_objects: u32::MAX,
                max_bytes: 2000,
            },
            "all history has more than 2000 bytes",
        ),
    ] {
        rig.limits.full_clone = limits;
        let ran = clone(&rig, session, json!({})).await;
        let data = ran.completed();
        assert_eq!(
            (&data["depth"], &data["shallow"]),
            (&json!(1), &json!(true)),
            "{data}"
        );
        assert!(
            data["fetchedBecause"].as_str().unwrap().contains(reason),
            "{data}"
        );
        let announced = words(&ran, Stage::Cloning);
        assert!(
            announced
                .iter()
                .any(|(text, _)| text.contains(reason) && text.ends_with("fetching depth 1 instead")),
            "{announced:?}"
        );
        assert_eq!(rig.manifest(session).await.unwrap().fetched.depth, Some(1));
        rig.write(session, &format!("{session}.txt"), "new\n").await;
        rig.job(JobKind::CloneRepository, rig.clone_body(session, "app"))
            .await
            .completed();
        let done = rig.commit(session, json!({})).await.completed();
        assert_eq!(done["filesChanged"], 1);
        bare.fsck_strict();
    }
    assert_eq!(bare.log("main").len(), 34);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shallow_session_teaches_no_other_one() {
    let (mut rig, bare) = too_large().await;
    clone(&rig, "shallow", json!({})).await.completed();
    clone(&rig, "asked", json!({"depth": 2})).await.completed();
    bare.commit_behind_their_back("main", "theirs.txt", "theirs\n");
    clone(&rig, "shallow", json!({})).await.completed();
    rig.limits.full_clone = FullCloneLimits::default();
    let whole = clone(&rig, "whole", json!({})).await.completed();
    assert_eq!(whole["shallow"], false);
    assert!(whole["objects"].as_u64().unwrap() > 90, "{whole}");
    let older = bare.rev_parse("main~20");
    clone(&rig, "whole", json!({"commit": older})).await.completed();
    // And what is whole helps no shallow one by accident.
    let again = clone(&rig, "shallow", json!({})).await.completed();
    assert_eq!((&again["shallow"], &again["depth"]), (&json!(true), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn unshallow_is_all_history_whatever_the_limits() {
    let (rig, bare) = too_large().await;
    let data = clone(&rig, "new", json!({"unshallow": true})).await.completed();
    assert_eq!((&data["depth"], &data["shallow"]), (&Value::Null, &json!(false)));
    assert_eq!(data["fetchedBecause"], "the caller's `unshallow`");

    clone(&rig, "s", json!({})).await.completed();
    rig.write("s", "mine.txt", "mine\n").await;
    bare.commit_behind_their_back("main", "theirs.txt", "theirs\n");
    let data = clone(&rig, "s", json!({"unshallow": true})).await.completed();
    assert_eq!(
        (&data["depth"], &data["shallow"]),
        (&Value::Null, &json!(false)),
        "{data}"
    );
    assert_eq!(data["headSha"], bare.rev_parse("main"));
    let older = bare.rev_parse("main~25");
    let dirty = clone(&rig, "s", json!({"commit": older})).await;
    dirty.failed(ErrorCode::WorktreeDirty);
    rig.commit("s", json!({"message": "Mine"})).await.completed();
    let data = clone(&rig, "s", json!({"commit": older})).await.completed();
    assert_eq!(data["headSha"], older);
    bare.fsck_strict();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greater_depth_deepens_and_a_smaller_one_cuts_nothing() {
    let (rig, bare) = too_large().await;
    clone(&rig, "s", json!({"depth": 3})).await.completed();
    let at = |revision: &str| bare.rev_parse(revision);
    assert_eq!(boundary(&rig, "s").await, [at("main~2")]);
    let data = clone(&rig, "s", json!({"depth": 10})).await.completed();
    assert_eq!(
        (&data["depth"], &data["fetchedBecause"]),
        (&json!(10), &json!("the caller's `depth`"))
    );
    assert_eq!(boundary(&rig, "s").await, [at("main~9")]);
    for smaller in [1, 10] {
        let data = clone(&rig, "s", json!({"depth": smaller})).await.completed();
        assert_eq!((&data["depth"], &data["objects"]), (&json!(10), &json!(0)));
        assert_eq!(boundary(&rig, "s").await, [at("main~9")]);
    }
    // The branch moves on by more than the depth: no gap comes of it.
    for number in 0..14 {
        bare.commit_behind_their_back("main", "theirs.txt", &format!("{number}\n"));
    }
    let old_boundary = boundary(&rig, "s").await;
    let data = clone(&rig, "s", json!({"depth": 12})).await.completed();
    assert_eq!(data["headSha"], at("main"));
    assert_eq!(boundary(&rig, "s").await, old_boundary);
    let data = clone(&rig, "s", json!({"depth": 1000})).await.completed();
    assert_eq!((&data["shallow"], &data["depth"]), (&json!(false), &Value::Null));
    rig.write("s", "mine.txt", "mine\n").await;
    rig.commit("s", json!({})).await.completed();
    bare.fsck_strict();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_depth_takes_no_history_from_a_session_that_has_it_all() {
    let rig = Rig::new().await;
    let repo = TestRepo::sample();
    repo.history(10);
    let bare = rig.host.publish(&repo, "app");
    clone(&rig, "s", json!({})).await.completed();
    bare.commit_behind_their_back("main", "theirs.txt", "theirs\n");
    let data = clone(&rig, "s", json!({"depth": 1})).await.completed();
    assert_eq!((&data["shallow"], &data["depth"]), (&json!(false), &Value::Null));
    assert_eq!(data["headSha"], bare.rev_parse("main"));
}
