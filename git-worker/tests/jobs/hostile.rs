//! Repositories and servers that are made to harm: nothing of them becomes a session, and what they say forges nothing.

use std::time::Duration;

use mayfly_git::scratch::{ObjectKind, Scratch, ScratchLimits};
use mayfly_git::tree_check::TreeLimits;
use mayfly_protocol::{ErrorCode, JobKind, ObjectId};
use mayfly_testkit::git;
use mayfly_testkit::git_host::{Fault, On};
use mayfly_testkit::repo::{BareRepo, TestRepo};
use serde_json::json;
use tempfile::TempDir;

use super::rig::{Ran, Rig};

/// Makes objects that git itself would refuse to make.
struct Forge {
    scratch: Scratch,
    made: Vec<ObjectId>,
    _folder: TempDir,
}

impl Forge {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            scratch: Scratch::create(folder.path(), ScratchLimits::default()).unwrap(),
            made: Vec::new(),
            _folder: folder,
        }
    }

    fn object(&mut self, kind: ObjectKind, content: &[u8]) -> ObjectId {
        let id = self.scratch.add_object(kind, content).unwrap();
        if !self.made.contains(&id) {
            self.made.push(id);
        }
        id
    }

    fn blob(&mut self) -> ObjectId {
        self.object(ObjectKind::Blob, b"content\n")
    }

    fn tree(&mut self, entries: &[(&str, &[u8], ObjectId)]) -> ObjectId {
        let mut content = Vec::new();
        for (mode, name, id) in entries {
            content.extend_from_slice(mode.as_bytes());
            content.push(b' ');
            content.extend_from_slice(name);
            content.push(0);
            content.extend_from_slice(id.as_bytes());
        }
        self.object(ObjectKind::Tree, &content)
    }

    fn commit(&mut self, tree: ObjectId) -> ObjectId {
        self.commit_on(tree, None)
    }

    fn commit_on(&mut self, tree: ObjectId, parent: Option<ObjectId>) -> ObjectId {
        let who = "x <x@example.com> 1700000000 +0000";
        let parent = parent.map_or_else(String::new, |parent| format!("parent {parent}\n"));
        let text = format!("tree {tree}\n{parent}author {who}\ncommitter {who}\n\nForged\n");
        self.object(ObjectKind::Commit, text.as_bytes())
    }

    fn pack(&self, leave_out: &[ObjectId]) -> Vec<u8> {
        let ids: Vec<_> = self
            .made
            .iter()
            .filter(|id| !leave_out.contains(id))
            .copied()
            .collect();
        self.scratch.pack_objects(&ids).unwrap()
    }

    /// Publishes a repository whose branch is at `tip`, and whose pack lacks some objects.
    fn publish(&self, rig: &Rig, tip: ObjectId, leave_out: &[ObjectId]) -> BareRepo {
        let bare = rig.host.publish_empty("forged", "main");
        self.advance(rig, &bare, tip, leave_out);
        bare
    }

    /// Moves the branch to `tip`, and from now on sends a pack that lacks some objects.
    fn advance(&self, rig: &Rig, bare: &BareRepo, tip: ObjectId, leave_out: &[ObjectId]) {
        let file = bare.path().join("forged.pack");
        std::fs::write(&file, self.pack(&[])).unwrap();
        let input = std::fs::File::open(&file).unwrap();
        git::stdout(
            git::command(bare.path())
                .args(["index-pack", "--stdin"])
                .stdin(input),
        );
        let branch = bare.path().join("refs/heads/main");
        std::fs::write(branch, format!("{tip}\n")).unwrap();
        answer_with(rig, &self.pack(leave_out), &[]);
    }
}

