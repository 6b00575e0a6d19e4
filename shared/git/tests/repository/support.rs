//! Real repositories made by the git program, and scratch repositories that hold their objects.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use mayfly_git::pack::PackFiles;
use mayfly_git::scratch::{ObjectKind, Scratch, ScratchLimits};
use mayfly_protocol::{CommitId, ObjectId, TreeId};
use tempfile::TempDir;

/// The date of every commit in these tests.
pub(crate) const DATE: &str = "1700000000 +0100";

/// A repository with a working tree, made by git.
pub(crate) struct GitRepo {
    pub(crate) dir: TempDir,
}

impl GitRepo {
    pub(crate) fn new() -> Self {
        let repo = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        repo.git(&["init", "-q", "-b", "main"]);
        repo
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Runs git, which must succeed, and gives its trimmed output.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        self.git_with(args, b"")
    }

    pub(crate) fn git_with(&self, args: &[&str], stdin: &[u8]) -> String {
        let output = self.try_git(args, stdin);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {args:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// The output of a git command as it is, such as a diff.
    pub(crate) fn git_raw(&self, args: &[&str]) -> Vec<u8> {
        let output = self.try_git(args, b"");
        assert!(
            output.status.success(),
            "git {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }

    #[expect(clippy::disallowed_methods, reason = "the tests compare with the git program")]
    pub(crate) fn try_git(&self, args: &[&str], stdin: &[u8]) -> Output {
        let mut child = Command::new("git")
            .args(args)
            .current_dir(self.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .envs([
                ("GIT_AUTHOR_NAME", "A U Thor"),
                ("GIT_AUTHOR_EMAIL", "a@example.com"),
                ("GIT_AUTHOR_DATE", DATE),
            ])
            .envs([
                ("GIT_COMMITTER_NAME", "C Mitter"),
                ("GIT_COMMITTER_EMAIL", "c@example.com"),
            ])
            .env("GIT_COMMITTER_DATE", DATE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let bytes = stdin.to_vec();
        let writer = std::thread::spawn(move || {
            // A command that reads no input may have closed it.
            let _closed_early = input.write_all(&bytes);
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    pub(crate) fn write(&self, path: &str, content: &[u8]) {
        let file = self.path().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }

    pub(crate) fn commit_all(&self, message: &str) -> CommitId {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.id("HEAD")
    }

    pub(crate) fn id(&self, name: &str) -> ObjectId {
        self.git(&["rev-parse", "--verify", name]).parse().unwrap()
    }

    /// The tree of everything in the working tree.
    pub(crate) fn worktree(&self) -> TreeId {
        self.git(&["add", "-A"]);
        self.git(&["write-tree"]).parse().unwrap()
    }

    /// All objects of the repository, referenced or not, in one pack.
    pub(crate) fn pack_all(&self) -> PackFiles {
        let list = self.git(&["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"]);
        self.pack_list(&format!("{list}\n"))
    }

    /// These objects in one pack.
    pub(crate) fn pack(&self, ids: &[ObjectId]) -> PackFiles {
        self.pack_list(&ids.iter().map(|id| format!("{id}\n")).collect::<String>())
    }

    fn pack_list(&self, list: &str) -> PackFiles {
        let folder = self.path().join(".git/made");
        std::fs::create_dir_all(&folder).unwrap();
        let hash = self.git_with(&["pack-objects", "-q", ".git/made/pack"], list.as_bytes());
        pack_files(&folder, &hash)
    }

    /// The commit and all its trees, as [`Scratch::write_trees_pack`] gives them.
    pub(crate) fn commit_and_trees(&self, commit: &CommitId) -> Vec<ObjectId> {
        let listed = self.git(&["ls-tree", "-r", "-t", &commit.to_string()]);
        let trees = listed
            .lines()
            .filter_map(|line| line.split_once(" tree ")?.1.get(..40)?.parse().ok());
        trees
            .chain([*commit, self.id(&format!("{commit}^{{tree}}"))])
            .collect()
    }
}

pub(crate) fn pack_files(folder: &Path, hash: &str) -> PackFiles {
    let file = |suffix| folder.join(format!("pack-{hash}.{suffix}"));
    let (pack, index): (PathBuf, PathBuf) = (file("pack"), file("idx"));
    let head = std::fs::read(&pack).unwrap();
    PackFiles {
        hash: hash.to_owned(),
        objects: u32::from_be_bytes(head[8..12].try_into().unwrap()),
        pack_bytes: head.len() as u64,
        index_bytes: std::fs::metadata(&index).unwrap().len(),
        pack,
        index,
    }
}

/// A scratch repository in a folder that goes with it.
pub(crate) struct TestScratch {
    pub(crate) scratch: Scratch,
    _dir: TempDir,
}

impl std::ops::Deref for TestScratch {
    type Target = Scratch;
    fn deref(&self) -> &Scratch {
        &self.scratch
    }
}

pub(crate) fn scratch() -> TestScratch {
    scratch_with(ScratchLimits::default())
}

pub(crate) fn scratch_with(limits: ScratchLimits) -> TestScratch {
    let dir = tempfile::tempdir().unwrap();
    TestScratch {
        scratch: Scratch::create(&dir.path().join("scratch"), limits).unwrap(),
        _dir: dir,
    }
}

/// A scratch repository with everything that a repository has.
pub(crate) fn scratch_of(repo: &GitRepo) -> TestScratch {
    let scratch = scratch();
    scratch.add_pack(&repo.pack_all()).unwrap();
    scratch
}

/// The bytes of a tree with these entries (mode as it is to be written, name, id), in this order.
pub(crate) fn tree_bytes(entries: &[(&str, &[u8], ObjectId)]) -> Vec<u8> {
    let parts = entries
        .iter()
        .map(|(mode, name, id)| [mode.as_bytes(), b" ", name, b"\0", id.as_bytes()].concat());
    parts.collect::<Vec<_>>().concat()
}

pub(crate) fn add_tree(scratch: &Scratch, entries: &[(&str, &[u8], ObjectId)]) -> TreeId {
    scratch
        .add_object(ObjectKind::Tree, &tree_bytes(entries))
        .unwrap()
}

pub(crate) fn some_blob() -> ObjectId {
    "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391".parse().unwrap()
}
