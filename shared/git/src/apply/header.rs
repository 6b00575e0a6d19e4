//! The lines before the hunks of one file: its names, its modes and its kind of change.

use bstr::ByteSlice;
use mayfly_protocol::ObjectId;

use super::names::{self, Name};
use super::patch::{Body, FilePatch, Kind, Lines};
use super::{ApplyError, PathFault};
use crate::tree::{EXECUTABLE, FILE, LINK, SUBMODULE, canonical_mode};

/// The ids of the content before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) old: ObjectId,
    pub(super) new: ObjectId,
}

/// What the header says, line by line.
#[derive(Debug, Default)]
pub(super) struct Header {
    line: usize,
    /// From `diff --git`, where the names can be told apart.
    pair: Option<(Vec<u8>, Vec<u8>)>,
    /// From `---`.
    minus: Option<Name>,
    /// From `+++`.
    plus: Option<Name>,
    moved_from: Option<Vec<u8>>,
    moved_to: Option<Vec<u8>>,
    is_copy: bool,
    is_new: bool,
    is_deleted: bool,
    old_mode: Option<u32>,
    new_mode: Option<u32>,
    ids: Option<Ids>,
}

/// Reads the header of a file in a plain unified diff: `---` and `+++`.
pub(super) fn plain(lines: &mut Lines<'_>) -> Result<Header, ApplyError> {
    let mut header = Header {
        line: lines.number,
        ..Header::default()
    };
    header.side_names(lines)?;
    Ok(header)
}

/// Reads the header of a file in a git diff, from `diff --git` up to its first hunk.
pub(super) fn git(lines: &mut Lines<'_>) -> Result<Header, ApplyError> {
    let first = lines
        .peek_text()
        .and_then(|line| line.strip_prefix(b"diff --git "))
        .unwrap_or_default();
    let mut header = Header {
        line: lines.number,
        pair: names::pair(first, lines.number)?,
        ..Header::default()
    };
    lines.skip();
    while let Some(line) = lines.peek_text() {
        if line.starts_with(b"--- ") {
            header.side_names(lines)?;
            break;
        }
        if !header.extended(line, lines.number)? {
            break;
        }
        lines.skip();
    }
    Ok(header)
}

impl Header {
    fn side_names(&mut self, lines: &mut Lines<'_>) -> Result<(), ApplyError> {
        for (prefix, is_old) in [(b"--- ", true), (b"+++ ", false)] {
            let Some(text) = lines.peek_text().and_then(|line| line.strip_prefix(prefix)) else {
                return lines.invalid("`---` is not followed by `+++`");
            };
            let name = names::side(text, lines.number)?;
            *(if is_old { &mut self.minus } else { &mut self.plus }) = Some(name);
            lines.skip();
        }
        Ok(())
    }

    /// Reads one line of git's extended header; false where it is none.
    fn extended(&mut self, line: &[u8], number: usize) -> Result<bool, ApplyError> {
        let mode = |text: &[u8]| mode(text, number);
        let name = |text: &[u8]| names::whole(text, number).map(Some);
        if let Some(text) = line.strip_prefix(b"old mode ") {
            self.old_mode = Some(mode(text)?);
        } else if let Some(text) = line.strip_prefix(b"new mode ") {
            self.new_mode = Some(mode(text)?);
        } else if let Some(text) = line.strip_prefix(b"new file mode ") {
            (self.is_new, self.new_mode) = (true, Some(mode(text)?));
        } else if let Some(text) = line.strip_prefix(b"deleted file mode ") {
            (self.is_deleted, self.old_mode) = (true, Some(mode(text)?));
        } else if let Some(text) = line.strip_prefix(b"rename from ") {
            self.moved_from = name(text)?;
        } else if let Some(text) = line.strip_prefix(b"rename to ") {
            self.moved_to = name(text)?;
        } else if let Some(text) = line.strip_prefix(b"copy from ") {
            (self.is_copy, self.moved_from) = (true, name(text)?);
        } else if let Some(text) = line.strip_prefix(b"copy to ") {
            (self.is_copy, self.moved_to) = (true, name(text)?);
        } else if let Some(text) = line.strip_prefix(b"index ") {
            self.index(text, number)?;
        } else if !line.starts_with(b"similarity index ") && !line.starts_with(b"dissimilarity index ") {
            return Ok(false);
        }
        Ok(true)
    }

