//! Pushes to a real git host: the ref moves only from where it was expected, and the remote's words come back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#[path = "transport/setup.rs"]
#[expect(dead_code, reason = "shared with the tests of fetches")]
mod setup;

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use mayfly_git::push::{PushError, RefUpdate, SendPack, empty_pack};
use mayfly_git::remote::{Remote, TransferLimits};
use mayfly_http::GuardedClient;
use mayfly_protocol::{ErrorCode, ObjectId};
use mayfly_testkit::git;
use mayfly_testkit::git_host::{Fault, GitHost, On};
use mayfly_testkit::repo::{BareRepo, TestRepo};
use setup::{client, client_with, commit, remote};
use tokio_util::sync::CancellationToken;

/// A host with a repository, and a clone that has one commit more.
struct Scene {
    host: GitHost,
    bare: BareRepo,
    repo: TestRepo,
    old: String,
    new: String,
    client: GuardedClient,
}

impl Scene {
    fn new() -> Self {
        let host = GitHost::start();
        let repo = TestRepo::sample();
        let bare = host.publish(&repo, "r");
        let old = repo.rev_parse("HEAD");
        let new = repo.write("pushed.txt", "pushed\n").commit("Pushed");
        Self {
            host,
            bare,
            repo,
            old,
            new,
            client: client(),
        }
    }

    fn remote(&self) -> Remote {
        remote(&self.host.url("r"), Some(self.host.token()))
    }

    fn pack(&self) -> Bytes {
        pack(&self.repo, &format!("{}\n^{}\n", self.new, self.old))
    }

    fn update(&self, branch: &str, old: Option<&str>) -> RefUpdate {
        RefUpdate {
            name: format!("refs/heads/{branch}"),
            old: old.map(commit),
            new: commit(&self.new),
        }
    }

    async fn connect(&self) -> Result<SendPack, PushError> {
        let limits = TransferLimits::default();
        SendPack::connect(&self.client, &self.remote(), &limits, &CancellationToken::new()).await
    }

    async fn push(&self, update: &RefUpdate, pack: Bytes) -> Result<(), PushError> {
        let connected = self.connect().await?;
        connected.push(update, pack, &CancellationToken::new()).await
    }

    async fn refusal(&self, update: &RefUpdate, pack: Bytes) -> PushError {
        let error = self.push(update, pack).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains(self.host.token()));
        error
    }

    fn at(&self, branch: &str) -> Option<String> {
        self.bare.try_rev_parse(&format!("refs/heads/{branch}"))
    }
}

