//! Builds real repositories with the `git` program: fixed names and dates, so that equal steps give equal commit ids.
//!
//! Everything here blocks. It must not know any git library.

mod bare;
mod history;
mod questions;

pub use bare::BareRepo;
pub use questions::{GitFolder, TreeEntry};

use std::cell::Cell;
use std::ffi::OsStr;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use crate::git;

/// 2026-01-01T00:00:00Z, the time of the first commit of a repository; each further one is a minute later.
pub const FIRST_COMMIT_TIME: u64 = 1_767_225_600;

/// A file name that is Latin-1, and no UTF-8.
pub const LATIN1_NAME: &[u8] = b"caf\xe9.txt";

/// A repository with a worktree in a temporary folder of its own. It gives the answers of a [`GitFolder`] too.
#[derive(Debug)]
pub struct TestRepo {
    _folder: TempDir,
    questions: GitFolder,
    commits: Cell<u64>,
}

impl TestRepo {
    /// An empty repository whose branch is `main`.
    pub fn new() -> Self {
        Self::with_branch("main")
    }

    /// An empty repository with another first branch.
    pub fn with_branch(branch: &str) -> Self {
        let repo = Self::at(tempfile::tempdir().expect("a temporary folder"));
        let first = format!("--initial-branch={branch}");
        repo.run(&["init", "--quiet", "--template=", "--object-format=sha1", &first]);
        repo
    }

    /// A small repository: a README, a nested file, an executable and two commits.
    pub fn sample() -> Self {
        let repo = Self::new();
        repo.write("README.md", "# Sample\n").commit("Start");
        repo.write("src/main.rs", "fn main() {}\n")
            .write_executable("run.sh", "#!/bin/sh\nexec true\n")
            .commit("Add a program");
        repo
    }

    fn at(folder: TempDir) -> Self {
        let questions = GitFolder::at(folder.path());
        Self {
            _folder: folder,
            questions,
            commits: Cell::new(0),
        }
    }

    fn run(&self, arguments: &[&str]) {
        git::stdout(self.dated().args(arguments));
    }

    /// Git in this repository at the time of the next commit.
    fn dated(&self) -> Command {
        let mut command = git::command(self.path());
        let date = format!("{} +0000", FIRST_COMMIT_TIME + 60 * self.commits.get());
        command
            .env("GIT_AUTHOR_DATE", &date)
            .env("GIT_COMMITTER_DATE", &date);
        command
    }

    /// Writes a file, with the folders above it.
    pub fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> &Self {
        let full = self.room_for(path.as_ref());
        std::fs::write(&full, content).expect("the file can be written");
        self
    }

    /// Writes a file whose name is given as bytes, such as [`LATIN1_NAME`].
    pub fn write_named(&self, name: &[u8], content: impl AsRef<[u8]>) -> &Self {
        self.write(OsStr::from_bytes(name), content)
    }

