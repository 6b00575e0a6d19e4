//! The name of a content that Git LFS keeps, and the pointer that stands for it in the repository.
//!
//! Source: the pointer's specification, <https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The most bytes of a pointer: a larger file is none, whatever it begins with.
pub const MAX_POINTER_BYTES: u64 = 1024;

/// What the first line of every pointer says.
const VERSION: &str = "version https://git-lfs.github.com/spec/v1\n";
/// What the first lines of all pointers there ever were begin with.
const VERSIONS: [&str; 2] = [
    "version https://git-lfs.github.com/spec/",
    "version https://hawser.github.com/spec/",
];

/// The SHA-256 of a content: 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LfsId([u8; 32]);

/// The text is not 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not 64 lower-case hexadecimal digits")]
pub struct InvalidLfsId;

impl LfsId {
    /// The id whose SHA-256 has these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for LfsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for LfsId {
    type Err = InvalidLfsId;

    fn from_str(text: &str) -> Result<Self, InvalidLfsId> {
        let digits: &[u8; 64] = text.as_bytes().try_into().map_err(|_| InvalidLfsId)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

fn digit(character: u8) -> Result<u8, InvalidLfsId> {
    match character {
        b'0'..=b'9' => Ok(character - b'0'),
        b'a'..=b'f' => Ok(character - b'a' + 10),
        _ => Err(InvalidLfsId),
    }
}

impl TryFrom<String> for LfsId {
    type Error = InvalidLfsId;
    fn try_from(text: String) -> Result<Self, InvalidLfsId> {
        text.parse()
    }
}

impl From<LfsId> for String {
    fn from(id: LfsId) -> Self {
        id.to_string()
    }
}

/// What stands for a content in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LfsPointer {
    /// The content.
    pub id: LfsId,
    /// Its bytes.
    pub bytes: u64,
}

impl LfsPointer {
    /// Reads a pointer; `None` where the text is none, or is one with extensions, whose content is not the file's.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() as u64 > MAX_POINTER_BYTES {
            return None;
        }
        let mut lines = std::str::from_utf8(text).ok()?.strip_suffix('\n')?.split('\n');
        let version = lines.next()?;
        VERSIONS.iter().find(|known| version.starts_with(**known))?;
        let id = lines.next()?.strip_prefix("oid sha256:")?.parse().ok()?;
        let size = lines.next()?.strip_prefix("size ")?;
        let is_plain = !size.is_empty() && size.bytes().all(|b| b.is_ascii_digit());
        let bytes = size.parse().ok().filter(|_| is_plain)?;
        lines.next().is_none().then_some(Self { id, bytes })
    }

    /// Whether the text says that it is a pointer, also one that [`Self::parse`] cannot make use of: it is kept as it is.
    pub fn is_meant(text: &[u8]) -> bool {
        text.len() as u64 <= MAX_POINTER_BYTES
            && VERSIONS.iter().any(|known| text.starts_with(known.as_bytes()))
    }

    /// The text of the pointer, byte by byte as `git lfs` writes it.
    pub fn to_text(&self) -> String {
        format!("{VERSION}oid sha256:{}\nsize {}\n", self.id, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";

    #[test]
    fn pointers_are_read_as_they_are_written() {
        let pointer = LfsPointer {
            id: ID.parse().unwrap(),
            bytes: 12345,
        };
        let text = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{ID}\nsize 12345\n");
        assert_eq!(pointer.to_text(), text);
        assert_eq!(LfsPointer::parse(text.as_bytes()), Some(pointer));
        let old = text.replace("git-lfs", "hawser");
        assert_eq!(LfsPointer::parse(old.as_bytes()), Some(pointer));
    }

    #[test]
    fn what_is_no_pointer_is_none() {
        let text = LfsPointer {
            id: ID.parse().unwrap(),
            bytes: 12345,
        }
        .to_text();
        for bad in [
            String::new(),
            text.trim_end().to_owned(),
            format!("{text}\n"),
            format!("{text}more\n"),
            text.replace("12345", "-1"),
            text.replace("12345", "+1"),
            text.replace("12345", "99999999999999999999999"),
            text.replace("4d7a", "4D7A"),
            text.replace("4d7a", "4d7"),
            text.replace("sha256", "md5"),
            text.replace("oid", "ext-0-foo sha256:abc\noid"),
            text.replace('\n', "\r\n"),
            text.replace("size", &" ".repeat(2000)),
        ] {
            assert_eq!(LfsPointer::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert!(LfsPointer::is_meant(
            text.replace("oid", "ext-0-foo sha256:abc\noid").as_bytes()
        ));
        assert!(!LfsPointer::is_meant(b"version 2\n"));
    }
}
