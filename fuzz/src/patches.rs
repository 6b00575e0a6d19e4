//! Patches on a small tree: applied within the limits to a tree that passes every check, the same each time, or not at all.

use mayfly_git::apply::{ApplyError, ApplyLimits};
use mayfly_git::scratch::Scratch;
use mayfly_git::tree_check::TreeLimits;
use mayfly_protocol::request::FileMode;

use crate::trees;

const LINES: &[u8] = b"one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten\neleven\ntwelve\n";
const MAX_BYTES: u64 = 4096;

pub fn check(data: &[u8]) {
    let Ok(patch) = std::str::from_utf8(data) else {
        return;
    };
    let (_folder, scratch) = trees::scratch();
    let files: &[(&str, &[u8], FileMode)] = &[
        ("a.txt", LINES, FileMode::Regular),
        ("dir/b.txt", b"x\ny\nz", FileMode::Regular),
        ("dir/run.sh", b"#!/bin/sh\n", FileMode::Executable),
        ("link", b"a.txt", FileMode::Symlink),
        ("with space \"\\é.txt", LINES, FileMode::Regular),
        ("data.bin", b"\0\x01\x02\xff", FileMode::Regular),
    ];
    let tree = trees::tree(&scratch, files);
    let limits = ApplyLimits {
        max_files: 8,
        max_file_bytes: MAX_BYTES,
        max_total_bytes: 2 * MAX_BYTES,
        max_link_bytes: 100,
    };
    let applied = scratch.apply_patch(&tree, patch, &limits);
    let named = Scratch::patch_paths(patch);
    let needed = scratch.patched_blobs(&tree, patch);
    match applied {
        Ok(applied) => {
            assert_eq!(needed.ok(), Some(Vec::new()), "all of it is here");
            assert!(applied.files_changed <= limits.max_files);
            scratch
                .check_tree(&applied.tree, &TreeLimits::default())
                .expect("the tree may be shown to git");
            check_sizes(&scratch, &applied.tree);
            let again = scratch
                .apply_patch(&tree, patch, &limits)
                .expect("it fitted before");
            assert_eq!(again, applied);
        }
        Err(ApplyError::Invalid { line, .. }) => {
            assert!((1..=patch.lines().count() + 1).contains(&line), "line {line}");
            assert!(named.is_err() || needed.is_ok());
        }
        Err(error) => {
            let _said = error.code();
            assert!(error.to_string().len() < 1000 + 8 * patch.len());
        }
    }
}

fn check_sizes(scratch: &Scratch, tree: &mayfly_protocol::TreeId) {
    let mut blobs = Vec::new();
    let walked = scratch.walk(tree, 1000, |_, entry| {
        if !entry.is_folder() && !entry.is_submodule() {
            blobs.push(entry.id);
        }
        Ok::<_, mayfly_git::scratch::ScratchError>(())
    });
    walked.expect("the tree is here");
    for blob in blobs {
        assert!(scratch.blob_size(&blob).expect("the file is here") <= MAX_BYTES);
    }
}
