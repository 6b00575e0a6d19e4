//! Fetches from a real git host: what comes is what `git clone` gets, and git finds nothing wrong with it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#[path = "transport/setup.rs"]
mod setup;

use std::num::NonZeroU32;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::Redirect;
use axum::routing::get;
use mayfly_git::fetch::{FetchProgress, FetchRequest};
use mayfly_git::refs::ls_refs;
use mayfly_git::remote::TransferLimits;
use mayfly_git_server::{GitServerConfig, Permission, router};
use mayfly_protocol::ErrorCode;
use mayfly_testkit::git;
use mayfly_testkit::git_host::{Fault, GitHost, On};
use mayfly_testkit::repo::TestRepo;
use mayfly_testkit::server::TestServer;
use setup::{Judge, Run, client, commit, files, remote};
use tokio_util::sync::CancellationToken;

fn host_with(repo: &TestRepo) -> GitHost {
    let host = GitHost::start();
    host.publish(repo, "r");
    host
}

/// Runs the test with protocol 2, and with a server that knows protocol 0 only.
async fn with_both_protocols(host: &GitHost, test: impl AsyncFn()) {
    test().await;
    host.fail(On::Any, Fault::ProtocolV0);
    test().await;
    host.behave();
}

#[tokio::test]
async fn a_whole_history_comes() {
    let repo = TestRepo::sample();
    repo.history(50);
    let tip = repo.commit("Last");
    repo.branch("other/branch").annotated_tag("v1", "one");
    let host = host_with(&repo);
    with_both_protocols(&host, async || {
        let run = Run::of(&host, "r");
        let fetched = run.fetch().await.unwrap();
        assert_eq!(fetched.branch.as_str(), "main");
        assert_eq!(fetched.tip, Some(commit(&tip)));
        assert_eq!(
            fetched.refs.branch_names().collect::<Vec<_>>(),
            ["main", "other/branch"]
        );
        assert!(fetched.refs.refs.contains_key("refs/tags/v1"));
        assert_eq!(fetched.shallow, []);
        let pack = fetched.pack.clone().unwrap();
        assert_eq!(
            files(run.into.path()),
            [
                format!("pack-{}.idx", pack.hash),
                format!("pack-{}.pack", pack.hash)
            ]
        );
        assert!(fetched.received_bytes > pack.pack_bytes);
        let judge = Judge::new();
        assert_eq!(judge.take(&fetched).check(commit(&tip)), 53);
        let objects = judge.git(&["rev-list", "--objects", "judged"]).lines().count();
        assert_eq!(pack.objects as usize, objects);
        let counted = |progress: &FetchProgress| matches!(progress, FetchProgress::Receiving { .. });
        assert!(run.progress.lock().unwrap().iter().any(counted));
    })
    .await;
}

#[tokio::test]
async fn the_default_branch_has_any_name() {
    let repo = TestRepo::with_branch("trunk/of-ours");
    let tip = repo.commit("First");
    repo.branch("main");
    let host = host_with(&repo);
    with_both_protocols(&host, async || {
        let fetched = Run::of(&host, "r").fetch().await.unwrap();
        assert_eq!(fetched.branch.as_str(), "trunk/of-ours");
        assert_eq!(fetched.tip, Some(commit(&tip)));
    })
    .await;
}

#[tokio::test]
async fn an_empty_repository_has_a_branch_and_no_tip() {
    let host = GitHost::start();
    host.publish_empty("r", "trunk");
    let fetched = Run::of(&host, "r").fetch().await.unwrap();
    assert_eq!((fetched.branch.as_str(), fetched.tip), ("trunk", None));
    assert_eq!(fetched.pack, None);
    host.fail(On::Any, Fault::ProtocolV0);
    let fetched = Run::of(&host, "r").fetch().await.unwrap();
    // Protocol 0 does not tell the branch of an empty repository.
    assert_eq!((fetched.branch.as_str(), fetched.tip), ("main", None));
}

#[tokio::test]
async fn a_branch_is_fetched_alone() {
    let repo = TestRepo::sample();
    repo.branch("side").switch("side");
    let side = repo.write("side", "x").commit("Side");
    repo.switch("main").write("large", "y").commit("Main");
    let host = host_with(&repo);
    with_both_protocols(&host, async || {
        let mut run = Run::of(&host, "r");
        run.request.branch = Some("side".parse().unwrap());
        let fetched = run.fetch().await.unwrap();
        assert_eq!(fetched.tip, Some(commit(&side)));
        let judge = Judge::new();
        assert_eq!(judge.take(&fetched).check(commit(&side)), 3);
        run.request.branch = Some("nowhere".parse().unwrap());
        assert_eq!(run.fetch().await.unwrap_err().code(), ErrorCode::BranchNotFound);
    })
    .await;
}

