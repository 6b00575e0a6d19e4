//! Diffs against `git diff`: the same files, the same numbers, the same hunks, and bounds.

use mayfly_git::apply::ApplyLimits;
use mayfly_git::diff::{ChangeKind, DiffBudget, DiffSummary};
use mayfly_git::scratch::Scratch;
use mayfly_protocol::{ErrorCode, ObjectId, TreeId};

use crate::support::{GitRepo, scratch, scratch_of};

/// A repository with one commit of many kinds of file, and the tree of another state of them.
fn changed() -> (GitRepo, TreeId, TreeId) {
    let repo = GitRepo::new();
    let lines = |range: std::ops::Range<u32>| {
        range
            .map(|n| format!("line {n}\n"))
            .collect::<String>()
            .into_bytes()
    };
    for (path, content) in [
        ("long", lines(0..400)),
        ("no-end", b"a\nb".to_vec()),
        ("dir/gone", lines(0..9)),
        ("dir/moved", lines(50..70)),
        ("binary", b"\0\x01\x02".to_vec()),
        ("crlf", b"a\r\nb\r\n".to_vec()),
        ("becomes-folder", b"x\n".to_vec()),
        ("becomes-link", b"y\n".to_vec()),
        ("tool", b"#!\n".to_vec()),
        ("same", b"same\n".to_vec()),
    ] {
        repo.write(path, &content);
    }
    repo.commit_all("base");
    repo.write(
        "long",
        &[lines(0..10), b"new\n".to_vec(), lines(11..390), b"end\n".to_vec()].concat(),
    );
    repo.write("no-end", b"a\nb\nc");
    repo.write("added/here", b"1\n2\n");
    repo.write("binary", b"\0\x03");
    repo.write("crlf", b"a\r\nB\r\n");
    repo.git(&["rm", "-q", "dir/gone"]);
    repo.git(&["mv", "dir/moved", "moved"]);
    repo.git(&["rm", "-q", "becomes-folder", "becomes-link"]);
    repo.write("becomes-folder/in", b"x2\n");
    std::os::unix::fs::symlink("same", repo.path().join("becomes-link")).unwrap();
    repo.git(&["add", "-A"]);
    repo.git(&["update-index", "--chmod=+x", "tool"]);
    let new: TreeId = repo.git(&["write-tree"]).parse().unwrap();
    let old = repo.id("HEAD^{tree}");
    (repo, old, new)
}

fn by_git(repo: &GitRepo, args: &[&str], old: &TreeId, new: &TreeId) -> String {
    repo.git(
        &[
            &["diff", "--no-ext-diff"],
            args,
            &[&old.to_string(), &new.to_string()],
        ]
        .concat(),
    )
}

#[test]
fn the_same_paths_as_git() {
    let (repo, old, new) = changed();
    let changes = scratch_of(&repo).changes(Some(&old), &new, 100).unwrap();
    let ours: Vec<String> = changes
        .iter()
        .map(|change| {
            let kind = match change.kind {
                ChangeKind::Added => 'A',
                ChangeKind::Deleted => 'D',
                ChangeKind::Modified => 'M',
                ChangeKind::TypeChanged => 'T',
            };
            let zero = (0, ObjectId::ZERO);
            let side = |entry: Option<mayfly_git::tree::TreeEntry>| {
                entry.map_or(zero, |entry| (entry.mode, entry.id))
            };
            let ((old_mode, old), (new_mode, new)) = (side(change.old), side(change.new));
            format!(
                ":{old_mode:06o} {new_mode:06o} {old} {new} {kind}\t{}",
                change.path
            )
        })
        .collect();
    let theirs = by_git(&repo, &["--raw", "--no-abbrev", "--no-renames"], &old, &new);
    assert_eq!(ours.join("\n"), theirs);
}

