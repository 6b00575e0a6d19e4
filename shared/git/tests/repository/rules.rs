//! Ignore rules and attributes, held against `git check-ignore` and `git check-attr`.

use bstr::{BString, ByteSlice};
use mayfly_git::rules::RuleKind;
use mayfly_git::scratch::{Scratch, ScratchError};
use mayfly_protocol::TreeId;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::{GitRepo, TestScratch, scratch_of};

/// Everything in the working tree, ignored or not, as a tree that a scratch repository holds.
fn tree_of(repo: &GitRepo) -> (TestScratch, TreeId) {
    repo.git(&["add", "-A", "-f"]);
    let tree = repo.git(&["write-tree"]).parse().unwrap();
    (scratch_of(repo), tree)
}

fn nul_joined(paths: &[BString]) -> Vec<u8> {
    paths
        .iter()
        .flat_map(|path| [path.as_bytes(), b"\0"].concat())
        .collect()
}

/// What git itself says; a path that is tracked is asked about as if it were not.
fn ignored_by_git(repo: &GitRepo, paths: &[BString]) -> Vec<BString> {
    let output = repo.try_git(
        &["check-ignore", "--no-index", "--stdin", "-z"],
        &nul_joined(paths),
    );
    let mut found: Vec<BString> = output
        .stdout
        .split_str("\0")
        .filter(|path| !path.is_empty())
        .map(BString::from)
        .collect();
    found.sort();
    found
}

fn ignored_by_us(scratch: &Scratch, tree: &TreeId, paths: &[BString]) -> Result<Vec<BString>, ScratchError> {
    let rules = scratch.rule_files(tree, RuleKind::Ignore, paths.iter().map(|path| path.as_bstr()))?;
    scratch.ignored(&rules, paths.to_vec())
}

fn lfs_by_git(repo: &GitRepo, paths: &[BString]) -> Vec<BString> {
    let output = repo.try_git(&["check-attr", "--stdin", "-z", "filter"], &nul_joined(paths));
    let fields: Vec<_> = output.stdout.split_str("\0").collect();
    let mut found: Vec<BString> = fields
        .chunks_exact(3)
        .filter(|triple| triple[2] == b"lfs")
        .map(|triple| triple[0].into())
        .collect();
    found.sort();
    found
}

fn lfs_by_us(scratch: &Scratch, tree: &TreeId, paths: &[BString]) -> Vec<BString> {
    let some = scratch
        .rule_files(
            tree,
            RuleKind::Attributes,
            paths.iter().map(|path| path.as_bstr()),
        )
        .unwrap();
    let all = scratch
        .all_rule_files(tree, RuleKind::Attributes, 10_000)
        .unwrap();
    let found = scratch.lfs_paths(&all, paths.to_vec()).unwrap();
    assert_eq!(found, scratch.lfs_paths(&some, paths.to_vec()).unwrap());
    found
}