#[tokio::test]
async fn only_what_is_new_comes() {
    let repo = TestRepo::sample();
    let known = repo.history(20);
    let host = GitHost::start();
    let bare = host.publish(&repo, "r");
    let first_run = Run::of(&host, "r");
    let first = first_run.fetch().await.unwrap();
    let tip = bare.commit_behind_their_back("main", "new/file", "content");
    with_both_protocols(&host, async || {
        let mut run = Run::of(&host, "r");
        run.request.have = vec![commit(&known), commit(&"ab".repeat(20))];
        let second = run.fetch().await.unwrap();
        // A commit, three trees at most, and a file; no thin pack, so nothing else is needed to read them.
        assert_eq!(second.tip, Some(commit(&tip)));
        assert_eq!(second.pack.as_ref().unwrap().objects, 4);
        let judge = Judge::new();
        Judge::take(&judge, &second);
        assert_eq!(
            judge.git(&["cat-file", "-p", &format!("{tip}:new/file")]),
            "content"
        );
        run.request.have = vec![commit(&tip)];
        let third = run.fetch().await.unwrap();
        assert_eq!((third.tip, third.pack), (Some(commit(&tip)), None));
    })
    .await;
    let judge = Judge::new();
    let mut run = Run::of(&host, "r");
    run.request.have = vec![commit(&known)];
    let second = run.fetch().await.unwrap();
    assert_eq!(judge.take(&first).take(&second).check(commit(&tip)), 23);
}

#[tokio::test]
async fn a_depth_leaves_a_boundary_that_later_fetches_respect() {
    let repo = TestRepo::sample();
    let shallow_tip = repo.history(10);
    let host = GitHost::start();
    let bare = host.publish(&repo, "r");
    let next = bare.commit_behind_their_back("main", "next", "x");
    with_both_protocols(&host, async || {
        bare.text(&["update-ref", "refs/heads/main", &shallow_tip]);
        let mut run = Run::of(&host, "r");
        run.request.depth = NonZeroU32::new(1);
        let first = run.fetch().await.unwrap();
        assert_eq!(first.shallow, [commit(&shallow_tip)]);
        let judge = Judge::new();
        assert_eq!(judge.take(&first).check(commit(&shallow_tip)), 1);

        bare.text(&["update-ref", "refs/heads/main", &next]);
        let mut run = Run::of(&host, "r");
        run.request = FetchRequest {
            have: vec![commit(&shallow_tip)],
            shallow: first.shallow.clone(),
            ..FetchRequest::default()
        };
        let second = run.fetch().await.unwrap();
        assert_eq!(second.shallow, first.shallow);
        assert_eq!(second.pack.as_ref().unwrap().objects, 3);
        assert_eq!(judge.take(&second).check(commit(&next)), 2);

        run.request.depth = NonZeroU32::new(5);
        run.request.have = vec![commit(&next)];
        let deeper = run.fetch().await.unwrap();
        assert_eq!(deeper.tip, Some(commit(&next)));
        assert_eq!(judge.take(&deeper).check(commit(&next)), 5);
    })
    .await;
}

#[tokio::test]
async fn a_commit_is_fetched_by_its_id() {
    let repo = TestRepo::sample();
    let old = repo.history(5);
    let tip = repo.history(5);
    let host = host_with(&repo);
    with_both_protocols(&host, async || {
        let mut run = Run::of(&host, "r");
        run.request.commit = Some(commit(&old));
        let fetched = run.fetch().await.unwrap();
        assert_eq!(fetched.tip, Some(commit(&old)));
        let judge = Judge::new();
        assert_eq!(judge.take(&fetched).check(commit(&tip)), 12);

        let mut run = Run::of(&host, "r");
        run.request.commit = Some(commit(&old));
        run.request.depth = NonZeroU32::new(2);
        let fetched = run.fetch().await.unwrap();
        assert_eq!(Judge::new().take(&fetched).check(commit(&old)), 2);

        let mut run = Run::of(&host, "r");
        run.request.commit = Some(commit(&"12".repeat(20)));
        assert_eq!(run.failure().await.code(), ErrorCode::CommitNotFound);
    })
    .await;
}

