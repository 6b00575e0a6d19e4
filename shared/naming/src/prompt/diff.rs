//! A change within a budget of bytes: first every file with its counts, then the hunks, shared fairly between the files.
//!
//! This file must not know what the text is asked about.

use crate::change::{ChangeSummary, ChangedFile, FileChangeKind};
use crate::plain::{self, one_line};
use crate::prompt::size;

/// Characters of a path in the text.
const MAX_PATH_CHARS: usize = 200;
/// The part of the budget that the list of files may take.
const LIST_PART: usize = 4;
/// The fewest bytes of hunks that are worth showing of a file.
const MIN_SHARE_BYTES: usize = 256;

/// The text of a change, and what is not in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) text: String,
    /// Files that are not listed.
    pub(super) unlisted_files: usize,
    /// Files of whose lines none is shown.
    pub(super) hidden_files: usize,
    /// Bytes of the diff that are not shown.
    pub(super) hidden_bytes: u64,
}

/// Shows as much of the change as the budget allows.
pub(super) fn within(change: &ChangeSummary, budget_bytes: usize) -> Shown {
    let mut shown = Shown {
        text: String::new(),
        unlisted_files: change.omitted_files,
        hidden_files: change.omitted_files,
        hidden_bytes: change.omitted_bytes,
    };
    shown.list(change, budget_bytes / LIST_PART);
    let room = budget_bytes.saturating_sub(shown.text.len());
    shown.hunks(change, room);
    shown
}

impl Shown {
    fn list(&mut self, change: &ChangeSummary, room: usize) {
        let header = format!(
            "{} changed files, {} lines added, {} removed:\n",
            change.file_count(),
            change.insertions,
            change.deletions
        );
        if header.len() <= room {
            self.text.push_str(&header);
        }
        for (index, file) in change.files.iter().enumerate() {
            let line = file_line(file);
            if self.text.len() + line.len() > room {
                self.unlisted_files = self.unlisted_files.saturating_add(change.files.len() - index);
                return;
            }
            self.text.push_str(&line);
        }
    }

    fn hunks(&mut self, change: &ChangeSummary, room: usize) {
        let headers: Vec<(String, &str)> = change.files.iter().filter_map(hunk_parts).collect();
        let needs: Vec<usize> = headers
            .iter()
            .map(|(header, text)| header.len() + text.len() + 1)
            .collect();
        let shares = fair_shares(&needs, room);
        for ((header, text), share) in headers.iter().zip(shares) {
            let kept = cut(text, share.saturating_sub(header.len() + 1));
            self.hidden_bytes = self.hidden_bytes.saturating_add((text.len() - kept.len()) as u64);
            if kept.is_empty() {
                self.hidden_files = self.hidden_files.saturating_add(1);
                continue;
            }
            self.text.push_str(header);
            self.text.push_str(kept);
            if !kept.ends_with('\n') {
                self.text.push('\n');
            }
        }
        self.hidden_files = self
            .hidden_files
            .saturating_add(change.files.iter().filter(|file| has_unseen_lines(file)).count());
    }

    /// What the reader has to know about the text: exact, and nothing where nothing is missing.
    pub(super) fn left_out_sentences(&self) -> Vec<String> {
        let files = |count: usize| {
            if count == 1 {
                "1 file".to_owned()
            } else {
                format!("{count} files")
            }
        };
        let be = |count: usize| if count == 1 { "is" } else { "are" };
        let mut sentences = Vec::new();
        if self.unlisted_files > 0 {
            sentences.push(format!(
                "{} {} not listed.",
                files(self.unlisted_files),
                be(self.unlisted_files)
            ));
        }
        match (self.hidden_files, self.hidden_bytes) {
            (0, 0) => {}
            (count, 0) => sentences.push(format!("The diff of {} is left out.", files(count))),
            (0, bytes) => sentences.push(format!("{} of diff are left out.", size(bytes))),
            (count, bytes) => sentences.push(format!(
                "{} and {} of diff are left out.",
                files(count),
                size(bytes)
            )),
        }
        sentences
    }
}

fn file_line(file: &ChangedFile) -> String {
    let kind = match file.kind {
        FileChangeKind::Added => "added",
        FileChangeKind::Deleted => "deleted",
        FileChangeKind::Modified => "modified",
        FileChangeKind::Renamed => "renamed to",
        FileChangeKind::TypeChanged => "type changed",
    };
    let path = one_line(&file.path, MAX_PATH_CHARS);
    if file.binary {
        format!("{kind} {path} (binary)\n")
    } else {
        format!("{kind} {path} +{} -{}\n", file.insertions, file.deletions)
    }
}

fn hunk_parts(file: &ChangedFile) -> Option<(String, &str)> {
    let text = file.text.as_deref().filter(|text| !text.is_empty())?;
    Some((format!("\n--- {}\n", one_line(&file.path, MAX_PATH_CHARS)), text))
}

fn has_unseen_lines(file: &ChangedFile) -> bool {
    let has_text = file.text.as_deref().is_some_and(|text| !text.is_empty());
    !has_text && !file.binary && (file.insertions > 0 || file.deletions > 0)
}

/// Divides `room` so that small needs are met whole and the large ones share the rest alike. Where there is not enough for a useful share
/// each, the last ones get nothing.
fn fair_shares(needs: &[usize], room: usize) -> Vec<usize> {
    let served = needs
        .len()
        .min(room / MIN_SHARE_BYTES)
        .max(usize::from(!needs.is_empty()));
    let mut order: Vec<usize> = (0..served).collect();
    order.sort_by_key(|&index| needs[index]);
    let mut shares = vec![0; needs.len()];
    let mut left = room;
    for (rank, index) in order.into_iter().enumerate() {
        shares[index] = needs[index].min(left / (served - rank));
        left -= shares[index];
    }
    shares
}

/// The beginning of a text within a number of bytes: whole lines, or a part of the first line where that alone is too long.
fn cut(text: &str, max_bytes: usize) -> &str {
    let part = plain::prefix(text, max_bytes);
    if part.len() == text.len() {
        return text;
    }
    part.rfind('\n').map_or(part, |end| &part[..=end])
}
