//! What is shown of a session: against what git says of the same trees, over every backend; and what is damaged is announced.

use std::path::Path;
use std::sync::Arc;

use mayfly_git::pack::PackFiles;
use mayfly_protocol::{ErrorCode, ObjectId, TenantId};
use mayfly_session::view::{FileChange, SessionDiff, SessionView, ViewLimits};
use mayfly_session::{Manifest, PackKind, SessionStore};
use mayfly_storage::{MemoryStore, ObjectStore, Precondition};
use mayfly_testkit::repo::TestRepo;
use tempfile::TempDir;

use super::scene::{backends, pack_files};
use crate::{draft, store};

const LATIN1: &[u8] = b"dir/caf\xe9.txt";
const LONG: &str = "a-very-long-name-of-a-folder-that-does-not-fit/a-very-long-name-of-a-folder-that-does-not-fit/a-very-long-name-of-a-file.txt";

/// A repository whose worktree differs from its head in every way, packed: the head in one pack, what is new in another.
struct Changed {
    repo: TestRepo,
    packs: [PackFiles; 2],
    head: ObjectId,
    worktree: ObjectId,
}

fn changed() -> Changed {
    let repo = TestRepo::sample();
    repo.write("gone.txt", "gone\n")
        .write("old/place.txt", "moved as it is\n");
    repo.write("long.txt", "line\n".repeat(500))
        .write("image", b"\0\x01\x02");
    repo.write("becomes-link", "x\n").write_named(LATIN1, "alt \n");
    repo.history(20);
    repo.submodule_entry("module", &"1".repeat(40));
    repo.commit("all kinds");
    repo.text(&["repack", "-adfq"]);
    let base = pack_files(&repo).remove(0);
    let head = repo.rev_parse("HEAD").parse().unwrap();
    repo.remove("gone.txt")
        .remove("old/place.txt")
        .remove("becomes-link");
    repo.write("new/place.txt", "moved as it is\n")
        .write("long.txt", "line\n".repeat(499));
    repo.write("image", b"\0\x03")
        .symlink("becomes-link", "../no//where/./");
    repo.write_named(LATIN1, b"neu \xe9\n")
        .write_executable("README.md", "# Sample\n");
    repo.write("empty", "")
        .write("with space", "crlf\r\n")
        .write(LONG, "deep\n");
    repo.symlink("far", &"x/".repeat(80));
    repo.text(&["add", "--all"]);
    let worktree = repo.text(&["write-tree"]);
    let commit = repo.text(&["commit-tree", "-m", "x", &worktree]);
    repo.text(&["update-ref", "refs/heads/kept", &commit]);
    repo.text(&["repack", "-q"]);
    let new = pack_files(&repo)
        .into_iter()
        .find(|pack| pack.hash != base.hash)
        .unwrap();
    Changed {
        packs: [base, new],
        head,
        worktree: worktree.parse().unwrap(),
        repo,
    }
}

impl Changed {
    /// The manifest of a session that holds it; the head's trees have no pack of their own.
    async fn upload(&self, sessions: &SessionStore) -> Manifest {
        let mut manifest = draft();
        manifest.head = Some(self.head);
        manifest.worktree = self.worktree;
        for (files, kind) in self.packs.iter().zip([PackKind::Base, PackKind::Job]) {
            let entry = sessions.upload_pack(&manifest, files, kind).await.unwrap();
            manifest.add_pack(entry);
        }
        manifest
    }

    fn by_git(&self, args: &[&str]) -> String {
        let sides = [self.head.to_string(), self.worktree.to_string()];
        self.repo
            .text(&[&["diff-tree", "-r"], args, &[&sides[0], &sides[1]]].concat())
    }

    /// The tree that git makes of a patch on the head, with these paths as they are in the worktree.
    fn applied(&self, patch: &[u8], besides: &[&str]) -> String {
        let file = self.repo.path().join(".git/patch");
        std::fs::write(&file, patch).unwrap();
        self.repo.text(&["read-tree", &self.head.to_string()]);
        self.repo
            .text(&["apply", "--cached", "--exclude=image", file.to_str().unwrap()]);
        self.repo.text(&[&["add", "--"], besides].concat());
        self.repo.text(&["write-tree"])
    }

    /// The tree that git makes of a folder, and of the submodule.
    fn tree_of(&self, folder: &Path) -> String {
        let git = self.repo.path().join(".git");
        let (folder, git) = (folder.to_str().unwrap(), git.to_str().unwrap());
        let run = |args: &[&str]| {
            let place = ["-C", folder, "--git-dir", git, "--work-tree", folder];
            self.repo.text(&[&place[..], args].concat())
        };
        run(&["read-tree", "--empty"]);
        run(&["add", "--all", "--force"]);
        run(&[
            "update-index",
            "--add",
            "--cacheinfo",
            &format!("160000,{},module", "1".repeat(40)),
        ]);
        run(&["write-tree"])
    }
}

