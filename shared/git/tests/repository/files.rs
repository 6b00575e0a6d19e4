//! Whole files: against a model, and what is refused.

use std::collections::BTreeMap;

use mayfly_git::apply::{ApplyError, ApplyLimits};
use mayfly_git::scratch::Scratch;
use mayfly_protocol::request::{FileAction, FileChange, FileMode};
use mayfly_protocol::{ErrorCode, TreeId};
use proptest::prelude::*;

use crate::support::{GitRepo, scratch, scratch_of};

fn write(path: &str, content: &[u8], mode: Option<FileMode>) -> FileChange {
    FileChange {
        path: path.parse().unwrap(),
        action: FileAction::Write {
            content: content.to_vec(),
            mode,
        },
    }
}

fn delete(path: &str) -> FileChange {
    FileChange {
        path: path.parse().unwrap(),
        action: FileAction::Delete,
    }
}

fn code(scratch: &Scratch, tree: &TreeId, change: FileChange) -> (ErrorCode, String) {
    let error = scratch
        .apply_files(tree, &[change], &ApplyLimits::default())
        .unwrap_err();
    (error.code(), error.to_string())
}

#[test]
fn modes_are_kept_and_changed_and_folders_vanish() {
    let repo = GitRepo::new();
    for path in ["a/b/c", "d", "tool", "e/f"] {
        repo.write(path, b"old\n");
    }
    repo.git(&["add", "."]);
    repo.git(&["update-index", "--chmod=+x", "tool"]);
    repo.git(&["commit", "-q", "-m", "base"]);
    let scratch = scratch_of(&repo);
    let changes = [
        delete("a/b/c"),
        delete("e/f"),
        write("e", b"a file now\n", None),
        write("tool", b"new\n", None),
        write("d", b"old\n", Some(FileMode::Executable)),
        write("x/y/z", b"new\n", None),
        write("link", b"../../etc/passwd", Some(FileMode::Symlink)),
    ];
    let applied = scratch
        .apply_files(&repo.id("HEAD^{tree}"), &changes, &ApplyLimits::default())
        .unwrap();
    assert_eq!(applied.files_changed, 7);
    repo.git(&["rm", "-q", "-r", "a", "e"]);
    for (mode, path, content) in [
        ("100644", "e", &b"a file now\n"[..]),
        ("100755", "tool", b"new\n"),
        ("100755", "d", b"old\n"),
        ("100644", "x/y/z", b"new\n"),
        ("120000", "link", b"../../etc/passwd"),
    ] {
        let id = repo.git_with(&["hash-object", "-w", "--stdin"], content);
        repo.git(&[
            "update-index",
            "--add",
            "--cacheinfo",
            &format!("{mode},{id},{path}"),
        ]);
    }
    assert_eq!(applied.tree.to_string(), repo.git(&["write-tree"]));
}

#[test]
fn what_is_so_already_is_no_change() {
    let repo = GitRepo::new();
    repo.write("a/b", b"same\n");
    let tree = repo.worktree();
    let scratch = scratch_of(&repo);
    let changes = [write("a/b", b"same\n", Some(FileMode::Regular))];
    let applied = scratch
        .apply_files(&tree, &changes, &ApplyLimits::default())
        .unwrap();
    assert_eq!((applied.tree, applied.files_changed), (tree, 0));
    let into = tempfile::tempdir().unwrap();
    assert_eq!(scratch.write_new_pack(into.path()).unwrap(), None);
}

#[test]
fn only_trees_on_changed_paths_are_made() {
    let repo = GitRepo::new();
    for folder in 0..20 {
        for file in 0..20 {
            repo.write(&format!("{folder}/{file}"), b"x");
        }
    }
    let tree = repo.worktree();
    let scratch = scratch_of(&repo);
    let applied = scratch
        .apply_files(&tree, &[write("7/new", b"n", None)], &ApplyLimits::default())
        .unwrap();
    assert_eq!(applied.files_changed, 1);
    let into = tempfile::tempdir().unwrap();
    assert_eq!(scratch.write_new_pack(into.path()).unwrap().unwrap().objects, 3);
}

