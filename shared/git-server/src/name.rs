//! Names of repositories: the only texts that become paths below the root.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

const MAX_NAME_BYTES: usize = 255;

/// Says which rule the name of a repository breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the repository name `{name}` {reason}; use components of letters, digits, `.`, `_` and `-`, as in `team/app`"
)]
pub struct InvalidRepositoryName {
    name: String,
    reason: &'static str,
}

/// A repository below the root: `app` or `team/app`, kept without the `.git` that its folder ends with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RepositoryName(String);

impl RepositoryName {
    /// The folder of the repository, as in `<root>/team/app.git`.
    pub fn folder(&self, root: &Path) -> PathBuf {
        root.join(format!("{}.git", self.0))
    }
}

impl FromStr for RepositoryName {
    type Err = InvalidRepositoryName;

    /// Takes the name with or without its `.git`.
    fn from_str(text: &str) -> Result<Self, InvalidRepositoryName> {
        let name = text.strip_suffix(".git").unwrap_or(text);
        let fail = |reason| InvalidRepositoryName {
            name: text.chars().take(MAX_NAME_BYTES).collect(),
            reason,
        };
        if name.len() > MAX_NAME_BYTES {
            return Err(fail("is longer than 255 bytes"));
        }
        name.split('/')
            .try_for_each(|part| check_component(part).map_err(fail))?;
        Ok(Self(name.to_owned()))
    }
}

fn check_component(part: &str) -> Result<(), &'static str> {
    if part.is_empty() {
        return Err("has an empty component");
    }
    if part.starts_with(['.', '-']) {
        return Err("has a component that begins with `.` or `-`");
    }
    if part.ends_with(".git") {
        return Err("has a component that ends with `.git`, and would lie inside another repository");
    }
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !part.bytes().all(safe) {
        return Err("has a character that is not allowed");
    }
    Ok(())
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_the_root() {
        let long = "a".repeat(300);
        for bad in [
            "",
            ".git",
            "/",
            "a/",
            "/a",
            "a//b",
            "..",
            "../a",
            "a/../b",
            ".a",
            "-a",
            "a/-b",
            "a b",
            "a%2fb",
            "a\0",
            "a\\b",
            "ä",
            "a.git/b",
            "a.git.git",
            &long,
        ] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad:?}");
        }
        for (good, folder) in [
            ("a", "/r/a.git"),
            ("a.git", "/r/a.git"),
            ("team/app-1_x.y", "/r/team/app-1_x.y.git"),
            ("a..b", "/r/a..b.git"),
        ] {
            let name: RepositoryName = good.parse().unwrap();
            assert_eq!(name.folder(Path::new("/r")), Path::new(folder));
        }
    }
}