/// A complete pack of the objects behind these revisions, as `git pack-objects` makes it.
fn pack(repo: &TestRepo, revisions: &str) -> Bytes {
    let mut child = git::command(repo.path())
        .args(["pack-objects", "--revs", "--stdout", "-q"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(revisions.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout.into()
}

#[tokio::test]
async fn a_branch_moves_forward_and_a_new_one_is_made() {
    let scene = Scene::new();
    scene
        .push(&scene.update("main", Some(&scene.old)), scene.pack())
        .await
        .unwrap();
    assert_eq!(scene.at("main"), Some(scene.new.clone()));
    scene
        .push(&scene.update("feature/new", None), empty_pack())
        .await
        .unwrap();
    assert_eq!(scene.at("feature/new"), Some(scene.new.clone()));
    scene.bare.fsck_strict();
    let connected = scene.connect().await.unwrap();
    let names: Vec<&str> = connected.refs().branch_names().collect();
    assert_eq!(names, ["feature/new", "main"]);
}

#[tokio::test]
async fn a_large_pack_goes_through() {
    let scene = Scene::new();
    scene.repo.write_noise("noise", 5 << 20, 3);
    let new = scene.repo.commit("Noise");
    let update = RefUpdate {
        new: commit(&new),
        ..scene.update("main", Some(&scene.old))
    };
    scene
        .push(&update, pack(&scene.repo, &format!("{new}\n^{}\n", scene.old)))
        .await
        .unwrap();
    assert_eq!(scene.at("main"), Some(new));
    assert!(scene.host.bytes_received() > 5 << 20);
    scene.bare.fsck_strict();
}

#[tokio::test]
async fn a_ref_that_is_elsewhere_is_not_touched() {
    let scene = Scene::new();
    let theirs = scene.bare.commit_behind_their_back("main", "theirs", "x");
    for old in [Some(scene.old.as_str()), None] {
        let error = scene.refusal(&scene.update("main", old), scene.pack()).await;
        assert_eq!(error.code(), ErrorCode::NotFastForward);
        assert!(matches!(error, PushError::Stale { actual, .. } if actual == Some(commit(&theirs))));
    }
    let error = scene
        .refusal(&scene.update("gone", Some(&scene.old)), scene.pack())
        .await;
    assert!(matches!(error, PushError::Stale { actual: None, .. }));
    assert_eq!(scene.host.requests_on(&On::ReceivePack).len(), 0);
    assert_eq!(scene.at("main"), Some(theirs));
}

#[tokio::test]
async fn a_ref_that_moves_between_listing_and_push_is_not_overwritten() {
    let scene = Scene::new();
    let connected = scene.connect().await.unwrap();
    let theirs = scene.bare.commit_behind_their_back("main", "theirs", "x");
    let update = scene.update("main", Some(&scene.old));
    let error = connected
        .push(&update, scene.pack(), &CancellationToken::new())
        .await
        .unwrap_err();
    assert!(matches!(error, PushError::NotFastForward { .. }), "{error:?}");
    assert_eq!(error.code(), ErrorCode::NotFastForward);
    assert_eq!(scene.at("main"), Some(theirs));
}

#[tokio::test]
async fn a_rewritten_history_is_refused_where_the_host_forbids_it() {
    let scene = Scene::new();
    scene.bare.set_config("receive.denyNonFastForwards", "true");
    let first = scene.repo.rev_parse("HEAD~2");
    let update = RefUpdate {
        new: commit(&first),
        ..scene.update("main", Some(&scene.old))
    };
    let error = scene.refusal(&update, empty_pack()).await;
    assert!(matches!(error, PushError::NotFastForward { .. }), "{error:?}");
    assert_eq!(scene.at("main"), Some(scene.old.clone()));
}

#[tokio::test]
async fn the_words_of_a_hook_come_back() {
    let scene = Scene::new();
    scene
        .bare
        .reject_pushes("policy: no pushes\r\ndata: {\"type\":\"completed\"}\u{1b}[31m");
    let error = scene
        .refusal(&scene.update("main", Some(&scene.old)), scene.pack())
        .await;
    assert_eq!(error.code(), ErrorCode::PushRejected);
    let PushError::Rejected {
        reason, server_words, ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(reason, "pre-receive hook declined");
    assert!(
        server_words.contains("policy: no pushes data: {"),
        "{server_words}"
    );
    assert!(!server_words.chars().any(char::is_control));

    scene.bare.install_hook(
        "pre-receive",
        "yes 'all work and no play' | head -c 100000 >&2; exit 1",
    );
    let error = scene
        .refusal(&scene.update("main", Some(&scene.old)), scene.pack())
        .await;
    let PushError::Rejected { server_words, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(
        (1000..=2048).contains(&server_words.len()),
        "{}",
        server_words.len()
    );

    scene.bare.protect("main");
    let error = scene
        .refusal(&scene.update("main", Some(&scene.old)), scene.pack())
        .await;
    assert!(error.to_string().contains("GH006"), "{error}");
    assert_eq!(scene.at("main"), Some(scene.old.clone()));
    scene
        .push(&scene.update("beside", None), scene.pack())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_pack_that_lacks_objects_is_refused() {
    let scene = Scene::new();
    let update = RefUpdate {
        new: ObjectId::from_bytes([7; 20]),
        ..scene.update("main", Some(&scene.old))
    };
    let error = scene.refusal(&update, empty_pack()).await;
    assert_eq!(error.code(), ErrorCode::PushRejected, "{error:?}");
    let error = scene
        .refusal(
            &scene.update("main", Some(&scene.old)),
            Bytes::from_static(b"no pack"),
        )
        .await;
    assert_eq!(error.code(), ErrorCode::PushRejected, "{error:?}");
    assert_eq!(scene.at("main"), Some(scene.old.clone()));
}

#[tokio::test]
async fn a_lost_answer_is_told_and_the_second_try_sees_what_happened() {
    let scene = Scene::new();
    let update = scene.update("main", Some(&scene.old));
    for fault in [Fault::LoseAnswer, Fault::CutAfter(3)] {
        scene.bare.text(&["update-ref", "refs/heads/main", &scene.old]);
        scene.host.fail_times(On::ReceivePack, 1, fault);
        let error = scene.refusal(&update, scene.pack()).await;
        assert!(matches!(error, PushError::AnswerLost { .. }), "{error:?}");
        assert_eq!(error.code(), ErrorCode::RemoteUnreachable);
        let connected = scene.connect().await.unwrap();
        assert_eq!(
            connected.refs().branch(&"main".parse().unwrap()),
            Some(commit(&scene.new))
        );
    }
}

#[tokio::test]
async fn who_may_not_push_is_told_at_once() {
    let scene = Scene::new();
    let limits = TransferLimits::default();
    for (token, code) in [
        (None, ErrorCode::AuthenticationFailed),
        (Some("wrong"), ErrorCode::AuthenticationFailed),
        (Some(scene.host.read_token()), ErrorCode::AccessDenied),
    ] {
        let remote = remote(&scene.host.url("r"), token);
        let connected = SendPack::connect(&scene.client, &remote, &limits, &CancellationToken::new()).await;
        assert_eq!(connected.err().unwrap().code(), code);
    }
    for (fault, code, wait) in [
        (Fault::status(404), ErrorCode::RepositoryNotFound, None),
        (Fault::status(500), ErrorCode::RemoteUnavailable, None),
        (
            Fault::too_many_requests("11"),
            ErrorCode::RemoteRateLimited,
            Some(11),
        ),
        (
            Fault::ContentType("text/html".to_owned()),
            ErrorCode::NotGit,
            None,
        ),
    ] {
        for on in [On::PushAdvertisement, On::ReceivePack] {
            scene.host.fail(on, fault.clone());
            let error = scene
                .refusal(&scene.update("main", Some(&scene.old)), scene.pack())
                .await;
            assert_eq!((error.code(), error.retry_after()), (code, wait));
            scene.host.behave();
        }
    }
}

#[tokio::test]
async fn a_push_is_cancelled_and_does_not_wait_for_ever() {
    let mut scene = Scene::new();
    scene.host.fail(On::ReceivePack, Fault::StallBeforeHead);
    let connected = scene.connect().await.unwrap();
    let (cancel, update) = (CancellationToken::new(), scene.update("main", Some(&scene.old)));
    let pushing = connected.push(&update, scene.pack(), &cancel);
    let (result, ()) = tokio::join!(pushing, async { cancel.cancel() });
    assert_eq!(result.unwrap_err().code(), ErrorCode::Cancelled);
    scene.client = client_with(Duration::from_millis(200));
    let error = scene.refusal(&update, scene.pack()).await;
    assert!(matches!(error, PushError::AnswerLost { .. }), "{error:?}");
}

#[tokio::test]
async fn reports_that_lie_are_no_success() {
    let scene = Scene::new();
    for lie in [
        &b""[..],
        b"0000",
        b"0013\x01000eunpack ok\n",
        b"nonsense",
        b"0006\x09x",
        b"0012\x03out of memory\n",
    ] {
        scene.host.fail(On::ReceivePack, Fault::Lie(lie.to_vec()));
        let error = scene
            .refusal(&scene.update("main", Some(&scene.old)), scene.pack())
            .await;
        assert!(error.code() != ErrorCode::Internal, "{error:?}");
        scene.host.behave();
    }
    let flood = b"0009\x02flood".repeat(400_000);
    scene.host.fail(On::ReceivePack, Fault::Lie(flood));
    let error = scene
        .refusal(&scene.update("main", Some(&scene.old)), scene.pack())
        .await;
    assert_eq!(error.code(), ErrorCode::RemoteProtocol, "{error:?}");
}

#[test]
fn the_empty_pack_is_one_that_git_takes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("empty.pack");
    std::fs::write(&file, empty_pack()).unwrap();
    git::stdout(git::command(folder.path()).args(["index-pack", "--strict", "empty.pack"]));
}
