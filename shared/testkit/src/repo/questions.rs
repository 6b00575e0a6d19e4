//! What the plain `git` program says about a repository: the judge in comparisons.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::git;

/// A repository, bare or with a worktree, that can be asked. Without `try_`, an answer that git refuses is a panic.
#[derive(Debug, Clone)]
pub struct GitFolder {
    path: PathBuf,
}

/// One line of `git ls-tree -r`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TreeEntry {
    /// Where, as bytes, from the root of the tree.
    pub path: Vec<u8>,
    /// Six digits, such as `100644`.
    pub mode: String,
    /// `blob` or `commit`.
    pub kind: String,
    /// The id of the object.
    pub id: String,
}

impl GitFolder {
    /// The repository in this folder.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs git here whatever comes of it.
    pub fn output(&self, arguments: &[&str]) -> Output {
        git::output(git::command(&self.path).args(arguments))
    }

    /// Runs git here and gives what it wrote, without the line end.
    #[track_caller]
    pub fn text(&self, arguments: &[&str]) -> String {
        git::text(git::command(&self.path).args(arguments))
    }

    /// The id of what the expression names.
    #[track_caller]
    pub fn rev_parse(&self, revision: &str) -> String {
        self.text(&["rev-parse", "--verify", "--end-of-options", revision])
    }

    /// The same, or nothing if there is no such thing.
    pub fn try_rev_parse(&self, revision: &str) -> Option<String> {
        let output = self.output(&["rev-parse", "--verify", "--quiet", "--end-of-options", revision]);
        let id = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        output.status.success().then_some(id)
    }

    /// The id of the tree of a commit.
    #[track_caller]
    pub fn tree_of(&self, revision: &str) -> String {
        self.rev_parse(&format!("{revision}^{{tree}}"))
    }

    /// All files of a commit or tree, in git's order.
    #[track_caller]
    pub fn ls_tree(&self, revision: &str) -> Vec<TreeEntry> {
        let arguments = ["ls-tree", "-r", "-z", "--full-tree", revision];
        let listing = git::stdout(git::command(&self.path).args(arguments));
        let lines = listing.split(|byte| *byte == 0).filter(|line| !line.is_empty());
        lines
            .map(|line| parse_entry(line).expect("a line of `git ls-tree`"))
            .collect()
    }

    /// The bytes of a file in a commit.
    #[track_caller]
    pub fn show(&self, revision: &str, path: &str) -> Vec<u8> {
        git::stdout(git::command(&self.path).args(["show", &format!("{revision}:{path}")]))
    }

    /// The subjects of the history, newest first.
    #[track_caller]
    pub fn log(&self, revision: &str) -> Vec<String> {
        let lines = self.log_format(revision, "%s");
        lines.lines().map(str::to_owned).collect()
    }

    /// The history in a format of `git log`, such as `%an <%ae>`.
    #[track_caller]
    pub fn log_format(&self, revision: &str, format: &str) -> String {
        self.text(&["log", &format!("--format={format}"), revision, "--"])
    }

    /// All refs and what they point at.
    #[track_caller]
    pub fn refs(&self) -> BTreeMap<String, String> {
        let listing = self.text(&["for-each-ref", "--format=%(refname) %(objectname)"]);
        let pairs = listing.lines().filter_map(|line| line.split_once(' '));
        pairs.map(|(name, id)| (name.to_owned(), id.to_owned())).collect()
    }

    /// Checks every object by git's strict rules.
    #[track_caller]
    pub fn fsck_strict(&self) {
        self.text(&["fsck", "--strict", "--full", "--no-dangling", "--no-progress"]);
    }
}

fn parse_entry(line: &[u8]) -> Option<TreeEntry> {
    let tab = line.iter().position(|byte| *byte == b'\t')?;
    let mut words = std::str::from_utf8(&line[..tab]).ok()?.split(' ');
    let mut word = || words.next().map(str::to_owned);
    Some(TreeEntry {
        mode: word()?,
        kind: word()?,
        id: word()?,
        path: line[tab + 1..].to_vec(),
    })
}
