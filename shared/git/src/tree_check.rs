//! Checks trees that come in, as `git fsck` does and with limits, before anything is made from them.
//!
//! Every tree is read as raw bytes by this crate's own reader, since git libraries read leniently. A tree that stands at
//! many paths is read once and counted as often as it stands there, so that ten levels of ten folders, each ten times the
//! same, cost ten reads. This module must not know what is done with the trees.

mod scan;

use std::collections::HashMap;

use bstr::BString;
use mayfly_protocol::limits::{MAX_PATH_BYTES, MAX_PATH_DEPTH};
use mayfly_protocol::{ErrorCode, InvalidPath, ObjectId, TreeId};

use crate::object::ObjectKind;
use crate::scratch::{Scratch, ScratchError};
use crate::tree::shown;
pub(crate) use scan::must_not_be_a_link;
use scan::{Subtree, scan};

/// Bounds on the trees of one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeLimits {
    /// Entries of all trees, folders included, each counted as often as it would be checked out.
    pub max_entries: u64,
    /// Entries of one tree.
    pub max_tree_entries: u64,
    /// Bytes of one tree object.
    pub max_tree_bytes: u64,
    /// Components of a path.
    pub max_depth: usize,
    /// Bytes of a path.
    pub max_path_bytes: usize,
}

impl Default for TreeLimits {
    fn default() -> Self {
        Self {
            max_entries: 2_000_000,
            max_tree_entries: 500_000,
            max_tree_bytes: 64 * 1024 * 1024,
            max_depth: MAX_PATH_DEPTH,
            max_path_bytes: MAX_PATH_BYTES,
        }
    }
}

/// What a check counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TreeStats {
    /// Different trees.
    pub trees: u64,
    /// Entries, folders included, counted as often as they stand in a path.
    pub entries: u64,
    /// Components of the deepest path.
    pub depth: usize,
    /// Bytes of the longest path.
    pub longest_path: usize,
}

/// Why an entry is dangerous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TreeFault {
    /// The name, or the path as a whole.
    #[error("its name {0}")]
    Name(InvalidPath),
    /// A mode that git does not write.
    #[error("its mode {0:o} is none of git's")]
    Mode(u32),
    /// The id is 40 zeros.
    #[error("its id is null")]
    NullId,
    /// The entries are not in git's order, so that readers find other files than others do.
    #[error("it stands out of order")]
    Order,
    /// Two entries have this name.
    #[error("its name stands there twice")]
    Duplicate,
    /// A file that git obeys is a symbolic link.
    #[error("git reads this file, and it is a symbolic link")]
    Link,
    /// The bytes are no tree.
    #[error("it cannot be read as a tree")]
    Unreadable,
    /// The path has more components than allowed.
    #[error("paths below it are too deep")]
    Depth,
    /// The path has more bytes than allowed.
    #[error("paths below it are too long")]
    Length,
}

/// The trees of a commit cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TreeCheckError {
    /// An entry is dangerous to check out.
    #[error("the tree entry `{path}` is unsafe: {fault}; remove it from the repository")]
    Unsafe {
        /// Where it stands, with odd characters escaped.
        path: String,
        /// What is wrong with it.
        fault: TreeFault,
    },
    /// There is more than allowed.
    #[error("the folder `{path}` has too much in it: more than {max} {what}")]
    TooLarge {
        /// The folder; empty for the root.
        path: String,
        /// What is counted.
        what: &'static str,
        /// The limit.
        max: u64,
    },
    /// A tree is named and was not sent.
    #[error("the tree {id} of the folder `{path}` is missing: the remote did not send it")]
    Missing {
        /// The folder; empty for the root.
        path: String,
        /// The tree.
        id: ObjectId,
    },
    /// An object that should be a tree is something else, or does not have the content that its id says.
    #[error("the folder `{path}` cannot be read")]
    Damaged {
        /// The folder; empty for the root.
        path: String,
        /// Why not.
        #[source]
        source: ScratchError,
    },
}

impl TreeCheckError {
    /// The code for clients.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unsafe { .. } => ErrorCode::UnsafeTree,
            Self::TooLarge { .. } => ErrorCode::TreeTooLarge,
            Self::Missing { .. } => ErrorCode::RemoteProtocol,
            Self::Damaged { source, .. } => match source {
                ScratchError::Damaged { .. } => ErrorCode::RemoteProtocol,
                other => other.code(),
            },
        }
    }

    fn unsafe_at(path: &[u8], fault: TreeFault) -> Self {
        Self::Unsafe {
            path: shown(path),
            fault,
        }
    }
}

/// What is below one tree, wherever that stands.
#[derive(Debug, Clone, Copy, Default)]
struct Summary {
    entries: u64,
    /// Levels: 0 for an empty tree, 1 for one with files only.
    height: usize,
    /// Bytes of the longest path below.
    longest: usize,
}

/// A tree whose folders are being looked at.
struct Frame {
    id: TreeId,
    summary: Summary,
    subtrees: std::vec::IntoIter<Subtree>,
    /// Name of the folder that is being looked at.
    name_bytes: usize,
}

/// Where trees are read from.
pub(crate) trait TreeSource {
    /// The bytes of a tree whose content is what its id says.
    fn tree(&self, id: &TreeId, max_bytes: u64) -> Result<Vec<u8>, ScratchError>;
}

impl TreeSource for Scratch {
    fn tree(&self, id: &TreeId, max_bytes: u64) -> Result<Vec<u8>, ScratchError> {
        let object = self.read_bounded(id, ObjectKind::Tree, max_bytes)?;
        Ok(object.data().to_vec())
    }
}

