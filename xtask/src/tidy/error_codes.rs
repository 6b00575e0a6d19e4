//! Every error code has its heading in the document, in the same order, with its status and its retry meaning.

use mayfly_protocol::ErrorCode;

use super::Finding;

/// The document.
pub(super) const PATH: &str = "docs/errors.md";

/// A heading such as ``### `worker_busy` `` with the first line of text below it.
struct Entry<'a> {
    line: usize,
    code: &'a str,
    facts: &'a str,
}

pub(super) fn check(text: &str) -> Vec<Finding> {
    let entries = entries(text);
    let mut findings: Vec<Finding> = entries.iter().filter_map(entry_fault).collect();
    let missing = ErrorCode::ALL
        .iter()
        .filter(|code| !entries.iter().any(|entry| entry.code == code.as_str()));
    findings.extend(missing.map(|code| {
        Finding::new(
            PATH,
            1,
            format!("no heading ### `{code}`: say what the code means and what to do"),
        )
    }));
    let known = entries
        .iter()
        .filter_map(|entry| known(entry.code).map(|code| (entry.line, code)));
    let order: Vec<(usize, usize)> = known
        .filter_map(|(line, code)| Some((line, position(code)?)))
        .collect();
    let misplaced = order.windows(2).filter(|pair| pair[0].1 >= pair[1].1);
    findings.extend(misplaced.map(|pair| {
        Finding::new(
            PATH,
            pair[1].0,
            "stands twice, or not in the order of `ErrorCode`",
        )
    }));
    findings
}

fn entry_fault(entry: &Entry<'_>) -> Option<Finding> {
    let Some(code) = known(entry.code) else {
        return Some(Finding::new(
            PATH,
            entry.line,
            format!("`{}` is no error code: remove the heading", entry.code),
        ));
    };
    let expected = facts(code);
    (entry.facts != expected).then(|| {
        Finding::new(
            PATH,
            entry.line,
            format!("`{code}` is not followed by the line `{expected}`"),
        )
    })
}

fn known(text: &str) -> Option<ErrorCode> {
    ErrorCode::ALL.iter().copied().find(|code| code.as_str() == text)
}

fn position(code: ErrorCode) -> Option<usize> {
    ErrorCode::ALL.iter().position(|other| *other == code)
}

/// The line that follows a code's heading.
fn facts(code: ErrorCode) -> String {
    let retry = if code.is_retryable() {
        "retryable"
    } else {
        "not retryable"
    };
    format!("Status {}, {retry}.", code.status())
}

fn entries(text: &str) -> Vec<Entry<'_>> {
    let mut entries = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let code = line.strip_prefix("### `").and_then(|rest| rest.strip_suffix('`'));
        let facts = text
            .lines()
            .skip(index + 1)
            .find(|line| !line.is_empty())
            .unwrap_or_default();
        entries.extend(code.map(|code| Entry {
            line: index + 1,
            code,
            facts,
        }));
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> String {
        ErrorCode::ALL
            .iter()
            .map(|code| format!("### `{code}`\n\n{}\n\nText.\n\n", facts(*code)))
            .collect()
    }

    #[test]
    fn a_whole_document_passes_and_others_do_not() {
        assert_eq!(check(&document()), []);
        let text = document();
        assert_eq!(check(&text.replace("### `internal`", "### internal")).len(), 1);
        assert_eq!(check(&format!("{text}### `made_up`\n")).len(), 1);
        assert_eq!(
            check(&text.replacen("Status 400, not retryable.", "Status 400, retryable.", 1)).len(),
            1
        );
        assert_eq!(
            check(&format!("{text}### `internal`\n\nStatus 500, retryable.\n")).len(),
            1
        );
        assert_eq!(check("").len(), ErrorCode::ALL.len());
    }
}
