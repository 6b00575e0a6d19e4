//! Tree objects as bytes: their entries, their modes and their order.
//!
//! This module must not know where trees are kept. Reading is lenient about what old history holds (see
//! [`crate::tree_check`] for what is dangerous); writing always gives git's canonical form.

use std::cmp::Ordering;

use bstr::{BStr, BString, ByteSlice};
use mayfly_protocol::ObjectId;

/// The mode of a folder.
pub const FOLDER: u32 = 0o040_000;
/// The mode of a file.
pub const FILE: u32 = 0o100_644;
/// The mode of a file that may be executed.
pub const EXECUTABLE: u32 = 0o100_755;
/// The mode of a symbolic link.
pub const LINK: u32 = 0o120_000;
/// The mode of a submodule: its id is a commit of another repository.
pub const SUBMODULE: u32 = 0o160_000;

/// What a tree says about one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TreeEntry {
    /// One of the five canonical modes where the tree is sound.
    pub mode: u32,
    /// The object.
    pub id: ObjectId,
}

impl TreeEntry {
    /// Whether this is a folder.
    pub fn is_folder(&self) -> bool {
        self.mode == FOLDER
    }

    /// Whether this is a file or a link: something with a blob.
    pub fn is_blob(&self) -> bool {
        matches!(self.mode, FILE | EXECUTABLE | LINK)
    }

    /// Whether this is a symbolic link.
    pub fn is_link(&self) -> bool {
        self.mode == LINK
    }

    /// Whether this names a commit of another repository.
    pub fn is_submodule(&self) -> bool {
        self.mode == SUBMODULE
    }
}

/// One entry where it stands in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryRef<'a> {
    /// The mode as it is written, canonical or not.
    pub(crate) raw_mode: u32,
    pub(crate) name: &'a BStr,
    pub(crate) id: ObjectId,
}

impl EntryRef<'_> {
    pub(crate) fn entry(&self) -> TreeEntry {
        TreeEntry {
            mode: canonical_mode(self.raw_mode),
            id: self.id,
        }
    }

    pub(crate) fn is_folder(&self) -> bool {
        canonical_mode(self.raw_mode) == FOLDER
    }

    pub(crate) fn is_submodule(&self) -> bool {
        canonical_mode(self.raw_mode) == SUBMODULE
    }
}

/// A tree object ends in the middle of an entry, or has a mode that is no octal number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot be read as a tree")]
pub(crate) struct MalformedTree;

/// The entries of a tree object.
pub(crate) fn entries(mut rest: &[u8]) -> impl Iterator<Item = Result<EntryRef<'_>, MalformedTree>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some((entry, after)) = first_entry(rest) else {
            rest = &[];
            return Some(Err(MalformedTree));
        };
        rest = after;
        Some(Ok(entry))
    })
}

fn first_entry(bytes: &[u8]) -> Option<(EntryRef<'_>, &[u8])> {
    let space = bytes.iter().take(8).position(|&b| b == b' ')?;
    let raw_mode = octal(&bytes[..space])?;
    let bytes = &bytes[space + 1..];
    let end = bytes.find_byte(0)?;
    let (id, after) = bytes[end + 1..].split_first_chunk::<20>()?;
    let entry = EntryRef {
        raw_mode,
        name: bytes[..end].as_bstr(),
        id: ObjectId::from_bytes(*id),
    };
    Some((entry, after))
}

fn octal(digits: &[u8]) -> Option<u32> {
    let is_octal = !digits.is_empty() && digits.iter().all(|b| (b'0'..=b'7').contains(b));
    is_octal.then(|| {
        digits
            .iter()
            .fold(0, |value, digit| value << 3 | u32::from(digit - b'0'))
    })
}

/// The mode that git itself would write: group and other bits are not recorded.
pub(crate) fn canonical_mode(mode: u32) -> u32 {
    match mode & 0o170_000 {
        0o100_000 if mode & 0o100 != 0 => EXECUTABLE,
        0o100_000 => FILE,
        kind @ (FOLDER | LINK | SUBMODULE) => kind,
        _ => mode,
    }
}

