//! What changed between two trees, written as a patch and applied to the first, makes the second.

use mayfly_git::apply::ApplyLimits;
use mayfly_git::diff::DiffBudget;
use mayfly_protocol::request::FileMode;

use crate::{Input, trees};

const PATHS: [&str; 6] = ["a", "b/c", "b/d e", "b/\u{e9}\"\t", "z\\", "b"];
const MODES: [FileMode; 3] = [FileMode::Regular, FileMode::Executable, FileMode::Symlink];

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let (_folder, scratch) = trees::scratch();
    // Without context a place cannot be told for sure, and git refuses such a patch, too.
    let budget = DiffBudget {
        context_lines: 1 + u32::from(input.byte() % 4),
        ..DiffBudget::default()
    };
    let old = trees::tree(&scratch, &files(&mut input));
    let new = trees::tree(&scratch, &files(&mut input));
    let patch = scratch.patch(Some(&old), &new, &budget).expect("both are here");
    let Ok(text) = std::str::from_utf8(&patch.text) else {
        return;
    };
    if !patch.is_whole() || patch.files_changed == 0 {
        return;
    }
    let applied = scratch.apply_patch(&old, text, &ApplyLimits::default());
    match applied {
        Ok(applied) => assert_eq!(applied.tree, new, "{text}"),
        Err(error) => panic!("{error}: {text}"),
    }
}

fn files<'a>(input: &mut Input<'a>) -> Vec<(&'static str, &'a [u8], FileMode)> {
    let mut files = Vec::new();
    while files.len() < 4 && !input.is_empty() {
        let (path, mode) = (input.byte(), input.byte());
        let content = input.text();
        files.push((
            PATHS[usize::from(path) % PATHS.len()],
            content,
            MODES[usize::from(mode) % MODES.len()],
        ));
    }
    files
}
