//! Files of rules: what they say of a path does not depend on which other paths are asked for, nor on their order.

use bstr::{BStr, BString, ByteSlice as _};
use mayfly_git::rules::RuleKind;
use mayfly_git::scratch::{Scratch, ScratchError};
use mayfly_protocol::TreeId;
use mayfly_protocol::request::FileMode;

use crate::{Input, trees};

const MAX_PATHS: usize = 12;

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let (root, below) = (input.text(), input.text());
    let (_folder, scratch) = trees::scratch();
    let paths = paths(input.rest());
    for kind in [RuleKind::Ignore, RuleKind::Attributes] {
        let name = kind.file_name();
        let nested = format!("a/{name}");
        let files: &[(&str, &[u8], FileMode)] = &[
            (name, root, FileMode::Regular),
            (nested.as_str(), below, FileMode::Regular),
        ];
        let tree = trees::tree(&scratch, files);
        let together = ask(&scratch, &tree, kind, paths.clone()).expect("the rules are here");
        let alone: Vec<BString> = paths
            .iter()
            .flat_map(|path| ask(&scratch, &tree, kind, vec![path.clone()]).expect("the rules are here"))
            .collect();
        assert_eq!(together, alone, "{name}");
    }
}

fn ask(
    scratch: &Scratch,
    tree: &TreeId,
    kind: RuleKind,
    paths: Vec<BString>,
) -> Result<Vec<BString>, ScratchError> {
    let rules = scratch.rule_files(tree, kind, paths.iter().map(|path| BStr::new(path)))?;
    match kind {
        RuleKind::Ignore => scratch.ignored(&rules, paths),
        RuleKind::Attributes => scratch.lfs_paths(&rules, paths),
    }
}

/// Different paths that a tree can have, in order.
fn paths(lines: &[u8]) -> Vec<BString> {
    let mut paths: Vec<BString> = lines
        .lines()
        .filter(|path| mayfly_protocol::path::check_path(path).is_ok())
        .take(MAX_PATHS)
        .map(BString::from)
        .collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}
