//! Trees that no one should check out, and harmless faults of old history.

use mayfly_git::scratch::{ObjectKind, Scratch};
use mayfly_git::tree_check::{TreeCheckError, TreeFault, TreeLimits, TreeStats};
use mayfly_protocol::{ErrorCode, InvalidPath, ObjectId, TreeId};

use crate::support::{GitRepo, add_tree, scratch, scratch_of, some_blob, tree_bytes};

/// An entry as [`add_tree`] takes it.
type Entry<'a> = (&'a str, &'a [u8], ObjectId);

fn check(scratch: &Scratch, tree: &TreeId) -> Result<TreeStats, TreeCheckError> {
    scratch.check_tree(tree, &TreeLimits::default())
}

fn fault_of(scratch: &Scratch, tree: &TreeId) -> (String, TreeFault) {
    let error = check(scratch, tree).expect_err("the tree is hostile");
    assert_eq!(error.code(), ErrorCode::UnsafeTree, "{error}");
    match error {
        TreeCheckError::Unsafe { path, fault } => (path, fault),
        other => panic!("{other}"),
    }
}

#[test]
fn a_sound_tree_is_counted() {
    let repo = GitRepo::new();
    for path in ["a/b/c/file", "a/file", "a.b", "a0", "link-target"] {
        repo.write(path, b"x");
    }
    std::os::unix::fs::symlink("/etc/passwd", repo.path().join("link")).unwrap();
    repo.write(".gitmodules", b"[submodule \"x\"]\n");
    repo.git(&[
        "update-index",
        "--add",
        "--cacheinfo",
        &format!("160000,{},sub", "1".repeat(40)),
    ]);
    repo.git(&["add", "."]);
    let tree: TreeId = repo.git(&["write-tree"]).parse().unwrap();
    let stats = check(&scratch_of(&repo), &tree).unwrap();
    let by_git = repo
        .git(&["ls-tree", "-r", "-t", &tree.to_string()])
        .lines()
        .count() as u64;
    assert_eq!(
        stats,
        TreeStats {
            trees: 4,
            entries: by_git,
            depth: 4,
            longest_path: "link-target".len()
        }
    );
}

#[test]
fn dangerous_names() {
    let scratch = scratch();
    let long = [b'a'; 256];
    let cases: &[(&[u8], InvalidPath)] = &[
        (b"", InvalidPath::Empty),
        (b".", InvalidPath::Dots),
        (b"..", InvalidPath::Dots),
        (b".git", InvalidPath::DotGit),
        (b".GIT", InvalidPath::DotGit),
        (b".git.", InvalidPath::DotGit),
        (b".git ", InvalidPath::DotGit),
        (b"git~1", InvalidPath::DotGit),
        (b".git::$INDEX_ALLOCATION", InvalidPath::DotGit),
        (".g\u{200c}it".as_bytes(), InvalidPath::DotGit),
        (b"a/b", InvalidPath::Separator),
        (b"/etc", InvalidPath::Separator),
        (b"..\\x", InvalidPath::Separator),
        (&long, InvalidPath::TooLong),
    ];
    for (name, reason) in cases {
        for (mode, id) in [
            ("100644", some_blob()),
            ("120000", some_blob()),
            ("40000", TreeId::EMPTY_TREE),
        ] {
            let inner = add_tree(&scratch, &[(mode, name, id)]);
            let outer = add_tree(&scratch, &[("40000", b"sub", inner)]);
            let (path, fault) = fault_of(&scratch, &outer);
            assert_eq!(fault, TreeFault::Name(*reason), "{name:?}");
            assert!(path.starts_with("sub"), "{path}");
        }
    }
}

#[test]
fn links_that_could_lead_to_a_command() {
    let scratch = scratch();
    for name in [&b".gitmodules"[..], b".GITMODULES", b"gitmod~1"] {
        let tree = add_tree(&scratch, &[("120000", name, some_blob())]);
        assert_eq!(fault_of(&scratch, &tree).1, TreeFault::Link, "{name:?}");
        let file = add_tree(&scratch, &[("100644", name, some_blob())]);
        check(&scratch, &file).unwrap();
    }
    for harmless in [&b".gitattributes"[..], b".gitignore", b".mailmap"] {
        let tree = add_tree(&scratch, &[("120000", harmless, some_blob())]);
        check(&scratch, &tree).unwrap();
    }
}

#[test]
fn permissions_of_old_files_are_harmless() {
    let scratch = scratch();
    for mode in ["100664", "100600", "100775", "0100644"] {
        let tree = add_tree(&scratch, &[(mode, b"a", some_blob())]);
        check(&scratch, &tree).unwrap();
    }
}

#[test]
fn modes_ids_and_bytes_that_git_does_not_write() {
    let scratch = scratch();
    for mode in [
        "0",
        "100",
        "100755755",
        "20000",
        "10000",
        "140000",
        "60000",
        "110644",
    ] {
        let tree = add_tree(&scratch, &[(mode, b"a", some_blob())]);
        assert!(
            matches!(
                fault_of(&scratch, &tree).1,
                TreeFault::Mode(_) | TreeFault::Unreadable
            ),
            "{mode}"
        );
    }
    let null = add_tree(&scratch, &[("100644", b"a", ObjectId::ZERO)]);
    assert_eq!(fault_of(&scratch, &null), ("a".into(), TreeFault::NullId));
    let sound = tree_bytes(&[("100644", b"a", some_blob())]);
    for cut in 1..sound.len() {
        let tree = scratch.add_object(ObjectKind::Tree, &sound[..cut]).unwrap();
        assert_eq!(fault_of(&scratch, &tree).1, TreeFault::Unreadable);
    }
}