struct Check<'a> {
    source: &'a dyn TreeSource,
    limits: &'a TreeLimits,
    known: HashMap<TreeId, Summary>,
    /// From the root to the tree that is being looked at.
    frames: Vec<Frame>,
    path: BString,
    /// Entries of all different trees: a lower bound of the number with multiplicity.
    read_entries: u64,
}

impl Scratch {
    /// Checks every tree below `tree`, itself included, each once.
    ///
    /// Zero-padded modes and the group-writable 100664 of old history are tolerated; everything else that `git fsck` calls
    /// an error is one. Files and submodules are not looked at, and need not be here.
    pub fn check_tree(&self, tree: &TreeId, limits: &TreeLimits) -> Result<TreeStats, TreeCheckError> {
        check(self, tree, limits)
    }
}

/// As [`Scratch::check_tree`], for trees that are kept elsewhere.
pub(crate) fn check(
    source: &dyn TreeSource,
    tree: &TreeId,
    limits: &TreeLimits,
) -> Result<TreeStats, TreeCheckError> {
    let check = Check {
        source,
        limits,
        known: HashMap::new(),
        frames: Vec::new(),
        path: BString::default(),
        read_entries: 0,
    };
    check.run(tree)
}

impl Check<'_> {
    fn run(mut self, root: &TreeId) -> Result<TreeStats, TreeCheckError> {
        self.open(root)?;
        let mut summary = Summary::default();
        while let Some(frame) = self.frames.last_mut() {
            match frame.subtrees.next() {
                Some(subtree) => self.enter(&subtree)?,
                None => summary = self.leave()?,
            }
        }
        Ok(TreeStats {
            trees: self.known.len() as u64,
            entries: summary.entries,
            depth: summary.height,
            longest_path: summary.longest,
        })
    }

    /// Goes into a folder, or counts it where its tree was looked at before.
    fn enter(&mut self, subtree: &Subtree) -> Result<(), TreeCheckError> {
        if let Some(frame) = self.frames.last_mut() {
            frame.name_bytes = subtree.name.len();
        }
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(&subtree.name);
        match self.known.get(&subtree.id).copied() {
            Some(summary) => self.count(summary),
            None => self.open(&subtree.id),
        }
    }

    /// Reads a tree and looks at its entries.
    fn open(&mut self, id: &TreeId) -> Result<(), TreeCheckError> {
        let max = self.limits.max_tree_bytes;
        let bytes = self.source.tree(id, max);
        let bytes = bytes.map_err(|error| self.read_error(error))?;
        let scanned = scan(&bytes, &self.path)?;
        self.read_entries += scanned.entries;
        if scanned.entries > self.limits.max_tree_entries {
            return Err(self.too_large("entries in one folder", self.limits.max_tree_entries));
        }
        if self.read_entries > self.limits.max_entries {
            return Err(self.too_large("entries in all folders", self.limits.max_entries));
        }
        let summary = Summary {
            entries: scanned.entries,
            height: usize::from(scanned.entries > 0),
            longest: scanned.longest_name,
        };
        self.check_extent(summary)?;
        let subtrees = scanned.subtrees.into_iter();
        self.frames.push(Frame {
            id: *id,
            summary,
            subtrees,
            name_bytes: 0,
        });
        Ok(())
    }

    /// All folders of a tree are counted: it is known from now on.
    fn leave(&mut self) -> Result<Summary, TreeCheckError> {
        let Some(frame) = self.frames.pop() else {
            return Ok(Summary::default());
        };
        self.known.insert(frame.id, frame.summary);
        if !self.frames.is_empty() {
            self.count(frame.summary)?;
        }
        Ok(frame.summary)
    }

    /// Adds what is below the folder at the current path to the tree that it stands in, and goes back there.
    fn count(&mut self, below: Summary) -> Result<(), TreeCheckError> {
        self.check_extent(below)?;
        let Some(frame) = self.frames.last_mut() else {
            return Ok(());
        };
        let (name_bytes, summary) = (frame.name_bytes, &mut frame.summary);
        summary.entries = summary.entries.saturating_add(below.entries);
        summary.height = summary.height.max(below.height + 1);
        if below.longest > 0 {
            summary.longest = summary.longest.max(name_bytes + 1 + below.longest);
        }
        let entries = summary.entries;
        let parent = self.path.len().saturating_sub(name_bytes + 1);
        self.path.truncate(parent);
        if entries > self.limits.max_entries {
            return Err(self.too_large("entries", self.limits.max_entries));
        }
        Ok(())
    }

    /// Whether what is below the current path is too deep or too long there.
    fn check_extent(&self, below: Summary) -> Result<(), TreeCheckError> {
        if self.frames.len() + below.height > self.limits.max_depth {
            return Err(TreeCheckError::unsafe_at(&self.path, TreeFault::Depth));
        }
        let slash = usize::from(!self.path.is_empty());
        if self.path.len() + slash + below.longest > self.limits.max_path_bytes {
            return Err(TreeCheckError::unsafe_at(&self.path, TreeFault::Length));
        }
        Ok(())
    }

    fn too_large(&self, what: &'static str, max: u64) -> TreeCheckError {
        TreeCheckError::TooLarge {
            path: shown(&self.path),
            what,
            max,
        }
    }

    fn read_error(&self, error: ScratchError) -> TreeCheckError {
        let path = shown(&self.path);
        match error {
            ScratchError::Missing { id } => TreeCheckError::Missing { path, id },
            ScratchError::TooLarge { max, .. } => TreeCheckError::TooLarge {
                path,
                what: "bytes in one tree",
                max,
            },
            source => TreeCheckError::Damaged { path, source },
        }
    }
}
