//! What an LLM answered, held to the rules: only a branch name or a commit message gets through.
//!
//! This file must not know who answered. It trusts nothing: the material of the question may have given the model orders.

use mayfly_protocol::BranchName;

use crate::branch::MAX_NAME_CHARS;
use crate::commit::{Category, MAX_SUBJECT_CHARS};
use crate::plain::{self, is_deceptive};

/// Characters of a line of a message's body.
const BODY_COLUMNS: usize = 72;
/// Bytes of a whole message; what is longer is cut at the end of a line.
const MAX_MESSAGE_BYTES: usize = 4096;
/// Folders of a branch name.
const MAX_NAME_PARTS: usize = 3;

/// Why an answer is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnswerFault {
    #[error("is empty")]
    Empty,
    #[error("has more than one line")]
    SeveralLines,
    #[error("is no plain branch name")]
    NotAName,
    #[error("does not begin with a Conventional Commit line")]
    NotConventional,
    #[error("has a first line of more than 72 characters")]
    LongSubject,
    #[error("has control or invisible characters")]
    Deceptive,
    #[error("has a code fence in it")]
    Fence,
}

/// Reads a branch name. A name without a folder gets `default_prefix`; a long one is cut between words.
pub(crate) fn branch_name(answer: &str, default_prefix: &str) -> Result<BranchName, AnswerFault> {
    let line = unwrapped(answer.trim());
    if line.is_empty() {
        return Err(AnswerFault::Empty);
    }
    if line.contains('\n') {
        return Err(AnswerFault::SeveralLines);
    }
    let lower = line.to_ascii_lowercase();
    let name = if lower.contains('/') {
        lower
    } else {
        format!("{default_prefix}/{lower}")
    };
    if !is_plain_name(&name) {
        return Err(AnswerFault::NotAName);
    }
    shortened(&name).parse().map_err(|_| AnswerFault::NotAName)
}

fn is_plain_name(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    let is_plain = |part: &&str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'))
    };
    parts.len() <= MAX_NAME_PARTS
        && parts.iter().all(is_plain)
        && parts
            .last()
            .is_some_and(|last| last.bytes().any(|b| b.is_ascii_lowercase()))
}

/// The name cut to 60 characters: after a word, where a word ends behind the last slash.
fn shortened(name: &str) -> &str {
    if name.len() <= MAX_NAME_CHARS {
        return name;
    }
    let cut = plain::prefix(name, MAX_NAME_CHARS);
    let at_word = cut
        .rfind(['-', '_', '.', '/'])
        .filter(|&end| cut.as_bytes()[end] != b'/')
        .map_or(cut, |end| &cut[..end]);
    at_word.trim_end_matches(['-', '_', '.', '/'])
}

/// Reads a commit message: a Conventional Commit line and perhaps a body, which is wrapped anew and loses every trailer.
pub(crate) fn commit_message(answer: &str) -> Result<String, AnswerFault> {
    let text = answer.replace("\r\n", "\n").replace('\t', "    ");
    let text = unwrapped(text.trim());
    if text.is_empty() {
        return Err(AnswerFault::Empty);
    }
    if text.chars().any(|c| c != '\n' && is_deceptive(c)) {
        return Err(AnswerFault::Deceptive);
    }
    if text.contains("```") {
        return Err(AnswerFault::Fence);
    }
    let (subject, body) = text.split_once('\n').unwrap_or((text, ""));
    let subject = checked_subject(subject.trim())?;
    let body = body_lines(body);
    let mut message = subject.to_owned();
    if !body.is_empty() {
        message.push_str("\n\n");
        message.push_str(&body.join("\n"));
    }
    Ok(bounded(message))
}

fn checked_subject(line: &str) -> Result<&str, AnswerFault> {
    let (head, subject) = line.split_once(": ").ok_or(AnswerFault::NotConventional)?;
    let head = head.strip_suffix('!').unwrap_or(head);
    let (category, scope) = match head.split_once('(') {
        Some((category, scope)) => (
            category,
            Some(scope.strip_suffix(')').ok_or(AnswerFault::NotConventional)?),
        ),
        None => (head, None),
    };
    let is_scope =
        |scope: &str| !scope.is_empty() && scope.chars().all(|c| c.is_alphanumeric() || "-_./, ".contains(c));
    let is_known = Category::ALL.iter().any(|known| known.as_str() == category);
    if !is_known || !scope.is_none_or(is_scope) || subject.trim().is_empty() {
        return Err(AnswerFault::NotConventional);
    }
    if line.chars().count() > MAX_SUBJECT_CHARS {
        return Err(AnswerFault::LongSubject);
    }
    Ok(line)
}

/// The body's lines, wrapped, without trailers, with at most one empty line between others and none at the ends.
fn body_lines(body: &str) -> Vec<String> {
    let wrapped = body.lines().filter(|line| !is_trailer(line)).flat_map(wrapped);
    let mut lines: Vec<String> = Vec::new();
    for line in wrapped.filter(|line| !is_trailer(line)) {
        let is_repeated_gap = line.is_empty() && lines.last().is_none_or(String::is_empty);
        if !is_repeated_gap {
            lines.push(line);
        }
    }
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// Whether tools would read the line as a statement about people (`Signed-off-by: …`) or about the change's identity. The form is that of
/// git-interpret-trailers(1): a token, blanks, a colon.
fn is_trailer(line: &str) -> bool {
    let Some((token, _)) = line.split_once(':') else {
        return false;
    };
    let token = token.trim().to_ascii_lowercase();
    let is_token = token.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    is_token && (token.ends_with("-by") || matches!(token.as_str(), "cc" | "change-id" | "by"))
}

/// One line as lines of at most 72 characters; a longer word stays whole. An indented line or a list item keeps its indent.
fn wrapped(line: &str) -> Vec<String> {
    let line = line.trim_end();
    let text = line.trim_start();
    let own = line.len() - text.len();
    let indent = if text.starts_with("- ") || text.starts_with("* ") {
        own + 2
    } else {
        own
    };
    let indent = indent.min(BODY_COLUMNS / 2);
    let mut lines = vec![" ".repeat(own.min(BODY_COLUMNS / 2))];
    let mut columns = own.min(BODY_COLUMNS / 2);
    let mut is_start = true;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let width = word.chars().count();
        if !is_start && columns + 1 + width > BODY_COLUMNS {
            lines.push(" ".repeat(indent));
            (columns, is_start) = (indent, true);
        }
        if let Some(last) = lines.last_mut() {
            last.push_str(if is_start { "" } else { " " });
            last.push_str(word);
        }
        columns += width + usize::from(!is_start);
        is_start = false;
    }
    lines
}

fn bounded(mut message: String) -> String {
    if message.len() > MAX_MESSAGE_BYTES {
        let part = plain::prefix(&message, MAX_MESSAGE_BYTES);
        let end = part.rfind('\n').unwrap_or(part.len());
        message.truncate(end);
    }
    message.truncate(message.trim_end().len());
    message
}

/// The text without a code fence, quotes or backticks that stand round all of it.
fn unwrapped(text: &str) -> &str {
    let without_fence = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    let text = match without_fence.and_then(|inner| inner.split_once('\n')) {
        Some((_language, inner)) => inner.trim(),
        None => text,
    };
    for quote in ['`', '"', '\'', '*'] {
        let inner = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        if let Some(inner) = inner.filter(|inner| !inner.contains(quote)) {
            return inner.trim();
        }
    }
    text
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
