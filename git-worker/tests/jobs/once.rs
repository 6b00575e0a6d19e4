//! Nothing happens twice: pushes whose answer was lost, and attempts that are repeated.

use mayfly_protocol::{ErrorCode, JobId, JobKind};
use mayfly_testkit::git_host::{Fault, On};
use mayfly_testkit::repo::TestRepo;
use serde_json::json;

use super::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn a_push_whose_answer_was_lost_is_recognised() {
    let rig = Rig::new().await;
    let bare = rig.host.publish(&TestRepo::sample(), "app");
    rig.clone("s", "app").await;
    rig.write("s", "a.txt", "a\n").await;
    rig.host.fail_times(On::ReceivePack, 1, Fault::LoseAnswer);
    let done = rig.commit("s", json!({})).await.completed();
    assert_eq!(bare.rev_parse("main"), done["commitSha"].as_str().unwrap());
    assert_eq!(bare.log("main").len(), 3);
}

/// A proxy that gives up on a push has often let it through.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_was_done_behind_a_server_error_is_recognised() {
    for status in [500, 502, 504, 429, 404] {
        let rig = Rig::new().await;
        let bare = rig.host.publish(&TestRepo::sample(), "app");
        rig.clone("s", "app").await;
        rig.write("s", "a.txt", "a\n").await;
        rig.host
            .fail_times(On::ReceivePack, 1, Fault::LoseAnswerTo(status));
        let done = rig.commit("s", json!({})).await.completed();
        assert_eq!(
            bare.rev_parse("main"),
            done["commitSha"].as_str().unwrap(),
            "{status}"
        );
        assert_eq!(rig.manifest("s").await.unwrap().intent, None);
        let name = rig.branch("s", json!({"userRequest": "x", "branchName": "x"}));
        rig.host
            .fail_times(On::ReceivePack, 1, Fault::LoseAnswerTo(status));
        assert_eq!(name.await.completed()["pushed"], true, "{status}");
    }
}

/// A server error before the push: it is told, and the session is as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_was_not_done_is_withdrawn() {
    let rig = Rig::new().await;
    let bare = rig.host.publish(&TestRepo::sample(), "app");
    rig.clone("s", "app").await;
    rig.write("s", "a.txt", "a\n").await;
    let (before, tip) = (rig.manifest("s").await, bare.rev_parse("main"));
    rig.host.fail_times(On::ReceivePack, 1, Fault::status(502));
    rig.commit("s", json!({}))
        .await
        .failed(ErrorCode::RemoteUnavailable);
    assert_eq!((rig.manifest("s").await, bare.rev_parse("main")), (before, tip));
}

