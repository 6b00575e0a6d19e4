//! Paths inside a repository, and the names in them that are dangerous.
//!
//! The dangerous classes are those that `git fsck` reports, and those that another file system than ours would take for
//! `.git` or for a folder outside. Source: git's `fsck.c`, `path.c` (`is_ntfs_dotgit`) and `utf8.c` (`is_hfs_dotgit`).

use std::fmt;
use std::str::FromStr;

use crate::limits::{MAX_PATH_BYTES, MAX_PATH_COMPONENT_BYTES, MAX_PATH_DEPTH};

/// Says why a path, or a name in it, is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// Nothing between two slashes, or no path at all.
    #[error("is empty or has an empty component")]
    Empty,
    /// `.` or `..`.
    #[error("has a `.` or `..` component")]
    Dots,
    /// `.git`, in whatever disguise.
    #[error("has a component that some file system takes for `.git`")]
    DotGit,
    /// A slash, a backslash or a NUL inside one component.
    #[error("has a slash, a backslash or a NUL where none may stand")]
    Separator,
    /// Longer than file systems take.
    #[error("is too long (255 bytes a component, 4095 bytes in all) or too deep (256 levels)")]
    TooLong,
}

/// A path inside a repository: relative, separated by `/`, with none of the dangerous components of [`check_component`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoPath(String);

impl RepoPath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RepoPath {
    type Err = InvalidPath;
    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        check_path(text.as_bytes())?;
        Ok(Self(text.to_owned()))
    }
}

/// Checks a whole path, given as bytes since git's names need not be UTF-8.
pub fn check_path(path: &[u8]) -> Result<(), InvalidPath> {
    if path.len() > MAX_PATH_BYTES {
        return Err(InvalidPath::TooLong);
    }
    let mut depth = 0;
    for component in path.split(|&b| b == b'/') {
        check_component(component)?;
        depth += 1;
    }
    if depth > MAX_PATH_DEPTH {
        Err(InvalidPath::TooLong)
    } else {
        Ok(())
    }
}

/// Checks one component of a path, which is also the name of one entry of a tree.
pub fn check_component(name: &[u8]) -> Result<(), InvalidPath> {
    match name {
        b"" => return Err(InvalidPath::Empty),
        b"." | b".." => return Err(InvalidPath::Dots),
        _ => {}
    }
    if name.len() > MAX_PATH_COMPONENT_BYTES {
        return Err(InvalidPath::TooLong);
    }
    if name.iter().any(|b| matches!(b, b'/' | b'\\' | 0)) {
        return Err(InvalidPath::Separator);
    }
    if is_ntfs_name_of(name, b".git", b"git~1") || is_hfs_name_of(name, ".git") {
        return Err(InvalidPath::DotGit);
    }
    Ok(())
}

/// Whether a file system could take `name` for `.gitmodules`, which must never be a symbolic link.
pub fn is_dot_gitmodules(name: &[u8]) -> bool {
    is_ntfs_name_of(name, b".gitmodules", b"gitmod~1") || is_hfs_name_of(name, ".gitmodules")
}

/// NTFS ignores case, dots and spaces at the end, and what follows a `:` (a stream); `short` is the 8.3 name.
fn is_ntfs_name_of(name: &[u8], long: &[u8], short: &[u8]) -> bool {
    let stem = name.split(|&b| b == b':').next().unwrap_or_default();
    let end = stem
        .iter()
        .rposition(|b| !matches!(b, b'.' | b' '))
        .map_or(0, |last| last + 1);
    let stem = &stem[..end];
    stem.eq_ignore_ascii_case(long) || stem.eq_ignore_ascii_case(short)
}

/// HFS+ ignores case and a set of characters without width.
fn is_hfs_name_of(name: &[u8], expected: &str) -> bool {
    let Ok(name) = std::str::from_utf8(name) else {
        return false;
    };
    let visible = name
        .chars()
        .filter(|c| !is_ignored_by_hfs(*c))
        .flat_map(char::to_lowercase);
    visible.eq(expected.chars())
}

/// Source: `next_hfs_char` in git's `utf8.c`.
fn is_ignored_by_hfs(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_or_enter_dot_git_are_refused() {
        let long = "a".repeat(256);
        let deep = vec!["a"; 257].join("/");
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a/./b",
            "a//b",
            "a/",
            ".",
            ".git",
            ".GIT/config",
            "a/.Git",
            ".git.",
            ".git ",
            ".git. .",
            "git~1",
            "GIT~1/x",
            ".git::$INDEX_ALLOCATION",
            ".git:x",
            ".g\u{200c}it",
            "\u{feff}.git",
            ".gi\u{202e}T",
            "a\\b",
            "..\\x",
            "a\0b",
            &long,
            &deep,
        ] {
            assert!(bad.parse::<RepoPath>().is_err(), "{bad:?}");
        }
        for good in [
            ".github/x.yml",
            ".gitignore",
            ".gitmodules",
            "git",
            "a.git",
            "aux.c",
            "git~10",
            "…",
            "a b",
            "-x",
            "~",
        ] {
            assert!(good.parse::<RepoPath>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn gitmodules_is_known_in_disguise() {
        for name in [
            ".gitmodules",
            ".GitModules",
            "gitmod~1",
            ".gitmodules. ",
            ".gitmod\u{200d}ules",
        ] {
            assert!(is_dot_gitmodules(name.as_bytes()), "{name:?}");
        }
        assert!(!is_dot_gitmodules(b"gitmodules"));
    }

    #[test]
    fn names_that_are_not_utf8_are_judged_as_bytes() {
        assert_eq!(check_component(b"caf\xe9"), Ok(()));
        assert_eq!(check_component(b"a\xff/b"), Err(InvalidPath::Separator));
    }
}
