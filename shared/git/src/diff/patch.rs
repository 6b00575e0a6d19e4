//! What changed between two trees as one unified diff, as `git diff` writes it, so that `git apply` takes it.
//!
//! A file's hunks stand in it whole or not at all: half of a hunk could not be applied. This module must not know what the patch is for.

use bstr::{BString, ByteSlice};
use mayfly_protocol::{ObjectId, TreeId};

use super::text::Lines;
use super::{Change, ChangeKind, DiffBudget, Left, TreeChange, pair_moves};
use crate::scratch::{Scratch, ScratchError};
use crate::tree::TreeEntry;

/// Bytes of the header of one file besides its names, at most.
const HEADER_BYTES: usize = 512;

/// A unified diff within a budget.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnifiedPatch {
    /// The diff. It need not be UTF-8.
    pub text: BString,
    /// Changed files; a file that only moved is one.
    pub files_changed: usize,
    /// Changed files that are not in it at all.
    pub omitted_files: usize,
    /// Changed files of which only the header is in it, since their hunks do not fit the budget.
    pub omitted_hunks: usize,
    /// Changed files of which only the header is in it, since they are binary, larger than what is compared, or not here.
    pub binary_files: usize,
}

impl UnifiedPatch {
    /// Whether it says everything that changed.
    pub fn is_whole(&self) -> bool {
        self.omitted_files + self.omitted_hunks + self.binary_files == 0
    }
}

impl Scratch {
    /// Compares two trees as a unified diff; `None` is the empty one.
    pub fn patch(
        &self,
        old: Option<&TreeId>,
        new: &TreeId,
        budget: &DiffBudget,
    ) -> Result<UnifiedPatch, ScratchError> {
        let changes = self.changes(old, new, budget.max_changes)?;
        let changes = pair_moves(&changes);
        let mut patch = UnifiedPatch {
            files_changed: changes.len(),
            ..UnifiedPatch::default()
        };
        let mut left = Left {
            text: budget.max_text_bytes,
            read: budget.max_read_bytes,
        };
        for (index, change) in changes.iter().enumerate() {
            let names = 8 * (change.change.path.len() + change.old_name().len());
            let header = HEADER_BYTES + names;
            if index >= budget.max_files || header > left.text {
                patch.omitted_files = changes.len() - index;
                break;
            }
            let lines = self.compare(change, budget, &mut left)?;
            let before = patch.text.len();
            patch.add(change, lines, left.text - header);
            left.text = left.text.saturating_sub(patch.text.len() - before);
        }
        Ok(patch)
    }
}

impl UnifiedPatch {
    fn add(&mut self, change: &Change<'_>, lines: Option<Lines>, room: usize) {
        let is_binary = lines.is_none();
        let lines = lines.unwrap_or_default();
        let is_cut = !lines.is_whole() || lines.text.len() > room;
        self.binary_files += usize::from(is_binary);
        self.omitted_hunks += usize::from(is_cut);
        let body = match (is_binary, is_cut) {
            (true, _) => Body::Binary,
            (false, true) => Body::Hunks(b""),
            (false, false) => Body::Hunks(&lines.text),
        };
        let new = change.change.new;
        match (change.change.kind, body) {
            (ChangeKind::TypeChanged, Body::Hunks(hunks)) => {
                let (gone, come) = hunks.split_at(second_hunk(hunks));
                self.file(change, change.old(), None, &Body::Hunks(gone));
                self.file(change, None, new, &Body::Hunks(come));
            }
            (ChangeKind::TypeChanged, Body::Binary) => {
                self.file(change, change.old(), None, &Body::Binary);
                self.file(change, None, new, &Body::Binary);
            }
            (_, body) => self.file(change, change.old(), new, &body),
        }
    }

