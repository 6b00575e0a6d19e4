//! Packs written anew: no object is lost or doubled, and what the next job reads is together. And what has to come here before a push.

use std::collections::BTreeSet;

use mayfly_git::pack::{PackFiles, PackLimits};
use mayfly_git::scratch::{Folded, ObjectKind, Standing};
use mayfly_protocol::{CommitId, ObjectId};

use crate::support::{GitRepo, TestScratch, scratch, scratch_of};

fn ids(repo: &GitRepo, arguments: &[&str]) -> BTreeSet<ObjectId> {
    let listed = repo.git(arguments);
    let ids = listed.lines().filter_map(|line| line.get(..40));
    ids.map(|id| id.parse().unwrap()).collect()
}

fn all(repo: &GitRepo) -> BTreeSet<ObjectId> {
    ids(
        repo,
        &["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"],
    )
}

fn files_of(repo: &GitRepo, tree: &str) -> BTreeSet<ObjectId> {
    let listed = repo.git(&["ls-tree", "-r", "--format=%(objectname)", tree]);
    listed.lines().map(|id| id.parse().unwrap()).collect()
}

fn in_pack(pack: Option<&PackFiles>) -> BTreeSet<ObjectId> {
    let Some(pack) = pack else {
        return BTreeSet::new();
    };
    let repo = GitRepo::new();
    repo.git_with(
        &["index-pack", "--fsck-objects", "--stdin"],
        &std::fs::read(&pack.pack).unwrap(),
    );
    repo.git(&["verify-pack", pack.index.to_str().unwrap()]);
    all(&repo)
}

/// Four commits, and changes in the working tree.
fn history() -> (GitRepo, Vec<CommitId>) {
    let repo = GitRepo::new();
    for folder in ["a", "a/b", "c", "same"] {
        repo.write(&format!("{folder}/file.txt"), folder.as_bytes());
    }
    let commits = (0..4).map(|number| {
        repo.write("a/b/file.txt", format!("{number}\n").as_bytes());
        repo.write(&format!("c/{number}.txt"), format!("new {number}\n").as_bytes());
        repo.commit_all(&format!("{number}"))
    });
    let commits = commits.collect();
    repo.write("c/3.txt", b"changed\n");
    repo.write("untracked.txt", b"untracked\n");
    (repo, commits)
}

#[test]
fn what_the_next_job_reads_is_in_one_pack_and_the_rest_in_the_other() {
    let (repo, commits) = history();
    let worktree = repo.worktree();
    for (head, upstream) in [(3, Some(3)), (3, Some(1)), (3, None), (0, Some(0))] {
        let standing = Standing {
            head: Some(commits[head]),
            upstream: upstream.map(|at| commits[at]),
            worktree,
        };
        let (scratch, into) = (scratch_of(&repo), tempfile::tempdir().unwrap());
        let made = scratch.add_object(ObjectKind::Blob, b"not this job's").unwrap();
        let Folded { next, past } = scratch.fold(&[repo.pack_all()], &standing, into.path()).unwrap();
        let (next, past) = (in_pack(next.as_ref()), in_pack(past.as_ref()));
        assert!(next.is_disjoint(&past) && !past.contains(&made));
        assert_eq!(next.union(&past).copied().collect::<BTreeSet<_>>(), all(&repo));

        let mut expected: BTreeSet<ObjectId> = ids(
            &repo,
            &[
                "ls-tree",
                "-r",
                "-t",
                "--format=%(objectname)",
                &worktree.to_string(),
            ],
        );
        expected.insert(worktree);
        let from = upstream.map_or(0, |at| at + 1);
        for commit in commits.iter().take(head + 1).skip(from) {
            expected.extend(repo.commit_and_trees(commit));
            expected.extend(files_of(&repo, &commit.to_string()));
        }
        if let Some(at) = upstream {
            for file in files_of(&repo, &commits[at].to_string()) {
                expected.remove(&file);
            }
            expected.extend(repo.commit_and_trees(&commits[at]));
        }
        assert_eq!(next, expected, "{head} {upstream:?}");
    }
}

/// The history as a pack of each commit with what it brought, as a remote sends it.
fn packs_by_commit(repo: &GitRepo, commits: &[CommitId]) -> Vec<PackFiles> {
    let mut before = BTreeSet::new();
    let packs = commits.iter().map(|commit| {
        let reached = ids(repo, &["rev-list", "--objects", &commit.to_string()]);
        let new: Vec<ObjectId> = reached.difference(&before).copied().collect();
        before = reached;
        repo.pack(&new)
    });
    packs.collect()
}

/// A scratch repository with these packs.
fn scratch_with(packs: &[PackFiles]) -> TestScratch {
    let scratch = scratch();
    packs.iter().for_each(|pack| scratch.add_pack(pack).unwrap());
    scratch
}

