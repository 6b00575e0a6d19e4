//! Words that do not belong into the repository: paths of somebody's machine, and notes for later.

use super::Finding;
use super::tree::SourceFile;

/// What must not stand in any text, in two parts so that this file passes its own rule, with what to do instead.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    (
        "/wor",
        "k/",
        "a path of one machine: name a setting, or a path relative to the workspace",
    ),
    (
        "/roo",
        "t/",
        "a path of one machine: name a setting, or a path relative to the workspace",
    ),
    ("TO", "DO", "a note for later: do it, or write an issue"),
    ("FIX", "ME", "a note for later: do it, or write an issue"),
];

pub(super) fn check(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for (start, end, advice) in FORBIDDEN {
            let word = format!("{start}{end}");
            if line.contains(&word) {
                findings.push(Finding::new(
                    &file.path,
                    index + 1,
                    format!("`{word}` is {advice}"),
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_with_their_line() {
        let text = format!(
            "fine\nsee {}main\n// {}: later\n",
            ["/wor", "k/"].concat(),
            ["TO", "DO"].concat()
        );
        let lines: Vec<usize> = check(&SourceFile::new("README.md", text))
            .iter()
            .map(|finding| finding.line)
            .collect();
        assert_eq!(lines, [2, 3]);
        assert!(check(&SourceFile::new("a.md", "work/ and root, todo")).is_empty());
    }
}
