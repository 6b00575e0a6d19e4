//! The plain `git` program against the host, well-behaved and not.

use std::time::Duration;

use mayfly_git_server::Permission;
use mayfly_testkit::git;
use mayfly_testkit::git_host::{Fault, GitHost, On};
use mayfly_testkit::https::TestCa;
use mayfly_testkit::repo::{self, TestRepo, clone_with_git, try_clone};

fn push(clone: &TestRepo, token: &str) -> Result<(), String> {
    let mut command = git::command(clone.path());
    repo::authorise(&mut command, token);
    let output = git::output(command.args(["push", "--quiet", "origin", "HEAD"]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or(said)
}

#[test]
fn a_repository_with_everything_comes_back_the_same() {
    let repo = TestRepo::with_branch("trunk");
    repo.write("a/b.txt", "b\n")
        .write_named(repo::LATIN1_NAME, "latin\n")
        .write_executable("run", "#!/bin/sh\n")
        .symlink("link", "a/b.txt")
        .submodule_entry("module", "1234567890123456789012345678901234567890")
        .write_noise("noise", 100_000, 7)
        .commit("Everything");
    repo.tag("v1").annotated_tag("v2", "two").branch("other");
    let host = GitHost::start();
    let bare = host.publish(&repo, "team/app");
    let clone = clone_with_git(&host.url("team/app"), Some(host.token()));
    assert_eq!(clone.rev_parse("HEAD"), repo.rev_parse("HEAD"));
    assert_eq!(clone.text(&["symbolic-ref", "--short", "HEAD"]), "trunk");
    let modes: Vec<_> = bare
        .ls_tree("trunk")
        .into_iter()
        .map(|entry| entry.mode)
        .collect();
    assert_eq!(
        modes,
        ["100644", "100644", "120000", "160000", "100644", "100755"]
    );
    assert_eq!(bare.refs().len(), 4);
    bare.fsck_strict();
}

#[test]
fn histories_are_long_fixed_and_go_on() {
    let build = || {
        let repo = TestRepo::new();
        repo.write("file", "1\n").commit("One");
        repo.history(300);
        repo.write("file", "2\n").commit("Last");
        repo
    };
    let (one, other) = (build(), build());
    assert_eq!(one.rev_parse("HEAD"), other.rev_parse("HEAD"));
    let log = one.log("HEAD");
    assert_eq!(
        (log.len(), &*log[0], &*log[1], &*log[301]),
        (302, "Last", "Change 300", "One")
    );
    one.fsck_strict();
}

#[test]
fn an_empty_repository_is_served() {
    let host = GitHost::start();
    host.publish_empty("empty", "trunk");
    let clone = clone_with_git(&host.url("empty"), Some(host.read_token()));
    assert_eq!(clone.try_rev_parse("HEAD"), None);
    clone.write("first", "1\n").commit("First");
    assert!(push(&clone, host.read_token()).unwrap_err().contains("403"));
    push(&clone, host.token()).unwrap();
    assert!(
        try_clone(&host.url("empty"), Some(host.forbidden_token()), &[])
            .unwrap_err()
            .contains("403")
    );
    assert!(
        try_clone(&host.url("none"), Some(host.token()), &[])
            .unwrap_err()
            .contains("not found")
    );
}

#[test]
fn statuses_are_answered_as_often_as_asked_for() {
    let host = GitHost::builder().anonymous(Permission::Read).start();
    host.publish(&TestRepo::sample(), "app");
    for status in [401, 403, 404, 429, 500] {
        host.fail_times(On::FetchAdvertisement, 1, Fault::status(status));
        try_clone(&host.url("app"), None, &[]).unwrap_err();
        let last = host.requests().pop().unwrap();
        assert_eq!(last.status.map(|it| it.as_u16()), Some(status));
    }
    clone_with_git(&host.url("app"), None);
    host.fail(On::Any, Fault::too_many_requests("7"));
    let said = try_clone(&host.url("app"), None, &[]).unwrap_err();
    assert!(said.contains("429"), "{said}");
    host.behave();
    clone_with_git(&host.url("app"), None);
}

#[test]
fn cuts_lies_and_trickles_reach_the_client() {
    let host = GitHost::builder().anonymous(Permission::Read).start();
    let repo = TestRepo::sample();
    repo.write_noise("noise", 300_000, 1).commit("Noise");
    host.publish(&repo, "app");
    let fails = |on, fault| {
        host.fail(on, fault);
        let said = try_clone(&host.url("app"), None, &[]).unwrap_err();
        host.behave();
        said
    };
    fails(On::FetchAdvertisement, Fault::CutBeforeHead);
    fails(On::FetchAdvertisement, Fault::CutAfter(10));
    assert_eq!(host.requests().last().unwrap().bytes_sent, 10);
    fails(On::UploadPack, Fault::CutAfter(100_000));
    fails(On::FetchAdvertisement, Fault::ContentType("text/html".to_owned()));
    fails(
        On::FetchAdvertisement,
        Fault::Lie(b"001e# service=git-upload-pack\n0000zzzz".to_vec()),
    );
    host.fail(
        On::FetchAdvertisement,
        Fault::Trickle {
            bytes: 20,
            every: Duration::from_millis(1),
        },
    );
    clone_with_git(&host.url("app"), None);
}

#[test]
fn a_stalled_answer_stays_open_until_the_client_gives_up() {
    let host = GitHost::builder().anonymous(Permission::Read).start();
    host.publish(&TestRepo::sample(), "app");
    for fault in [Fault::StallBeforeHead, Fault::StallAfter(10)] {
        host.fail(On::FetchAdvertisement, fault);
        let patience = ["-c", "http.lowSpeedLimit=1", "-c", "http.lowSpeedTime=1"];
        let said = try_clone(&host.url("app"), None, &patience).unwrap_err();
        assert!(said.contains("too slow"), "{said}");
        host.behave();
    }
}

#[test]
fn a_redirect_leads_to_the_other_host_and_the_record_shows_what_it_saw() {
    let (one, other) = (
        GitHost::start(),
        GitHost::builder().anonymous(Permission::Read).start(),
    );
    other.publish(&TestRepo::sample(), "app");
    let redirect = Fault::Redirect {
        status: 307,
        origin: other.origin(),
    };
    one.fail(On::Any, redirect);
    clone_with_git(&one.url("app"), None);
    assert_eq!(one.requests().len(), 1);
    assert!(other.requests().len() >= 2);
    let first = &other.requests_on(&On::FetchAdvertisement)[0];
    assert_eq!(first.headers["git-protocol"], "version=2");
    assert!(other.bytes_sent() > 100);
    assert!(other.bytes_received() > 100);
}

#[test]
fn protocol_0_is_spoken_on_demand() {
    let host = GitHost::builder().anonymous(Permission::Read).start();
    host.publish(&TestRepo::sample(), "app");
    host.fail(On::Any, Fault::ProtocolV0);
    clone_with_git(&host.url("app"), None);
    // In protocol 2 the refs are asked for in a POST of their own.
    assert_eq!(host.requests_on(&On::UploadPack).len(), 1);
}

#[test]
fn a_lost_answer_comes_after_the_deed() {
    let host = GitHost::start();
    let bare = host.publish(&TestRepo::sample(), "app");
    let clone = clone_with_git(&host.url("app"), Some(host.token()));
    let commit = clone.write("new", "1\n").commit("New");
    host.fail_times(On::ReceivePack, 1, Fault::LoseAnswer);
    push(&clone, host.token()).unwrap_err();
    assert_eq!(bare.rev_parse("main"), commit);
    assert_eq!(host.requests_on(&On::ReceivePack)[0].status, None);
}

#[test]
fn hooks_reject_with_their_words() {
    let host = GitHost::start();
    let bare = host.publish(&TestRepo::sample(), "app");
    let clone = clone_with_git(&host.url("app"), Some(host.token()));
    clone.write("new", "1\n").commit("New");
    bare.protect("main");
    assert!(push(&clone, host.token()).unwrap_err().contains("GH006"));
    clone.text(&["switch", "--quiet", "-c", "free"]);
    push(&clone, host.token()).unwrap();
    bare.reject_pushes("it's not allowed");
    clone.commit("More");
    assert!(
        push(&clone, host.token())
            .unwrap_err()
            .contains("it's not allowed")
    );
}

#[test]
fn somebody_else_can_be_faster() {
    let host = GitHost::start();
    let bare = host.publish(&TestRepo::sample(), "app");
    let clone = clone_with_git(&host.url("app"), Some(host.token()));
    let theirs = bare.commit_behind_their_back("main", "theirs", "1\n");
    clone.write("ours", "1\n").commit("Ours");
    assert!(push(&clone, host.token()).unwrap_err().contains("rejected"));
    assert_eq!(bare.rev_parse("main"), theirs);
}

#[test]
fn tls_is_served_with_an_authority_of_its_own() {
    let ca = TestCa::new();
    let host = GitHost::builder().https(&ca).anonymous(Permission::Read).start();
    host.publish(&TestRepo::sample(), "app");
    let folder = tempfile::tempdir().unwrap();
    let trusted = format!(
        "--config=http.sslCAInfo={}",
        ca.write_pem(folder.path()).display()
    );
    try_clone(&host.url("app"), None, &[&trusted]).unwrap();
    let said = try_clone(&host.url("app"), None, &[]).unwrap_err();
    assert!(said.contains("certificate"), "{said}");
}
