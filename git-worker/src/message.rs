//! From the diff of a commit to what a message is written from.

use mayfly_git::diff::{ChangeKind, DiffSummary, FileDiff};
use mayfly_naming::{ChangeSummary, ChangedFile, FileChangeKind};

/// Maps git's diff onto what the namer reads.
pub(crate) fn change_summary(diff: &DiffSummary) -> ChangeSummary {
    ChangeSummary {
        files: diff.files.iter().map(changed_file).collect(),
        omitted_files: diff.omitted_files,
        omitted_bytes: diff.omitted_bytes,
        insertions: diff.insertions,
        deletions: diff.deletions,
    }
}

fn changed_file(file: &FileDiff) -> ChangedFile {
    ChangedFile {
        path: file.path.clone(),
        kind: match file.kind {
            ChangeKind::Added => FileChangeKind::Added,
            ChangeKind::Deleted => FileChangeKind::Deleted,
            ChangeKind::Modified if file.old_path.is_some() => FileChangeKind::Renamed,
            ChangeKind::Modified => FileChangeKind::Modified,
            ChangeKind::TypeChanged => FileChangeKind::TypeChanged,
        },
        insertions: file.insertions,
        deletions: file.deletions,
        binary: file.binary,
        text: file.text.clone(),
    }
}
