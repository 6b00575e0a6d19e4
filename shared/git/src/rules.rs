//! The rules that a tree brings along: which paths `.gitignore` files exclude, and what `.gitattributes` files say of a path.
//!
//! Rules come from the tree itself and from nowhere else: no configuration, no `info/exclude`, no file of the machine. Their syntax and their meaning
//! are those of gitignore(5) and gitattributes(5), as the gix crates read them. This module must not know what the verdicts are for.

mod attributes;
mod ignore;

use std::collections::BTreeMap;
use std::path::PathBuf;

use bstr::{BStr, BString, ByteSlice};
use mayfly_protocol::{ObjectId, TreeId};

use crate::scratch::{Scratch, ScratchError};
use crate::tree::{EXECUTABLE, FILE, TreeEntry};

/// Bytes of the largest file of rules that is read.
pub const MAX_RULE_FILE_BYTES: u64 = 1024 * 1024;

/// The two kinds of files with rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleKind {
    /// `.gitignore`
    Ignore,
    /// `.gitattributes`
    Attributes,
}

impl RuleKind {
    /// The name of the file.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Ignore => ".gitignore",
            Self::Attributes => ".gitattributes",
        }
    }
}

/// The files of rules in a tree that concern some paths: each folder that has one, as `a/b` (the root is empty), and the blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFiles {
    kind: RuleKind,
    files: BTreeMap<BString, ObjectId>,
}

impl RuleFiles {
    /// Whether there is no rule at all.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The blobs that have to be here before the rules are asked.
    pub fn blobs(&self) -> Vec<ObjectId> {
        let mut blobs: Vec<_> = self.files.values().copied().collect();
        blobs.sort_unstable();
        blobs.dedup();
        blobs
    }

    /// The path of a file with this blob, for messages.
    pub fn path_of(&self, blob: &ObjectId) -> String {
        let folder = self.files.iter().find(|(_, id)| *id == blob).map(|it| it.0);
        let below = folder.filter(|folder| !folder.is_empty());
        let prefix = below.map(|folder| format!("{}/", crate::tree::shown(folder)));
        format!("{}{}", prefix.unwrap_or_default(), self.kind.file_name())
    }

    /// Where the patterns of a folder's file come from: the path that gives them their base.
    fn source(&self, folder: &BStr) -> Option<PathBuf> {
        let file = self.kind.file_name().as_bytes();
        let path = if folder.is_empty() {
            file.to_vec()
        } else {
            [folder.as_bytes(), b"/", file].concat()
        };
        path.to_path().ok().map(PathBuf::from)
    }

    /// Every folder on the way to a path, the root first.
    fn folders(path: &BStr) -> impl Iterator<Item = &BStr> {
        let root = std::iter::once(BStr::new(b""));
        root.chain(path.find_iter(b"/").map(|end| path[..end].as_bstr()))
    }
}

impl Scratch {
    /// The files of rules on the way to these paths of the tree. Only the trees on the way have to be here; links are no files of rules, as in git.
    pub fn rule_files<'a>(
        &self,
        tree: &TreeId,
        kind: RuleKind,
        paths: impl IntoIterator<Item = &'a BStr>,
    ) -> Result<RuleFiles, ScratchError> {
        let mut folders = BTreeMap::<BString, Option<TreeId>>::new();
        let mut files = BTreeMap::new();
        for path in paths {
            let mut above = Some(*tree);
            for folder in RuleFiles::folders(path) {
                if let Some(known) = folders.get(folder) {
                    above = *known;
                    continue;
                }
                let name = folder.rsplit_once_str("/").map_or(folder.as_bytes(), |it| it.1);
                let own = match above {
                    Some(above) if !folder.is_empty() => self.subfolder(&above, name)?,
                    other => other,
                };
                folders.insert(folder.to_owned(), own);
                if let Some(blob) = self.rule_file(own, kind)? {
                    files.insert(folder.to_owned(), blob);
                }
                above = own;
            }
        }
        Ok(RuleFiles { kind, files })
    }

    /// All files of rules of the tree, whose trees have to be here.
    pub fn all_rule_files(
        &self,
        tree: &TreeId,
        kind: RuleKind,
        max_entries: usize,
    ) -> Result<RuleFiles, ScratchError> {
        let (mut files, name) = (BTreeMap::new(), kind.file_name().as_bytes());
        self.walk(tree, max_entries, |path, entry| {
            let (folder, file) = path.rsplit_once_str("/").unwrap_or((b"", path));
            if file == name && matches!(entry.mode, FILE | EXECUTABLE) {
                files.insert(folder.into(), entry.id);
            }
            Ok::<_, ScratchError>(())
        })?;
        Ok(RuleFiles { kind, files })
    }

    fn subfolder(&self, tree: &TreeId, name: &[u8]) -> Result<Option<TreeId>, ScratchError> {
        let entry = self.entry(tree, name)?;
        Ok(entry.filter(TreeEntry::is_folder).map(|entry| entry.id))
    }

    fn rule_file(&self, folder: Option<TreeId>, kind: RuleKind) -> Result<Option<ObjectId>, ScratchError> {
        let Some(folder) = folder.filter(|folder| *folder != TreeId::EMPTY_TREE) else {
            return Ok(None);
        };
        let entry = self.entry(&folder, kind.file_name())?;
        Ok(entry
            .filter(|entry| matches!(entry.mode, FILE | EXECUTABLE))
            .map(|entry| entry.id))
    }
}