#[test]
fn what_does_not_fit_is_refused_and_named() {
    let repo = GitRepo::new();
    repo.write("dir/file", b"x");
    std::os::unix::fs::symlink("/etc", repo.path().join("link")).unwrap();
    repo.git(&["add", "."]);
    repo.git(&[
        "update-index",
        "--add",
        "--cacheinfo",
        &format!("160000,{},sub", "1".repeat(40)),
    ]);
    let tree: TreeId = repo.git(&["write-tree"]).parse().unwrap();
    let scratch = scratch_of(&repo);
    let link = |path: &str, target: &[u8]| write(path, target, Some(FileMode::Symlink));
    for (change, expected) in [
        (delete("none"), ErrorCode::PatchConflict),
        (delete("dir/none"), ErrorCode::PatchConflict),
        (delete("dir"), ErrorCode::PatchConflict),
        (write("dir", b"x", None), ErrorCode::PatchConflict),
        (write("link/passwd", b"x", None), ErrorCode::PathRefused),
        (delete("link/passwd"), ErrorCode::PathRefused),
        (write("dir/file/x", b"x", None), ErrorCode::PathRefused),
        (write("sub/x", b"x", None), ErrorCode::PathRefused),
        (write("sub", b"x", None), ErrorCode::PathRefused),
        (delete("sub"), ErrorCode::PathRefused),
        (link(".gitmodules", b"x"), ErrorCode::PathRefused),
        (link("dir/.gitattributes", b"x"), ErrorCode::PathRefused),
        (link("new", b""), ErrorCode::PathRefused),
        (link("new", b"a\0b"), ErrorCode::PathRefused),
        (write("link", &[b'x'; 5000], None), ErrorCode::PathRefused),
    ] {
        let path = change.path.to_string();
        let (code, text) = code(&scratch, &tree, change);
        assert_eq!(code, expected, "{text}");
        assert!(text.contains(&format!("`{path}`")), "{text}");
    }
}

#[test]
fn sizes_have_bounds() {
    let scratch = scratch();
    let changes = [write("a", &[0; 60], None), write("b", &[0; 60], None)];
    for limits in [
        ApplyLimits {
            max_files: 1,
            ..ApplyLimits::default()
        },
        ApplyLimits {
            max_file_bytes: 59,
            ..ApplyLimits::default()
        },
        ApplyLimits {
            max_total_bytes: 119,
            ..ApplyLimits::default()
        },
    ] {
        let error = scratch
            .apply_files(&TreeId::EMPTY_TREE, &changes, &limits)
            .unwrap_err();
        assert!(matches!(error, ApplyError::TooLarge { .. }), "{error}");
    }
}

/// What a worktree holds, as a map.
type Model = BTreeMap<String, (Vec<u8>, u32)>;

/// Whether the model can take a file at this path.
fn fits(model: &Model, path: &str) -> bool {
    let is_under = |inner: &str, outer: &str| {
        inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.starts_with('/'))
    };
    !model
        .keys()
        .any(|other| is_under(path, other) || is_under(other, path))
}

fn model_of(scratch: &Scratch, tree: &TreeId) -> Model {
    let changes = scratch.changes(None, tree, 10_000).unwrap();
    let added = changes.into_iter().map(|change| {
        let new = change.new.unwrap();
        (
            change.path.to_string(),
            (scratch.blob(&new.id, 1000).unwrap(), new.mode),
        )
    });
    added.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn random_edits_equal_a_map(
        jobs in prop::collection::vec(
            prop::collection::vec(("[ab.]{1,2}(/[ab.]{1,2}){0,3}", prop::option::of(("[xy]{0,3}", 0u8..3))), 1..8),
            1..8,
        )
    ) {
        let scratch = scratch();
        let (mut tree, mut model) = (TreeId::EMPTY_TREE, Model::new());
        for job in jobs {
            let mut edits = BTreeMap::new();
            for (path, edit) in job {
                if path.parse::<mayfly_protocol::RepoPath>().is_ok() {
                    edits.insert(path, edit);
                }
            }
            let mut next = model.clone();
            let mut is_fitting = edits.iter().filter(|(_, edit)| edit.is_none()).all(|(path, _)| next.remove(path).is_some());
            let mut changes = Vec::new();
            for (path, edit) in &edits {
                let Some((content, mode)) = edit else {
                    changes.push(delete(path));
                    continue;
                };
                let mode = [None, Some(FileMode::Regular), Some(FileMode::Executable)][usize::from(*mode)];
                is_fitting &= fits(&next, path);
                let kept = next.get(path).map_or(0o100_644, |(_, mode)| *mode);
                next.insert(path.clone(), (content.clone().into_bytes(), mode.map_or(kept, FileMode::bits)));
                changes.push(write(path, content.as_bytes(), mode));
            }
            match scratch.apply_files(&tree, &changes, &ApplyLimits::default()) {
                Ok(applied) => {
                    prop_assert!(is_fitting, "{changes:?} on {model:?}");
                    (tree, model) = (applied.tree, next);
                }
                Err(error) => prop_assert!(!is_fitting, "{error}: {changes:?} on {model:?}"),
            }
            prop_assert_eq!(&model_of(&scratch, &tree), &model);
            scratch.check_tree(&tree, &Default::default()).unwrap();
        }
    }
}
