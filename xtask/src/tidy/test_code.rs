//! Tests that can be believed: none is ignored, and none sleeps where it should wait for a condition.

use super::Finding;
use super::tree::SourceFile;

/// Files whose test code sleeps, each with the reason why no condition can be waited for.
const MAY_SLEEP: &[(&str, &str)] = &[
    (
        "gateway/tests/it/until.rs",
        "a server's answers and files of other processes are polled, which cannot tell when they change",
    ),
    (
        "shared/naming/tests/llm/rogue.rs",
        "the server's slowness is what is tested",
    ),
    (
        "shared/storage/tests/rivals.rs",
        "a file of another process is polled, which cannot tell when it grows",
    ),
];

/// What shows that a file pauses the clock, so that a sleep takes no time.
const PAUSED_CLOCK: &[&str] = &["start_paused", "time::pause()"];

pub(super) fn check(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    let may_sleep = MAY_SLEEP.iter().any(|(path, _)| *path == file.path);
    for (index, line) in file.code.lines().enumerate() {
        let mut find = |what: &str| findings.push(Finding::new(&file.path, index + 1, what));
        if line.contains("#[ignore") {
            find("an ignored test tests nothing: make it run, or remove it");
        }
        if !may_sleep && calls_sleep(line) && is_test_line(file, index + 1) && !pauses_clock(file) {
            find(
                "a test that sleeps is slow or wrong: wait for a condition, pause the clock, or list the file in `xtask/src/tidy/test_code.rs`",
            );
        }
    }
    findings
}

/// Finds exceptions that nothing needs any more.
pub(super) fn check_exceptions(files: &[SourceFile]) -> Vec<Finding> {
    let is_needed = |path: &str| {
        files
            .iter()
            .any(|file| file.path == path && file.code.lines().any(calls_sleep))
    };
    let stale = MAY_SLEEP.iter().filter(|(path, _)| !is_needed(path));
    stale
        .map(|(path, _)| {
            Finding::new(
                "xtask/src/tidy/test_code.rs",
                1,
                format!("`{path}` does not sleep: take it off the list"),
            )
        })
        .collect()
}

fn is_test_line(file: &SourceFile, line: usize) -> bool {
    file.is_test_file() || line >= file.first_test_line()
}

fn pauses_clock(file: &SourceFile) -> bool {
    PAUSED_CLOCK.iter().any(|sign| file.code.contains(sign))
}

fn calls_sleep(line: &str) -> bool {
    line.match_indices("sleep(").any(|(at, _)| {
        line[..at]
            .chars()
            .next_back()
            .is_none_or(|c| !c.is_alphanumeric() && c != '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&SourceFile::new(path, text)).len()
    }

    #[test]
    fn sleeping_and_ignored_tests_are_found() {
        assert_eq!(count("a/tests/b.rs", "std::thread::sleep(x);"), 1);
        assert_eq!(count("a/src/b.rs", "tokio::time::sleep(x).await;"), 0);
        assert_eq!(count("a/src/b.rs", "#[cfg(test)]\nmod tests {\nsleep(x);\n}"), 1);
        assert_eq!(
            count("a/tests/b.rs", "#[tokio::test(start_paused = true)]\nsleep(x);"),
            0
        );
        assert_eq!(
            count("a/tests/b.rs", "// sleep(x)\nlet s = \"sleep(1)\"; no_sleep(x);"),
            0
        );
        assert_eq!(count("a/src/b.rs", &["#[ign", "ore = \"slow\"]"].concat()), 1);
    }

    #[test]
    fn exceptions_are_few_and_needed() {
        assert_eq!(check_exceptions(&[]).len(), MAY_SLEEP.len());
        assert_eq!(count(MAY_SLEEP[0].0, "sleep(x)"), 0);
    }
}
