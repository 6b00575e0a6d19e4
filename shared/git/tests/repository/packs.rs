//! Packs: those that are added are readable at once, and those that are written pass git's own checks.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt as _;

use mayfly_git::identity::Signature;
use mayfly_git::pack::PackFiles;
use mayfly_git::scratch::{ObjectKind, Scratch, ScratchError, ScratchLimits};
use mayfly_git::tree_check::TreeLimits;
use mayfly_protocol::{ErrorCode, ObjectId, TreeId};

use crate::support::{GitRepo, pack_files, scratch, scratch_of, scratch_with};

fn signature(name: &str, email: &str) -> Signature {
    Signature {
        name: name.into(),
        email: email.into(),
        seconds: 1_700_000_000,
        offset_minutes: 60,
    }
}

/// Lets git index and check a pack from nothing but its bytes, and gives the ids in it.
fn ids_by_git(pack: &[u8]) -> BTreeSet<ObjectId> {
    let repo = GitRepo::new();
    repo.git_with(&["index-pack", "--fsck-objects", "--stdin"], pack);
    let listed = repo.git(&["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"]);
    listed.lines().map(|line| line.parse().unwrap()).collect()
}

fn ids_of_files(files: &PackFiles) -> BTreeSet<ObjectId> {
    let ids = ids_by_git(&std::fs::read(&files.pack).unwrap());
    let said = pack_files(files.pack.parent().unwrap(), &files.hash);
    assert_eq!(&said, files);
    assert_eq!(ids.len(), files.objects as usize);
    GitRepo::new().git(&["verify-pack", files.index.to_str().unwrap()]);
    ids
}

fn nested_repo() -> GitRepo {
    let repo = GitRepo::new();
    for folder in ["a", "a/b", "a/b/c", "d", "same", "same2"] {
        repo.write(&format!("{folder}/file.txt"), b"content\n");
    }
    repo.write("top", b"top\n");
    repo
}

#[test]
fn libgit2_is_one_without_the_known_holes() {
    assert!(git2::Version::get().libgit2_version() >= (1, 9, 7));
    let features = git2::Version::get();
    assert!(
        !features.https() && !features.ssh(),
        "no transport of libgit2 is linked"
    );
}

#[test]
fn a_scratch_repository_can_be_sent_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Scratch>();
}

#[test]
fn a_trees_pack_holds_the_commit_and_its_trees_and_nothing_else() {
    let repo = nested_repo();
    repo.commit_all("first");
    repo.write("a/b/c/new", b"new\n");
    let head = repo.commit_all("second");
    let scratch = scratch_of(&repo);
    let into = tempfile::tempdir().unwrap();
    let files = scratch.write_trees_pack(&head, into.path()).unwrap();
    assert_eq!(
        ids_of_files(&files),
        repo.commit_and_trees(&head).into_iter().collect()
    );
}

#[test]
fn a_trees_pack_of_an_empty_tree() {
    let repo = GitRepo::new();
    let head = repo.commit_all("nothing");
    let scratch = scratch();
    scratch.add_pack(&repo.pack(&[head])).unwrap();
    let into = tempfile::tempdir().unwrap();
    let files = scratch.write_trees_pack(&head, into.path()).unwrap();
    assert_eq!(ids_of_files(&files), BTreeSet::from([head, TreeId::EMPTY_TREE]));
}

#[test]
fn packs_are_usable_at_once_and_may_come_twice() {
    let repo = nested_repo();
    let first = repo.commit_all("first");
    let scratch = scratch_of(&repo);
    repo.write("later", b"later\n");
    let second = repo.commit_all("second");
    assert!(scratch.has(&first) && !scratch.has(&second));
    let pack = repo.pack_all();
    scratch.add_pack(&pack).unwrap();
    scratch.add_pack(&pack).unwrap();
    assert_eq!(scratch.commit_tree(&second).unwrap(), repo.id("HEAD^{tree}"));
    let info = scratch.commit_info(&second).unwrap();
    assert_eq!((info.subject(), &info.parents), ("second", &vec![first]));
    assert_eq!(info.committed_at, Some(1_700_000_000));
}

#[test]
fn trees_of_a_received_pack_are_kept_and_are_no_part_of_what_the_job_made() {
    let repo = nested_repo();
    repo.commit_all("first");
    repo.write("a/b/c/new", b"new\n");
    let head = repo.commit_all("second");
    let pack = repo.pack_all();
    let scratch = scratch();
    scratch.add_received_pack(&pack, &head).unwrap();
    let (tree, blob) = (repo.id("HEAD^{tree}"), repo.id("HEAD:top"));
    // Whoever reads the pack from here on reads nothing of use.
    let file = std::fs::File::options().write(true).open(&pack.pack).unwrap();
    let entries = usize::try_from(pack.pack_bytes).unwrap() - 32;
    file.write_all_at(&vec![0; entries], 12).unwrap();
    assert_eq!(scratch.missing_trees(&tree).unwrap(), []);
    scratch.check_tree(&tree, &TreeLimits::default()).unwrap();
    assert!(matches!(
        scratch.blob(&blob, 100),
        Err(ScratchError::Damaged { .. })
    ));
    let into = tempfile::tempdir().unwrap();
    assert_eq!(scratch.write_new_pack(into.path()).unwrap(), None);
}

#[test]
fn trees_beyond_the_bound_are_read_from_the_received_pack() {
    let repo = nested_repo();
    let head = repo.commit_all("first");
    let scratch = scratch_with(ScratchLimits {
        max_new_bytes: 200,
        ..ScratchLimits::default()
    });
    scratch.add_received_pack(&repo.pack_all(), &head).unwrap();
    let into = tempfile::tempdir().unwrap();
    let files = scratch.write_trees_pack(&head, into.path()).unwrap();
    assert_eq!(
        ids_of_files(&files),
        repo.commit_and_trees(&head).into_iter().collect()
    );
}

