//! Reads a unified diff, as `git diff` and `git format-patch` write it, into one checked record per file.
//!
//! Source: git-diff(1), "Generating patch text with -p", and `parse_chunk` in git's `apply.c`. Every path in it is checked
//! here. Nothing is inflated or applied.

use super::binary::Binary;
use super::header::{self, Header};
use super::hunks::Hunk;
use super::{ApplyError, binary, hunks};

/// What happens to a file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Modify,
    Create,
    Delete,
    Rename,
    Copy,
}

/// What happens to a file's content.
#[derive(Debug)]
pub(super) enum Body<'a> {
    Same,
    Text(Vec<Hunk<'a>>),
    Binary(Binary<'a>),
}

/// What a patch says about one file.
#[derive(Debug)]
pub(super) struct FilePatch<'a> {
    pub(super) kind: Kind,
    /// The file's name before; of a new file, its name.
    pub(super) old: Vec<u8>,
    /// The file's name after; of a deleted file, its name.
    pub(super) new: Vec<u8>,
    pub(super) old_mode: Option<u32>,
    pub(super) new_mode: Option<u32>,
    /// The whole ids of the content before and after, where they are given.
    pub(super) ids: Option<header::Ids>,
    pub(super) body: Body<'a>,
}

impl FilePatch<'_> {
    pub(super) fn old_path(&self) -> Option<&[u8]> {
        (self.kind != Kind::Create).then_some(&self.old)
    }

    pub(super) fn new_path(&self) -> Option<&[u8]> {
        (self.kind != Kind::Delete).then_some(&self.new)
    }

    /// Whether the old content has to be read.
    pub(super) fn needs_content(&self) -> bool {
        match &self.body {
            Body::Same => self.kind == Kind::Delete,
            Body::Text(_) => true,
            Body::Binary(binary) => binary.is_delta,
        }
    }
}

/// The lines of a patch, each with its line feed, and where we are.
#[derive(Debug, Clone)]
pub(super) struct Lines<'a> {
    rest: &'a [u8],
    /// The line that comes next, from 1.
    pub(super) number: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn peek(&self) -> Option<&'a [u8]> {
        let end = bstr::ByteSlice::find_byte(self.rest, b'\n').map_or(self.rest.len(), |at| at + 1);
        (end > 0).then(|| &self.rest[..end])
    }

    /// The next line without its line feed, and without a carriage return before that.
    pub(super) fn peek_text(&self) -> Option<&'a [u8]> {
        let line = self.peek()?;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }

    pub(super) fn skip(&mut self) {
        let bytes = self.peek().map_or(0, <[u8]>::len);
        self.rest = &self.rest[bytes..];
        self.number += 1;
    }

    /// All bytes from here on.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn invalid<T>(&self, reason: &'static str) -> Result<T, ApplyError> {
        Err(ApplyError::Invalid {
            line: self.number,
            reason,
        })
    }
}

/// Reads a patch. What stands between its files, such as the head of a mail, is passed over.
pub(super) fn parse(patch: &[u8]) -> Result<Vec<FilePatch<'_>>, ApplyError> {
    let mut lines = Lines {
        rest: patch,
        number: 1,
    };
    let mut files = Vec::new();
    while let Some(line) = lines.peek_text() {
        if line.starts_with(b"diff --git ") {
            let header = header::git(&mut lines)?;
            files.push(file(header, &mut lines)?);
        } else if line.starts_with(b"--- ") && is_followed_by_new_name(&lines) {
            let header = header::plain(&mut lines)?;
            files.push(file(header, &mut lines)?);
        } else if line.starts_with(b"@@ -") {
            return lines.invalid("a hunk stands without the names of its file before it");
        } else {
            lines.skip();
        }
    }
    if files.is_empty() {
        return lines.invalid("it names no file; send a unified diff, as `git diff` writes it");
    }
    Ok(files)
}

fn is_followed_by_new_name(lines: &Lines<'_>) -> bool {
    let mut next = lines.clone();
    next.skip();
    next.peek().is_some_and(|line| line.starts_with(b"+++ "))
}

fn file<'a>(header: Header, lines: &mut Lines<'a>) -> Result<FilePatch<'a>, ApplyError> {
    let line = lines.peek_text().unwrap_or_default();
    let body = if line.starts_with(b"@@ -") {
        Body::Text(hunks::parse(lines)?)
    } else if line == b"GIT binary patch" {
        Body::Binary(binary::parse(lines)?)
    } else if line.starts_with(b"Binary files ") || line.starts_with(b"Files ") {
        return lines
            .invalid("a binary file comes without its content; make the patch with `git diff --binary`");
    } else {
        Body::Same
    };
    let file = header.into_file(body)?;
    if matches!(file.body, Body::Same) && file.kind == Kind::Modify && file.new_mode.is_none() {
        return lines.invalid("a file is named, and nothing is changed in it");
    }
    Ok(file)
}
