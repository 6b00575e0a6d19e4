//! Every call to the storage fails once, in every job: the session is as before or as after, and the next job goes on.

use std::sync::Arc;

use mayfly_protocol::JobKind;
use mayfly_session::Manifest;
use mayfly_storage::{Fault, FaultyStore, Operation, Rule, When};
use mayfly_testkit::repo::{BareRepo, TestRepo};
use serde_json::{Value, json};

use super::rig::{Ran, Rig};

const CALLS: [(Operation, Fault); 11] = [
    (Operation::Get, Fault::Unavailable),
    (Operation::GetRange, Fault::Unavailable),
    (Operation::Download, Fault::Unavailable),
    (Operation::Head, Fault::Unavailable),
    (Operation::Put, Fault::Unavailable),
    (Operation::Put, Fault::AnswerLost),
    (Operation::Put, Fault::Conflict),
    (Operation::Upload, Fault::Unavailable),
    (Operation::UploadWrite, Fault::Unavailable),
    (Operation::UploadComplete, Fault::Unavailable),
    (Operation::UploadComplete, Fault::AnswerLost),
];

/// What a job may change of a session.
fn state(manifest: Option<&Manifest>) -> Value {
    manifest.map_or(Value::Null, |it| {
        json!([
            it.generation,
            it.branch,
            it.head,
            it.upstream,
            it.worktree,
            it.packs
        ])
    })
}

/// A job, with what must be there before it.
struct Case {
    kind: JobKind,
    body: Value,
    prepare: &'static [&'static str],
    is_new: bool,
}

/// Runs the job with each call failing in turn, each time on a session of its own.
async fn each_call_fails(case: impl Fn(&Rig, &str) -> Case) {
    let mut rig = Rig::new().await;
    let good = Arc::clone(&rig.storage);
    let mut rounds = 0;
    for (operation, fault) in CALLS {
        for nth in 1.. {
            rounds += 1;
            let name = format!("r{rounds}");
            let bare = rig.host.publish(&TestRepo::sample(), &name);
            let faulty = FaultyStore::new(Arc::clone(&good), 0);
            let faulty = Arc::new(faulty.with(Rule::on(operation, When::Nth(nth), fault)));
            let case = case(&rig, &name);
            prepare(&rig, &name, &case).await;
            let before = rig.manifest(&name).await;
            rig.storage = faulty.clone();
            let ran = rig.job(case.kind, case.body.clone()).await;
            rig.storage = Arc::clone(&good);
            if faulty.faults() == 0 {
                assert!(ran.succeeded(), "{}", ran.raw);
                break;
            }
            let context = format!("{:?}: {operation:?} {nth} {fault:?}", case.kind);
            goes_on(&rig, &name, &bare, (&case, &ran, before), &context).await;
        }
    }
    assert!(rounds > CALLS.len() + 3, "{rounds}");
}

async fn prepare(rig: &Rig, name: &str, case: &Case) {
    if !case.is_new {
        rig.clone(name, name).await;
    }
    for path in case.prepare {
        rig.write(name, path, "content\n").await;
    }
}

async fn goes_on(
    rig: &Rig,
    name: &str,
    bare: &BareRepo,
    (case, ran, before): (&Case, &Ran, Option<Manifest>),
    context: &str,
) {
    let after = rig.manifest(name).await;
    let is_as_before = state(after.as_ref()) == state(before.as_ref());
    let saved = |manifest: &Option<Manifest>| manifest.as_ref().map_or(0, |it| it.generation.0);
    let is_done = saved(&after) == saved(&before) + 1;
    assert!(is_as_before || is_done, "{context}: {after:?} from {before:?}");
    assert!(is_done || !ran.succeeded(), "{context}: {}", ran.raw);
    if !ran.succeeded() {
        let last = ran.raw.lines().rfind(|line| !line.is_empty()).unwrap_or_default();
        assert!(last.contains("\"retryable\":true"), "{context}: {last}");
    }
    let again = rig.job(case.kind, case.body.clone()).await;
    assert!(again.succeeded(), "{context}: the same again: {}", again.raw);
    rig.write(name, "later.txt", "later\n").await;
    let body = rig.with_token(name, json!({"message": "Later"}));
    let later = rig.job(JobKind::CommitAndPush, body).await;
    assert!(later.succeeded(), "{context}: a later job: {}", later.raw);
    bare.fsck_strict();
    let branch = rig.manifest(name).await.map(|it| it.branch.to_string());
    let log = bare.log(&branch.unwrap_or_default());
    let made = log.iter().filter(|subject| *subject == "Once").count();
    assert!(made <= 1, "{context}: {log:?}");
    assert_eq!(
        log.iter().filter(|subject| *subject == "Later").count(),
        1,
        "{context}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_clone() {
    each_call_fails(|rig, name| Case {
        kind: JobKind::CloneRepository,
        body: rig.clone_body(name, name),
        prepare: &[],
        is_new: true,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_changes() {
    each_call_fails(|_, name| Case {
        kind: JobKind::ApplyChanges,
        body: json!({"sessionId": name, "files": [{"path": "a.txt", "content": "a\n"}]}),
        prepare: &[],
        is_new: false,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_new_branch() {
    each_call_fails(|rig, name| Case {
        kind: JobKind::CreateBranch,
        body: rig.with_token(name, json!({"userRequest": "Add x"})),
        prepare: &[],
        is_new: false,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_commit() {
    each_call_fails(|rig, name| Case {
        kind: JobKind::CommitAndPush,
        body: rig.with_token(name, json!({"message": "Once"})),
        prepare: &["README.md"],
        is_new: false,
    })
    .await;
}

/// Small packs until the next job folds them.
const BEFORE_A_FOLD: [&str; 7] = ["README.md", "b.txt", "c.txt", "d.txt", "e.txt", "f.txt", "g.txt"];

#[tokio::test(flavor = "multi_thread")]
async fn in_a_commit_that_folds() {
    each_call_fails(|rig, name| Case {
        kind: JobKind::CommitAndPush,
        body: rig.with_token(name, json!({"message": "Once"})),
        prepare: &BEFORE_A_FOLD,
        is_new: false,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_changes_that_fold() {
    each_call_fails(|_, name| Case {
        kind: JobKind::ApplyChanges,
        body: json!({"sessionId": name, "files": [{"path": "a.txt", "content": "a\n"}]}),
        prepare: &BEFORE_A_FOLD,
        is_new: false,
    })
    .await;
}
