//! Checkout against the git program: the same files, bytes, modes and links.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use mayfly_git::checkout::{CheckedOut, CheckoutLimits, checkout};
use mayfly_git::pack::PackFiles;
use mayfly_protocol::{CommitId, ObjectId, TreeId};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::support::{GitRepo, scratch_of};

/// A submodule's commit, which is nowhere.
const ELSEWHERE: &str = "1111111111111111111111111111111111111111";

/// What stands at a path.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Folder,
    File { mode: u32, content: Vec<u8> },
    Link { target: Vec<u8> },
}

type Standings = BTreeMap<Vec<u8>, Standing>;

fn standings(folder: &Path) -> Standings {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            let below = path.strip_prefix(folder).unwrap().as_os_str().as_bytes();
            if below == b".git" {
                continue;
            }
            let data = fs::symlink_metadata(&path).unwrap();
            let standing = if data.is_dir() {
                open.push(path.clone());
                Standing::Folder
            } else if data.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                Standing::Link {
                    target: target.as_os_str().as_bytes().to_owned(),
                }
            } else {
                let mode = data.permissions().mode();
                let content = fs::read(&path).unwrap();
                Standing::File { mode, content }
            };
            found.insert(below.to_owned(), standing);
        }
    }
    found
}

fn checked_out(packs: &[PackFiles], tree: &TreeId) -> (TempDir, CheckedOut) {
    let into = tempfile::tempdir().unwrap();
    let limits = CheckoutLimits::default();
    let done = checkout(packs, tree, into.path(), &limits, &CancellationToken::new()).unwrap();
    (into, done)
}

/// Checks the commit out by git and by us, compares, and gives what both made.
fn same_as_git(repo: &GitRepo, packs: &[PackFiles]) -> (Standings, CheckedOut) {
    let by_git = tempfile::tempdir().unwrap();
    repo.git(&["clone", "-q", ".", by_git.path().to_str().unwrap()]);
    let (ours, done) = checked_out(packs, &repo.id("HEAD^{tree}"));
    let (expected, made) = (standings(by_git.path()), standings(ours.path()));
    let names = |standings: &Standings| standings.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&made), names(&expected));
    for (path, standing) in &expected {
        assert!(made[path] == *standing, "{}", String::from_utf8_lossy(path));
    }
    (made, done)
}

