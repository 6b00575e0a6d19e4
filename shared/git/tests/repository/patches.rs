//! Patches against `git apply`: the same trees, and the same refusals.

use mayfly_git::apply::{Applied, ApplyError, ApplyLimits};
use mayfly_git::scratch::{ObjectKind, Scratch};
use mayfly_protocol::{ErrorCode, TreeId};

use crate::support::{GitRepo, TestScratch, scratch};

/// A repository whose working tree is about to be changed.
struct Change {
    repo: GitRepo,
    base: TreeId,
}

impl Change {
    fn of(files: &[(&str, &[u8])]) -> Self {
        let repo = GitRepo::new();
        files.iter().for_each(|(path, content)| repo.write(path, content));
        repo.commit_all("base");
        let base = repo.id("HEAD^{tree}");
        Self { repo, base }
    }

    /// Takes the changes of the working tree as a patch, and checks that both programs make the same tree of it.
    fn check(&self, diff_options: &[&str]) -> Applied {
        let after = self.repo.worktree();
        let patch = self
            .repo
            .git_raw(&[&["diff", "--cached"], diff_options, &["HEAD"]].concat());
        let patch = String::from_utf8(patch).expect("git quotes names that are not UTF-8");
        self.repo.git(&["reset", "-q", "--hard"]);
        self.repo.git_with(&["apply", "--index", "-"], patch.as_bytes());
        assert_eq!(
            self.repo.git(&["write-tree"]),
            after.to_string(),
            "git itself: {patch}"
        );
        let applied = self
            .apply(&patch)
            .unwrap_or_else(|error| panic!("{error}: {patch}"));
        assert_eq!(applied.tree, after, "{patch}");
        applied
    }

    /// A scratch repository with the trees and those blobs that a patch asks for.
    fn scratch(&self, patch: &str) -> TestScratch {
        let scratch = scratch();
        scratch
            .add_pack(&self.repo.pack(&self.repo.commit_and_trees(&self.repo.id("HEAD"))))
            .unwrap();
        for blob in scratch.patched_blobs(&self.base, patch).unwrap_or_default() {
            let content = self.repo.git_raw(&["cat-file", "blob", &blob.to_string()]);
            assert_eq!(scratch.add_object(ObjectKind::Blob, &content).unwrap(), blob);
        }
        scratch
    }

    fn apply(&self, patch: &str) -> Result<Applied, ApplyError> {
        self.scratch(patch)
            .apply_patch(&self.base, patch, &ApplyLimits::default())
    }

    /// What both programs do with a patch that someone wrote: the tree, or a refusal.
    fn agree(&self, patch: &str) -> Option<TreeId> {
        self.repo.git(&["reset", "-q", "--hard"]);
        let by_git = self.repo.try_git(&["apply", "--index", "-"], patch.as_bytes());
        let by_git = by_git.status.success().then(|| self.repo.git(&["write-tree"]));
        let ours = self.apply(patch);
        let tree = ours.as_ref().ok().map(|applied| applied.tree);
        assert_eq!(tree.map(|tree| tree.to_string()), by_git, "{ours:?}: {patch}");
        tree
    }

    fn code(&self, patch: &str) -> ErrorCode {
        self.apply(patch).expect_err(patch).code()
    }
}

fn lines(numbers: impl IntoIterator<Item = u32>) -> Vec<u8> {
    numbers
        .into_iter()
        .map(|number| format!("line {number}\n"))
        .collect::<String>()
        .into_bytes()
}

#[test]
fn changed_new_and_deleted_files() {
    let change = Change::of(&[
        ("a/x", &lines(1..50)),
        ("a/only/here", b"gone\n"),
        ("b", b"b\n"),
        ("empty", b""),
        ("c d/e f", b"spaces\n"),
    ]);
    change.repo.write(
        "a/x",
        &[lines(1..5), b"new\n".to_vec(), lines(7..40), lines(1..3)].concat(),
    );
    change.repo.write("new/file", b"made\n");
    change.repo.write("new/empty", b"");
    change.repo.write("c d/e f", b"other spaces\n");
    change.repo.git(&["rm", "-q", "a/only/here", "empty"]);
    assert_eq!(change.check(&["--no-renames"]).files_changed, 6);
}