#[test]
fn the_same_lines_as_git() {
    let (repo, old, new) = changed();
    let scratch = scratch_of(&repo);
    let summary = scratch.diff(Some(&old), &new, &DiffBudget::default()).unwrap();
    let theirs = by_git(&repo, &["--numstat", "-M100%"], &old, &new);
    let mut ours: Vec<String> = summary.files.iter().map(numstat).collect();
    ours.sort();
    let mut theirs: Vec<&str> = theirs.lines().collect();
    theirs.sort_unstable();
    assert_eq!(ours, theirs);
    assert_eq!(summary.files_changed, theirs.len());
    assert_eq!((summary.omitted_files, summary.omitted_bytes), (0, 0));
    for file in summary
        .files
        .iter()
        .filter(|file| file.kind == ChangeKind::Modified)
    {
        let diff = by_git(&repo, &["--diff-algorithm=myers"], &old, &new);
        let text = file.text.clone().unwrap_or_default();
        for line in text.lines().filter(|line| !line.starts_with("@@")) {
            assert!(
                diff.lines().any(|theirs| theirs == line),
                "{line:?} of {}",
                file.path
            );
        }
    }
    let long = &summary.files.iter().find(|file| file.path == "long").unwrap();
    let theirs = repo.git(&["diff", &old.to_string(), &new.to_string(), "--", "long"]);
    let hunks = theirs.split_once("\n@@").unwrap().1.trim_end();
    let bare = |text: &str| {
        text.lines()
            .map(|line| {
                line.trim_end_matches(|c| c != '@' && line.starts_with("@@"))
                    .to_owned()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        bare(&format!("@@{hunks}")),
        bare(long.text.as_deref().unwrap().trim_end())
    );
}

fn numstat(file: &mayfly_git::diff::FileDiff) -> String {
    let path = match file.old_path.as_deref() {
        Some("dir/moved") => "dir/moved => moved".to_owned(),
        _ => file.path.clone(),
    };
    if file.binary {
        format!("-\t-\t{path}")
    } else {
        format!("{}\t{}\t{path}", file.insertions, file.deletions)
    }
}

#[test]
fn blobs_that_are_not_here_count_as_binary() {
    let (repo, old, new) = changed();
    let full = scratch_of(&repo);
    let changes = full.changes(Some(&old), &new, 100).unwrap();
    let needed = Scratch::blobs_needed_for_diff(&changes, 100);
    assert!(needed.contains(&repo.id("HEAD:long")) && !needed.contains(&repo.id("HEAD:dir/moved")));
    assert!(!needed.contains(&repo.id("HEAD:tool")), "only its mode is new");
    assert_eq!(Scratch::blobs_needed_for_diff(&changes, 2).len(), 2);
    let bare = scratch();
    let trees = repo.git(&[
        "cat-file",
        "--batch-all-objects",
        "--batch-check=%(objectname) %(objecttype)",
    ]);
    let trees: Vec<ObjectId> = trees
        .lines()
        .filter_map(|line| line.strip_suffix(" tree"))
        .map(|id| id.parse().unwrap())
        .collect();
    bare.add_pack(&repo.pack(&trees)).unwrap();
    let summary = bare.diff(Some(&old), &new, &DiffBudget::default()).unwrap();
    assert_eq!(
        summary.files_changed,
        full.diff(Some(&old), &new, &DiffBudget::default())
            .unwrap()
            .files_changed
    );
    assert_eq!((summary.insertions, summary.deletions), (0, 0));
    let with_lines: Vec<&str> = summary
        .files
        .iter()
        .filter(|file| !file.binary)
        .map(|file| file.path.as_str())
        .collect();
    assert_eq!(with_lines, ["moved", "tool"]);
}

#[test]
fn a_link_that_becomes_a_file_of_the_same_content_goes_and_comes() {
    let link = |repo: &GitRepo| std::os::unix::fs::symlink("target", repo.path().join("link")).unwrap();
    for place in ["link", "elsewhere"] {
        let repo = GitRepo::new();
        link(&repo);
        repo.commit_all("base");
        repo.git(&["rm", "-q", "link"]);
        repo.write(place, b"target");
        let (old, new) = (repo.id("HEAD^{tree}"), repo.worktree());
        let scratch = scratch_of(&repo);
        let patch = scratch.patch(Some(&old), &new, &DiffBudget::default()).unwrap();
        let text = String::from_utf8(patch.text.into()).unwrap();
        let by_git = by_git(&repo, &["-M100%", "-p", "--full-index"], &old, &new);
        assert_eq!(text.trim_end(), by_git.trim_end());
        let applied = scratch.apply_patch(&old, &text, &ApplyLimits::default()).unwrap();
        assert_eq!(applied.tree, new);
    }
}

#[test]
fn budgets_hold_and_what_is_left_out_is_said() {
    let repo = GitRepo::new();
    for file in 0..20 {
        repo.write(
            &format!("f{file:02}"),
            format!("some line {file}\n").repeat(100).as_bytes(),
        );
    }
    let new = repo.worktree();
    let scratch = scratch_of(&repo);
    let diff = |budget: DiffBudget| -> DiffSummary { scratch.diff(None, &new, &budget).unwrap() };
    let all = diff(DiffBudget::default());
    let text_bytes = |summary: &DiffSummary| -> usize {
        summary
            .files
            .iter()
            .map(|file| file.text.as_deref().unwrap_or_default().len())
            .sum()
    };
    let whole = text_bytes(&all);
    assert_eq!((all.insertions, all.omitted_bytes), (2000, 0));
    let tight = DiffBudget {
        max_text_bytes: 3000,
        max_file_text_bytes: 700,
        max_files: 15,
        ..DiffBudget::default()
    };
    let cut = diff(tight);
    assert_eq!(
        (
            cut.files_changed,
            cut.files.len(),
            cut.omitted_files,
            cut.insertions
        ),
        (20, 15, 5, 2000)
    );
    assert!(text_bytes(&cut) <= 3000 && text_bytes(&cut) > 2900);
    assert_eq!(text_bytes(&cut) as u64 + cut.omitted_bytes, whole as u64);
    assert!(
        cut.files
            .iter()
            .filter_map(|file| file.text.as_ref())
            .all(|text| text.len() <= 700 && text.ends_with('\n'))
    );
    let blind = diff(DiffBudget {
        max_blob_bytes: 100,
        ..DiffBudget::default()
    });
    assert!(blind.files.iter().all(|file| file.binary) && blind.insertions == 0);
    let few = diff(DiffBudget {
        max_read_bytes: 5000,
        ..DiffBudget::default()
    });
    assert!(few.insertions > 0 && few.insertions < 2000);
    let error = scratch.changes(None, &new, 19).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ChangesTooLarge);
}

/// The tree that git makes of `old` and a patch.
fn applied(repo: &GitRepo, old: &TreeId, patch: &[u8]) -> TreeId {
    let file = repo.path().join(".git/the-patch");
    std::fs::write(&file, patch).unwrap();
    repo.git(&["read-tree", &old.to_string()]);
    repo.git(&["apply", "--cached", file.to_str().unwrap()]);
    repo.git(&["write-tree"]).parse().unwrap()
}

#[test]
fn git_applies_the_patch() {
    let (repo, old, _) = changed();
    repo.git(&["rm", "-q", "--cached", "binary"]);
    repo.git(&[
        "update-index",
        "--add",
        "--cacheinfo",
        &format!("160000,{},module", "1".repeat(40)),
    ]);
    for (name, content) in [
        (&b"caf\xe9 \"x\"\t.txt"[..], &b"latin \xe9\n"[..]),
        (b"empty", b""),
        (b"a b", b"x"),
    ] {
        let path = repo
            .path()
            .join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(
                name,
            ));
        std::fs::write(path, content).unwrap();
    }
    repo.git(&["add", "--all", "--", ":!binary", ":!module"]);
    let new: TreeId = repo.git(&["write-tree"]).parse().unwrap();
    // The old binary file cannot be told in text: it is taken out of the base as well.
    repo.git(&["read-tree", &old.to_string()]);
    repo.git(&["rm", "-q", "--cached", "binary"]);
    let base: TreeId = repo.git(&["write-tree"]).parse().unwrap();
    let scratch = scratch_of(&repo);
    for (from, to) in [(base, new), (new, base)] {
        let patch = scratch.patch(Some(&from), &to, &DiffBudget::default()).unwrap();
        assert!(patch.is_whole(), "{patch:?}");
        assert_eq!(applied(&repo, &from, &patch.text), to, "{}", patch.text);
    }
}

#[test]
fn a_patch_keeps_its_budget_and_counts_what_it_leaves_out() {
    let (repo, old, new) = changed();
    let scratch = scratch_of(&repo);
    let patch = |budget: DiffBudget| scratch.patch(Some(&old), &new, &budget).unwrap();
    let whole = patch(DiffBudget::default());
    assert_eq!(
        (whole.omitted_files, whole.omitted_hunks, whole.binary_files),
        (0, 0, 1)
    );
    let few = patch(DiffBudget {
        max_files: 3,
        ..DiffBudget::default()
    });
    assert_eq!(few.omitted_files, few.files_changed - 3);
    let short = patch(DiffBudget {
        max_file_text_bytes: 60,
        ..DiffBudget::default()
    });
    assert!(short.omitted_hunks >= 1 && short.text.len() < whole.text.len());
    assert!(whole.text.len() > 1500);
    for max_text_bytes in [0, 600, 1000, 1500] {
        let cut = patch(DiffBudget {
            max_text_bytes,
            ..DiffBudget::default()
        });
        assert!(cut.text.len() <= max_text_bytes && !cut.is_whole());
    }
}
