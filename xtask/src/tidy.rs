//! The rules of the house that no compiler checks. Each rule is a function from texts to findings, with tests of its own.
//!
//! A finding says where, what, and what to do about it.

mod dependencies;
mod error_codes;
mod layout;
mod length;
mod lock_file;
mod scan;
mod test_code;
mod tree;
mod wording;

use std::fmt;
use std::path::Path;

use crate::run;
use tree::SourceFile;

/// Something that is against a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl Finding {
    fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            what: what.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Checks every rule and shows what is against one. True if nothing is.
pub(crate) fn run(root: &Path) -> anyhow::Result<bool> {
    let files = tree::read(root)?;
    let mut findings = check_files(&files);
    findings.extend(dependencies::check(&dependencies::read(root)?));
    findings.sort();
    for finding in &findings {
        run::say(&finding.to_string());
    }
    let count = findings.len();
    run::say(&format!("tidy: {} files, {count} findings", files.len()));
    Ok(count == 0)
}

fn check_files(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        findings.extend(layout::check(file));
        findings.extend(wording::check(file));
        if file.is_rust() {
            findings.extend(length::check(file));
            findings.extend(test_code::check(file));
        }
    }
    findings.extend(test_code::check_exceptions(files));
    findings.extend(error_codes::check(text_of(files, error_codes::PATH)));
    findings.extend(lock_file::check(text_of(files, lock_file::PATH)));
    findings
}

fn text_of<'a>(files: &'a [SourceFile], path: &str) -> &'a str {
    files
        .iter()
        .find(|file| file.path == path)
        .map_or("", |file| file.text.as_str())
}
