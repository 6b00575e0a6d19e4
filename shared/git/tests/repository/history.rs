//! Which commits lead to which, and what a remote lacks.

use std::collections::BTreeSet;

use mayfly_git::scratch::{HistoryWalk, ScratchError, Signature, WalkStep};
use mayfly_protocol::request::{FileAction, FileChange};
use mayfly_protocol::{CommitId, ObjectId};

use crate::support::{GitRepo, TestScratch, scratch, scratch_of};

fn who() -> Signature {
    Signature {
        name: "A".into(),
        email: "a@b.c".into(),
        seconds: 1_700_000_000,
        offset_minutes: 0,
    }
}

/// A scratch repository with a head's commit and trees only, as a session has it.
fn small_scratch(repo: &GitRepo, head: &CommitId) -> TestScratch {
    let scratch = scratch();
    scratch
        .add_pack(&repo.pack(&repo.commit_and_trees(head)))
        .unwrap();
    scratch
}

fn write(path: &str, content: &str) -> FileChange {
    let action = FileAction::Write {
        content: content.as_bytes().to_vec(),
        mode: None,
    };
    FileChange {
        path: path.parse().unwrap(),
        action,
    }
}

fn delete(path: &str) -> FileChange {
    FileChange {
        path: path.parse().unwrap(),
        action: FileAction::Delete,
    }
}

fn base_repo() -> GitRepo {
    let repo = GitRepo::new();
    for path in ["a/b/c", "a/x", "d/y", "top"] {
        repo.write(path, format!("content of {path}\n").as_bytes());
    }
    repo.commit_all("base");
    repo
}

/// Lets a repository take a pack that stands on what it has, and checks that nothing is missing then.
fn receive(repo: &GitRepo, pack: &[u8], commit: &CommitId) {
    repo.git_with(&["unpack-objects", "-q", "--strict"], pack);
    repo.git(&["update-ref", "refs/heads/pushed", &commit.to_string()]);
    repo.git(&["fsck", "--strict", "--full"]);
}

#[test]
fn ancestors_are_found_through_what_is_here() {
    let repo = GitRepo::new();
    let commits: Vec<CommitId> = (0..5).map(|n| repo.commit_all(&format!("{n}"))).collect();
    repo.git(&["checkout", "-q", "-b", "side", &commits[1].to_string()]);
    let side = repo.commit_all("side");
    repo.git(&["merge", "-q", "--no-ff", "-m", "merge", "main"]);
    let merge = repo.id("HEAD");
    let scratch = scratch_of(&repo);
    let walk = |old: &CommitId, new: &CommitId, shallow: &[CommitId]| {
        HistoryWalk::new(*old, *new, shallow).step(&scratch).unwrap()
    };
    let within = |old: &CommitId, new: &CommitId| walk(old, new, &[]) == WalkStep::Met;
    assert!(commits.iter().all(|old| within(old, &merge)) && within(&side, &merge));
    assert!(!within(&side, &commits[4]) && !within(&commits[4], &commits[3]));
    assert!(within(&commits[2], &commits[2]));
    assert_eq!(walk(&commits[0], &commits[4], &[commits[2]]), WalkStep::Ended);
    assert_eq!(walk(&commits[2], &commits[4], &[commits[2]]), WalkStep::Met);
}

#[test]
fn a_walk_goes_on_with_commits_that_are_elsewhere() {
    let repo = GitRepo::new();
    let commits: Vec<CommitId> = (0..5).map(|n| repo.commit_all(&format!("{n}"))).collect();
    // As after a fetch: the new commits are here, and the old ones are not.
    let partial = crate::support::scratch();
    partial.add_pack(&repo.pack(&commits[3..])).unwrap();
    let mut walk = HistoryWalk::new(commits[2], commits[4], &[]);
    assert_eq!(walk.step(&partial).unwrap(), WalkStep::Met);
    let mut walk = HistoryWalk::new(commits[0], commits[4], &[]);
    assert_eq!(walk.step(&partial).unwrap(), WalkStep::Lacks(vec![commits[2]]));
    let mut given_up = HistoryWalk::new(commits[0], commits[4], &[]);
    given_up.step(&partial).unwrap();
    assert_eq!(given_up.step(&partial).unwrap(), WalkStep::Ended);
    let content = repo.git(&["cat-file", "commit", &commits[2].to_string()]);
    walk.take(&commits[2], content.as_bytes()).unwrap();
    assert_eq!(walk.step(&partial).unwrap(), WalkStep::Lacks(vec![commits[1]]));
    assert!(walk.take(&commits[1], b"no commit").is_err());
}

#[test]
fn a_commit_on_a_session_sends_only_what_is_new() {
    let repo = base_repo();
    let head = repo.id("HEAD");
    let scratch = small_scratch(&repo, &head);
    let changes = [
        write("a/b/new", "new\n"),
        write("top", "changed\n"),
        delete("d/y"),
    ];
    let tree = scratch
        .apply_files(&repo.id("HEAD^{tree}"), &changes, &Default::default())
        .unwrap()
        .tree;
    let commit = scratch.commit(&tree, &[head], &who(), &who(), "change").unwrap();
    let ids = scratch.objects_to_send(&commit, &[head]).unwrap();
    // The commit, the root, `a`, `a/b` and two blobs.
    assert_eq!(ids.len(), 6);
    assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len());
    receive(&repo, &scratch.pack_objects(&ids).unwrap(), &commit);
    assert_eq!(
        repo.git(&["diff", "--name-status", "HEAD", "pushed"]),
        "A\ta/b/new\nD\td/y\nM\ttop"
    );
}