fn view(sessions: &SessionStore, manifest: &Manifest, limits: ViewLimits) -> (SessionView, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (
        sessions.view(manifest.clone(), limits, folder.path().to_owned()),
        folder,
    )
}

/// What the real `tar` makes of an archive.
#[expect(clippy::disallowed_methods, reason = "the judge is the real program")]
fn unpacked(archive: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), zstd::decode_all(archive).unwrap()).unwrap();
    let mut tar = std::process::Command::new("tar");
    let output = tar
        .arg("-xf")
        .arg(file.path())
        .arg("-C")
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn files_diffs_and_archives_are_what_git_says() {
    let changed = changed();
    for backend in backends().await {
        let sessions = store(&backend.storage);
        let manifest = changed.upload(&sessions).await;
        let look = || view(&sessions, &manifest, ViewLimits::default());

        for (path, mode) in [
            (LATIN1, 0o100_644),
            (b"README.md", 0o100_755),
            (b"becomes-link", 0o120_000),
            (b"src/main.rs", 0o100_644),
        ] {
            let (view, _folder) = look();
            let file = view.file(path).await.unwrap();
            assert_eq!(file.mode, mode, "{path:?} on {}", backend.name);
        }
        let (one, _folder) = look();
        assert_eq!(one.file(LATIN1).await.unwrap().bytes, b"neu \xe9\n");
        let (one, _folder) = look();
        assert_eq!(one.file(b"becomes-link").await.unwrap().bytes, b"../no//where/./");

        let (one, _folder) = look();
        check_diff(&changed, &one.diff().await.unwrap());
        let (one, _folder) = look();
        let patch = one.patch().await.unwrap();
        assert_eq!(
            (patch.binary_files, patch.omitted_files, patch.omitted_hunks),
            (1, 0, 0)
        );
        assert_eq!(
            changed.applied(&patch.text, &["image"]),
            changed.worktree.to_string(),
            "{}",
            patch.text
        );

        let (one, _folder) = look();
        let archive = one.archive().await.unwrap().write_to(Vec::new()).unwrap();
        let folder = unpacked(&archive);
        assert_eq!(
            std::fs::read_dir(folder.path().join("module")).unwrap().count(),
            0
        );
        assert_eq!(
            changed.tree_of(folder.path()),
            changed.worktree.to_string(),
            "{}",
            backend.name
        );
    }
}