#[tokio::test]
async fn tokens_go_as_basic_and_as_bearer() {
    let host = host_with(&TestRepo::sample());
    let bearer = format!("Bearer {}", host.token());
    let named = format!("somebody:{}", host.token());
    for token in [host.token(), host.read_token(), &bearer, &named] {
        let run = Run::at(&host.url("r"), Some(token));
        assert!(run.fetch().await.is_ok());
    }
    for (token, code) in [
        (None, ErrorCode::AuthenticationFailed),
        (Some("wrong-canary"), ErrorCode::AuthenticationFailed),
        (Some("bad\ncanary"), ErrorCode::AuthenticationFailed),
        (Some(host.forbidden_token()), ErrorCode::AccessDenied),
    ] {
        let error = Run::at(&host.url("r"), token).failure().await;
        assert_eq!(error.code(), code, "{error}");
    }
    let error = Run::of(&host, "missing").failure().await;
    assert_eq!(error.code(), ErrorCode::RepositoryNotFound);
}

#[tokio::test]
async fn refs_are_listed_without_a_fetch() {
    let repo = TestRepo::sample();
    let tip = repo.rev_parse("HEAD");
    repo.branch("feature/x").tag("v1");
    let host = host_with(&repo);
    let (remote, cancel) = (
        remote(&host.url("r"), Some(host.token())),
        CancellationToken::new(),
    );
    with_both_protocols(&host, async || {
        let refs = ls_refs(&client(), &remote, &TransferLimits::default(), &cancel)
            .await
            .unwrap();
        assert_eq!(refs.head.as_ref().unwrap().as_str(), "main");
        assert_eq!(refs.branch(&"feature/x".parse().unwrap()), Some(commit(&tip)));
        let names: Vec<&str> = refs.refs.keys().map(String::as_str).collect();
        assert_eq!(names, ["refs/heads/feature/x", "refs/heads/main", "refs/tags/v1"]);
    })
    .await;
}

#[tokio::test]
async fn a_remote_that_is_shallow_itself_tells_its_boundary() {
    let repo = TestRepo::sample();
    let tip = repo.history(5);
    let host = host_with(&repo);
    let source = format!("file://{}", host.root().join("r.git").display());
    let clone = ["clone", "--quiet", "--bare", "--depth=2", &source, "shallow.git"];
    git::stdout(git::command(host.root()).args(clone));
    let boundary = repo.rev_parse("HEAD~1");
    with_both_protocols(&host, async || {
        let run = Run::of(&host, "shallow");
        let fetched = run.fetch().await.unwrap();
        assert_eq!(fetched.shallow, [commit(&boundary)]);
        assert_eq!(Judge::new().take(&fetched).check(commit(&tip)), 2);
    })
    .await;
}

#[tokio::test]
async fn a_repository_that_has_moved_within_its_host_is_followed() {
    let host = host_with(&TestRepo::sample());
    let moved = async |State(to): State<String>, RawQuery(query): RawQuery| {
        Redirect::permanent(&format!("{to}/info/refs?{}", query.unwrap_or_default()))
    };
    let config = GitServerConfig {
        root: host.root().to_owned(),
        tokens: Vec::new(),
        anonymous: Permission::Read,
    };
    let old = Router::new()
        .route("/old/info/refs", get(moved))
        .with_state("/r.git".to_owned());
    let server = TestServer::http(old.fallback_service(router(config)));
    let run = Run::at(&format!("{}/old", server.origin()), None);
    let fetched = run.fetch().await.unwrap();
    assert!(fetched.pack.is_some());
}

#[tokio::test]
async fn a_repository_of_many_and_odd_files_comes_whole() {
    let repo = TestRepo::new();
    repo.write_many(3000)
        .write_named(mayfly_testkit::repo::LATIN1_NAME, "x")
        .write_noise("large.bin", 8 << 20, 1)
        .symlink("link", "large.bin")
        .submodule_entry("sub", &"12".repeat(20));
    let tip = repo.commit("Everything");
    let host = host_with(&repo);
    let run = Run::of(&host, "r");
    let fetched = run.fetch().await.unwrap();
    let judge = Judge::new();
    assert_eq!(judge.take(&fetched).check(commit(&tip)), 1);
    assert!(fetched.received_bytes > 8 << 20);
    assert_eq!(
        judge.git(&["rev-parse", &format!("{tip}^{{tree}}")]),
        repo.rev_parse("HEAD^{tree}")
    );
}
