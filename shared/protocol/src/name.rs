//! Branch names by git's own rules.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::MAX_BRANCH_NAME_BYTES;

/// Says which rule a branch name breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("branch name {0}")]
pub struct InvalidBranchName(&'static str);

/// A branch: the part of the ref after `refs/heads/`, valid by `git check-ref-format --branch` and at most 200 bytes.
///
/// Stricter than git in three spots, where a name would be taken for something else: names that begin with `refs/`,
/// the name `HEAD`, and names that look like an object id are refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BranchName(String);

impl BranchName {
    /// The short name, as in `main`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The full ref, as in `refs/heads/main`.
    pub fn to_ref(&self) -> String {
        format!("refs/heads/{}", self.0)
    }

    /// The branch that a full ref names, if it is one (`refs/heads/main` is, `refs/tags/v1` is not).
    pub fn from_ref(full: &str) -> Option<Self> {
        full.strip_prefix("refs/heads/")?.parse().ok()
    }

    /// Whether git could not keep both branches: they are the same, or one is a folder of the other (`a` and `a/b`).
    pub fn collides_with(&self, other: &str) -> bool {
        let under = |inner: &str, outer: &str| {
            inner
                .strip_prefix(outer)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        under(&self.0, other) || under(other, &self.0)
    }
}

impl FromStr for BranchName {
    type Err = InvalidBranchName;

    /// Source of the rules: git-check-ref-format(1).
    fn from_str(text: &str) -> Result<Self, InvalidBranchName> {
        let fail = |reason| Err(InvalidBranchName(reason));
        if text.is_empty() {
            return fail("is empty");
        }
        if text.len() > MAX_BRANCH_NAME_BYTES {
            return fail("is longer than 200 bytes");
        }
        if text.starts_with('-') {
            return fail("begins with `-`");
        }
        if text.chars().any(|c| c.is_control() || " ~^:?*[\\".contains(c)) {
            return fail("has a space, a control character or one of `~^:?*[\\`");
        }
        if text.contains("..") || text.contains("@{") || text == "@" {
            return fail("has `..` or `@{`, or is `@`");
        }
        if text.ends_with('.') {
            return fail("ends with `.`");
        }
        for component in text.split('/') {
            if component.is_empty() {
                return fail("has an empty component (`//`, or a `/` at an end)");
            }
            if component.starts_with('.') || component.ends_with(".lock") {
                return fail("has a component that begins with `.` or ends with `.lock`");
            }
        }
        if text == "HEAD" || text.starts_with("refs/") {
            return fail("is `HEAD` or begins with `refs/`");
        }
        if text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return fail("looks like an object id");
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for BranchName {
    type Error = InvalidBranchName;
    fn try_from(text: String) -> Result<Self, InvalidBranchName> {
        text.parse()
    }
}

impl From<BranchName> for String {
    fn from(name: BranchName) -> String {
        name.0
    }
}

impl fmt::Display for BranchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_held_to_gits_rules() {
        let long = "a".repeat(201);
        for bad in [
            "",
            "-x",
            "--upload-pack=x",
            ".a",
            "a/.b",
            "a..b",
            "a/",
            "/a",
            "a//b",
            "a.lock",
            "a.lock/b",
            "a.",
            "@",
            "a@{b",
            "a b",
            "a~1",
            "a^",
            "a:b",
            ":/x",
            "^{/x}",
            "a?",
            "a*",
            "a[b",
            "a\\b",
            "a\x7fb",
            "a\nb",
            "a\0b",
            "HEAD",
            "refs/heads/a",
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            &long,
        ] {
            assert!(bad.parse::<BranchName>().is_err(), "{bad:?}");
        }
        for good in [
            "main",
            "feature/dark-mode",
            "a@b",
            "@a",
            "ünïcode",
            "a{b",
            "x.lockx",
            "v1.2",
            "head",
        ] {
            assert_eq!(
                good.parse::<BranchName>().map(|n| n.to_string()).as_deref(),
                Ok(good)
            );
        }
    }

    #[test]
    fn a_folder_and_a_branch_of_one_name_collide() {
        let name: BranchName = "a/b".parse().unwrap();
        for other in ["a/b", "a", "a/b/c"] {
            assert!(name.collides_with(other), "{other}");
        }
        for other in ["a/bc", "ab", "a/c", "b"] {
            assert!(!name.collides_with(other), "{other}");
        }
    }
}
