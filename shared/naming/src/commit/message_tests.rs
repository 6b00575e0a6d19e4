use super::*;
use crate::change::FileChangeKind::{self, *};

fn file(path: &str, kind: FileChangeKind, insertions: u64, deletions: u64) -> ChangedFile {
    ChangedFile {
        path: path.to_owned(),
        kind,
        insertions,
        deletions,
        binary: false,
        text: None,
    }
}

fn change(files: Vec<ChangedFile>) -> ChangeSummary {
    let sum = |count: fn(&ChangedFile) -> u64| files.iter().map(count).sum();
    ChangeSummary {
        insertions: sum(|f| f.insertions),
        deletions: sum(|f| f.deletions),
        files,
        ..ChangeSummary::default()
    }
}

fn first_line(files: Vec<ChangedFile>) -> String {
    message(&change(files)).lines().next().unwrap().to_owned()
}

#[test]
fn changes_give_first_lines() {
    let long = format!("src/{}.rs", "x".repeat(300));
    let deep = format!("{}/a.rs", "very-long-folder-name".repeat(5));
    for (files, expected) in [
        (vec![], "chore: record an empty change"),
        (vec![file("README.md", Modified, 3, 1)], "docs: update README.md"),
        (vec![file("src/theme.ts", Added, 30, 0)], "feat: add src/theme.ts"),
        (
            vec![file("src/theme.ts", Modified, 2, 2)],
            "fix: update src/theme.ts",
        ),
        (
            vec![file("src/theme.ts", Modified, 60, 2)],
            "feat: update src/theme.ts",
        ),
        (
            vec![file("src/theme.ts", Modified, 60, 50)],
            "refactor: update src/theme.ts",
        ),
        (
            vec![file("src/old.ts", Deleted, 0, 9)],
            "chore: remove src/old.ts",
        ),
        (
            vec![file("src/b.ts", Renamed, 0, 0)],
            "refactor: rename a file to src/b.ts",
        ),
        (
            vec![
                file("src/api/a.ts", Added, 1, 0),
                file("src/api/b.ts", Added, 1, 0),
            ],
            "feat(api): add a.ts and b.ts",
        ),
        (
            vec![file("tests/a.rs", Modified, 1, 0)],
            "test: update tests/a.rs",
        ),
        (
            vec![
                file("Cargo.toml", Modified, 1, 1),
                file("Cargo.lock", Modified, 9, 9),
            ],
            "build: update Cargo.toml and Cargo.lock",
        ),
        (
            vec![file(".github/workflows/ci.yml", Added, 9, 0)],
            "ci: add .github/workflows/ci.yml",
        ),
        (
            vec![file(".gitignore", Modified, 1, 0)],
            "chore: update .gitignore",
        ),
        (
            vec![file("src/a.rs", Added, 9, 0), file("README.md", Modified, 1, 0)],
            "feat: update a.rs and README.md",
        ),
        (vec![file(&long, Added, 1, 0)], "feat: add a file"),
        (vec![file(&deep, Added, 1, 0)], "feat: add a.rs"),
        (
            vec![file("src/a\nSigned-off-by: x", Added, 1, 0)],
            "feat: add src/a?Signed-off-by: x",
        ),
    ] {
        assert_eq!(first_line(files), expected);
    }
}

#[test]
fn many_files_are_counted_and_listed_within_a_bound() {
    let files = (0..25)
        .map(|n| file(&format!("shared/naming/src/f{n}.rs"), Modified, 1, 1))
        .collect();
    let message = message(&change(files));
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(lines[0], "refactor(naming): update 25 files in shared/naming/src");
    assert_eq!(
        (lines[1], lines[2]),
        ("", "- update shared/naming/src/f0.rs (+1 -1)")
    );
    assert_eq!(lines.len(), 2 + MAX_LISTED_FILES + 1);
    assert_eq!(lines.last(), Some(&"- and 5 more files"));
}

#[test]
fn files_that_are_left_out_are_counted() {
    let mut summary = change(vec![file("src/a.rs", Added, 1, 0)]);
    summary.omitted_files = 999;
    assert_eq!(
        message(&summary),
        "feat: update 1000 files\n\n- add src/a.rs (+1 -0)\n- and 999 more files"
    );
}

#[test]
fn a_new_definition_is_named() {
    let mut theme = file("src/theme.ts", Modified, 40, 0);
    theme.text = Some(
        "@@ -1 +1 @@\n-function old() {}\n+function old() {}\n+export function toggleDarkMode(on) {\n"
            .to_owned(),
    );
    assert_eq!(
        first_line(vec![theme.clone()]),
        "feat: add toggleDarkMode in src/theme.ts"
    );
    theme.text = Some("+pub(crate) fn `rm -rf`() {\n+class {}\n".to_owned());
    assert_eq!(first_line(vec![theme]), "feat: update src/theme.ts");
}

#[test]
fn a_change_of_blanks_is_style() {
    let mut source = file("src/a.rs", Modified, 1, 1);
    source.text = Some("@@ -1 +1 @@\n-fn a(){}\n+fn a() {}\n".to_owned());
    assert_eq!(first_line(vec![source.clone()]), "style: update src/a.rs");
    source.path = "src/a.py".to_owned();
    assert_eq!(first_line(vec![source]), "fix: update src/a.py");
}

fn any_change() -> impl proptest::strategy::Strategy<Value = ChangeSummary> {
    use proptest::prelude::*;
    let kind = prop::sample::select(vec![Added, Deleted, Modified, Renamed, TypeChanged]);
    let text = prop::option::of("([-+ @]?(fn |class )?\\PC{0,20}\\n){0,5}");
    let path = prop_oneof![
        ".{0,40}",
        "[a-c/.]{0,12}",
        "(src|docs|[a-z]{1,30})/[a-z]{1,90}\\.(rs|md|py)"
    ];
    let file = (path, kind, any::<u64>(), any::<u64>(), any::<bool>(), text);
    let file = file.prop_map(|(path, kind, insertions, deletions, binary, text)| ChangedFile {
        path,
        kind,
        insertions,
        deletions,
        binary,
        text,
    });
    (prop::collection::vec(file, 0..30), any::<usize>(), any::<u64>()).prop_map(
        |(files, omitted_files, omitted_bytes)| ChangeSummary {
            files,
            omitted_files: omitted_files % 3 * (omitted_files / 7),
            omitted_bytes,
            insertions: 0,
            deletions: 0,
        },
    )
}

proptest::proptest! {
    #[test]
    fn any_change_gives_a_message_that_would_be_taken_from_an_llm(change in any_change()) {
        let text = message(&change);
        let subject = text.lines().next().unwrap_or_default();
        proptest::prop_assert!(subject.chars().count() <= MAX_SUBJECT_CHARS, "{}", subject);
        proptest::prop_assert!(Category::ALL.iter().any(|c| subject.starts_with(c.as_str())));
        proptest::prop_assert!(text.chars().all(|c| c == '\n' || !crate::plain::is_deceptive(c)));
        proptest::prop_assert!(text.len() < 16 * 1024);
        proptest::prop_assert_eq!(message(&change), text);
    }
}
