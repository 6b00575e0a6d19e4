//! Commits: reading what is needed of them, and making new ones.

use bstr::ByteSlice;
use mayfly_protocol::{CommitId, ObjectId, TreeId};

use super::{Scratch, ScratchError};
use crate::identity::Signature;
use crate::object::ObjectKind;

/// What a commit says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// Its tree.
    pub tree: TreeId,
    /// Its parents, in order.
    pub parents: Vec<CommitId>,
    /// Seconds since 1970 of the committer's time, where it can be read.
    pub committed_at: Option<i64>,
    /// The whole message; bytes that are not UTF-8 are replaced.
    pub message: String,
}

impl CommitInfo {
    /// The first line of the message.
    pub fn subject(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }
}

impl Scratch {
    /// The tree of a commit.
    pub fn commit_tree(&self, commit: &CommitId) -> Result<TreeId, ScratchError> {
        self.commit_info(commit).map(|info| info.tree)
    }

    /// What a commit says. Odd dates, encodings and further headers of old history are no fault.
    pub fn commit_info(&self, commit: &CommitId) -> Result<CommitInfo, ScratchError> {
        let object = self.read(commit, ObjectKind::Commit)?;
        parse_commit(commit, object.data())
    }

    /// Makes a commit. The parents need not be here. The message ends with one line feed, whatever it came with.
    pub fn commit(
        &self,
        tree: &TreeId,
        parents: &[CommitId],
        author: &Signature,
        committer: &Signature,
        message: &str,
    ) -> Result<CommitId, ScratchError> {
        author.check()?;
        committer.check()?;
        if message.contains('\0') {
            return Err(ScratchError::Message);
        }
        if *tree == TreeId::EMPTY_TREE {
            self.write(ObjectKind::Tree, b"")?;
        }
        let mut text = format!("tree {tree}\n");
        for parent in parents {
            text.push_str(&format!("parent {parent}\n"));
        }
        let message = message.trim_end_matches('\n');
        text.push_str(&format!("author {author}\ncommitter {committer}\n\n{message}\n"));
        self.write(ObjectKind::Commit, text.as_bytes())
    }
}

/// What the content of a commit says.
pub(super) fn parse_commit(id: &CommitId, content: &[u8]) -> Result<CommitInfo, ScratchError> {
    parse(content).ok_or_else(|| ScratchError::Damaged {
        id: *id,
        reason: "it cannot be read as a commit".to_owned(),
    })
}

/// Source of the format: gitformat-commit as `parse_commit_buffer` in git's `commit.c` reads it.
fn parse(content: &[u8]) -> Option<CommitInfo> {
    let mut lines = content.lines();
    let tree = header_id(lines.next()?, "tree ")?;
    let (headers, message) = content.split_once_str("\n\n").unwrap_or((content, b""));
    let mut headers = headers.lines().skip(1).peekable();
    let mut parents = Vec::new();
    while let Some(parent) = headers.peek().and_then(|line| header_id(line, "parent ")) {
        parents.push(parent);
        headers.next();
    }
    let committer = headers.find_map(|line| line.strip_prefix(b"committer "));
    Some(CommitInfo {
        tree,
        parents,
        committed_at: committer.and_then(seconds),
        message: message.to_str_lossy().into_owned(),
    })
}

fn header_id(line: &[u8], name: &str) -> Option<ObjectId> {
    let digits = line.strip_prefix(name.as_bytes())?;
    digits.to_str().ok()?.parse().ok()
}

fn seconds(signature: &[u8]) -> Option<i64> {
    let (_, time) = signature.rsplit_once_str("> ")?;
    time.fields().next()?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n";

    #[test]
    fn commits_of_old_history_are_read() {
        let whole = format!(
            "{TREE}parent {}\nparent {}\nauthor A <a> 1 +0000\ncommitter B <b> 7 +9999\nencoding x\n\nOne\n\nparent {}\n",
            "1".repeat(40),
            "2".repeat(40),
            "3".repeat(40)
        );
        let info = parse(whole.as_bytes()).unwrap();
        assert_eq!(info.tree, TreeId::EMPTY_TREE);
        assert_eq!(info.parents.len(), 2);
        assert_eq!(info.committed_at, Some(7));
        assert_eq!(info.subject(), "One");
        let bare = parse(TREE.as_bytes()).unwrap();
        assert_eq!(
            (bare.parents.len(), bare.committed_at, bare.subject()),
            (0, None, "")
        );
    }

    #[test]
    fn what_is_no_commit_is_refused() {
        for bad in ["", "\n", "parent x\n", "tree 12\n"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