    /// `index <id>..<id> <mode>`: the mode stands there where it stays; the ids may be shortened.
    fn index(&mut self, text: &[u8], number: usize) -> Result<(), ApplyError> {
        let (ids, same_mode) = text
            .split_once_str(" ")
            .map_or((text, None), |(ids, mode)| (ids, Some(mode)));
        if let Some(text) = same_mode {
            self.old_mode = Some(mode(text, number)?);
        }
        let whole = |id: &[u8]| id.to_str().ok().and_then(|id| id.parse().ok());
        if let Some((old, new)) = ids.split_once_str("..")
            && let (Some(old), Some(new)) = (whole(old), whole(new))
        {
            self.ids = Some(Ids { old, new });
        }
        Ok(())
    }

    /// Puts the parts together; what one line says of a name must be what the others say.
    pub(super) fn into_file(self, body: Body<'_>) -> Result<FilePatch<'_>, ApplyError> {
        let kind = self.kind()?;
        let is_null = |name: &Option<Name>| matches!(name, Some(None));
        let minus_fits = self.minus.is_none() || is_null(&self.minus) == (kind == Kind::Create);
        let plus_fits = self.plus.is_none() || is_null(&self.plus) == (kind == Kind::Delete);
        if !minus_fits || !plus_fits {
            return self.invalid("`/dev/null` stands where a file should, or the other way round");
        }
        let (pair_old, pair_new) = self.pair.clone().unzip();
        let old = self.one_name([pair_old, self.minus.clone().flatten(), self.moved_from.clone()])?;
        let new = self.one_name([pair_new, self.plus.clone().flatten(), self.moved_to.clone()])?;
        let (old, new) = match (kind, old, new) {
            (Kind::Rename | Kind::Copy, Some(old), Some(new)) => (old, new),
            (Kind::Create, _, Some(name)) | (Kind::Delete, Some(name), _) => (name.clone(), name),
            (Kind::Modify, Some(old), Some(new)) if old == new => (old, new),
            (Kind::Modify, Some(_), Some(_)) => return self.invalid("the names before and after differ"),
            _ => return self.invalid("the name of the file is not clear"),
        };
        if [self.old_mode, self.new_mode].contains(&Some(SUBMODULE)) {
            return Err(ApplyError::refused(&new, PathFault::Submodule));
        }
        Ok(FilePatch {
            kind,
            old,
            new,
            old_mode: self.old_mode,
            new_mode: self.new_mode,
            ids: self.ids,
            body,
        })
    }

    fn kind(&self) -> Result<Kind, ApplyError> {
        let is_new = self.is_new || matches!(self.minus, Some(None));
        let is_deleted = self.is_deleted || matches!(self.plus, Some(None));
        match (is_new, is_deleted, &self.moved_from, &self.moved_to) {
            (true, false, None, None) => Ok(Kind::Create),
            (false, true, None, None) => Ok(Kind::Delete),
            (false, false, Some(_), Some(_)) if self.is_copy => Ok(Kind::Copy),
            (false, false, Some(_), Some(_)) => Ok(Kind::Rename),
            (false, false, None, None) => Ok(Kind::Modify),
            _ => self.invalid("a file is new, deleted or moved, and only one of these"),
        }
    }

    fn one_name(&self, said: [Option<Vec<u8>>; 3]) -> Result<Option<Vec<u8>>, ApplyError> {
        let mut names = said.into_iter().flatten();
        let first = names.next();
        if names.any(|name| Some(&name) != first.as_ref()) {
            return self.invalid("the lines of the header name different files");
        }
        Ok(first)
    }

    fn invalid<T>(&self, reason: &'static str) -> Result<T, ApplyError> {
        Err(ApplyError::Invalid {
            line: self.line,
            reason,
        })
    }
}

fn mode(text: &[u8], line: usize) -> Result<u32, ApplyError> {
    let digits = text.to_str().ok().filter(|text| text.len() <= 6);
    let mode = digits
        .and_then(|text| u32::from_str_radix(text, 8).ok())
        .map(canonical_mode);
    match mode {
        // A submodule is refused where its name is known.
        Some(mode @ (FILE | EXECUTABLE | LINK | SUBMODULE)) => Ok(mode),
        _ => Err(ApplyError::Invalid {
            line,
            reason: "a mode is none of a file's",
        }),
    }
}