    fn file(&mut self, change: &Change<'_>, old: Option<TreeEntry>, new: Option<TreeEntry>, body: &Body<'_>) {
        let (old_name, new_name) = (change.old_name(), &change.change.path[..]);
        let (before, after) = (quoted(b"a/", old_name), quoted(b"b/", new_name));
        self.line(&[b"diff --git ", &before, b" ", &after]);
        self.modes(old, new);
        if change.old_path.is_some() {
            self.line(&[b"similarity index 100%"]);
            self.line(&[b"rename from ", &quoted(b"", old_name)]);
            self.line(&[b"rename to ", &quoted(b"", new_name)]);
        }
        let id = |side: Option<TreeEntry>| side.map_or(ObjectId::ZERO, |entry| entry.id);
        if id(old) == id(new) {
            return;
        }
        let mode = match (old, new) {
            (Some(old), Some(new)) if old.mode == new.mode => format!(" {:06o}", new.mode),
            _ => String::new(),
        };
        self.line(&[format!("index {}..{}{mode}", id(old), id(new)).as_bytes()]);
        let side = |name: &[u8], entry: Option<TreeEntry>| match entry {
            Some(_) => name.to_vec(),
            None => b"/dev/null".to_vec(),
        };
        let (before, after) = (side(&before, old), side(&after, new));
        match body {
            Body::Binary => self.line(&[b"Binary files ", &before, b" and ", &after, b" differ"]),
            Body::Hunks(b"") => {}
            Body::Hunks(hunks) => {
                self.line(&[b"--- ", &before, after_name(&before)]);
                self.line(&[b"+++ ", &after, after_name(&after)]);
                self.text.extend_from_slice(hunks);
            }
        }
    }

    fn modes(&mut self, old: Option<TreeEntry>, new: Option<TreeEntry>) {
        match (old, new) {
            (Some(old), Some(new)) if old.mode != new.mode => {
                self.line(&[format!("old mode {:06o}", old.mode).as_bytes()]);
                self.line(&[format!("new mode {:06o}", new.mode).as_bytes()]);
            }
            (None, Some(new)) => self.line(&[format!("new file mode {:06o}", new.mode).as_bytes()]),
            (Some(old), None) => self.line(&[format!("deleted file mode {:06o}", old.mode).as_bytes()]),
            _ => {}
        }
    }

    fn line(&mut self, parts: &[&[u8]]) {
        parts.iter().for_each(|part| self.text.extend_from_slice(part));
        self.text.push(b'\n');
    }
}

/// What follows a file's header.
enum Body<'a> {
    Binary,
    Hunks(&'a [u8]),
}

impl Change<'_> {
    fn old_name(&self) -> &[u8] {
        let TreeChange { path, .. } = self.old_path.unwrap_or(self.change);
        path
    }
}

/// Where the hunk begins that adds all of a file. No line of the hunk before it, which only removes, begins so.
fn second_hunk(hunks: &[u8]) -> usize {
    const ADDS_ALL: &[u8] = b"@@ -0,0 ";
    if hunks.starts_with(ADDS_ALL) {
        return 0;
    }
    hunks.find(b"\n@@ -0,0 ").map_or(hunks.len(), |at| at + 1)
}

/// A name with a space ends with a tab, so that no date is looked for in it.
fn after_name(name: &[u8]) -> &'static [u8] {
    if name.contains(&b' ') { b"\t" } else { b"" }
}

/// A name as it stands in a header: in quotes, as in C, where it has bytes that are not plain.
///
/// Source: `quote_c_style` in git's `quote.c`, with `core.quotePath`.
fn quoted(prefix: &[u8], name: &[u8]) -> Vec<u8> {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    let mut text = prefix.to_vec();
    if name.iter().all(is_plain) {
        text.extend_from_slice(name);
        return text;
    }
    text.insert(0, b'"');
    for byte in name {
        match byte {
            b'\t' => text.extend_from_slice(b"\\t"),
            b'\n' => text.extend_from_slice(b"\\n"),
            b'"' | b'\\' => text.extend_from_slice(&[b'\\', *byte]),
            plain if is_plain(plain) => text.push(*plain),
            other => text.extend_from_slice(format!("\\{other:03o}").as_bytes()),
        }
    }
    text.push(b'"');
    text
}
