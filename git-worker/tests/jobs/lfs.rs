//! Git LFS, against a real server and the real client.

use mayfly_protocol::{ErrorCode, JobKind};
use mayfly_session::view::{LfsPart, ViewLimits};
use mayfly_testkit::git_host::GitHost;
use mayfly_testkit::lfs::{self, SMUDGE};
use mayfly_testkit::repo::{BareRepo, TestRepo, noise, try_clone};
use serde_json::{Value, json};

use super::rig::Rig;

const REPOSITORY: &str = "team/app";
const RULES: &str = "*.bin filter=lfs diff=lfs merge=lfs -text\n";

/// A host with a repository that the real `git lfs` filled: `a.bin` and `deep/b.bin` are contents, `plain.bin` in `raw/` is not.
async fn rig() -> (Rig, BareRepo) {
    let rig = Rig::on(GitHost::builder().lfs().start()).await;
    let repo = TestRepo::sample();
    lfs::enable(repo.path());
    repo.write(".gitattributes", RULES)
        .write("raw/.gitattributes", "*.bin !filter -diff\n")
        .write("a.bin", noise(100_000, 1))
        .write("deep/b.bin", noise(2_000, 2))
        .write("raw/plain.bin", noise(300, 3));
    repo.commit("Contents");
    let bare = rig.host.publish(&repo, REPOSITORY);
    lfs::push_contents(repo.path(), &rig.host.url(REPOSITORY), rig.host.token());
    (rig, bare)
}

async fn clone(rig: &Rig, session: &str) -> Value {
    let mut body = rig.clone_body(session, REPOSITORY);
    body["lfs"] = true.into();
    rig.job(JobKind::CloneRepository, body).await.completed()
}

async fn file(rig: &Rig, session: &str, path: &str) -> (Vec<u8>, Option<LfsPart>) {
    let (folder, manifest) = (tempfile::tempdir().unwrap(), rig.manifest(session).await.unwrap());
    let view = rig
        .sessions()
        .view(manifest, ViewLimits::default(), folder.path().to_owned());
    let file = view.file(path.as_bytes()).await.unwrap();
    (file.bytes, file.lfs)
}