fn check_diff(changed: &Changed, diff: &SessionDiff) {
    let theirs = changed.by_git(&["--name-only", "-M100%"]);
    assert_eq!(diff.files_changed, theirs.lines().count());
    assert_eq!((diff.omitted_files, diff.omitted_bytes), (0, 0));
    let find = |path: &str| diff.files.iter().find(|file| file.path_encoded == path).unwrap();
    assert_eq!(find("dir/caf%E9.txt").change, FileChange::Modified);
    assert_eq!(
        (find("gone.txt").change, find("gone.txt").deletions),
        (FileChange::Deleted, 1)
    );
    let moved = find("new/place.txt");
    assert_eq!(
        (moved.change, moved.old_path.as_deref()),
        (FileChange::Renamed, Some("old/place.txt"))
    );
    let mode = find("README.md");
    assert_eq!(
        (mode.old_mode.as_deref(), mode.new_mode.as_deref()),
        (Some("100644"), Some("100755"))
    );
    assert_eq!(find("becomes-link").change, FileChange::TypeChanged);
    assert!(find("image").binary && !find("empty").binary);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_file_of_the_worktree_is_said() {
    let changed = changed();
    let storage: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let sessions = store(&storage);
    let manifest = changed.upload(&sessions).await;
    for (path, code, text) in [
        ("gone.txt", ErrorCode::NotFound, "has no file"),
        ("becomes-link/x", ErrorCode::NotFound, "has no file"),
        ("src", ErrorCode::NotFound, "folder"),
        ("module", ErrorCode::NotFound, "submodule"),
    ] {
        let (view, _folder) = view(&sessions, &manifest, ViewLimits::default());
        let error = view.file(path.as_bytes()).await.unwrap_err();
        assert_eq!(error.code(), code);
        assert!(error.to_string().contains(text), "{error}");
    }
    let mut empty = manifest.clone();
    (empty.head, empty.worktree) = (None, ObjectId::EMPTY_TREE);
    empty.packs.clear();
    let look = || view(&sessions, &empty, ViewLimits::default());
    assert_eq!(look().0.file(b"x").await.unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(look().0.diff().await.unwrap().files_changed, 0);
    let archive = look().0.archive().await.unwrap().write_to(Vec::new()).unwrap();
    assert_eq!(std::fs::read_dir(unpacked(&archive).path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_are_kept() {
    let changed = changed();
    let storage: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let sessions = store(&storage);
    let manifest = changed.upload(&sessions).await;
    let with = |set: fn(&mut ViewLimits)| {
        let mut limits = ViewLimits::default();
        set(&mut limits);
        view(&sessions, &manifest, limits)
    };
    let (file, _folder) = with(|limits| limits.max_file_bytes = 100);
    assert_eq!(
        file.file(b"long.txt").await.unwrap_err().code(),
        ErrorCode::ObjectTooLarge
    );
    let (diff, _folder) = with(|limits| limits.max_diff_pack_bytes = 100);
    assert_eq!(
        diff.diff().await.unwrap_err().code(),
        ErrorCode::RepositoryTooLarge
    );
    let (diff, _folder) = with(|limits| limits.diff.max_files = 2);
    let diff = diff.diff().await.unwrap();
    assert_eq!(
        (diff.files.len(), diff.omitted_files),
        (2, diff.files_changed - 2)
    );
    let (blind, _folder) = with(|limits| limits.max_diff_blobs = 0);
    assert!(blind.diff().await.unwrap().files_changed > 0);
    for (set, code) in [
        (
            (|limits| limits.max_archive_pack_bytes = 100) as fn(&mut ViewLimits),
            ErrorCode::RepositoryTooLarge,
        ),
        (
            |limits| limits.max_archive_bytes = 100,
            ErrorCode::RepositoryTooLarge,
        ),
        (
            |limits| limits.max_archive_file_bytes = 100,
            ErrorCode::ObjectTooLarge,
        ),
        (|limits| limits.max_archive_entries = 5, ErrorCode::TreeTooLarge),
    ] {
        let (archive, _folder) = with(set);
        assert_eq!(archive.archive().await.err().unwrap().code(), code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_announced_and_never_shown_as_an_empty_answer() {
    let changed = changed();
    for pack in 0..2 {
        for damage in ["gone", "cut", "flipped"] {
            let storage: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
            let sessions = SessionStore::new(Arc::clone(&storage), TenantId::default());
            let manifest = changed.upload(&sessions).await;
            let name = manifest.packs[pack].name.to_string();
            spoil(&storage, (&changed.packs[pack], &name), damage).await;
            let look = || view(&sessions, &manifest, ViewLimits::default());
            assert_eq!(
                look().0.archive().await.err().map(|error| error.code()),
                Some(ErrorCode::SessionDamaged),
                "{damage}"
            );
            if pack == 1 {
                assert_eq!(
                    look().0.diff().await.unwrap_err().code(),
                    ErrorCode::SessionDamaged,
                    "{damage}"
                );
            }
            if damage != "flipped" {
                let file = look().0.file(b"src/main.rs").await;
                assert_eq!(file.unwrap_err().code(), ErrorCode::SessionDamaged, "{damage}");
            }
        }
    }
    let storage: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let sessions = store(&storage);
    let mut manifest = changed.upload(&sessions).await;
    manifest.packs.pop();
    let look = || view(&sessions, &manifest, ViewLimits::default());
    assert_eq!(
        look().0.file(b"empty").await.unwrap_err().code(),
        ErrorCode::SessionDamaged
    );
    assert_eq!(
        look().0.diff().await.unwrap_err().code(),
        ErrorCode::SessionDamaged
    );
    assert_eq!(
        look().0.patch().await.unwrap_err().code(),
        ErrorCode::SessionDamaged
    );
    assert_eq!(
        look().0.archive().await.err().unwrap().code(),
        ErrorCode::SessionDamaged
    );
}

/// Damages a pack where it lies.
async fn spoil(storage: &Arc<dyn ObjectStore>, (pack, name): (&PackFiles, &str), damage: &str) {
    let objects = storage.list("").await.unwrap();
    let name = format!("{name}.pack");
    let key = objects
        .into_iter()
        .find(|object| object.key.as_str().ends_with(&name))
        .unwrap()
        .key;
    let mut content = std::fs::read(&pack.pack).unwrap();
    match damage {
        "gone" => return storage.delete(&key).await.unwrap(),
        "cut" => content.truncate(20),
        _ => {
            let middle = content.len() / 2;
            content[middle] ^= 1;
        }
    }
    storage
        .put(&key, content.into(), Precondition::None)
        .await
        .unwrap();
}