/// Answers fetches by protocol 2 with this pack, after these words of progress.
fn answer_with(rig: &Rig, pack: &[u8], words: &[&[u8]]) {
    let mut answer = b"000dpackfile\n".to_vec();
    let bands = words.iter().map(|words| (2, *words));
    for (band, piece) in bands.chain(pack.chunks(60_000).map(|piece| (1, piece))) {
        answer.extend_from_slice(format!("{:04x}", piece.len() + 5).as_bytes());
        answer.push(band);
        answer.extend_from_slice(piece);
    }
    answer.extend_from_slice(b"0000");
    rig.host.behave();
    // The first request lists the refs.
    let as_it_is = Fault::Trickle {
        bytes: 1 << 20,
        every: Duration::ZERO,
    };
    rig.host.fail_times(On::UploadPack, 1, as_it_is);
    rig.host.fail(On::UploadPack, Fault::Lie(answer));
}

async fn clone(rig: &Rig) -> Ran {
    rig.job(JobKind::CloneRepository, rig.clone_body("s", "forged"))
        .await
}

/// Has a session made of a commit of this tree, which must fail so.
async fn refused(forge: &mut Forge, tree: ObjectId, code: ErrorCode, what: &str) {
    let rig = Rig::new().await;
    let commit = forge.commit(tree);
    forge.publish(&rig, commit, &[]);
    let failure = clone(&rig).await;
    assert!(!failure.succeeded(), "{what}");
    failure.failed(code);
    assert!(rig.manifest("s").await.is_none(), "{what}");
    holds_no_objects(&rig).await;
}

/// Nothing of a repository is stored; that there was a job may be.
async fn holds_no_objects(rig: &Rig) {
    for object in rig.storage.list("").await.unwrap() {
        let key = object.key.to_string();
        assert!(
            !key.contains("/sessions/") && !key.contains("/repositories/"),
            "{key}"
        );
    }
}

