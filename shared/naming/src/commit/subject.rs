//! What a change did, in the few words of a commit's first line.
//!
//! This file must not know the type and the scope that stand before those words.

use crate::change::{ChangeSummary, ChangedFile, FileChangeKind};
use crate::commit::scope::common_folder;
use crate::plain::one_line;

/// Characters of a name out of the code.
const MAX_SYMBOL_CHARS: usize = 40;
/// Words that stand before the name of something new, in the languages that are most written.
const DEFINING: &[&str] = &[
    "class",
    "const",
    "def",
    "enum",
    "fn",
    "func",
    "function",
    "interface",
    "module",
    "mod",
    "struct",
    "trait",
    "type",
];
/// Words that may stand before those.
const MODIFIERS: &[&str] = &[
    "abstract",
    "async",
    "default",
    "export",
    "final",
    "internal",
    "private",
    "protected",
    "pub",
    "pub(crate)",
    "public",
    "static",
    "unsafe",
];

/// The words for a change, at most `room` characters.
pub(super) fn of(change: &ChangeSummary, room: usize) -> String {
    let fitting = candidates(change)
        .into_iter()
        .find(|text| text.chars().count() <= room);
    fitting.unwrap_or_else(|| one_line("update files", room.max(1)))
}

/// From telling to short.
fn candidates(change: &ChangeSummary) -> Vec<String> {
    match change.files.as_slice() {
        [] if change.omitted_files == 0 => vec!["record an empty change".to_owned()],
        [file] if change.omitted_files == 0 => for_one(file),
        [a, b] if change.omitted_files == 0 => {
            let mut texts = vec![format!("{} {} and {}", verb(change), name(a), name(b))];
            texts.extend(for_many(change));
            texts
        }
        _ => for_many(change),
    }
}

fn for_one(file: &ChangedFile) -> Vec<String> {
    let verb = file.kind.verb();
    let path = one_line(&file.path, usize::MAX);
    let name = name(file);
    let mut texts = Vec::new();
    if file.kind == FileChangeKind::Modified {
        texts.extend(
            new_symbol(file)
                .into_iter()
                .flat_map(|s| [format!("add {s} in {path}"), format!("add {s} in {name}")]),
        );
    }
    let link = if file.kind == FileChangeKind::Renamed {
        "a file to "
    } else {
        ""
    };
    texts.extend([
        format!("{verb} {link}{path}"),
        format!("{verb} {link}{name}"),
        format!("{verb} a file"),
    ]);
    texts
}

fn for_many(change: &ChangeSummary) -> Vec<String> {
    let (verb, count) = (verb(change), change.file_count());
    let files = if count == 1 { "file" } else { "files" };
    let folder = common_folder(change)
        .filter(|_| change.omitted_files == 0)
        .unwrap_or_default()
        .join("/");
    let mut texts = Vec::new();
    if !folder.is_empty() {
        texts.push(format!(
            "{verb} {count} {files} in {}",
            one_line(&folder, usize::MAX)
        ));
    }
    texts.push(format!("{verb} {count} {files}"));
    texts
}

/// What was done to all files, or `update` where they differ.
fn verb(change: &ChangeSummary) -> &'static str {
    let mut verbs = change.files.iter().map(|file| file.kind.verb());
    let first = verbs.next().unwrap_or("update");
    if change.omitted_files == 0 && verbs.all(|verb| verb == first) {
        first
    } else {
        "update"
    }
}

fn name(file: &ChangedFile) -> String {
    one_line(file.path.rsplit('/').next().unwrap_or_default(), usize::MAX)
}

/// The first name that an added line defines and no removed line does.
fn new_symbol(file: &ChangedFile) -> Option<&str> {
    let text = file.text.as_deref()?;
    let defined = |sign: char| {
        text.lines()
            .filter_map(move |line| line.strip_prefix(sign))
            .filter_map(defined_symbol)
    };
    let fresh = defined('+').find(|symbol| !defined('-').any(|old| old == *symbol));
    fresh.filter(|symbol| symbol.len() <= MAX_SYMBOL_CHARS)
}

fn defined_symbol(line: &str) -> Option<&str> {
    let mut words = line
        .split_whitespace()
        .skip_while(|word| MODIFIERS.contains(word));
    words.next().filter(|word| DEFINING.contains(word))?;
    let rest = words.next()?;
    let end = rest
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(rest.len());
    let symbol = &rest[..end];
    symbol
        .starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        .then_some(symbol)
}
