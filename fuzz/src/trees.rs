//! Trees for the targets that need some.

use mayfly_git::apply::ApplyLimits;
use mayfly_git::scratch::{Scratch, ScratchLimits};
use mayfly_protocol::request::{FileAction, FileChange, FileMode};
use mayfly_protocol::{RepoPath, TreeId};
use tempfile::TempDir;

/// An empty scratch repository, in a folder that goes with it.
pub fn scratch() -> (TempDir, Scratch) {
    let folder = tempfile::tempdir().expect("a folder");
    let scratch = Scratch::create(folder.path(), ScratchLimits::default());
    (folder, scratch.expect("a scratch repository"))
}

/// A tree of these files, as far as they can stand side by side.
pub fn tree(scratch: &Scratch, files: &[(&str, &[u8], FileMode)]) -> TreeId {
    let mut tree = TreeId::EMPTY_TREE;
    for (path, content, mode) in files {
        let Ok(path) = path.parse::<RepoPath>() else {
            continue;
        };
        let action = FileAction::Write {
            content: content.to_vec(),
            mode: Some(*mode),
        };
        let applied = scratch.apply_files(&tree, &[FileChange { path, action }], &ApplyLimits::default());
        tree = applied.map_or(tree, |applied| applied.tree);
    }
    tree
}