fn odd_repo() -> GitRepo {
    let repo = GitRepo::new();
    repo.write("README", b"read me\n");
    repo.write("a/b/c/deep", b"deep\n");
    repo.write("a.b", b"between `a` and `a/`\n");
    repo.write("empty", b"");
    repo.write("crlf.txt", b"one\r\ntwo\r\n");
    repo.write("binary", &(0..=255).collect::<Vec<u8>>());
    repo.write("bin/run.sh", b"#!/bin/sh\n");
    let script = repo.path().join("bin/run.sh");
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
    let latin1 = repo.path().join(OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(&latin1).unwrap();
    fs::write(latin1.join(OsStr::from_bytes(b"\xff\x01")), "odd names\n").unwrap();
    symlink("../README", repo.path().join("a/link")).unwrap();
    symlink("/nowhere/at/all", repo.path().join("dangling")).unwrap();
    symlink(OsStr::from_bytes(b"caf\xe9"), repo.path().join("folder-link")).unwrap();
    repo.git(&["add", "-A"]);
    let entry = format!("160000,{ELSEWHERE},lib/sub");
    repo.git(&["update-index", "--add", "--cacheinfo", &entry]);
    repo.git(&["commit", "-q", "-m", "all"]);
    repo
}

#[test]
fn every_kind_of_entry_is_as_git_makes_it() {
    let repo = odd_repo();
    let (made, done) = same_as_git(&repo, &[repo.pack_all()]);
    let files = made
        .values()
        .filter(|standing| matches!(standing, Standing::File { .. }));
    let bytes = made.values().map(|standing| match standing {
        Standing::File { content, .. } => content.len() as u64,
        _ => 0,
    });
    let expected = CheckedOut {
        files: files.count() as u64,
        bytes: bytes.sum(),
        symlinks: 3,
        submodules: 1,
    };
    assert_eq!(done, expected);
    assert_eq!((done.files, made.len()), (8, 8 + 3 + 7));
    assert_eq!(made[&b"lib/sub"[..]], Standing::Folder);
}

#[test]
fn what_attributes_ask_for_is_not_done() {
    let repo = GitRepo::new();
    let attributes = "*.crlf text eol=crlf\n*.lf text eol=lf\n*.id ident\n*.f filter=evil\n*.u working-tree-encoding=UTF-16\n";
    repo.write(".gitattributes", attributes.as_bytes());
    let contents: [(&str, &[u8]); 5] = [
        ("a.crlf", b"one\ntwo\n"),
        ("b.lf", b"one\r\ntwo\r\n"),
        ("c.id", b"$Id$\n"),
        ("d.f", b"plain\n"),
        ("e.u", b"plain\n"),
    ];
    // The blobs are made by hand, as `git add` would obey the attributes.
    repo.git(&["add", ".gitattributes"]);
    for (name, content) in contents {
        let id = repo.git_with(&["hash-object", "-w", "--no-filters", "--stdin"], content);
        let entry = format!("100644,{id},{name}");
        repo.git(&["update-index", "--add", "--cacheinfo", &entry]);
    }
    repo.git(&["commit", "-q", "-m", "attributes"]);
    let (ours, _) = checked_out(&[repo.pack_all()], &repo.id("HEAD^{tree}"));
    for (name, content) in contents {
        assert_eq!(fs::read(ours.path().join(name)).unwrap(), content, "{name}");
    }
    let by_git = tempfile::tempdir().unwrap();
    repo.git(&["clone", "-q", ".", by_git.path().to_str().unwrap()]);
    let obeyed = fs::read(by_git.path().join("a.crlf")).unwrap();
    assert_eq!(obeyed, b"one\r\ntwo\r\n", "git obeys them, so the test can fail");
}

#[test]
fn thousands_of_files_with_deltas_between_them() {
    let repo = GitRepo::new();
    let lines: Vec<String> = (0..400).map(|line| format!("line {line} of many\n")).collect();
    for number in 0..5_000 {
        let mut content = lines[number % 300..number % 300 + 40].concat();
        content.push_str(&number.to_string());
        repo.write(
            &format!("{}/{}/{number}.txt", number % 7, number % 31),
            content.as_bytes(),
        );
    }
    repo.commit_all("many");
    repo.write("0/0/0.txt", lines.concat().as_bytes());
    repo.commit_all("more");
    let pack = repo.pack_all();
    let listed = repo.git(&["verify-pack", "-s", pack.index.to_str().unwrap()]);
    assert!(listed.contains("chain length = 2"), "{listed}");
    let (_, done) = same_as_git(&repo, &[pack]);
    assert_eq!((done.files, done.symlinks, done.submodules), (5_000, 0, 0));
}

#[test]
fn the_objects_may_stand_in_several_packs() {
    let repo = odd_repo();
    let base = repo.pack_all();
    repo.write("a/b/new", b"new\n");
    let head: CommitId = repo.commit_all("change");
    let into = tempfile::tempdir().unwrap();
    let trees = scratch_of(&repo).write_trees_pack(&head, into.path()).unwrap();
    let new: ObjectId = repo.id("HEAD:a/b/new");
    same_as_git(&repo, &[trees, base, repo.pack(&[new])]);
}

#[test]
fn an_empty_tree_is_an_empty_folder() {
    let (into, done) = checked_out(&[], &TreeId::EMPTY_TREE);
    assert_eq!((standings(into.path()).len(), done), (0, CheckedOut::default()));
    // Git knows no empty folder.
    let repo = GitRepo::new();
    let bytes = crate::support::tree_bytes(&[("40000", b"folder", TreeId::EMPTY_TREE)]);
    let tree = repo.git_with(
        &["hash-object", "-t", "tree", "-w", "--literally", "--stdin"],
        &bytes,
    );
    let (into, done) = checked_out(&[repo.pack_all()], &tree.parse().unwrap());
    assert_eq!((standings(into.path()).len(), done), (0, CheckedOut::default()));
}
