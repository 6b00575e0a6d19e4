//! What the `.gitattributes` files of a tree say of a path; today only which paths Git LFS has in its care.

use bstr::{BStr, BString, ByteSlice};
use gix_attributes::search::{MetadataCollection, Outcome};
use gix_attributes::{Search, StateRef};
use gix_glob::pattern::Case;

use super::{MAX_RULE_FILE_BYTES, RuleFiles};
use crate::scratch::{Scratch, ScratchError};

/// The attribute that names the program which turns a file into what is stored.
const FILTER: &str = "filter";
/// Its value for Git LFS.
const LFS: &[u8] = b"lfs";
/// Longer lines are left out, as git does (`ATTR_MAX_LINE_LENGTH` in git's `attr.h`).
const MAX_LINE_BYTES: usize = 2048;
/// The one macro that git knows without being told.
const BUILT_IN: &[u8] = b"[attr]binary -diff -merge -text";

impl Scratch {
    /// Those of the paths whose attribute `filter` is `lfs`, in order. The blobs of the rules have to be here.
    pub fn lfs_paths(
        &self,
        rules: &RuleFiles,
        mut paths: Vec<BString>,
    ) -> Result<Vec<BString>, ScratchError> {
        if rules.is_empty() {
            return Ok(Vec::new());
        }
        paths.sort_unstable();
        let mut found = Vec::new();
        let mut level: Option<(BString, Level)> = None;
        for path in paths {
            let folder = path
                .rsplit_once_str("/")
                .map_or(BStr::new(b""), |it| it.0.as_bstr());
            let current = match level.take() {
                Some((of, level)) if of == folder => level,
                _ => Level::read(self, rules, path.as_bstr())?,
            };
            let (of, current) = level.insert((folder.to_owned(), current));
            debug_assert_eq!(of, folder);
            if current.is_lfs(path.as_bstr()) {
                found.push(path);
            }
        }
        Ok(found)
    }
}

/// The rules for the files of one folder.
struct Level {
    search: Search,
    outcome: Outcome,
}

impl Level {
    fn read(scratch: &Scratch, rules: &RuleFiles, path: &BStr) -> Result<Self, ScratchError> {
        let (mut search, mut names) = (Search::default(), MetadataCollection::default());
        let root = Some(std::path::Path::new(""));
        // A rule that cannot be placed is none; the built-in one has no place.
        let _has_no_base = search.add_patterns_buffer(BUILT_IN, "[builtin]".into(), None, &mut names, true);
        for folder in RuleFiles::folders(path) {
            let (Some(blob), Some(source)) = (rules.files.get(folder), rules.source(folder)) else {
                continue;
            };
            let text = without_long_lines(&scratch.blob(blob, MAX_RULE_FILE_BYTES)?);
            let may_define_macros = folder.is_empty();
            let _names_no_folder =
                search.add_patterns_buffer(&text, source, root, &mut names, may_define_macros);
        }
        let mut outcome = Outcome::default();
        outcome.initialize_with_selection(&names, [FILTER]);
        Ok(Self { search, outcome })
    }

    fn is_lfs(&mut self, path: &BStr) -> bool {
        self.outcome.reset();
        self.search
            .pattern_matching_relative_path(path, Case::Sensitive, Some(false), &mut self.outcome);
        let mut verdicts = self.outcome.iter_selected().map(|found| found.assignment.state);
        verdicts.any(|state| matches!(state, StateRef::Value(value) if value.as_bstr() == LFS))
    }
}

fn without_long_lines(text: &[u8]) -> Vec<u8> {
    let lines = text.lines_with_terminator();
    lines
        .filter(|line| line.len() < MAX_LINE_BYTES)
        .flatten()
        .copied()
        .collect()
}
