//! Compares two texts line by line.
//!
//! libgit2 is given bare buffers, without a repository, so that no attribute and no configuration has a say.

use git2::{DiffOptions, Patch};

use super::DiffBudget;
use crate::scratch::{ScratchError, git_error};

/// Bytes at the beginning of a file that decide whether it is binary, as in git.
const BINARY_PROBE_BYTES: usize = 8000;

/// What came of a comparison.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) insertions: u64,
    pub(super) deletions: u64,
    /// Hunks in unified form, as far as one file may have them.
    pub(super) text: Vec<u8>,
    /// Bytes of all hunks.
    pub(super) all_bytes: u64,
}

impl Lines {
    /// Shortens the text to so many bytes, at the end of a line.
    pub(super) fn cut(&mut self, max: usize) {
        if self.text.len() > max {
            let end = self.text[..max]
                .iter()
                .rposition(|&b| b == b'\n')
                .map_or(0, |at| at + 1);
            self.text.truncate(end);
        }
    }

    /// Whether the text has all hunks.
    pub(super) fn is_whole(&self) -> bool {
        self.all_bytes == self.text.len() as u64
    }

    /// These lines, and then the others, which are left out where these are not whole.
    pub(super) fn followed_by(mut self, others: &Self) -> Self {
        if self.is_whole() {
            self.text.extend_from_slice(&others.text);
        }
        self.insertions += others.insertions;
        self.deletions += others.deletions;
        self.all_bytes += others.all_bytes;
        self
    }

    fn add(&mut self, parts: &[&[u8]], max: usize) {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        // What follows the first line that does not fit is left out too: a text has no holes.
        let has_room = self.is_whole() && self.text.len() + bytes <= max;
        self.all_bytes += bytes as u64;
        if has_room {
            parts.iter().for_each(|part| self.text.extend_from_slice(part));
        }
    }
}

pub(super) fn is_binary(content: &[u8]) -> bool {
    content.iter().take(BINARY_PROBE_BYTES).any(|&b| b == 0)
}

/// Text out of a repository, with bytes that are not UTF-8 replaced.
pub(super) fn to_string(text: Vec<u8>) -> String {
    String::from_utf8(text).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

pub(super) fn compare(old: &[u8], new: &[u8], budget: &DiffBudget) -> Result<Lines, ScratchError> {
    let mut options = DiffOptions::new();
    options.context_lines(budget.context_lines).force_text(true);
    read(old, new, &mut options, budget.max_file_text_bytes).map_err(git_error("compare two files"))
}

fn read(old: &[u8], new: &[u8], options: &mut DiffOptions, max: usize) -> Result<Lines, git2::Error> {
    let patch = Patch::from_buffers(old, None, new, None, Some(options))?;
    let (_, insertions, deletions) = patch.line_stats()?;
    let mut lines = Lines {
        insertions: insertions as u64,
        deletions: deletions as u64,
        ..Lines::default()
    };
    for hunk in 0..patch.num_hunks() {
        let (head, count) = patch.hunk(hunk)?;
        lines.add(&[head.header()], max);
        for line in 0..count {
            let line = patch.line_in_hunk(hunk, line)?;
            match line.origin() {
                // The text of these is `\ No newline at end of file` with the line feed that the line before it lacks.
                '=' | '>' | '<' => lines.add(&[line.content()], max),
                origin => lines.add(&[&[origin as u8], line.content()], max),
            }
        }
    }
    Ok(lines)
}