    /// Writes a file that may be executed.
    pub fn write_executable(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        self.write(path, content);
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.path().join(path), mode).expect("the mode can be set");
        self
    }

    /// Makes a symbolic link; the target need not exist.
    pub fn symlink(&self, path: &str, target: &str) -> &Self {
        symlink(target, self.room_for(Path::new(path))).expect("the link can be made");
        self
    }

    /// Enters a submodule's commit (mode 160000) into the index, without any submodule.
    pub fn submodule_entry(&self, path: &str, commit: &str) -> &Self {
        // With its folder there, `add --all` takes it for a submodule that is not checked out, and keeps it.
        std::fs::create_dir_all(self.path().join(path)).expect("the folder can be made");
        let entry = format!("160000,{commit},{path}");
        self.run(&["update-index", "--add", "--cacheinfo", &entry]);
        self
    }

    /// Removes a file.
    pub fn remove(&self, path: impl AsRef<Path>) -> &Self {
        std::fs::remove_file(self.path().join(path)).expect("the file can be removed");
        self
    }

    /// Writes `count` small files of different content, 100 to a folder.
    pub fn write_many(&self, count: usize) -> &Self {
        for number in 0..count {
            let path = format!("many/{:03}/{number:05}.txt", number / 100);
            self.write(path, format!("file {number}\n"));
        }
        self
    }

    /// Writes a file of so many bytes that no compression makes smaller; the seed decides about them.
    pub fn write_noise(&self, path: &str, bytes: usize, seed: u64) -> &Self {
        self.write(path, noise(bytes, seed))
    }

    fn room_for(&self, path: &Path) -> std::path::PathBuf {
        let full = self.path().join(path);
        let parent = full.parent().expect("the path has a folder");
        std::fs::create_dir_all(parent).expect("the folder can be made");
        full
    }

    /// Commits whatever the worktree holds and gives the commit's id. Nothing to commit makes an empty commit.
    #[track_caller]
    pub fn commit(&self, message: &str) -> String {
        self.run(&["add", "--all"]);
        self.run(&["commit", "--quiet", "--allow-empty", "--no-verify", "-m", message]);
        self.commits.set(self.commits.get() + 1);
        self.rev_parse("HEAD")
    }

    /// Adds `count` commits in one go, each with a change to `history.txt`, and gives the last one's id.
    pub fn history(&self, count: u64) -> String {
        let branch = self.text(&["symbolic-ref", "HEAD"]);
        let parent = self.try_rev_parse("HEAD");
        let stream = history::fast_import_stream(&branch, parent.as_deref(), self.commits.get(), count);
        history::import(self.path(), &stream);
        self.commits.set(self.commits.get() + count);
        self.run(&["reset", "--quiet", "--hard"]);
        self.rev_parse("HEAD")
    }

    /// Makes a branch at HEAD and stays where it is.
    pub fn branch(&self, name: &str) -> &Self {
        self.run(&["branch", "--", name]);
        self
    }

    /// Goes to a branch.
    pub fn switch(&self, name: &str) -> &Self {
        self.run(&["switch", "--quiet", name]);
        self
    }

    /// Sets a light tag at HEAD.
    pub fn tag(&self, name: &str) -> &Self {
        self.run(&["tag", "--", name]);
        self
    }

    /// Sets an annotated tag at HEAD.
    pub fn annotated_tag(&self, name: &str, message: &str) -> &Self {
        self.run(&["tag", "-a", "-m", message, "--", name]);
        self
    }

    /// Copies everything, all refs included, into the bare repository `<root>/<name>.git` with the same default branch.
    pub fn bare_into(&self, root: &Path, name: &str) -> BareRepo {
        let head = self.text(&["symbolic-ref", "--short", "HEAD"]);
        let bare = BareRepo::init(root, name, &head);
        let source = self.path().to_str().expect("a temporary folder is UTF-8");
        bare.text(&["fetch", "--quiet", source, "+refs/*:refs/*"]);
        bare
    }

    /// Fetches from the branch's own remote and fast-forwards.
    pub fn pull(&self) -> &Self {
        self.run(&["pull", "--quiet", "--ff-only"]);
        self
    }
}

impl Default for TestRepo {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for TestRepo {
    type Target = GitFolder;
    fn deref(&self) -> &GitFolder {
        &self.questions
    }
}

/// Clones with the plain `git` program; panics with its words when it fails.
///
/// Blocks: the host must not run on this thread's own runtime ([`crate::git_host::GitHost`] does not).
#[track_caller]
pub fn clone_with_git(url: &str, token: Option<&str>) -> TestRepo {
    try_clone(url, token, &[]).unwrap_or_else(|said| panic!("`git clone {url}` failed: {said}"))
}

/// Clones with further arguments, such as `--depth=1` or `--config=http.sslCAInfo=<file>`; the error is what git said.
pub fn try_clone(url: &str, token: Option<&str>, arguments: &[&str]) -> Result<TestRepo, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = git::command(folder.path());
    if let Some(token) = token {
        authorise(&mut command, token);
    }
    command
        .args(["clone", "--quiet"])
        .args(arguments)
        .args(["--", url, "."]);
    let output = git::output(&mut command);
    if output.status.success() {
        return Ok(TestRepo::at(folder));
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Has this run of git send the token, in a way that leaves it in no argument and no file.
pub fn authorise(command: &mut Command, token: &str) {
    let header = format!(
        "Authorization: Basic {}",
        STANDARD.encode(format!("x-access-token:{token}"))
    );
    command
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "http.extraHeader")
        .env("GIT_CONFIG_VALUE_0", header);
}

/// Bytes that no compression makes smaller (xorshift64*); equal seeds give equal bytes.
pub fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        noise.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    noise.truncate(bytes);
    noise
}