/// The order of names in a tree: a folder sorts as if its name ended with a slash.
///
/// Source: `base_name_compare` in git's `read-cache.c`.
pub(crate) fn name_order((a, a_is_folder): (&[u8], bool), (b, b_is_folder): (&[u8], bool)) -> Ordering {
    let common = a.len().min(b.len());
    let end = |name: &[u8], is_folder: bool| match name.get(common) {
        Some(&byte) => byte,
        None if is_folder => b'/',
        None => 0,
    };
    a[..common]
        .cmp(&b[..common])
        .then_with(|| end(a, a_is_folder).cmp(&end(b, b_is_folder)))
}

/// The bytes of the tree with these entries, which may come in any order.
pub(crate) fn to_bytes(mut entries: Vec<(BString, TreeEntry)>) -> Vec<u8> {
    entries.sort_by(|(a, x), (b, y)| name_order((a, x.is_folder()), (b, y.is_folder())));
    let mut bytes = Vec::with_capacity(entries.iter().map(|(name, _)| name.len() + 28).sum());
    for (name, entry) in &entries {
        bytes.extend_from_slice(format!("{:o} ", entry.mode).as_bytes());
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.extend_from_slice(entry.id.as_bytes());
    }
    bytes
}

/// A path for messages: control characters and bytes that are not UTF-8 are escaped, and the middle of a long one is left out.
pub fn shown(path: &[u8]) -> String {
    const MAX_CHARS: usize = 200;
    let text: String = path.as_bstr().chars().flat_map(show_char).collect();
    let count = text.chars().count();
    if count <= MAX_CHARS {
        return text;
    }
    let half = MAX_CHARS / 2;
    let (head, tail): (String, String) = (
        text.chars().take(half).collect(),
        text.chars().skip(count - half).collect(),
    );
    format!("{head}…{tail}")
}

fn show_char(c: char) -> Box<dyn Iterator<Item = char>> {
    let hides = c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    if hides {
        Box::new(c.escape_unicode())
    } else {
        Box::new(std::iter::once(c))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(mode: &str, name: &[u8]) -> Vec<u8> {
        [mode.as_bytes(), b" ", name, b"\0", &[7; 20]].concat()
    }

    #[test]
    fn what_git_wrote_is_read_and_written_the_same() {
        let whole = [
            bytes("100644", b"a.b"),
            bytes("40000", b"a"),
            bytes("120000", b"a0"),
        ]
        .concat();
        let read: Vec<_> = entries(&whole).map(|entry| entry.unwrap()).collect();
        assert_eq!(read.len(), 3);
        let mut owned: Vec<_> = read.iter().map(|e| (e.name.to_owned(), e.entry())).collect();
        owned.reverse();
        assert_eq!(to_bytes(owned), whole);
    }

    #[test]
    fn damaged_trees_are_an_error_once() {
        let sound = bytes("100644", b"a");
        for cut in 1..sound.len() {
            let read: Vec<_> = entries(&sound[..cut]).collect();
            assert_eq!(read, [Err(MalformedTree)], "{cut}");
        }
        assert!(entries(&bytes("10x644", b"a")).next().unwrap().is_err());
        assert!(entries(&bytes("", b"a")).next().unwrap().is_err());
        assert!(entries(&bytes("77777777777777", b"a")).next().unwrap().is_err());
    }

    #[test]
    fn modes_of_old_history_are_read_as_git_reads_them() {
        for (raw, canonical) in [
            (0o100_664, FILE),
            (0o100_600, FILE),
            (0o100_775, EXECUTABLE),
            (0o040_000, FOLDER),
            (0o020_000, 0o020_000),
        ] {
            assert_eq!(canonical_mode(raw), canonical);
        }
    }

    #[test]
    fn hidden_characters_are_shown() {
        assert_eq!(shown(b"a\nb"), "a\\u{a}b");
        assert_eq!(shown("a\u{202e}b".as_bytes()), "a\\u{202e}b");
        assert_eq!(shown(b"caf\xe9"), "caf\u{fffd}");
        assert!(shown(&[b'a'; 5000]).chars().count() < 210);
    }
}