#[test]
fn the_last_file_of_all_goes() {
    let change = Change::of(&[("a/b/c", b"only\n")]);
    change.repo.git(&["rm", "-q", "a/b/c"]);
    assert_eq!(change.check(&[]).tree, TreeId::EMPTY_TREE);
}

#[test]
fn renames_and_copies() {
    let change = Change::of(&[
        ("old/name", &lines(1..30)),
        ("swap", &lines(100..130)),
        ("copied", &lines(200..230)),
    ]);
    std::fs::create_dir(change.repo.path().join("new")).unwrap();
    change.repo.git(&["mv", "old/name", "new/name"]);
    change.repo.git(&["mv", "swap", "swapped"]);
    change
        .repo
        .write("swapped", &[lines(100..128), b"changed\n".to_vec()].concat());
    change
        .repo
        .write("copy", &[lines(200..228), b"changed\n".to_vec()].concat());
    let applied = change.check(&["-M", "-C", "--find-copies-harder"]);
    assert_eq!(applied.files_changed, 3);
}

#[test]
fn a_chain_of_renames() {
    let change = Change::of(&[("a", &lines(1..30)), ("b", &lines(100..130))]);
    change.repo.git(&["mv", "b", "c"]);
    change.repo.git(&["mv", "a", "b"]);
    change.check(&["-M", "-B"]);
}

#[test]
fn modes_alone_and_with_content() {
    let change = Change::of(&[("tool", b"#!/bin/sh\n"), ("both", b"1\n")]);
    change.repo.git(&["update-index", "--chmod=+x", "tool"]);
    change.repo.write("both", b"2\n");
    change.repo.git(&["update-index", "--chmod=+x", "both"]);
    change.repo.git(&["config", "core.fileMode", "false"]);
    change.check(&[]);
}

#[test]
fn binary_files_whole_and_as_deltas() {
    let noise = |seed: u32| {
        (0..20_000u32).map(move |i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8)
    };
    let old: Vec<u8> = noise(1).collect();
    let change = Change::of(&[
        ("changed.bin", &old),
        ("gone.bin", &old[..999]),
        ("emptied.bin", &old[..77]),
    ]);
    let mut new = old.clone();
    new[5000..5010].copy_from_slice(b"0123456789");
    change.repo.write("changed.bin", &new);
    change
        .repo
        .write("made.bin", &noise(7).take(333).collect::<Vec<_>>());
    change.repo.write("emptied.bin", b"");
    change.repo.git(&["rm", "-q", "gone.bin"]);
    change.check(&["--binary"]);
}

#[test]
fn line_ends_of_all_kinds() {
    let change = Change::of(&[
        ("crlf", b"one\r\ntwo\r\nthree\r\n"),
        ("no-end", b"one\ntwo"),
        ("gets-end", b"one\ntwo"),
        ("loses-end", b"one\ntwo\n"),
        ("mixed", b"one\r\ntwo\nthree\r"),
        ("cr", b"a\rb\rc\n"),
    ]);
    change.repo.write("crlf", b"one\r\n2\r\nthree\r\n");
    change.repo.write("no-end", b"1\ntwo");
    change.repo.write("gets-end", b"one\ntwo\n");
    change.repo.write("loses-end", b"one\ntwo");
    change.repo.write("mixed", b"one\ntwo\r\nthree\r");
    change.repo.write("cr", b"a\rB\rc\n");
    change.check(&[]);
}

#[test]
fn links_and_changes_of_kind() {
    let change = Change::of(&[
        ("target", b"t\n"),
        ("becomes-link", b"file\n"),
        ("becomes-folder", b"file\n"),
        ("dir/x", b"x\n"),
    ]);
    let root = change.repo.path();
    std::os::unix::fs::symlink("target", root.join("made-link")).unwrap();
    std::fs::remove_file(root.join("becomes-link")).unwrap();
    std::os::unix::fs::symlink("../outside", root.join("becomes-link")).unwrap();
    std::fs::remove_file(root.join("becomes-folder")).unwrap();
    change.repo.write("becomes-folder/inside", b"i\n");
    std::fs::remove_dir_all(root.join("dir")).unwrap();
    change.repo.write("dir", b"now a file\n");
    change.check(&[]);
}