#[test]
fn ignore_rules_at_every_level_as_git_has_them() {
    let repo = GitRepo::new();
    repo.write(
        ".gitignore",
        b"\xef\xbb\xbf*.log\n!keep.log\n/build\nout/\n# note\n\\#real\n\\!bang\ntrail \nspace\\ \na/**/z\n**/deep/x\nq?.[ch]\n\xff\xfe\ncr\r\n",
    );
    repo.write("sub/.gitignore", b"!*.log\n/only-here\nnested/*\n!nested/in\n");
    repo.write("out/.gitignore", b"!*\n");
    repo.write("sub/out", b"a file of that name");
    let linked = repo.path().join("links");
    std::fs::create_dir(&linked).unwrap();
    std::os::unix::fs::symlink("../sub/.gitignore", linked.join(".gitignore")).unwrap();
    for path in [
        "a.log",
        "keep.log",
        "sub/a.log",
        "sub/deep/b.log",
        "build/x",
        "sub/build/x",
        "out/x",
        "sub/only-here",
        "only-here",
        "#real",
        "!bang",
        "trail",
        "space ",
        "a/z",
        "a/b/c/z",
        "m/n/deep/x",
        "deep/x",
        "q1.c",
        "q12.c",
        "sub/nested/out",
        "sub/nested/in",
        "links/only-here",
        "cr",
        "x/y/out/w",
    ] {
        repo.write(path, b"x");
    }
    let name: BString = b"\xff\xfe".into();
    std::fs::write(repo.path().join(name.to_os_str().unwrap()), b"x").unwrap();
    let (scratch, tree) = tree_of(&repo);
    let mut paths = Vec::new();
    scratch
        .walk(&tree, 1000, |path, entry| {
            if !entry.is_folder() {
                paths.push(BString::from(path));
            }
            Ok::<_, ScratchError>(())
        })
        .unwrap();
    let ignored = ignored_by_us(&scratch, &tree, &paths).unwrap();
    assert_eq!(ignored, ignored_by_git(&repo, &paths));
    assert!(ignored.contains(&"a.log".into()) && !ignored.contains(&"sub/a.log".into()));
    assert!(ignored.contains(&"out/x".into()) && !ignored.contains(&"sub/out".into()));
}

#[test]
fn attributes_at_every_level_as_git_has_them() {
    let repo = GitRepo::new();
    let long = format!("long.bin {} filter=lfs\n", "a".repeat(3000));
    let root = format!(
        "[attr]big filter=lfs -text\n*.bin filter=lfs diff=lfs merge=lfs -text\n*.psd big\nassets/** filter=lfs\n\
         \"with space.x\" filter=lfs\n/top.dat filter=lfs\n{long}*.other filter=other\n*.txt !filter\n*.bare filter\n"
    );
    repo.write(".gitattributes", root.as_bytes());
    repo.write(
        "sub/.gitattributes",
        b"*.bin -filter\n[attr]own filter=lfs\n*.own own\n*.dat filter=lfs\n*.psd !filter\n",
    );
    repo.write("sub/deep/.gitattributes", b"*.bin filter=lfs\n");
    let mut paths: Vec<BString> = [
        "a.bin",
        "a.psd",
        "assets/x/y",
        "assets/a.txt",
        "with space.x",
        "top.dat",
        "sub/top.dat",
        "x/top.dat",
        "long.bin",
        "a.other",
        "a.bare",
        "sub/a.bin",
        "sub/a.own",
        "sub/a.psd",
        "sub/deep/a.bin",
        "sub/deep/a.psd",
        "plain",
    ]
    .map(BString::from)
    .into();
    paths.sort();
    for path in &paths {
        repo.write(path.to_str().unwrap(), b"x");
    }
    let (scratch, tree) = tree_of(&repo);
    let found = lfs_by_us(&scratch, &tree, &paths);
    assert_eq!(found, lfs_by_git(&repo, &paths));
    assert!(found.contains(&"sub/deep/a.bin".into()) && !found.contains(&"sub/a.bin".into()));
}

/// A path of up to three names out of few, so that rules and paths meet.
fn path() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "ab", "a.o", "b.o", ".x"]);
    prop::collection::vec(name, 1..=3).prop_map(|names| names.join("/"))
}

/// A line of rules made of the pieces that mean something.
///
/// Left out is `**` right behind plain text, as in `a**/*`: gitignore(5) calls such asterisks regular, while git's code, which compares the plain
/// text first, takes what remains for a leading `**/` and matches the path `a` as well.
fn pattern() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a", "b", "ab", "*", "**", "/", "?", "[ab]", "[!a]", ".o", ".x", "\\", "a/b", "*.o", "**/",
    ]);
    let body = prop::collection::vec(piece, 1..=4)
        .prop_map(|pieces| pieces.concat())
        .prop_filter("git contradicts its documentation", |body| {
            let plain = body.find(['*', '?', '[', '\\']).unwrap_or(body.len());
            let (plain, rest) = body.split_at(plain);
            plain.is_empty() || plain.ends_with('/') || !rest.starts_with("**")
        });
    (prop::bool::weighted(0.3), body)
        .prop_map(|(takes_in, body)| format!("{}{body}", if takes_in { "!" } else { "" }))
}

