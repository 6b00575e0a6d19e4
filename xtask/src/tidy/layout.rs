//! Where files stand, what they are called, and how they begin.

use super::Finding;
use super::tree::SourceFile;

/// Names that say nothing about what is inside.
const VAGUE_NAMES: &[&str] = &[
    "common", "helper", "helpers", "manager", "managers", "misc", "util", "utils",
];

pub(super) fn check(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |what: String| findings.push(Finding::new(&file.path, 1, what));
    if let Some(vague) = vague_name(&file.path) {
        find(format!(
            "`{vague}` says nothing: name the file by the concept that it holds"
        ));
    }
    if file.path.ends_with("/mod.rs") {
        find("`mod.rs` is not used: name the file as the module, beside the module's folder".to_owned());
    }
    if needs_header(file) && !file.text.starts_with("//! ") {
        find("the file does not begin with `//! `: say what it is for, and what it must not know".to_owned());
    }
    if file.path.ends_with("Cargo.toml")
        && file.path != "Cargo.toml"
        && !file.text.contains("[lints]\nworkspace = true")
    {
        find(
            "the crate does not take the workspace's lints: add `[lints]` with `workspace = true`".to_owned(),
        );
    }
    findings
}

fn vague_name(path: &str) -> Option<&str> {
    let parts = path
        .split('/')
        .map(|part| part.strip_suffix(".rs").unwrap_or(part));
    parts.into_iter().find(|part| VAGUE_NAMES.contains(part))
}

/// A file that holds nothing but the tests of the file beside it needs no words of its own.
fn needs_header(file: &SourceFile) -> bool {
    let is_beside_its_module = file.path.contains("/src/") && file.is_test_file();
    file.is_rust() && !is_beside_its_module
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&SourceFile::new(path, text)).len()
    }

    #[test]
    fn files_are_named_and_begin_as_agreed() {
        assert_eq!(count("a/src/b.rs", "//! For this.\n"), 0);
        assert_eq!(count("a/src/b.rs", "use x;\n"), 1);
        assert_eq!(count("a/src/b_tests.rs", "use x;\n"), 0);
        assert_eq!(count("a/tests/b.rs", "use x;\n"), 1);
        assert_eq!(count("a/src/utils.rs", "//! x\n"), 1);
        assert_eq!(count("a/src/common/b.rs", "//! x\n"), 1);
        assert_eq!(count("a/src/b/mod.rs", "//! x\n"), 1);
        assert_eq!(count("docs/utility.md", ""), 0);
    }

    #[test]
    fn crates_take_the_lints() {
        assert_eq!(
            count("a/Cargo.toml", "[package]\n\n[lints]\nworkspace = true\n"),
            0
        );
        assert_eq!(count("a/Cargo.toml", "[package]\n"), 1);
        assert_eq!(count("Cargo.toml", "[workspace]\n"), 0);
    }
}