#[cfg(unix)]
#[test]
fn names_that_need_quotes() {
    use std::os::unix::ffi::OsStrExt as _;
    let change = Change::of(&[
        ("tab\tname", b"1\n"),
        ("quote\"name", b"1\n"),
        ("back-slash", b"1\n"),
    ]);
    change.repo.write("tab\tname", b"2\n");
    change.repo.write("ümläut", b"new\n");
    let latin1 = change.repo.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    std::fs::write(latin1, b"not UTF-8\n").unwrap();
    change.repo.git(&["mv", "quote\"name", "new\nline"]);
    change.check(&["-M"]);
}

#[test]
fn offsets_are_found_as_git_finds_them() {
    let change = Change::of(&[("f", &lines(1..200))]);
    change.repo.write(
        "f",
        &[
            lines(1..100),
            b"inserted\n".to_vec(),
            lines(100..150),
            lines(153..200),
        ]
        .concat(),
    );
    change.repo.git(&["add", "-A"]);
    let patch = String::from_utf8(change.repo.git_raw(&["diff", "--cached"])).unwrap();
    change.repo.git(&["reset", "-q", "--hard"]);
    let moved = Change::of(&[(
        "f",
        &[&b"before\n"[..], &lines(1..60), &lines(300..320), &lines(60..200)].concat(),
    )]);
    assert!(moved.agree(&patch).is_some());
    let twice = Change::of(&[("f", &[lines(1..200), lines(90..110)].concat())]);
    assert!(twice.agree(&patch).is_some());
    let other = Change::of(&[("f", &[lines(1..99), lines(200..300)].concat())]);
    assert_eq!(other.agree(&patch), None);
}

#[test]
fn hunks_at_an_end_belong_there() {
    let at_start = "--- a/f\n+++ b/f\n@@ -1,2 +1,3 @@\n+new\n line 1\n line 2\n";
    let at_end = "--- a/f\n+++ b/f\n@@ -3,2 +3,3 @@\n line 3\n line 4\n+new\n";
    for (content, fits) in [
        (lines(1..5), true),
        ([lines(7..9), lines(1..5), lines(7..9)].concat(), false),
    ] {
        let change = Change::of(&[("f", &content)]);
        for patch in [at_start, at_end] {
            assert_eq!(change.agree(patch).is_some(), fits, "{patch}");
        }
    }
}

#[test]
fn plain_diffs_mails_and_series() {
    let change = Change::of(&[("dir/f", b"1\n2\n3\n"), ("gone", b"x\n")]);
    let plain = "--- a/dir/f\t2026-01-01 00:00:00\n+++ b/dir/f\n@@ -1,3 +1,3 @@ fn x()\n 1\n-2\n+two\n 3\n\
        --- /dev/null\n+++ b/made\n@@ -0,0 +1 @@\n+made\n--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n";
    assert!(change.agree(plain).is_some());
    change.repo.write("dir/f", b"1\nII\n3\n");
    change.repo.commit_all("Second: a/b c\n\n--- not a diff\n");
    change.repo.write("made", b"made\n");
    change.repo.commit_all("third");
    change.repo.write("dir/f", b"1\nII\nIII\n");
    change.repo.write("made", b"made again\n");
    let last = change.repo.commit_all("fourth");
    let after = change.repo.id(&format!("{last}^{{tree}}"));
    let mails = |from: &str| {
        String::from_utf8(
            change
                .repo
                .git_raw(&["format-patch", "--stdout", "-M", from, "-3", "HEAD"]),
        )
        .unwrap()
    };
    let series = mails("--no-signature");
    change.repo.git(&["reset", "-q", "--hard", "HEAD~3"]);
    // Each part sees what the one before made.
    assert_eq!(change.agree(&series), Some(after));
}

#[test]
fn what_does_not_fit_is_a_conflict_that_names_the_file() {
    let change = Change::of(&[("f", b"1\n2\n3\n"), ("dir/x", b"x\n"), ("link-less", b"y\n")]);
    for patch in [
        "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n 1\n-two\n+2\n 3\n",
        "diff --git a/none b/none\n--- a/none\n+++ b/none\n@@ -1 +1 @@\n-1\n+2\n",
        "diff --git a/f b/f\nnew file mode 100644\n--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+1\n",
        "diff --git a/f b/f\ndeleted file mode 100644\n--- a/f\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-1\n-2\n",
        "diff --git a/f b/dir/x\nrename from f\nrename to dir/x\n",
        "diff --git a/dir b/dir\nnew file mode 100644\n--- /dev/null\n+++ b/dir\n@@ -0,0 +1 @@\n+1\n",
        "diff --git a/f b/f\nindex 1234567..7654321 120000\n--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n 1\n-2\n+II\n 3\n",
    ] {
        assert_eq!(change.agree(patch), None);
        let error = change.apply(patch).unwrap_err();
        assert_eq!(error.code(), ErrorCode::PatchConflict, "{error}: {patch}");
        assert!(
            ["`f`", "`none`", "`dir/x`", "`dir`"]
                .iter()
                .any(|name| error.to_string().contains(name)),
            "{error}"
        );
    }
}