#[test]
fn a_pack_whose_name_would_lead_elsewhere_is_refused() {
    let repo = nested_repo();
    repo.commit_all("first");
    let pack = PackFiles {
        hash: "../../x".into(),
        ..repo.pack_all()
    };
    assert!(matches!(
        scratch().add_pack(&pack),
        Err(ScratchError::PackName { .. })
    ));
}

#[test]
fn only_what_the_job_made_is_in_its_pack() {
    let repo = nested_repo();
    let head = repo.commit_all("first");
    let scratch = scratch_of(&repo);
    let into = tempfile::tempdir().unwrap();
    assert_eq!(scratch.write_new_pack(into.path()).unwrap(), None);
    let old = scratch.add_object(ObjectKind::Blob, b"read by range\n").unwrap();
    let (author, committer) = (
        signature("A U Thor", "a@example.com"),
        signature("C Mitter", "c@example.com"),
    );
    let made = scratch
        .commit(
            &repo.id("HEAD:a"),
            &[head],
            &author,
            &committer,
            "subject\n\nbody",
        )
        .unwrap();
    let again = scratch
        .commit(
            &repo.id("HEAD:a"),
            &[head],
            &author,
            &committer,
            "subject\n\nbody\n\n",
        )
        .unwrap();
    assert_eq!(made, again);
    let by_git = repo.git(&["commit-tree", "HEAD:a", "-p", "HEAD", "-m", "subject\n\nbody"]);
    assert_eq!(made.to_string(), by_git);
    let files = scratch.write_new_pack(into.path()).unwrap().unwrap();
    // The pack stands on what the repository has, so git checks it there.
    repo.git_with(
        &["index-pack", "--strict", "--stdin"],
        &std::fs::read(&files.pack).unwrap(),
    );
    assert_eq!(files.objects, 1);
    assert!(scratch.has(&old));
}

#[test]
fn a_commit_of_nothing_brings_its_tree() {
    let scratch = scratch();
    let who = signature("A", "a@b.c");
    let made = scratch
        .commit(&TreeId::EMPTY_TREE, &[], &who, &who, "nothing")
        .unwrap();
    let into = tempfile::tempdir().unwrap();
    let files = scratch.write_new_pack(into.path()).unwrap().unwrap();
    assert_eq!(ids_of_files(&files), BTreeSet::from([made, TreeId::EMPTY_TREE]));
}

#[test]
fn forged_headers_are_refused() {
    let scratch = scratch();
    let (good, bad) = (
        signature("A", "a@b.c"),
        signature("A\ncommitter B <b> 1 +0000", "a@b.c"),
    );
    for (author, committer, message) in [(&bad, &good, "m"), (&good, &bad, "m"), (&good, &good, "m\0m")] {
        let error = scratch
            .commit(&TreeId::EMPTY_TREE, &[], author, committer, message)
            .unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidRequest);
    }
}

#[test]
fn memory_has_a_bound() {
    let scratch = scratch_with(ScratchLimits {
        max_new_bytes: 100,
        ..ScratchLimits::default()
    });
    scratch.add_object(ObjectKind::Blob, &[b'x'; 60]).unwrap();
    scratch.add_object(ObjectKind::Blob, &[b'x'; 60]).unwrap();
    let error = scratch.add_object(ObjectKind::Blob, &[b'y'; 60]).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ChangesTooLarge);
}

#[test]
fn damage_is_noticed() {
    let repo = nested_repo();
    let head = repo.commit_all("first");
    let pack = repo.pack_all();
    let mut bytes = std::fs::read(&pack.pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[12..middle].reverse();
    let damaged = PackFiles {
        pack: repo.path().join("damaged.pack"),
        ..pack
    };
    std::fs::write(&damaged.pack, bytes).unwrap();
    let scratch = scratch();
    scratch.add_pack(&damaged).unwrap();
    let into = tempfile::tempdir().unwrap();
    let error = scratch.write_trees_pack(&head, into.path()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::SessionDamaged, "{error}");
}

#[test]
fn missing_trees_are_named() {
    let repo = nested_repo();
    let head = repo.commit_all("first");
    let absent = repo.id("HEAD:a/b");
    let scratch = scratch();
    let here: Vec<_> = repo
        .commit_and_trees(&head)
        .into_iter()
        .filter(|id| *id != absent)
        .collect();
    scratch.add_pack(&repo.pack(&here)).unwrap();
    assert_eq!(scratch.missing_trees(&repo.id("HEAD^{tree}")).unwrap(), [absent]);
    assert_eq!(scratch.missing_trees(&absent).unwrap(), [absent]);
    scratch.add_pack(&repo.pack(&[absent])).unwrap();
    assert_eq!(scratch.missing_trees(&repo.id("HEAD^{tree}")).unwrap(), []);
}

#[test]
fn entries_are_found_by_path() {
    let repo = nested_repo();
    std::os::unix::fs::symlink("a", repo.path().join("link")).unwrap();
    repo.commit_all("first");
    let scratch = scratch_of(&repo);
    let root = repo.id("HEAD^{tree}");
    let file = scratch.entry(&root, "a/b/file.txt").unwrap().unwrap();
    assert_eq!((file.id, file.is_blob()), (repo.id("HEAD:a/b/file.txt"), true));
    assert!(scratch.entry(&root, "a").unwrap().unwrap().is_folder());
    for absent in ["x", "a/x", "top/x", "link/file.txt", "a/b/", ""] {
        assert_eq!(scratch.entry(&root, absent).unwrap(), None, "{absent}");
    }
}
