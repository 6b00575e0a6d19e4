//! Fetches from hosts that are broken, slow or lie: each ends with its own code, in time, and leaves no file.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#[path = "transport/setup.rs"]
#[expect(dead_code, reason = "shared with the tests of other fetches")]
mod setup;

use std::time::Duration;

use bytes::Bytes;
use mayfly_git::fetch::{FetchError, FetchProgress, PackSink, SinkError};
use mayfly_git::remote::TransferLimits;
use mayfly_protocol::ErrorCode;
use mayfly_testkit::git_host::{Fault, GitHost, On};
use mayfly_testkit::repo::TestRepo;
use mayfly_testkit::wait;
use setup::{Run, client_with, files};

/// A host whose pack takes some megabytes.
fn noisy_host() -> GitHost {
    let repo = TestRepo::sample();
    for number in 0..8 {
        repo.write_noise(&format!("noise/{number}"), 1 << 20, number);
    }
    repo.commit("Noise");
    let host = GitHost::start();
    host.publish(&repo, "r");
    host
}

fn small_host() -> GitHost {
    let host = GitHost::start();
    host.publish(&TestRepo::sample(), "r");
    host
}

/// The second `POST` of a fetch by protocol 2 is the one for the pack.
fn fail_pack(host: &GitHost, fault: Fault) {
    host.fail_times(
        On::UploadPack,
        1,
        Fault::Trickle {
            bytes: 1 << 20,
            every: Duration::ZERO,
        },
    );
    host.fail(On::UploadPack, fault);
}

#[tokio::test]
async fn each_answer_has_its_code() {
    let host = small_host();
    for (fault, code, wait) in [
        (Fault::status(401), ErrorCode::AuthenticationFailed, None),
        (Fault::status(403), ErrorCode::AccessDenied, None),
        (Fault::status(404), ErrorCode::RepositoryNotFound, None),
        (Fault::status(400), ErrorCode::NotGit, None),
        (Fault::status(204), ErrorCode::NotGit, None),
        (Fault::status(500), ErrorCode::RemoteUnavailable, None),
        (Fault::status(503), ErrorCode::RemoteUnavailable, None),
        (
            Fault::too_many_requests("30"),
            ErrorCode::RemoteRateLimited,
            Some(30),
        ),
        (
            Fault::too_many_requests("Sun, 06 Nov 1994 08:49:37 GMT"),
            ErrorCode::RemoteRateLimited,
            Some(0),
        ),
        (
            Fault::ContentType("text/html".to_owned()),
            ErrorCode::NotGit,
            None,
        ),
        (Fault::CutBeforeHead, ErrorCode::RemoteUnreachable, None),
        (Fault::CutAfter(20), ErrorCode::RemoteUnreachable, None),
        (Fault::Lie(Vec::new()), ErrorCode::RemoteProtocol, None),
        (Fault::Lie(b"<html>".to_vec()), ErrorCode::RemoteProtocol, None),
        (
            Fault::Lie(b"0020ERR the\x1b repository is gone\n".to_vec()),
            ErrorCode::RemoteProtocol,
            None,
        ),
        (Fault::Lie(b"fffe".to_vec()), ErrorCode::RemoteProtocol, None),
    ] {
        for on in [On::FetchAdvertisement, On::UploadPack] {
            host.fail(on.clone(), fault.clone());
            let error = Run::of(&host, "r").failure().await;
            assert_eq!(
                (error.code(), error.retry_after()),
                (code, wait),
                "{on:?} {fault:?}"
            );
            host.behave();
        }
    }
}

#[tokio::test]
async fn a_token_is_never_sent_to_another_origin() {
    let (host, other) = (small_host(), small_host());
    for status in [301, 302, 307, 308] {
        for on in [On::FetchAdvertisement, On::UploadPack] {
            let origin = other.origin();
            host.fail(on, Fault::Redirect { status, origin });
            let error = Run::of(&host, "r").failure().await;
            assert_eq!(error.code(), ErrorCode::RedirectRefused);
            assert!(error.to_string().contains(&other.origin()), "{error}");
            host.behave();
        }
    }
    assert_eq!(other.requests().len(), 0);
}

#[tokio::test]
async fn half_a_pack_leaves_nothing() {
    let host = noisy_host();
    for fault in [Fault::CutAfter(3 << 20), Fault::CutAfter(100)] {
        fail_pack(&host, fault);
        let error = Run::of(&host, "r").failure().await;
        assert_eq!(error.code(), ErrorCode::RemoteUnreachable, "{error:?}");
        host.behave();
    }
}

#[tokio::test]
async fn a_stall_and_a_trickle_time_out() {
    let host = noisy_host();
    for fault in [
        Fault::StallBeforeHead,
        Fault::StallAfter(2 << 20),
        Fault::StallAfter(0),
    ] {
        fail_pack(&host, fault);
        let mut run = Run::of(&host, "r");
        run.client = client_with(Duration::from_millis(300));
        assert_eq!(run.failure().await.code(), ErrorCode::RemoteTimeout);
        host.behave();
    }
    let trickle = Fault::Trickle {
        bytes: 100,
        every: Duration::from_millis(5),
    };
    for on in [On::Any, On::UploadPack] {
        host.fail(on, trickle.clone());
        let mut run = Run::of(&host, "r");
        run.limits.min_bytes_per_second = 1 << 20;
        run.limits.rate_window = Duration::from_millis(50);
        run.limits.prepare_timeout = Duration::from_millis(100);
        assert_eq!(run.failure().await.code(), ErrorCode::RemoteTimeout);
        host.behave();
    }
}