#[test]
fn what_cannot_be_read_names_the_line() {
    let change = Change::of(&[("f", b"1\n")]);
    for patch in [
        "",
        "no patch\n",
        "@@ -1 +1 @@\n-1\n+2\n",
        "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-1\n",
        "--- a/f\n+++ b/f\n@@ -1 +x @@\n-1\n+2\n",
        "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-1\n?2\n",
        "--- a/f\n+++ b/f\n@@ -1 +1,99999999999999999999 @@\n-1\n+2\n",
        "--- a/f\n+++ b/g\n@@ -1 +1 @@\n-1\n+2\n",
        "--- f\n+++ f\n@@ -1 +1 @@\n-1\n+2\n",
        "--- \"a/f\n+++ b/f\n@@ -1 +1 @@\n-1\n+2\n",
        "diff --git a/f b/f\n",
        "diff --git a/f b/f\nold mode 100644\nnew mode 777777\n",
        "diff --git a/f b/f\nindex 1..2 100644\nBinary files a/f and b/f differ\n",
        "diff --git a/f b/f\nGIT binary patch\nliteral x\n",
        "diff --git a/f b/f\nGIT binary patch\nliteral 1\nz1\n\n",
        "diff --git a/f b/f\n--- a/g\n+++ b/g\n@@ -1 +1 @@\n-1\n+2\n",
        "diff --git a/f b/f\nnew file mode 100644\ndeleted file mode 100644\n",
        "diff --git a/f b/g\nrename from f\n",
    ] {
        let error = change.apply(patch).expect_err(patch);
        assert_eq!(error.code(), ErrorCode::PatchInvalid, "{error}: {patch}");
        assert!(error.to_string().contains("line "), "{error}");
    }
}

#[test]
fn paths_that_lead_out_are_refused_wherever_they_stand() {
    let change = Change::of(&[("f", b"1\n")]);
    let hunk = "@@ -0,0 +1 @@\n+1\n";
    for bad in [
        "../x",
        "a/../../x",
        "/etc/x",
        ".git/hooks/pre-push",
        ".GIT/config",
        "git~1/x",
        ".g\u{200c}it/config",
        "x\\y",
    ] {
        for patch in [
            format!("--- /dev/null\n+++ b/{bad}\n{hunk}"),
            format!("--- a/{bad}\n+++ /dev/null\n@@ -1 +0,0 @@\n-1\n"),
            format!("diff --git a/{bad} b/{bad}\nnew file mode 100644\n--- /dev/null\n+++ b/{bad}\n{hunk}"),
            format!("diff --git a/{bad} b/{bad}\nnew file mode 100644\n"),
            format!("diff --git \"a/{bad}\" \"b/{bad}\"\nnew file mode 100644\n").replace("x\\y", "x\\\\y"),
            format!("diff --git a/f b/g\nsimilarity index 100%\nrename from f\nrename to {bad}\n"),
            format!("diff --git a/f b/g\nsimilarity index 100%\ncopy from {bad}\ncopy to g\n"),
        ] {
            assert_eq!(change.code(&patch), ErrorCode::PathRefused, "{patch}");
            assert_eq!(
                Scratch::patch_paths(&patch).unwrap_err().code(),
                ErrorCode::PathRefused
            );
        }
    }
    for absolute in [
        "--- /dev/null\n+++ /etc/passwd\n",
        "--- /dev/null\n+++ ../etc/passwd\n",
    ] {
        assert_eq!(
            change.code(&format!("{absolute}{hunk}")),
            ErrorCode::PathRefused,
            "{absolute}"
        );
    }
}

