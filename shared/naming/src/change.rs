//! What changed, as far as a commit message needs to know it.

/// The change that a commit message is written for.
///
/// It may leave out files and text; then it says how much. All texts in it are data from a repository, and not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangeSummary {
    /// The changed files, in the order in which they are to be shown.
    pub files: Vec<ChangedFile>,
    /// Changed files that are not in `files`.
    pub omitted_files: usize,
    /// Bytes of the diff that are in no file's `text`.
    pub omitted_bytes: u64,
    /// Lines added, in all files.
    pub insertions: u64,
    /// Lines removed, in all files.
    pub deletions: u64,
}

impl ChangeSummary {
    /// The number of changed files, with those that are left out.
    pub fn file_count(&self) -> usize {
        self.files.len().saturating_add(self.omitted_files)
    }
}

/// One changed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedFile {
    /// Its path, or its new path.
    pub path: String,
    /// What happened to it.
    pub kind: FileChangeKind,
    /// Lines added.
    pub insertions: u64,
    /// Lines removed.
    pub deletions: u64,
    /// Whether it has no lines to compare.
    pub binary: bool,
    /// Its hunks in unified form, where they are at hand.
    pub text: Option<String>,
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
    /// Its content or its mode is another.
    Modified,
    /// It has another path, and perhaps another content.
    Renamed,
    /// It was a file and is a link now, or the like.
    TypeChanged,
}

impl FileChangeKind {
    /// What a commit does to such a file, as the first word of a subject.
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Added => "add",
            Self::Deleted => "remove",
            Self::Modified | Self::TypeChanged => "update",
            Self::Renamed => "rename",
        }
    }
}