fn hashes(packs: &[PackFiles]) -> Vec<String> {
    packs.iter().map(|pack| pack.hash.clone()).collect()
}

#[test]
fn packs_of_a_remote_become_one_that_holds_all_of_them() {
    let (repo, commits) = history();
    let packs = packs_by_commit(&repo, &commits);
    let into = tempfile::tempdir().unwrap();
    // What came first stays where it is.
    let scratch = scratch_with(&packs[1..]);
    let joined = scratch.join(&packs[1..], u64::MAX, into.path()).unwrap().unwrap();
    assert_eq!(joined.of, hashes(&packs[1..]));
    let apart = packs[1..].iter().flat_map(|pack| in_pack(Some(pack)));
    assert_eq!(in_pack(Some(&joined.into)), apart.collect());
    joined.into.check_limits(&PackLimits::default()).unwrap();

    let again = [joined.into, packs[0].clone()];
    let scratch = scratch_with(&again);
    let joined = scratch.join(&again, u64::MAX, into.path()).unwrap().unwrap();
    assert_eq!(in_pack(Some(&joined.into)), all(&repo));
}

#[test]
fn a_pack_that_holds_all_of_the_others_is_not_written_again() {
    let (repo, commits) = history();
    let mut packs = packs_by_commit(&repo, &commits);
    packs.push(repo.pack_all());
    let (scratch, into) = (scratch_with(&packs), tempfile::tempdir().unwrap());
    let joined = scratch.join(&packs, u64::MAX, into.path()).unwrap().unwrap();
    assert_eq!((&joined.into, joined.of), (&packs[4], hashes(&packs)));
    assert_eq!(std::fs::read_dir(into.path()).unwrap().count(), 0);
}

#[test]
fn no_more_is_put_together_than_may_be_unpacked() {
    let (repo, commits) = history();
    repo.write("zeros", &vec![0; 1 << 20]);
    let packs = packs_by_commit(&repo, &[commits, vec![repo.commit_all("Zeros")]].concat());
    assert!(packs[4].pack_bytes < 10_000);
    let (scratch, into) = (scratch_with(&packs), tempfile::tempdir().unwrap());
    let join = |packs: &[PackFiles], max| scratch.join(packs, max, into.path()).unwrap();
    // It is left out wherever it stands.
    let order = [packs[4].clone(), packs[2].clone(), packs[3].clone()];
    let joined = join(&order, 1 << 20).unwrap();
    assert_eq!(joined.of, hashes(&order[1..]));
    assert_eq!(join(&order, 2 << 20).unwrap().of, hashes(&order));
    for packs in [&order[..2], &order[..1], &[]] {
        assert!(join(packs, 1 << 20).is_none());
    }
}

#[test]
fn what_lacks_for_a_push_is_told_until_it_is_here() {
    let (repo, commits) = history();
    let scratch = scratch();
    let (new, known) = (commits[3], [commits[1]]);
    let mut rounds = 0;
    loop {
        let missing = scratch.missing_to_send(&new, &known).unwrap();
        if missing.is_empty() {
            break;
        }
        rounds += 1;
        assert!(rounds < 12, "{missing:?}");
        scratch.add_pack(&repo.pack(&missing)).unwrap();
    }
    let sent: BTreeSet<ObjectId> = scratch
        .objects_to_send(&new, &known)
        .unwrap()
        .into_iter()
        .collect();
    let range = format!("{}..{new}", commits[1]);
    assert_eq!(sent, ids(&repo, &["rev-list", "--objects", &range]));
    assert!(
        !scratch.has(&repo.id("HEAD:same/file.txt")),
        "what did not change is not asked for"
    );
}

#[test]
fn what_lacks_for_a_comparison_is_told_level_by_level() {
    let (repo, commits) = history();
    let tree = |commit: &CommitId| repo.id(&format!("{commit}^{{tree}}"));
    let (old, new) = (tree(&commits[0]), tree(&commits[3]));
    let scratch = scratch();
    let mut rounds = 0;
    loop {
        let missing = scratch.missing_to_compare(&old, &new).unwrap();
        if missing.is_empty() {
            break;
        }
        rounds += 1;
        scratch.add_pack(&repo.pack(&missing)).unwrap();
    }
    assert_eq!(rounds, 3);
    let changes = scratch.changes(Some(&old), &new, 100).unwrap();
    assert_eq!(changes.len(), 4);
    assert!(!scratch.has(&repo.id("HEAD:same")));

    let missing = scratch.missing_on_paths(&new, &["same/file.txt".into(), "none/x".into(), "same".into()]);
    assert_eq!(missing.unwrap(), [repo.id("HEAD:same")]);
}
