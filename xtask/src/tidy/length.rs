//! Files and functions that are too long to be read in one go.
//!
//! Tests are not measured: a table of cases is as long as it has cases.

use super::Finding;
use super::scan;
use super::tree::SourceFile;

/// Lines of a file before its tests.
const MAX_FILE_LINES: usize = 500;
/// Lines of a function.
const MAX_FUNCTION_LINES: usize = 70;

pub(super) fn check(file: &SourceFile) -> Vec<Finding> {
    if file.is_test_file() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let lines = file.first_test_line() - 1;
    if lines > MAX_FILE_LINES {
        let what = format!(
            "the file has {lines} lines before its tests, {MAX_FILE_LINES} are allowed: split it by concept"
        );
        findings.push(Finding::new(&file.path, lines, what));
    }
    let long = scan::functions(&file.code)
        .into_iter()
        .filter(|function| function.first_line <= lines);
    for function in long.filter(|function| function.last_line - function.first_line >= MAX_FUNCTION_LINES) {
        let length = function.last_line - function.first_line + 1;
        let what = format!(
            "`{}` has {length} lines, {MAX_FUNCTION_LINES} are allowed: give its steps names",
            function.name
        );
        findings.push(Finding::new(&file.path, function.first_line, what));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(&SourceFile::new(path, text))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn long_files_and_functions_are_found() {
        let function = |lines: usize| format!("fn long() {{\n{}}}\n", "x();\n".repeat(lines - 2));
        assert_eq!(findings("a/src/b.rs", &function(70)), [""; 0]);
        assert_eq!(
            findings("a/src/b.rs", &function(71)),
            ["a/src/b.rs:1: `long` has 71 lines, 70 are allowed: give its steps names"]
        );
        assert_eq!(findings("a/src/b.rs", &"use x;\n".repeat(500)), [""; 0]);
        assert_eq!(findings("a/src/b.rs", &"use x;\n".repeat(501)).len(), 1);
    }

    #[test]
    fn tests_may_be_long() {
        let tests = format!(
            "#[cfg(test)]\nmod tests {{\nfn table() {{\n{}}}\n}}\n",
            "x();\n".repeat(600)
        );
        assert_eq!(findings("a/src/b.rs", &tests), [""; 0]);
        assert_eq!(findings("a/tests/b.rs", &"use x;\n".repeat(501)), [""; 0]);
    }
}