#[test]
fn order_and_duplicates() {
    let scratch = scratch();
    let (file, folder) = (some_blob(), TreeId::EMPTY_TREE);
    let cases: &[(&[Entry<'_>], TreeFault)] = &[
        (
            &[("100644", b"b", file), ("100644", b"a", file)],
            TreeFault::Order,
        ),
        (
            &[("40000", b"a", folder), ("100644", b"a.b", file)],
            TreeFault::Order,
        ),
        (
            &[("100644", b"a", file), ("100644", b"a", file)],
            TreeFault::Duplicate,
        ),
        (
            &[("120000", b"a", file), ("40000", b"a", folder)],
            TreeFault::Duplicate,
        ),
        (
            &[
                ("120000", b"a", file),
                ("100644", b"a.b", file),
                ("40000", b"a", folder),
            ],
            TreeFault::Duplicate,
        ),
    ];
    for (entries, fault) in cases {
        let tree = add_tree(&scratch, entries);
        assert_eq!(fault_of(&scratch, &tree).1, *fault, "{entries:?}");
    }
}

#[test]
fn harmless_faults_of_old_history_are_tolerated() {
    let scratch = scratch();
    let tree = add_tree(
        &scratch,
        &[
            ("0100644", b"a", some_blob()),
            ("100664", b"b", some_blob()),
            ("040000", b"c", TreeId::EMPTY_TREE),
        ],
    );
    assert_eq!(check(&scratch, &tree).unwrap().entries, 3);
    let name = add_tree(&scratch, &[("100644", b"caf\xe9\x01", some_blob())]);
    check(&scratch, &name).unwrap();
}

#[test]
fn what_is_named_and_absent_is_the_remotes_fault() {
    let scratch = scratch();
    let absent: ObjectId = "1".repeat(40).parse().unwrap();
    let tree = add_tree(&scratch, &[("40000", b"folder", absent)]);
    let error = check(&scratch, &tree).unwrap_err();
    assert_eq!(error.code(), ErrorCode::RemoteProtocol);
    assert!(error.to_string().contains("`folder`"), "{error}");
    let blob = scratch.add_object(ObjectKind::Blob, b"no tree").unwrap();
    let tree = add_tree(&scratch, &[("40000", b"folder", blob)]);
    assert_eq!(
        check(&scratch, &tree).unwrap_err().code(),
        ErrorCode::RemoteProtocol
    );
}

#[test]
fn a_tree_bomb_is_counted_without_being_walked() {
    let scratch = scratch();
    let names: Vec<String> = (0..10).map(|name| name.to_string()).collect();
    let level = |mode: &str, id: ObjectId| {
        let entries: Vec<_> = names.iter().map(|name| (mode, name.as_bytes(), id)).collect();
        add_tree(&scratch, &entries)
    };
    let mut tree = level("100644", some_blob());
    for _ in 0..9 {
        tree = level("40000", tree);
    }
    let error = check(&scratch, &tree).unwrap_err();
    assert_eq!(error.code(), ErrorCode::TreeTooLarge, "{error}");
    let boundless = TreeLimits {
        max_entries: u64::MAX,
        ..TreeLimits::default()
    };
    let stats = scratch.check_tree(&tree, &boundless).unwrap();
    assert_eq!(
        (stats.trees, stats.entries, stats.depth),
        (10, 11_111_111_110, 10)
    );
    for _ in 0..40 {
        tree = level("40000", tree);
    }
    assert_eq!(scratch.check_tree(&tree, &boundless).unwrap().entries, u64::MAX);
}

#[test]
fn depth_and_length_have_bounds() {
    let scratch = scratch();
    let chain = |levels: usize, name: &[u8]| {
        (1..levels).fold(
            add_tree(&scratch, &[("100644", name, some_blob())]),
            |below, _| add_tree(&scratch, &[("40000", name, below)]),
        )
    };
    assert_eq!(check(&scratch, &chain(256, b"a")).unwrap().depth, 256);
    assert_eq!(fault_of(&scratch, &chain(257, b"a")).1, TreeFault::Depth);
    assert_eq!(fault_of(&scratch, &chain(20_000, b"a")).1, TreeFault::Depth);
    let name = [b'n'; 255];
    assert_eq!(
        check(&scratch, &chain(15, &name)).unwrap().longest_path,
        15 * 256 - 1
    );
    assert_eq!(check(&scratch, &chain(16, &name)).unwrap().longest_path, 4095);
    assert_eq!(fault_of(&scratch, &chain(17, &name)).1, TreeFault::Length);
    // A tree that is sound near the root, and too deep where it stands a second time.
    let half = chain(200, b"a");
    let deeper = (0..100).fold(half, |below, _| add_tree(&scratch, &[("40000", b"x", below)]));
    let both = add_tree(&scratch, &[("40000", b"a", half), ("40000", b"b", deeper)]);
    assert_eq!(fault_of(&scratch, &both).1, TreeFault::Depth);
}

#[test]
fn one_folder_has_a_bound() {
    let scratch = scratch();
    let names: Vec<String> = (0..50).map(|name| format!("{name:02}")).collect();
    let entries: Vec<_> = names
        .iter()
        .map(|name| ("100644", name.as_bytes(), some_blob()))
        .collect();
    let tree = add_tree(&scratch, &entries);
    for limits in [
        TreeLimits {
            max_tree_entries: 49,
            ..TreeLimits::default()
        },
        TreeLimits {
            max_entries: 49,
            ..TreeLimits::default()
        },
        TreeLimits {
            max_tree_bytes: 49,
            ..TreeLimits::default()
        },
    ] {
        assert_eq!(
            scratch.check_tree(&tree, &limits).unwrap_err().code(),
            ErrorCode::TreeTooLarge
        );
    }
}