/// A push that was done, and after it a host that answers nothing more: the job cannot know.
async fn leave_in_doubt(rig: &Rig, job: &JobId) {
    rig.host.fail_times(On::ReceivePack, 1, Fault::LoseAnswer);
    let body = rig.with_token("s", json!({}));
    // The first advertisement is answered, those after the push are not.
    let running = rig.job_as(JobKind::CommitAndPush, body, Some((job, 1)));
    let breaking = async {
        while rig.host.requests_on(&On::ReceivePack).is_empty() {
            tokio::task::yield_now().await;
        }
        rig.host.fail(On::PushAdvertisement, Fault::status(503));
    };
    let (ran, ()) = tokio::join!(running, breaking);
    ran.failed(ErrorCode::RemoteUnreachable);
    rig.host.behave();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_attempt_takes_up_the_commit_of_the_first() {
    let rig = Rig::new().await;
    let bare = rig.host.publish(&TestRepo::sample(), "app");
    rig.clone("s", "app").await;
    rig.write("s", "a.txt", "a\n").await;
    let job = JobId::new_now();
    leave_in_doubt(&rig, &job).await;
    assert!(rig.manifest("s").await.unwrap().intent.is_some());
    let pushed = bare.rev_parse("main");
    let body = rig.with_token("s", json!({}));
    let done = rig
        .job_as(JobKind::CommitAndPush, body, Some((&job, 2)))
        .await
        .completed();
    assert_eq!(
        (&done["commitSha"], &done["committed"]),
        (&json!(pushed), &json!(true))
    );
    assert_eq!(bare.rev_parse("main"), pushed);
    assert!(rig.manifest("s").await.unwrap().intent.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_job_goes_on_from_what_the_lost_one_pushed() {
    let rig = Rig::new().await;
    let bare = rig.host.publish(&TestRepo::sample(), "app");
    rig.clone("s", "app").await;
    rig.write("s", "a.txt", "a\n").await;
    leave_in_doubt(&rig, &JobId::new_now()).await;
    rig.write("s", "b.txt", "b\n").await;
    let done = rig.commit("s", json!({"message": "Second"})).await.completed();
    assert_eq!(done["filesChanged"], 1);
    assert_eq!(bare.log("main").len(), 4);
    assert_eq!(bare.show("main", "a.txt"), b"a\n");
    assert_eq!(bare.show("main", "b.txt"), b"b\n");
    bare.fsck_strict();
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_jobs_make_equal_commits() {
    let rig = Rig::new().await;
    let repo = TestRepo::sample();
    rig.host.publish(&repo, "one");
    rig.host.publish(&repo, "two");
    let mut commits = Vec::new();
    for name in ["one", "two"] {
        rig.clone(name, name).await;
        rig.write(name, "a.txt", "a\n").await;
        let body = rig.with_token(name, json!({"message": "Same"}));
        let job = JobId::new_now();
        commits.push(
            rig.job_as(JobKind::CommitAndPush, body, Some((&job, 1)))
                .await
                .completed()["commitSha"]
                .clone(),
        );
    }
    assert_eq!(commits[0], commits[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_jobs_on_one_session_cannot_both_win() {
    let rig = Rig::new().await;
    rig.host.publish(&TestRepo::sample(), "app");
    rig.clone("s", "app").await;
    let change = |name: &str| json!({"files": [{"path": name, "content": "x\n"}]});
    for round in 0..10 {
        let before = rig.manifest("s").await.unwrap().generation;
        let (first, second) = (format!("a{round}"), format!("b{round}"));
        let (a, b) = tokio::join!(rig.apply("s", change(&first)), rig.apply("s", change(&second)));
        let won = [&a, &b].iter().filter(|ran| ran.succeeded()).count();
        let after = rig.manifest("s").await.unwrap();
        assert_eq!(after.generation.0, before.0 + won as u64);
        for ran in [a, b] {
            if !ran.succeeded() {
                assert!(ran.failed(ErrorCode::SessionConflict).retryable);
            }
        }
    }
}

/// What an announced and lost attempt had stored is taken for stored by every later job: it must stay with the session.
#[tokio::test(flavor = "multi_thread")]
async fn objects_of_a_lost_attempt_stay_with_the_session() {
    let rig = Rig::new().await;
    let bare = rig.host.publish(&TestRepo::sample(), "app");
    rig.clone("s", "app").await;
    rig.write("s", "a.txt", "a\n").await;
    // The push is announced, not done, and cannot be withdrawn: the host answers nothing more.
    rig.host.fail_times(On::ReceivePack, 1, Fault::CutBeforeHead);
    rig.host.fail_times(On::PushAdvertisement, 1, pass());
    rig.host.fail_times(On::PushAdvertisement, 1, Fault::status(503));
    let body = rig.with_token("s", json!({"message": "Same"}));
    let (first, second) = (JobId::new_now(), JobId::new_now());
    rig.job_as(JobKind::CommitAndPush, body.clone(), Some((&first, 1)))
        .await
        .failed(ErrorCode::RemoteUnreachable);
    assert!(rig.manifest("s").await.unwrap().intent.is_some());
    // Another job makes the very same commit.
    rig.job_as(JobKind::CommitAndPush, body, Some((&second, 1)))
        .await
        .completed();
    rig.write("s", "b.txt", "b\n").await;
    rig.commit("s", json!({})).await.completed();
    assert_eq!(bare.log("main").len(), 4);
    bare.fsck_strict();
}

/// An attempt that was done, and whose worker was lost before anybody knew: the next one says the same, and does nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_done_is_answered_again_and_not_done_again() {
    let rig = Rig::new().await;
    let bare = rig.host.publish(&TestRepo::sample(), "app");
    let files = json!({"sessionId": "s", "files": [{"path": "a.txt", "content": "a\n"}]});
    for (kind, body) in [
        (JobKind::CloneRepository, rig.clone_body("s", "app")),
        (
            JobKind::CreateBranch,
            rig.with_token("s", json!({"userRequest": "Add a"})),
        ),
        (JobKind::ApplyChanges, files),
        (JobKind::CommitAndPush, rig.with_token("s", json!({}))),
    ] {
        let job = JobId::new_now();
        let first = rig.job_as(kind, body.clone(), Some((&job, 1))).await.completed();
        let (manifest, requests) = (rig.manifest("s").await, rig.host.requests().len());
        let again = rig.job_as(kind, body, Some((&job, 2))).await.completed();
        assert_eq!(again, first, "{kind:?}");
        assert_eq!(rig.manifest("s").await, manifest, "{kind:?}");
        assert_eq!(rig.host.requests().len(), requests, "{kind:?}");
    }
    assert_eq!(bare.log("main").len(), 2);
    bare.fsck_strict();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_done_before_later_ones_is_not_done_again() {
    let rig = Rig::new().await;
    rig.host.publish(&TestRepo::sample(), "app");
    rig.clone("s", "app").await;
    let job = JobId::new_now();
    let body = json!({"sessionId": "s", "files": [{"path": "a.txt", "content": "a\n"}]});
    rig.job_as(JobKind::ApplyChanges, body.clone(), Some((&job, 1)))
        .await
        .completed();
    rig.write("s", "a.txt", "newer\n").await;
    let before = rig.manifest("s").await;
    rig.job_as(JobKind::ApplyChanges, body, Some((&job, 2)))
        .await
        .failed(ErrorCode::SessionConflict);
    assert_eq!(rig.manifest("s").await, before);
}

/// A worker that was only slow wakes up when another has the job: it neither saves nor pushes.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_was_given_up_is_shut_out() {
    let rig = Rig::new().await;
    let bare = rig.host.publish(&TestRepo::sample(), "app");
    rig.clone("s", "app").await;
    rig.write("s", "a.txt", "a\n").await;
    let job = JobId::new_now();
    let slow = Fault::Trickle {
        bytes: 1,
        every: std::time::Duration::from_millis(10),
    };
    rig.host.fail_times(On::PushAdvertisement, 1, slow);
    // Each attempt writes its own message, as two answers of an LLM would: their commits differ.
    let body = |message: &str| rig.with_token("s", json!({"message": message}));
    let first = rig.job_as(JobKind::CommitAndPush, body("First"), Some((&job, 1)));
    let second = async {
        while rig.host.requests_on(&On::PushAdvertisement).is_empty() {
            tokio::task::yield_now().await;
        }
        rig.job_as(JobKind::CommitAndPush, body("Second"), Some((&job, 2)))
            .await
    };
    let (first, second) = tokio::join!(first, second);
    first.failed(ErrorCode::SessionConflict);
    assert_eq!(second.completed()["commitSha"], bare.rev_parse("main"));
    assert_eq!(bare.log("main").len(), 3);
    let manifest = rig.manifest("s").await.unwrap();
    assert_eq!((manifest.fence, manifest.intent), (None, None));
}

/// The right answer.
fn pass() -> Fault {
    Fault::Trickle {
        bytes: 1 << 20,
        every: std::time::Duration::ZERO,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_moves_during_the_push_leaves_the_session_as_it_was() {
    let rig = Rig::new().await;
    let repo = TestRepo::sample();
    repo.branch("other");
    let bare = rig.host.publish(&repo, "app");
    let theirs = bare.commit_behind_their_back("other", "theirs.txt", "theirs\n");
    rig.clone("s", "app").await;
    rig.write("s", "a.txt", "a\n").await;
    let before = rig.manifest("s").await;
    bare.install_hook(
        "pre-receive",
        "unset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES\n\
         git update-ref refs/heads/main refs/heads/other",
    );
    rig.commit("s", json!({})).await.failed(ErrorCode::NotFastForward);
    assert_eq!(rig.manifest("s").await, before);
    assert_eq!(bare.rev_parse("main"), theirs);
}

/// Without a gateway nobody keeps two commits of one session apart: whoever loses says so, and nothing is there twice.
#[tokio::test(flavor = "multi_thread")]
async fn two_commits_at_once_are_never_doubled_and_the_session_goes_on() {
    let rig = Rig::new().await;
    let bare = rig.host.publish(&TestRepo::sample(), "app");
    rig.clone("s", "app").await;
    for round in 0..8 {
        rig.write("s", &format!("{round}.txt"), "x\n").await;
        let body = json!({"message": format!("Round {round}")});
        let (a, b) = tokio::join!(rig.commit("s", body.clone()), rig.commit("s", body.clone()));
        for ran in [&a, &b].into_iter().filter(|ran| !ran.succeeded()) {
            let told = ["\"session_conflict\"", "\"not_fast_forward\""];
            assert!(told.iter().any(|code| ran.raw.contains(code)), "{}", ran.raw);
        }
        // The way that the errors name: pull, then commit again.
        rig.clone("s", "app").await;
        rig.commit("s", body).await.completed();
        let commits = bare.log("main");
        let subject = format!("Round {round}");
        assert_eq!(
            commits.iter().filter(|it| **it == subject).count(),
            1,
            "{commits:?}"
        );
    }
    assert_eq!(bare.log("main").len(), 10);
    bare.fsck_strict();
}
