//! The files of the workspace, read once.
//!
//! This file must not know any rule.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::scan;

/// Folders that hold nothing of ours.
const SKIPPED: &[&str] = &[".git", "target", "node_modules"];
/// Texts by their extension, or by their name where they have none.
const TEXTS: &[&str] = &[
    "lock",
    "md",
    "rs",
    "sh",
    "toml",
    "yaml",
    "yml",
    "json",
    "py",
    "mjs",
    "js",
    "html",
    "css",
    "run",
    "Dockerfile",
    "dockerfile",
];

/// A text of the workspace.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// Where it stands, from the workspace's folder on, with `/`.
    pub(super) path: String,
    /// What it says.
    pub(super) text: String,
    /// For Rust: the text with blanks in place of comments and literals; otherwise empty.
    pub(super) code: String,
}

impl SourceFile {
    pub(super) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let code = if path.ends_with(".rs") {
            scan::mask(&text)
        } else {
            String::new()
        };
        Self { path, text, code }
    }

    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether all of it is test code: an integration test, or the tests of a module in a file of their own.
    pub(super) fn is_test_file(&self) -> bool {
        let (folders, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        folders
            .split('/')
            .any(|part| part == "tests" || part == "benches")
            || name == "tests.rs"
            || name.ends_with("_tests.rs")
    }

    /// The first line of the module of tests at the end, counted from 1; one more than there are lines where there is none.
    pub(super) fn first_test_line(&self) -> usize {
        let lines: Vec<&str> = self.code.lines().map(str::trim).collect();
        let is_start = |at: usize| {
            lines[at] == "#[cfg(test)]"
                && lines[at + 1..]
                    .iter()
                    .find(|line| !line.starts_with("#["))
                    .is_some_and(|line| line.starts_with("mod "))
        };
        (0..lines.len())
            .find(|&at| is_start(at))
            .map_or(lines.len(), |at| at)
            + 1
    }
}

/// Reads every text of the workspace, in the order of their paths.
pub(super) fn read(root: &Path) -> anyhow::Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    read_folder(root, "", &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn read_folder(folder: &Path, prefix: &str, files: &mut Vec<SourceFile>) -> anyhow::Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("`{}` cannot be listed", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            if !SKIPPED.contains(&name.as_str()) {
                read_folder(&entry.path(), &format!("{path}/"), files)?;
            }
        } else if is_text(&name) {
            let text = fs::read_to_string(entry.path())
                .with_context(|| format!("`{path}` cannot be read as UTF-8"))?;
            files.push(SourceFile::new(path, text));
        }
    }
    Ok(())
}

fn is_text(name: &str) -> bool {
    let kind = name.rsplit_once('.').map_or(name, |(_, extension)| extension);
    TEXTS.contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_of_tests_is_found() {
        let line = |text: &str| SourceFile::new("a.rs", text).first_test_line();
        assert_eq!(line("fn a() {}\n#[cfg(test)]\nmod tests {\n}\n"), 2);
        assert_eq!(
            line("fn a() {}\n#[cfg(test)]\n#[path = \"b.rs\"]\nmod tests;\n"),
            2
        );
        assert_eq!(line("#[cfg(test)]\nfn only_for_tests() {}\nfn a() {}\n"), 4);
        assert_eq!(line("// #[cfg(test)]\n// mod tests {}\n"), 3);
    }

    #[test]
    fn test_files_are_known_by_their_place() {
        for path in [
            "a/tests/b.rs",
            "a/tests/b/c.rs",
            "a/src/b_tests.rs",
            "a/src/b/tests.rs",
        ] {
            assert!(SourceFile::new(path, "").is_test_file(), "{path}");
        }
        assert!(!SourceFile::new("a/src/latests/b.rs", "").is_test_file());
    }
}