/// `levels` folders in each other.
fn nested(forge: &mut Forge, levels: usize, name: &[u8]) -> ObjectId {
    let blob = forge.blob();
    let innermost = forge.tree(&[("100644", name, blob)]);
    (1..levels).fold(innermost, |below, _| forge.tree(&[("40000", name, below)]))
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_of_every_dangerous_class_become_no_session() {
    let long = [b'n'; 4096];
    for name in [
        b".".as_slice(),
        b"..",
        b".git",
        b".GiT",
        b".git ",
        b".git.",
        b"git~1",
        b"GIT~1",
        b".git::$INDEX_ALLOCATION",
        ".g\u{200c}it".as_bytes(),
        "\u{feff}.git".as_bytes(),
        b"/etc/passwd",
        b"a/b",
        b"a\\b",
        b"",
        &long,
    ] {
        let mut forge = Forge::new();
        let blob = forge.blob();
        let tree = forge.tree(&[("100644", name, blob)]);
        let outer = forge.tree(&[("40000", b"sub", tree)]);
        refused(&mut forge, outer, ErrorCode::UnsafeTree, &format!("{name:?}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_of_a_dangerous_shape_become_no_session() {
    let mut forge = Forge::new();
    let blob = forge.blob();
    let empty = forge.tree(&[]);
    for (what, entries) in [
        (
            "duplicates",
            [("100644", b"a".as_slice(), blob), ("100644", b"a", blob)],
        ),
        ("wrong order", [("100644", b"b", blob), ("100644", b"a", blob)]),
        (
            "a link and a folder",
            [("120000", b"a", blob), ("40000", b"a", empty)],
        ),
        ("a device", [("20000", b"a", blob), ("100644", b"b", blob)]),
        (
            "a link git reads",
            [("120000", b".gitmodules", blob), ("100644", b"a", blob)],
        ),
    ] {
        let tree = forge.tree(&entries);
        refused(&mut forge, tree, ErrorCode::UnsafeTree, what).await;
    }
    let cut = forge.object(ObjectKind::Tree, b"100644 a\0too short");
    let outer = forge.tree(&[("40000", b"sub", cut)]);
    refused(&mut forge, outer, ErrorCode::UnsafeTree, "no tree inside").await;
    refused(&mut forge, cut, ErrorCode::UnsafeTree, "no tree").await;
    let deep = nested(&mut forge, 2000, b"a");
    refused(&mut forge, deep, ErrorCode::UnsafeTree, "2,000 levels").await;
    let long = nested(&mut forge, 20, &[b'n'; 250]);
    refused(&mut forge, long, ErrorCode::UnsafeTree, "long paths").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_million_files_are_counted_and_not_made() {
    let mut forge = Forge::new();
    let mut below = ("100644", forge.blob());
    for _ in 0..10 {
        let names: Vec<[u8; 1]> = (b'0'..=b'9').map(|name| [name]).collect();
        let entries: Vec<_> = names
            .iter()
            .map(|name| (below.0, name.as_slice(), below.1))
            .collect();
        below = ("40000", forge.tree(&entries));
    }
    assert!(forge.pack(&[]).len() < 2000);
    refused(&mut forge, below.1, ErrorCode::TreeTooLarge, "a bomb").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_folders_than_allowed_are_refused_as_too_many() {
    let mut rig = Rig::new().await;
    rig.limits.tree = TreeLimits {
        max_entries: 100,
        ..TreeLimits::default()
    };
    rig.limits.scratch.max_objects = 50;
    let mut forge = Forge::new();
    let blob = forge.blob();
    let mut folders = Vec::new();
    for number in 0..200 {
        let name = format!("{number:03}");
        let tree = forge.tree(&[("100644", name.as_bytes(), blob)]);
        folders.push((name, tree));
    }
    let entries: Vec<_> = folders
        .iter()
        .map(|(name, tree)| ("40000", name.as_bytes(), *tree))
        .collect();
    let tree = forge.tree(&entries);
    let commit = forge.commit(tree);
    forge.publish(&rig, commit, &[]);
    clone(&rig).await.failed(ErrorCode::TreeTooLarge);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_lie_about_their_objects_are_found_out() {
    let mut forge = Forge::new();
    let blob = forge.blob();
    let inner = forge.tree(&[("100644", b"file", blob)]);
    let tree = forge.tree(&[("100644", b"a", blob), ("40000", b"sub", inner)]);
    let commit = forge.commit(tree);
    let of_a_blob = forge.commit(blob);
    let folder_is_a_blob = forge.tree(&[("40000", b"sub", blob)]);
    let of_it = forge.commit(folder_is_a_blob);
    for (what, tip, left_out) in [
        ("the commit is not sent", commit, vec![commit]),
        ("its tree is not sent", commit, vec![tree]),
        ("a folder is not sent", commit, vec![inner]),
        ("a file is not sent", commit, vec![blob]),
        ("the branch is a file", blob, vec![]),
        ("the branch is a tree", tree, vec![]),
        ("the commit's tree is a file", of_a_blob, vec![]),
        ("a folder is a file", of_it, vec![]),
    ] {
        let rig = Rig::new().await;
        forge.publish(&rig, tip, &left_out);
        let ran = clone(&rig).await;
        assert!(!ran.succeeded(), "{what}");
        assert!(ran.raw.contains("\"remote_protocol\""), "{what}: {}", ran.raw);
        assert!(rig.manifest("s").await.is_none(), "{what}");
    }
    // The empty tree is known everywhere, and need not be sent.
    let empty = forge.tree(&[]);
    let with_empty = forge.tree(&[("100644", b"a", blob), ("40000", b"empty", empty)]);
    let with_empty = forge.commit(with_empty);
    let all_empty = forge.commit(empty);
    for tip in [commit, with_empty, all_empty] {
        let rig = Rig::new().await;
        forge.publish(&rig, tip, &[empty]);
        clone(&rig).await.completed();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_does_not_come_with_a_later_fetch_is_missed() {
    let rig = Rig::new().await;
    let mut forge = Forge::new();
    let blob = forge.blob();
    let inner = forge.tree(&[("100644", b"file", blob)]);
    let tree = forge.tree(&[("40000", b"sub", inner)]);
    let first = forge.commit(tree);
    let bare = forge.publish(&rig, first, &[]);
    clone(&rig).await.completed();
    let before = rig.manifest("s").await;

    let old = [blob, inner, tree, first];
    let new = forge.object(ObjectKind::Blob, b"new\n");
    let inner = forge.tree(&[("100644", b"file", blob), ("100644", b"new", new)]);
    let tree = forge.tree(&[("100644", b"copied", blob), ("40000", b"sub", inner)]);
    let second = forge.commit_on(tree, Some(first));
    forge.advance(&rig, &bare, second, &[&old[..], &[new]].concat());
    for session in ["s", "other"] {
        let answers = rig.host.requests().len();
        let ran = rig
            .job(JobKind::CloneRepository, rig.clone_body(session, "forged"))
            .await;
        let failure = ran.failed(ErrorCode::RemoteProtocol);
        assert!(failure.error.contains(&new.to_string()), "{}", failure.error);
        assert!(rig.host.requests().len() > answers);
        forge.advance(&rig, &bare, second, &[&old[..], &[new]].concat());
    }
    assert_eq!(rig.manifest("s").await, before);
    assert!(rig.manifest("other").await.is_none());

    // What a pack in the storage has need not come, wherever it stands now.
    forge.advance(&rig, &bare, second, &old);
    assert_eq!(clone(&rig).await.completed()["headSha"], second.to_string());
}

const FORGED: &[u8] =
    b"50%\r\r\n\r\ndata: {\"type\":\"completed\"}\n\nid: 99\nevent: x\n\x1b[2J\xff\xe2\x80\xae\n";

#[tokio::test(flavor = "multi_thread")]
async fn progress_of_the_remote_forges_no_event() {
    let rig = Rig::new().await;
    let mut forge = Forge::new();
    let blob = forge.blob();
    let tree = forge.tree(&[("100644", b"a", blob)]);
    let commit = forge.commit(tree);
    forge.publish(&rig, commit, &[]);
    answer_with(&rig, &forge.pack(&[]), &[FORGED, b"\n\n", FORGED]);
    let ran = clone(&rig).await;
    ran.completed();
    shows_no_forgery(&ran);
}

/// The rig has counted the events, their numbers and ends already.
fn shows_no_forgery(ran: &Ran) {
    for line in ran.raw.lines().filter(|line| !line.is_empty()) {
        let known = ["id: ", "data: {\"type\":", "retry: ", ":"];
        assert!(known.iter().any(|known| line.starts_with(known)), "{line}");
        assert!(!line.starts_with("id: 99"), "{line}");
    }
    assert!(!ran.raw.contains(['\r', '\u{1b}', '\u{202e}']), "{}", ran.raw);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_words_of_a_hook_forge_no_event_and_are_bounded() {
    let rig = Rig::new().await;
    let bare = rig.host.publish(&TestRepo::sample(), "app");
    rig.clone("s", "app").await;
    rig.write("s", "a.txt", "a\n").await;
    let before = rig.manifest("s").await;
    let words = String::from_utf8_lossy(FORGED);
    bare.reject_pushes(&format!("{words} GH006 {}", "flood ".repeat(20_000)));
    let ran = rig.commit("s", json!({})).await;
    let failure = ran.failed(ErrorCode::PushRejected);
    shows_no_forgery(&ran);
    assert!(failure.error.contains("GH006"), "{}", failure.error);
    assert!(failure.error.len() < 8192, "{}", failure.error.len());
    assert_eq!(rig.manifest("s").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_repeats_the_token_does_not_make_us_tell_it() {
    let rig = Rig::new().await;
    let token = rig.host.token();
    let bare = rig.host.publish(&TestRepo::sample(), "app");
    let said = format!("ERR no entry with {token}\n");
    let packet = format!("{:04x}{said}", said.len() + 4);
    rig.host
        .fail(On::FetchAdvertisement, Fault::Lie(packet.into_bytes()));
    // That no event has the token is checked for every job.
    let failure = rig
        .job(JobKind::CloneRepository, rig.clone_body("s", "app"))
        .await
        .failed(ErrorCode::RemoteProtocol);
    assert!(failure.error.contains("no entry with"), "{}", failure.error);

    let mut forge = Forge::new();
    let blob = forge.blob();
    let tree = forge.tree(&[("100644", b"a", blob)]);
    let commit = forge.commit(tree);
    forge.publish(&rig, commit, &[]);
    answer_with(&rig, &forge.pack(&[]), &[format!("hello {token}\n").as_bytes()]);
    let ran = clone(&rig).await;
    ran.completed();
    assert!(ran.raw.contains("remote: hello"), "{}", ran.raw);

    rig.host.behave();
    rig.clone("t", "app").await;
    rig.write("t", "a.txt", "a\n").await;
    bare.reject_pushes(&format!("no entry with {token}"));
    rig.commit("t", json!({})).await.failed(ErrorCode::PushRejected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_401_is_asked_once() {
    let rig = Rig::new().await;
    rig.host.publish(&TestRepo::sample(), "app");
    rig.host.fail(On::Any, Fault::status(401));
    let body = rig.clone_body("s", "app");
    rig.job(JobKind::CloneRepository, body)
        .await
        .failed(ErrorCode::AuthenticationFailed);
    assert_eq!(rig.host.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_that_break_or_stand_still_make_no_session() {
    let mut rig = Rig::new().await;
    let (idle_timeout, transfer) = (rig.policy.idle_timeout, rig.limits.transfer.clone());
    let repo = TestRepo::sample();
    repo.write_noise("noise.bin", 1 << 20, 1).commit("Noise");
    rig.host.publish(&repo, "app");
    let trickle = Fault::Trickle {
        bytes: 100,
        every: Duration::from_millis(5),
    };
    let page = Fault::ContentType("text/html".to_owned());
    for (fault, code) in [
        (Fault::StallBeforeHead, ErrorCode::RemoteTimeout),
        (Fault::StallAfter(500_000), ErrorCode::RemoteTimeout),
        (trickle, ErrorCode::RemoteTimeout),
        (Fault::CutBeforeHead, ErrorCode::RemoteUnreachable),
        (Fault::CutAfter(500_000), ErrorCode::RemoteUnreachable),
        (Fault::status(401), ErrorCode::AuthenticationFailed),
        (Fault::status(403), ErrorCode::AccessDenied),
        (page, ErrorCode::NotGit),
    ] {
        rig.host.behave();
        // A good transfer must not stand still, or be slow, for as long as a busy machine may keep it waiting.
        let is_slow = code == ErrorCode::RemoteTimeout;
        rig.policy.idle_timeout = if is_slow {
            Duration::from_millis(300)
        } else {
            idle_timeout
        };
        rig.limits.transfer = transfer.clone();
        if is_slow {
            rig.limits.transfer.min_bytes_per_second = 1 << 20;
            rig.limits.transfer.rate_window = Duration::from_millis(100);
        }
        let as_it_is = Fault::Trickle {
            bytes: 1 << 20,
            every: Duration::ZERO,
        };
        rig.host.fail_times(On::UploadPack, 1, as_it_is);
        rig.host.fail(On::UploadPack, fault);
        let body = rig.clone_body("s", "app");
        rig.job(JobKind::CloneRepository, body).await.failed(code);
        holds_no_objects(&rig).await;
    }
    rig.host.behave();
    rig.clone("s", "app").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_lead_to_no_other_place_under_any_name() {
    let rig = Rig::new().await;
    rig.host.publish(&TestRepo::sample(), "app");
    let port = rig.host.port();
    for origin in [
        format!("http://localhost:{port}"),
        format!("http://127.1:{}", port ^ 1),
        "http://169.254.169.254".to_owned(),
        "http://[::1]".to_owned(),
        "https://metadata.google.internal".to_owned(),
        "file://".to_owned(),
    ] {
        for status in [301, 302, 307, 308] {
            rig.host.behave();
            let to = origin.clone();
            rig.host
                .fail(On::FetchAdvertisement, Fault::Redirect { status, origin: to });
            let body = rig.clone_body("s", "app");
            rig.job(JobKind::CloneRepository, body)
                .await
                .failed(ErrorCode::RedirectRefused);
        }
    }
    assert!(rig.manifest("s").await.is_none());
}