type Rules = Vec<(&'static str, Vec<String>)>;

fn rules() -> impl Strategy<Value = Rules> {
    let folder = prop::sample::select(vec!["", "a/", "b/", "a/b/"]);
    prop::collection::vec((folder, prop::collection::vec(pattern(), 1..=4)), 1..=3)
}

/// Writes the files of rules and asks about the paths; what cannot be there beside another (a file and a folder of one name) is left out.
fn ask(
    file: &str,
    rules: &Rules,
    paths: &[String],
    line: impl Fn(&str) -> String,
) -> (GitRepo, Vec<BString>) {
    let repo = GitRepo::new();
    let mut there = Vec::new();
    for (folder, patterns) in rules {
        let lines: String = patterns.iter().map(|pattern| line(pattern) + "\n").collect();
        repo.write(&format!("{folder}{file}"), lines.as_bytes());
    }
    for path in paths {
        let full = repo.path().join(path);
        let fits = full
            .parent()
            .is_some_and(|above| std::fs::create_dir_all(above).is_ok());
        if fits && !full.is_dir() && std::fs::write(&full, b"x").is_ok() {
            there.push(BString::from(path.as_str()));
        }
    }
    there.sort();
    there.dedup();
    (repo, there)
}

#[test]
fn any_ignore_rules_give_what_git_gives() {
    let cases = (rules(), prop::collection::vec(path(), 4..12));
    let mut runner = TestRunner::new(Config {
        cases: 48,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&cases, |(rules, paths)| {
        let (repo, paths) = ask(".gitignore", &rules, &paths, str::to_owned);
        let (scratch, tree) = tree_of(&repo);
        prop_assert_eq!(
            ignored_by_us(&scratch, &tree, &paths).unwrap(),
            ignored_by_git(&repo, &paths)
        );
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn any_attributes_give_what_git_gives() {
    let cases = (rules(), prop::collection::vec(path(), 4..12));
    let mut runner = TestRunner::new(Config {
        cases: 24,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&cases, |(rules, paths)| {
        // The second half of what a line may say, so that later lines take back what earlier ones gave.
        let line = |pattern: &str| match pattern.strip_prefix('!') {
            Some(rest) => format!("{rest} -filter"),
            None => format!("{pattern} filter=lfs"),
        };
        let (repo, paths) = ask(".gitattributes", &rules, &paths, line);
        let (scratch, tree) = tree_of(&repo);
        prop_assert_eq!(lfs_by_us(&scratch, &tree, &paths), lfs_by_git(&repo, &paths));
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn what_is_left_out_of_the_tree_is_left_out_of_the_pack() {
    use mayfly_protocol::request::{FileAction, FileChange};
    let repo = GitRepo::new();
    repo.write("kept", b"kept");
    let commit = repo.commit_all("One");
    let scratch = scratch_of(&repo);
    let base = scratch.commit_tree(&commit).unwrap();
    let write = |path: &str, content: &str| FileChange {
        path: path.parse().unwrap(),
        action: FileAction::Write {
            content: content.into(),
            mode: None,
        },
    };
    let changes = [
        write("logs/secret.log", "secret"),
        write("src/new", "new"),
        write("src/copy", "kept"),
    ];
    let applied = scratch
        .apply_files(&base, &changes, &mayfly_git::apply::ApplyLimits::default())
        .unwrap();
    let tree = scratch
        .without(&applied.tree, ["logs/secret.log".into()])
        .unwrap();
    assert!(
        scratch.entry(&tree, "logs").unwrap().is_none(),
        "an empty folder is none"
    );
    scratch.keep_only(&tree).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let pack = scratch.write_new_pack(folder.path()).unwrap().unwrap();
    // The root, `src` and `src/new`; `src/copy` has the content of a file that is there.
    assert_eq!(pack.objects, 3);
}