#[tokio::test]
async fn cancel_ends_a_fetch_in_the_middle_of_its_pack() {
    let host = noisy_host();
    fail_pack(&host, Fault::StallAfter(4 << 20));
    let run = Run::of(&host, "r");
    let (progress, cancel) = (run.progress.clone(), run.cancel.clone());
    let some_arrived = async {
        let arrived = |progress: &FetchProgress| matches!(progress, FetchProgress::Receiving { .. });
        while !progress.lock().unwrap().iter().any(arrived) {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (error, ()) = tokio::join!(run.failure(), some_arrived);
    assert_eq!(error.code(), ErrorCode::Cancelled, "{error:?}");
}

/// Takes so many pieces, and then fails, or never answers.
struct Stubborn {
    pieces: usize,
    fails: bool,
}

#[async_trait::async_trait]
impl PackSink for Stubborn {
    async fn write(&mut self, _bytes: Bytes) -> Result<(), SinkError> {
        match self.pieces.checked_sub(1) {
            Some(left) => self.pieces = left,
            None if self.fails => return Err(SinkError("full".into())),
            None => std::future::pending().await,
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_copy_that_fails_ends_the_fetch() {
    let host = noisy_host();
    let run = Run::of(&host, "r");
    let mut copy = Stubborn {
        pieces: 3,
        fails: true,
    };
    let error = run.fetch_with(Some(&mut copy)).await.unwrap_err();
    assert!(matches!(error, FetchError::Copy(_)), "{error:?}");
    assert_eq!(files(run.into.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_copy_that_takes_no_more_holds_the_fetch_until_it_is_cancelled() {
    let host = noisy_host();
    let run = Run::of(&host, "r");
    let mut copy = Stubborn {
        pieces: 3,
        fails: false,
    };
    let some_arrived = async {
        wait::eventually("some of it arrived", || !run.progress.lock().unwrap().is_empty()).await;
        run.cancel.cancel();
    };
    let (fetched, ()) = tokio::join!(run.fetch_with(Some(&mut copy)), some_arrived);
    assert_eq!(fetched.unwrap_err().code(), ErrorCode::Cancelled);
    assert_eq!(files(run.into.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_fetch_that_is_dropped_cleans_up() {
    let host = noisy_host();
    fail_pack(&host, Fault::StallAfter(4 << 20));
    let run = Run::of(&host, "r");
    let begun = async {
        while files(run.into.path()).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        result = run.fetch() => panic!("{result:?}"),
        () = begun => {}
    }
    while !files(run.into.path()).is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn limits_hold_while_bytes_arrive() {
    let host = noisy_host();
    let limits = TransferLimits::default;
    for (limits, code) in [
        (
            TransferLimits {
                max_pack_bytes: 1 << 20,
                ..limits()
            },
            ErrorCode::RepositoryTooLarge,
        ),
        (
            TransferLimits {
                max_unpacked_bytes: 1 << 20,
                ..limits()
            },
            ErrorCode::RepositoryTooLarge,
        ),
        (
            TransferLimits {
                max_objects: 3,
                ..limits()
            },
            ErrorCode::TooManyObjects,
        ),
        (
            TransferLimits {
                max_object_bytes: 1 << 19,
                ..limits()
            },
            ErrorCode::ObjectTooLarge,
        ),
        (
            TransferLimits {
                max_ref_bytes: 50,
                ..limits()
            },
            ErrorCode::RepositoryTooLarge,
        ),
        (
            TransferLimits {
                max_refs: 0,
                ..limits()
            },
            ErrorCode::RepositoryTooLarge,
        ),
        (
            TransferLimits {
                max_message_bytes: 10,
                ..limits()
            },
            ErrorCode::RemoteProtocol,
        ),
    ] {
        let mut run = Run::of(&host, "r");
        run.limits = limits;
        let error = run.failure().await;
        assert_eq!(error.code(), code, "{error:?}");
    }
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_our_own_fault() {
    let host = small_host();
    let mut run = Run::of(&host, "r");
    let gone = tempfile::tempdir().unwrap();
    std::fs::remove_dir(run.into.path()).unwrap();
    let error = run.fetch().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Internal);
    run.into = gone;
    assert!(run.fetch().await.is_ok());
}

#[tokio::test]
async fn a_host_that_is_not_there_is_told_apart() {
    for (url, code) in [
        ("http://no-such-host.invalid/r", ErrorCode::HostUnknown),
        ("http://127.0.0.1:1/r", ErrorCode::RemoteUnreachable),
    ] {
        let error = Run::at(url, Some("canary")).failure().await;
        assert_eq!(error.code(), code, "{error:?}");
    }
    let mut run = Run::at("https://127.0.0.1:1/r", Some("canary"));
    run.client = mayfly_http::GuardedClient::new(mayfly_http::HttpPolicy::default()).unwrap();
    assert_eq!(run.failure().await.code(), ErrorCode::HostRefused);
}
