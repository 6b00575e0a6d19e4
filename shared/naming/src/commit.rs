//! The commit message that the rules give for a change: a Conventional Commit (version 1.0.0) that lists the files.
//!
//! The same change always gives the same message. This file must not know LLMs or git.

mod area;
mod category;
mod scope;
mod subject;

use crate::change::{ChangeSummary, ChangedFile};
use crate::plain::one_line;

pub(crate) use category::Category;

/// Characters of the first line; longer ones are cut by many tools.
pub(crate) const MAX_SUBJECT_CHARS: usize = 72;
/// Files that are listed one by one.
const MAX_LISTED_FILES: usize = 20;
/// Characters of a path in the list.
const MAX_PATH_CHARS: usize = 100;

/// The message for a change. Its first line has at most 72 characters.
pub(crate) fn message(change: &ChangeSummary) -> String {
    let category = category::of(change);
    let header = match scope::of(change, category) {
        Some(scope) => format!("{}({scope}): ", category.as_str()),
        None => format!("{}: ", category.as_str()),
    };
    let mut message = header;
    let room = MAX_SUBJECT_CHARS.saturating_sub(message.chars().count());
    message.push_str(&subject::of(change, room));
    if change.file_count() > 1 {
        message.push_str("\n\n");
        message.push_str(&file_list(change));
    }
    message
}

fn file_list(change: &ChangeSummary) -> String {
    let listed = change.files.len().min(MAX_LISTED_FILES);
    let mut lines: Vec<String> = change.files.iter().take(listed).map(file_line).collect();
    match change.file_count() - listed {
        0 => {}
        1 => lines.push("- and 1 more file".to_owned()),
        more => lines.push(format!("- and {more} more files")),
    }
    lines.join("\n")
}

fn file_line(file: &ChangedFile) -> String {
    let path = one_line(&file.path, MAX_PATH_CHARS);
    let verb = file.kind.verb();
    if file.binary {
        format!("- {verb} {path} (binary)")
    } else {
        format!("- {verb} {path} (+{} -{})", file.insertions, file.deletions)
    }
}

#[cfg(test)]
#[path = "commit/message_tests.rs"]
mod tests;
