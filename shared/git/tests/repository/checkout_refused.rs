//! Checkouts that end with an error: the code is right, and nothing is left in the folder.

use std::fs;

use mayfly_git::checkout::{CheckedOut, CheckoutError, CheckoutLimits, LinkFault, checkout, checkout_with};
use mayfly_git::pack::PackFiles;
use mayfly_git::tree_check::{TreeCheckError, TreeFault};
use mayfly_protocol::{ErrorCode, ObjectId, TreeId};
use tokio_util::sync::CancellationToken;

use crate::support::{GitRepo, tree_bytes};

/// An entry as [`tree_bytes`] takes it.
type Entry<'a> = (&'a str, &'a [u8], ObjectId);

fn blob(repo: &GitRepo, content: &[u8]) -> ObjectId {
    let id = repo.git_with(&["hash-object", "-w", "--stdin"], content);
    id.parse().unwrap()
}

/// A tree as it is, which git would not make.
fn tree(repo: &GitRepo, entries: &[Entry<'_>]) -> TreeId {
    let arguments = ["hash-object", "-t", "tree", "-w", "--literally", "--stdin"];
    let id = repo.git_with(&arguments, &tree_bytes(entries));
    id.parse().unwrap()
}

/// A checkout that must fail, be it before or after the first file.
fn refused(packs: &[PackFiles], tree: &TreeId, limits: &CheckoutLimits) -> CheckoutError {
    refused_after(packs, tree, limits).0
}

/// The failure, and how much was there before it.
fn refused_after(packs: &[PackFiles], tree: &TreeId, limits: &CheckoutLimits) -> (CheckoutError, CheckedOut) {
    let into = tempfile::tempdir().unwrap();
    let mut last = CheckedOut::default();
    let token = CancellationToken::new();
    let outcome = checkout_with(packs, tree, into.path(), limits, &token, |done| last = *done);
    let error = outcome.expect_err("the checkout must fail");
    assert_eq!(fs::read_dir(into.path()).unwrap().count(), 0, "{error}");
    (error, last)
}

#[test]
fn hostile_trees_leave_nothing() {
    let repo = GitRepo::new();
    let file = blob(&repo, b"content");
    let outside = tempfile::tempdir().unwrap();
    let link = blob(&repo, outside.path().to_str().unwrap().as_bytes());
    let below = tree(&repo, &[("100644", b"planted", file)]);
    let cases: &[&[Entry<'_>]] = &[
        &[("40000", b".git", below)],
        &[("40000", b".GiT ", below)],
        &[("40000", b"git~1", below)],
        &[("40000", ".g\u{200c}it".as_bytes(), below)],
        &[("40000", b"..", below)],
        &[("100644", b"../planted", file)],
        &[("100644", b"/planted", file)],
        &[("120000", b"a", link), ("40000", b"a", below)],
        &[
            ("120000", b"a", link),
            ("100644", b"a.b", file),
            ("40000", b"a", below),
        ],
        &[("100644", b"a", file), ("100644", b"a", file)],
        &[("120000", b".gitmodules", link)],
        &[("20000", b"device", file)],
    ];
    for entries in cases {
        let inner = tree(&repo, entries);
        let root = tree(&repo, &[("100644", b"a", file), ("40000", b"folder", inner)]);
        let packs = [repo.pack(&[root, inner, below, file, link])];
        let (error, last) = refused_after(&packs, &root, &CheckoutLimits::default());
        assert_eq!(error.code(), ErrorCode::UnsafeTree, "{entries:?}: {error}");
        assert_eq!(last, CheckedOut::default(), "refused before the first file");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_link_and_a_folder_of_one_name_are_told_as_such() {
    let repo = GitRepo::new();
    let link = blob(&repo, b"/tmp");
    let below = tree(&repo, &[("100644", b"planted", link)]);
    let root = tree(&repo, &[("120000", b"a", link), ("40000", b"a", below)]);
    let error = refused(&[repo.pack_all()], &root, &CheckoutLimits::default());
    let CheckoutError::Tree(TreeCheckError::Unsafe { path, fault }) = error else {
        panic!("{error}")
    };
    assert_eq!((path.as_str(), fault), ("a", TreeFault::Duplicate));
}

#[test]
fn links_that_no_system_makes() {
    let repo = GitRepo::new();
    let cases: [(&[u8], LinkFault); 3] = [
        (b"", LinkFault::Empty),
        (b"etc\0passwd", LinkFault::Nul),
        (&[b'x'; 4096], LinkFault::TooLong { max: 4095 }),
    ];
    for (target, expected) in cases {
        let target = blob(&repo, target);
        let file = blob(&repo, b"before it");
        let root = tree(&repo, &[("100644", b"a", file), ("120000", b"b", target)]);
        let packs = [repo.pack(&[root, target, file])];
        let error = refused(&packs, &root, &CheckoutLimits::default());
        assert_eq!(error.code(), ErrorCode::UnsafeTree, "{error}");
        assert!(
            matches!(&error, CheckoutError::Link { path, fault } if path == "b" && *fault == expected),
            "{error}"
        );
    }
}

/// Levels of ten folders each, ten times the same, with ten files at the end.
fn bomb(repo: &GitRepo, levels: usize, file: ObjectId) -> TreeId {
    let names: Vec<String> = (0..10).map(|name| name.to_string()).collect();
    let level = |mode: &str, id: ObjectId| {
        let entries: Vec<_> = names.iter().map(|name| (mode, name.as_bytes(), id)).collect();
        tree(repo, &entries)
    };
    (0..levels).fold(level("100644", file), |below, _| level("40000", below))
}

#[test]
fn bombs_are_counted_before_a_file_is_written() {
    let repo = GitRepo::new();
    let file = blob(&repo, &[b'x'; 1000]);
    let (of_files, of_bytes) = (bomb(&repo, 9, file), bomb(&repo, 4, file));
    let packs = [repo.pack_all()];
    let (error, last) = refused_after(&packs, &of_files, &CheckoutLimits::default());
    assert_eq!(error.code(), ErrorCode::TreeTooLarge, "{error}");
    assert_eq!(last, CheckedOut::default());
    let limits = CheckoutLimits {
        max_bytes: 99_999_999,
        ..CheckoutLimits::default()
    };
    let (error, last) = refused_after(&packs, &of_bytes, &limits);
    assert!(
        matches!(error, CheckoutError::TooManyBytes { max: 99_999_999 }),
        "{error}"
    );
    assert_eq!(error.code(), ErrorCode::TreeTooLarge);
    assert_eq!(last, CheckedOut::default());
}

#[test]
fn limits_hold_to_the_file_and_the_byte() {
    let repo = GitRepo::new();
    repo.write("a", b"12345");
    repo.write("b/c", b"678");
    let root = repo.worktree();
    let packs = [repo.pack_all()];
    let exact = CheckoutLimits {
        max_files: 3,
        max_bytes: 8,
        max_file_bytes: 5,
    };
    let into = tempfile::tempdir().unwrap();
    checkout(&packs, &root, into.path(), &exact, &CancellationToken::new()).unwrap();
    let cases = [
        (
            CheckoutLimits {
                max_files: 2,
                ..exact.clone()
            },
            ErrorCode::TreeTooLarge,
        ),
        (
            CheckoutLimits {
                max_bytes: 7,
                ..exact.clone()
            },
            ErrorCode::TreeTooLarge,
        ),
        (
            CheckoutLimits {
                max_file_bytes: 4,
                ..exact
            },
            ErrorCode::ObjectTooLarge,
        ),
    ];
    for (limits, code) in cases {
        let (error, last) = refused_after(&packs, &root, &limits);
        assert_eq!(error.code(), code, "{error}");
        assert_eq!(last, CheckedOut::default());
    }
}

#[test]
fn cancelled_before_and_on_the_way() {
    let repo = GitRepo::new();
    for number in 0..20 {
        repo.write(&format!("{}/{number:02}", number % 3), b"content");
    }
    let root = repo.worktree();
    let packs = [repo.pack_all()];
    for after in [0, 1, 7, 19] {
        let into = tempfile::tempdir().unwrap();
        let (limits, token) = (CheckoutLimits::default(), CancellationToken::new());
        if after == 0 {
            token.cancel();
        }
        let mut last = 0;
        let outcome = checkout_with(&packs, &root, into.path(), &limits, &token, |done| {
            last = done.files;
            if done.files == after {
                assert!(fs::read_dir(into.path()).unwrap().count() > 0);
                token.cancel();
            }
        });
        let error = outcome.unwrap_err();
        assert!(matches!(error, CheckoutError::Cancelled), "{error}");
        assert_eq!((error.code(), last), (ErrorCode::Cancelled, after));
        assert_eq!(fs::read_dir(into.path()).unwrap().count(), 0);
    }
}

#[test]
fn what_is_missing_or_of_another_kind_is_a_damaged_session() {
    let repo = GitRepo::new();
    let (first, absent) = (blob(&repo, b"first"), blob(&repo, b"absent"));
    let below = tree(&repo, &[("100644", b"file", absent)]);
    let as_file = tree(&repo, &[("100644", b"a", below)]);
    let as_folder = tree(&repo, &[("40000", b"a", first)]);
    let root = tree(&repo, &[("100644", b"a", first), ("40000", b"b", below)]);
    let cases = [
        (root, vec![root, below, first], "b/file"),
        (root, vec![root, absent, first], "b"),
        (root, vec![below, absent, first], ""),
        (as_file, vec![as_file, below, absent], "a"),
        (as_folder, vec![as_folder, first], "a"),
        (first, vec![first], ""),
    ];
    for (tree, objects, expected) in cases {
        let error = refused(&[repo.pack(&objects)], &tree, &CheckoutLimits::default());
        assert_eq!(error.code(), ErrorCode::SessionDamaged, "{error}");
        assert!(
            matches!(&error, CheckoutError::Object { path, .. } if path == expected),
            "{error}"
        );
    }
}

#[test]
fn damaged_bytes_are_never_written() {
    let repo = GitRepo::new();
    let noise: Vec<u8> = (0..4000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    repo.write("a", b"sound");
    repo.write("b", &noise);
    let root = repo.worktree();
    let pack = repo.pack_all();
    let sound = fs::read(&pack.pack).unwrap();
    fs::remove_file(&pack.pack).unwrap();
    // The head of the pack and its last checksum are not looked at again.
    for at in (12..sound.len() - 20).step_by(97) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        fs::write(&pack.pack, &bytes).unwrap();
        let error = refused(std::slice::from_ref(&pack), &root, &CheckoutLimits::default());
        let code = error.code();
        assert!(
            matches!(code, ErrorCode::SessionDamaged | ErrorCode::ObjectTooLarge),
            "{at}: {error}"
        );
    }
}

#[test]
fn a_damaged_index_gives_an_error_or_the_right_files() {
    let repo = GitRepo::new();
    repo.write("a", b"first");
    repo.write("b", b"second");
    let root = repo.worktree();
    let pack = repo.pack_all();
    let sound = fs::read(&pack.index).unwrap();
    fs::remove_file(&pack.index).unwrap();
    let mut refusals = 0;
    // The table of first bytes is sampled; ids, sums and offsets are damaged byte by byte.
    for at in (0..1032).step_by(43).chain(1032..sound.len()) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x80;
        fs::write(&pack.index, &bytes).unwrap();
        let into = tempfile::tempdir().unwrap();
        let (limits, token) = (CheckoutLimits::default(), CancellationToken::new());
        let packs = std::slice::from_ref(&pack);
        match checkout(packs, &root, into.path(), &limits, &token) {
            Ok(_) => assert_eq!(fs::read(into.path().join("b")).unwrap(), b"second"),
            Err(error) => {
                refusals += 1;
                assert_eq!(error.code(), ErrorCode::SessionDamaged, "{at}: {error}");
                assert_eq!(fs::read_dir(into.path()).unwrap().count(), 0);
            }
        }
    }
    assert!(refusals > 3 * 4, "an offset of each object at the least");
}

#[test]
fn packs_that_are_none_are_a_damaged_session() {
    let repo = GitRepo::new();
    repo.write("a", b"content");
    let root = repo.worktree();
    let pack = repo.pack_all();
    let folder = tempfile::tempdir().unwrap();
    let (absent, short) = (folder.path().join("absent"), folder.path().join("short"));
    fs::write(&short, b"PACK").unwrap();
    for path in [&absent, &short] {
        for broken in [
            PackFiles {
                pack: path.clone(),
                ..pack.clone()
            },
            PackFiles {
                index: path.clone(),
                ..pack.clone()
            },
        ] {
            let error = refused(&[broken], &root, &CheckoutLimits::default());
            assert_eq!(error.code(), ErrorCode::SessionDamaged, "{error}");
        }
    }
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let repo = GitRepo::new();
    repo.write("a", b"content");
    let (root, packs) = (repo.worktree(), [repo.pack_all()]);
    let into = tempfile::tempdir().unwrap();
    fs::write(into.path().join("mine"), "mine").unwrap();
    let (limits, token) = (CheckoutLimits::default(), CancellationToken::new());
    let error = checkout(&packs, &root, into.path(), &limits, &token).unwrap_err();
    assert!(matches!(error, CheckoutError::NotEmpty { .. }), "{error}");
    assert_eq!(fs::read(into.path().join("mine")).unwrap(), b"mine");
    let absent = into.path().join("absent");
    let error = checkout(&packs, &root, &absent, &limits, &token).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Internal, "{error}");
    assert!(!absent.exists());
}