#[test]
fn what_only_moved_is_not_sent_though_it_is_not_here() {
    let repo = base_repo();
    let head = repo.id("HEAD");
    repo.git(&["mv", "a/b", "moved"]);
    repo.git(&["mv", "d/y", "a/renamed"]);
    let after = repo.worktree();
    let scratch = small_scratch(&repo, &head);
    let trees = repo.git(&[
        "ls-tree",
        "-r",
        "-t",
        "--format=%(objecttype) %(objectname)",
        &after.to_string(),
    ]);
    let trees = trees
        .lines()
        .filter_map(|line| line.strip_prefix("tree "))
        .map(|id| id.parse().unwrap());
    scratch
        .add_pack(&repo.pack(&trees.chain([after]).collect::<Vec<ObjectId>>()))
        .unwrap();
    let commit = scratch.commit(&after, &[head], &who(), &who(), "move").unwrap();
    for known in [&[head][..], &[]] {
        let outcome = scratch.objects_to_send(&commit, known);
        if known.is_empty() {
            // Then the base commit itself has to be sent, and its files are not here.
            assert!(
                matches!(outcome, Err(ScratchError::Missing { .. })),
                "{outcome:?}"
            );
        } else {
            let ids = outcome.unwrap();
            assert!(!ids.contains(&repo.id("HEAD:d/y")) && !ids.contains(&repo.id("HEAD:a/b/c")));
            receive(&repo, &scratch.pack_objects(&ids).unwrap(), &commit);
        }
    }
}

#[test]
fn several_commits_and_absent_parents() {
    let repo = base_repo();
    let head = repo.id("HEAD");
    let scratch = small_scratch(&repo, &head);
    let (mut tree, mut tip) = (repo.id("HEAD^{tree}"), head);
    for number in 0..3 {
        let change = [write(&format!("n/{number}"), &format!("{number}\n"))];
        tree = scratch
            .apply_files(&tree, &change, &Default::default())
            .unwrap()
            .tree;
        tip = scratch
            .commit(&tree, &[tip], &who(), &who(), &format!("{number}"))
            .unwrap();
    }
    let ids = scratch.objects_to_send(&tip, &[head]).unwrap();
    assert_eq!(ids.len(), 3 * 4);
    receive(&repo, &scratch.pack_objects(&ids).unwrap(), &tip);
    // A commit on a parent that is not here at all: its whole tree is needed.
    let lone = crate::support::scratch();
    let tree = lone
        .apply_files(&ObjectId::EMPTY_TREE, &[write("f", "1\n")], &Default::default())
        .unwrap()
        .tree;
    let commit = lone
        .commit(&tree, &[head], &who(), &who(), "on an absent parent")
        .unwrap();
    let ids = lone.objects_to_send(&commit, &[]).unwrap();
    assert_eq!(ids.len(), 3);
    receive(&repo, &lone.pack_objects(&ids).unwrap(), &commit);
}

#[test]
fn what_is_lacking_everywhere_is_an_error_that_names_it() {
    let repo = base_repo();
    let head = repo.id("HEAD");
    let scratch = small_scratch(&repo, &head);
    let absent: ObjectId = "1".repeat(40).parse().unwrap();
    let tree = crate::support::add_tree(&scratch, &[("100644", b"f", absent)]);
    let commit = scratch.commit(&tree, &[head], &who(), &who(), "broken").unwrap();
    let error = scratch.objects_to_send(&commit, &[head]).unwrap_err();
    assert!(
        matches!(error, ScratchError::Missing { id } if id == absent),
        "{error}"
    );
    assert!(matches!(
        scratch.pack_objects(&[absent]),
        Err(ScratchError::Missing { .. })
    ));
    assert!(scratch.objects_to_send(&absent, &[]).is_err());
}

#[test]
fn known_commits_and_submodules_are_not_sent() {
    let repo = base_repo();
    repo.git(&[
        "update-index",
        "--add",
        "--cacheinfo",
        &format!("160000,{},sub", "1".repeat(40)),
    ]);
    repo.git(&["commit", "-q", "-m", "submodule"]);
    let head = repo.id("HEAD");
    let scratch = scratch_of(&repo);
    assert_eq!(scratch.objects_to_send(&head, &[head]).unwrap(), []);
    let ids = scratch.objects_to_send(&head, &[repo.id("HEAD~")]).unwrap();
    assert_eq!(ids.len(), 2);
    let all = scratch.objects_to_send(&head, &[]).unwrap();
    let listed = repo.git(&["rev-list", "--objects", "--no-object-names", "HEAD"]);
    let listed: BTreeSet<ObjectId> = listed.lines().map(|id| id.parse().unwrap()).collect();
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), listed);
}
