//! Merging by whole paths.

use std::collections::BTreeMap;

use mayfly_git::scratch::{MergeError, Scratch};
use mayfly_protocol::request::{FileAction, FileChange, FileMode};
use mayfly_protocol::{ErrorCode, TreeId};

use crate::support::scratch;

/// Files as `path=content`, separated by spaces; a content that begins with `!` is that of an executable, `@` of a link.
fn tree(scratch: &Scratch, files: &str) -> TreeId {
    let changes: Vec<FileChange> = files
        .split_whitespace()
        .map(|file| {
            let (path, content) = file.split_once('=').unwrap();
            let mode = match content.as_bytes()[0] {
                b'!' => FileMode::Executable,
                b'@' => FileMode::Symlink,
                _ => FileMode::Regular,
            };
            let content = content.trim_start_matches(['!', '@']).as_bytes().to_vec();
            FileChange {
                path: path.parse().unwrap(),
                action: FileAction::Write {
                    content,
                    mode: Some(mode),
                },
            }
        })
        .collect();
    scratch
        .apply_files(&TreeId::EMPTY_TREE, &changes, &Default::default())
        .unwrap()
        .tree
}

/// Contents and modes by path.
type Files = BTreeMap<String, (Vec<u8>, u32)>;

fn merge(base: &str, ours: &str, theirs: &str) -> Result<Files, Vec<String>> {
    let scratch = scratch();
    let [base, ours, theirs] = [base, ours, theirs].map(|files| tree(&scratch, files));
    match scratch.merge_worktree(&base, &ours, &theirs) {
        Ok(merged) => {
            scratch.check_tree(&merged, &Default::default()).unwrap();
            let files = scratch.changes(None, &merged, 100).unwrap().into_iter();
            let files = files.map(|file| (file.path.to_string(), file.new.unwrap()));
            Ok(files
                .map(|(path, new)| (path, (scratch.blob(&new.id, 100).unwrap(), new.mode)))
                .collect())
        }
        Err(MergeError::Conflict { paths, more: 0 }) => Err(paths),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn what_one_side_changed_is_taken() {
    for (base, ours, theirs, expected) in [
        ("a=1 b=1", "a=2 b=1", "a=1 b=2", "a=2 b=2"),
        ("a=1", "a=2", "a=2", "a=2"),
        ("a=1", "a=1 n=1", "a=1 m=1", "a=1 m=1 n=1"),
        ("a=1 b=1", "a=1", "b=1", ""),
        (
            "d/a=1 d/b=1",
            "d/a=2 d/b=1",
            "d/a=1 d/b=2 d/c=1",
            "d/a=2 d/b=2 d/c=1",
        ),
        ("d/a=1 d/b=1", "d/a=1 d/b=1 d/n=1", "x=1", "d/n=1 x=1"),
        ("a=1", "a=!1", "a=1 b=1", "a=!1 b=1"),
        ("a=1", "a=1", "a/b=1", "a/b=1"),
        ("a=1", "", "a/b=1", "a/b=1"),
        ("a/b=1", "a/b=1 c=1", "a=@x", "a=@x c=1"),
        ("a=1 x=1", "a/b=1 x=1", "a=1 x=2", "a/b=1 x=2"),
        ("", "a/b/c=1", "a/b/d=1", "a/b/c=1 a/b/d=1"),
        ("", "", "", ""),
    ] {
        let expected = merge(expected, expected, expected).unwrap();
        assert_eq!(
            merge(base, ours, theirs).as_ref(),
            Ok(&expected),
            "{base} | {ours} | {theirs}"
        );
        assert_eq!(
            merge(base, theirs, ours).as_ref(),
            Ok(&expected),
            "{base} | {theirs} | {ours}"
        );
    }
}

#[test]
fn what_both_changed_differently_is_a_conflict() {
    for (base, ours, theirs, conflicts) in [
        ("a=1", "a=2", "a=3", &["a"][..]),
        ("a=1", "a=2", "", &["a"]),
        ("", "a=1", "a=2", &["a"]),
        ("a=1", "a=!1", "a=2", &["a"]),
        ("d/a=1 d/b=1", "d/a=2 d/b=2", "d/a=3", &["d/a", "d/b"]),
        ("", "a=1", "a/b=1", &["a"]),
        ("a=1", "a=2", "a/b=1", &["a"]),
        ("d/a=1", "d/a=2", "d=1", &["d/a"]),
        ("d/a=1", "d/a=1 d/n=1", "d=1", &["d"]),
    ] {
        let sorted = |outcome: Result<_, Vec<String>>| {
            outcome.map_err(|mut paths: Vec<String>| {
                paths.sort();
                paths
            })
        };
        let expected: Vec<String> = conflicts.iter().map(|path| (*path).to_owned()).collect();
        assert_eq!(
            sorted(merge(base, ours, theirs)),
            Err(expected.clone()),
            "{base} | {ours} | {theirs}"
        );
        assert_eq!(
            sorted(merge(base, theirs, ours)),
            Err(expected),
            "{base} | {theirs} | {ours}"
        );
    }
}

#[test]
fn many_conflicts_are_counted() {
    let scratch = scratch();
    let side = |content: &str| {
        tree(
            &scratch,
            &(0..30)
                .map(|file| format!("f{file}={content} "))
                .collect::<String>(),
        )
    };
    let error = scratch
        .merge_worktree(&side("1"), &side("2"), &side("3"))
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::PullConflict);
    assert!(error.to_string().contains("and 10 more"), "{error}");
}