/// Contents that the host was asked for.
fn contents_sent(rig: &Rig) -> usize {
    let requests = rig.host.requests();
    let is_content = |path: &str| path.contains("/objects/storage/");
    requests
        .iter()
        .filter(|it| it.method == "GET" && is_content(&it.path))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_git_lfs_pushed_is_there_after_a_clone() {
    let (rig, _) = rig().await;
    let done = clone(&rig, "s").await;
    assert_eq!(done["lfs"], json!({"objects": 2, "bytes": 102_000}));
    assert_eq!(
        file(&rig, "s", "a.bin").await,
        (noise(100_000, 1), Some(LfsPart::Content))
    );
    assert_eq!(
        file(&rig, "s", "deep/b.bin").await,
        (noise(2_000, 2), Some(LfsPart::Content))
    );
    assert_eq!(file(&rig, "s", "raw/plain.bin").await, (noise(300, 3), None));

    let (folder, manifest) = (tempfile::tempdir().unwrap(), rig.manifest("s").await.unwrap());
    let view = rig
        .sessions()
        .view(manifest, ViewLimits::default(), folder.path().to_owned());
    let archive = view.archive().await.unwrap().write_to(Vec::new()).unwrap();
    let mut tar = tar::Archive::new(zstd::Decoder::new(&archive[..]).unwrap());
    let entries = tar.entries().unwrap().map(Result::unwrap);
    let mut of_lfs: Vec<_> = entries
        .filter(|entry| entry.path().unwrap().extension().is_some_and(|it| it == "bin"))
        .map(|entry| (entry.path().unwrap().display().to_string(), entry.size()))
        .collect();
    of_lfs.sort();
    assert_eq!(
        of_lfs,
        [
            ("a.bin".into(), 100_000),
            ("deep/b.bin".into(), 2_000),
            ("raw/plain.bin".into(), 300)
        ]
    );

    // A second session takes what is stored; without `lfs` there are pointers.
    let before = contents_sent(&rig);
    let done = clone(&rig, "t").await;
    assert_eq!(
        (contents_sent(&rig), &done["lfs"]["objects"]),
        (before, &json!(0))
    );
    assert_eq!(file(&rig, "t", "a.bin").await.1, Some(LfsPart::Content));
    let plain = rig.clone("u", REPOSITORY).await;
    assert_eq!(plain.get("lfs"), None);
    let (pointer, part) = file(&rig, "u", "a.bin").await;
    assert!(pointer.starts_with(b"version https://git-lfs") && part == Some(LfsPart::Pointer));
    // It can have them later, by a pull.
    clone(&rig, "u").await;
    assert_eq!(file(&rig, "u", "a.bin").await.1, Some(LfsPart::Content));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_changes_is_there_for_git_lfs() {
    use base64::Engine as _;
    let (rig, bare) = rig().await;
    clone(&rig, "s").await;
    let encoded = base64::engine::general_purpose::STANDARD.encode(noise(50_000, 9));
    let done = rig
        .apply(
            "s",
            json!({"files": [
                {"path": "new.bin", "contentBase64": encoded, "mode": "100755"},
                {"path": "a.bin", "content": "short now\n"},
                {"path": "empty.bin", "content": ""},
                {"path": "README.md", "content": "text\n"},
            ]}),
        )
        .await
        .completed();
    assert_eq!(done["filesChanged"], 4);
    assert_eq!(
        file(&rig, "s", "new.bin").await,
        (noise(50_000, 9), Some(LfsPart::Content))
    );
    let done = rig
        .commit("s", json!({"message": "Contents by a job"}))
        .await
        .completed();
    assert_eq!(done["lfs"], json!({"objects": 2, "bytes": 50_010}));
    bare.fsck_strict();
    assert!(
        bare.show("main", "new.bin")
            .starts_with(b"version https://git-lfs.github.com/spec/v1\noid sha256:")
    );
    assert_eq!(bare.show("main", "empty.bin"), b"");

    let real = try_clone(&rig.host.url(REPOSITORY), Some(rig.host.token()), SMUDGE).unwrap();
    for (path, content) in [
        ("new.bin", noise(50_000, 9)),
        ("a.bin", b"short now\n".to_vec()),
        ("deep/b.bin", noise(2_000, 2)),
    ] {
        assert!(
            std::fs::read(real.path().join(path)).unwrap() == content,
            "{path}"
        );
    }
    // The real client finds nothing to mend: pointers stand where they should, byte by byte.
    assert_eq!(real.text(&["status", "--porcelain"]), "");
    real.text(&["lfs", "fsck"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_git_lfs_does_not_commit_what_is_its() {
    let (rig, _) = rig().await;
    rig.clone("s", REPOSITORY).await;
    let before = rig.manifest("s").await;
    let ran = rig
        .apply("s", json!({"files": [{"path": "x/new.bin", "content": "raw"}]}))
        .await;
    let failure = ran.failed(ErrorCode::LfsNotEnabled);
    assert!(
        failure.error.contains("`x/new.bin`") && failure.error.contains("`lfs: true`"),
        "{}",
        failure.error
    );
    assert_eq!(rig.manifest("s").await, before);
    rig.write("s", "raw/new.bin", "not of Git LFS").await;
    let (pointer, _) = file(&rig, "s", "a.bin").await;
    rig.write("s", "moved.bin", &String::from_utf8(pointer).unwrap())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_fetched_makes_no_session() {
    let (mut rig, bare) = rig().await;
    let mut body = rig.clone_body("s", REPOSITORY);
    body["lfs"] = true.into();
    rig.limits.lfs.max_bytes = 101_999;
    let ran = rig.job(JobKind::CloneRepository, body.clone()).await;
    ran.failed(ErrorCode::LfsTooLarge);
    assert_eq!((rig.manifest("s").await, contents_sent(&rig)), (None, 0));
    // A pointer that anybody can write, to a content that the server never got.
    rig.limits.lfs.max_bytes = 1 << 20;
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 7\n",
        "ab".repeat(32)
    );
    bare.commit_behind_their_back("main", "gone.bin", &pointer);
    let ran = rig.job(JobKind::CloneRepository, body).await;
    let failure = ran.failed(ErrorCode::LfsObjectMissing);
    assert!(failure.error.contains("abab"), "{}", failure.error);
    assert_eq!(rig.manifest("s").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_clones_first_brings_the_contents() {
    let (rig, bare) = rig().await;
    let rig = &rig;
    let ask = async |session: &str| {
        let url = rig.host.url(REPOSITORY);
        let body = json!({"userRequest": "x", "branchName": session, "repoUrl": url, "lfs": true});
        rig.branch(session, body).await
    };
    ask("s").await.completed();
    assert_eq!(file(rig, "s", "a.bin").await.1, Some(LfsPart::Content));
    assert_eq!(bare.rev_parse("s"), bare.rev_parse("main"));
    // Once more it stands as it is; without the contents it is refused.
    rig.clone("t", REPOSITORY).await;
    let failure = ask("t").await.failed(ErrorCode::LfsNotEnabled);
    assert!(!failure.retryable && failure.error.contains("clone into it again"));
}
