//! The scope of a Conventional Commit: the innermost common folder with a name that tells something.
//!
//! This file must not know what happened in the folder.

use crate::change::ChangeSummary;
use crate::commit::Category;

/// Characters of a scope.
const MAX_SCOPE_CHARS: usize = 20;
/// Folders that nearly every repository has.
const GENERIC: &[&str] = &[
    "app",
    "apps",
    "cmd",
    "crates",
    "doc",
    "docs",
    "documentation",
    "internal",
    "java",
    "lib",
    "libs",
    "main",
    "modules",
    "packages",
    "pkg",
    "services",
    "shared",
    "source",
    "sources",
    "spec",
    "src",
    "test",
    "tests",
    "__tests__",
    "workflows",
];

/// The scope of a change, if its files have one in common.
pub(super) fn of(change: &ChangeSummary, category: Category) -> Option<String> {
    if category == Category::Ci || change.omitted_files > 0 {
        return None;
    }
    let folders = common_folder(change)?;
    let told = folders.iter().rev().find(|folder| is_telling(folder))?;
    Some(told.to_ascii_lowercase())
}

/// The components of the folder that all files are in.
pub(super) fn common_folder(change: &ChangeSummary) -> Option<Vec<&str>> {
    let mut folders = change
        .files
        .iter()
        .map(|file| file.path.split('/').rev().skip(1).collect::<Vec<_>>());
    let mut common: Vec<&str> = folders.next()?.into_iter().rev().collect();
    for folder in folders {
        let same = common
            .iter()
            .zip(folder.iter().rev())
            .take_while(|(a, b)| a == b)
            .count();
        common.truncate(same);
    }
    Some(common)
}

fn is_telling(folder: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=MAX_SCOPE_CHARS).contains(&folder.len())
        && folder.starts_with(|c: char| c.is_ascii_alphabetic())
        && folder.chars().all(is_word)
        && !GENERIC.contains(&folder.to_ascii_lowercase().as_str())
}