#[test]
fn nothing_goes_through_links_or_submodules() {
    let change = Change::of(&[("file", b"1\n")]);
    std::os::unix::fs::symlink("/etc", change.repo.path().join("link")).unwrap();
    change.repo.git(&["add", "link"]);
    change.repo.git(&[
        "update-index",
        "--add",
        "--cacheinfo",
        &format!("160000,{},sub", "1".repeat(40)),
    ]);
    change.repo.git(&["commit", "-q", "-m", "base"]);
    let change = Change {
        base: change.repo.id("HEAD^{tree}"),
        ..change
    };
    for path in ["link/passwd", "sub/x", "file/x"] {
        let patch = format!("--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+1\n");
        assert_eq!(change.code(&patch), ErrorCode::PathRefused, "{path}");
        let patch = format!("--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-1\n+2\n");
        assert_eq!(change.code(&patch), ErrorCode::PathRefused, "{path}");
    }
    let module = "diff --git a/sub b/sub\nindex 1111111..2222222 160000\n--- a/sub\n+++ b/sub\n@@ -1 +1 @@\n-Subproject commit 1\n+Subproject commit 2\n";
    assert_eq!(change.code(module), ErrorCode::PathRefused);
    for (name, target) in [(".gitmodules", "x"), ("sub/../x", "x"), ("made", "nul\0")] {
        let patch = format!(
            "diff --git a/{name} b/{name}\nnew file mode 120000\n--- /dev/null\n+++ b/{name}\n@@ -0,0 +1 @@\n+{target}\n\\ No newline at end of file\n"
        );
        assert_eq!(change.code(&patch), ErrorCode::PathRefused, "{name}");
    }
    let renamed =
        "diff --git a/link b/.gitmodules\nsimilarity index 100%\nrename from link\nrename to .gitmodules\n";
    assert_eq!(change.code(renamed), ErrorCode::PathRefused);
}

#[test]
fn bombs_stop_at_the_limits() {
    let zeros = vec![0u8; 1 << 20];
    let change = Change::of(&[("f", b"1\n")]);
    change.repo.write("zeros", &zeros);
    change.repo.git(&["add", "-A"]);
    let patch = String::from_utf8(change.repo.git_raw(&["diff", "--cached", "--binary"])).unwrap();
    assert!(patch.len() < 20_000);
    let scratch = change.scratch(&patch);
    let apply = |limits: ApplyLimits| scratch.apply_patch(&change.base, &patch, &limits);
    let small = ApplyLimits {
        max_file_bytes: 1000,
        ..ApplyLimits::default()
    };
    assert_eq!(apply(small).unwrap_err().code(), ErrorCode::ChangesTooLarge);
    let small = ApplyLimits {
        max_total_bytes: 1000,
        ..ApplyLimits::default()
    };
    assert_eq!(apply(small).unwrap_err().code(), ErrorCode::ChangesTooLarge);
    assert_eq!(
        apply(ApplyLimits {
            max_files: 0,
            ..ApplyLimits::default()
        })
        .unwrap_err()
        .code(),
        ErrorCode::ChangesTooLarge
    );
    // A size that is a lie is damage, and is found without inflating more than was said.
    let lie = patch.replacen("literal 1048576", "literal 1000", 1);
    assert_eq!(change.code(&lie), ErrorCode::PatchConflict);
    apply(ApplyLimits::default()).unwrap();
}

#[test]
fn a_search_that_nearly_fits_everywhere_ends() {
    let change = Change::of(&[("f", &b"a\n".repeat(200_000))]);
    let context = " a\n".repeat(100_000);
    let patch = format!("--- a/f\n+++ b/f\n@@ -5,100001 +5,100002 @@\n{context}-b\n+c\n+d\n a\n")
        .replace("100001", "100002")
        .replace("5,100002 @@", "5,100003 @@");
    assert_eq!(change.code(&patch), ErrorCode::PatchConflict);
}

#[test]
fn content_that_was_not_loaded_is_said_so() {
    let change = Change::of(&[("f", b"1\n")]);
    let scratch = scratch();
    scratch
        .add_pack(
            &change
                .repo
                .pack(&change.repo.commit_and_trees(&change.repo.id("HEAD"))),
        )
        .unwrap();
    let patch = "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-1\n+2\n";
    let error = scratch
        .apply_patch(&change.base, patch, &ApplyLimits::default())
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::ChangesTooLarge, "{error}");
}
