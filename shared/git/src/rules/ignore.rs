//! Which paths the `.gitignore` files of a tree exclude.

use bstr::{BStr, BString, ByteSlice};
use gix_ignore::Search;
use gix_ignore::glob::pattern::Case;
use gix_ignore::search::Ignore;

use super::{MAX_RULE_FILE_BYTES, RuleFiles};
use crate::scratch::{Scratch, ScratchError};

/// One folder on the way to the path in question.
struct Level {
    folder: BString,
    /// The folder itself is excluded, and so is all that is in it: nothing below can be taken in again.
    excluded: bool,
    /// Whether its rules are the last of the search.
    has_rules: bool,
}

/// The rules of the folders from the root to where one stands.
struct Walk<'a> {
    scratch: &'a Scratch,
    rules: &'a RuleFiles,
    search: Search,
    levels: Vec<Level>,
}

impl Scratch {
    /// Those of the paths that the rules exclude, in order. That a path is tracked is not asked here: git's rules hold for what is not.
    ///
    /// The blobs of the rules have to be here.
    pub fn ignored(&self, rules: &RuleFiles, mut paths: Vec<BString>) -> Result<Vec<BString>, ScratchError> {
        if rules.is_empty() {
            return Ok(Vec::new());
        }
        paths.sort_unstable();
        let mut walk = Walk {
            scratch: self,
            rules,
            search: Search::default(),
            levels: Vec::new(),
        };
        let mut ignored = Vec::new();
        for path in paths {
            if walk.excludes(path.as_bstr())? {
                ignored.push(path);
            }
        }
        Ok(ignored)
    }
}

impl Walk<'_> {
    fn excludes(&mut self, path: &BStr) -> Result<bool, ScratchError> {
        while self
            .levels
            .last()
            .is_some_and(|level| !is_above(&level.folder, path))
        {
            if self.levels.pop().is_some_and(|level| level.has_rules) {
                self.search.patterns.pop();
            }
        }
        for folder in RuleFiles::folders(path).skip(self.levels.len()) {
            self.enter(folder)?;
        }
        let in_excluded = self.levels.last().is_some_and(|level| level.excluded);
        Ok(in_excluded || self.fits(path, false))
    }

    fn enter(&mut self, folder: &BStr) -> Result<(), ScratchError> {
        let above = self.levels.last().is_some_and(|level| level.excluded);
        let excluded = above || (!folder.is_empty() && self.fits(folder, true));
        let mut has_rules = false;
        // As in git, the rules of an excluded folder are not read.
        if !excluded
            && let Some(blob) = self.rules.files.get(folder)
            && let Some(source) = self.rules.source(folder)
        {
            let text = self.scratch.blob(blob, MAX_RULE_FILE_BYTES)?;
            let root = Some(std::path::Path::new(""));
            has_rules = self
                .search
                .add_patterns_buffer(&text, source, root, Ignore::default())
                .is_ok();
        }
        self.levels.push(Level {
            folder: folder.to_owned(),
            excluded,
            has_rules,
        });
        Ok(())
    }

    /// The last rule that fits decides; one that begins with `!` takes the path in again.
    fn fits(&self, path: &BStr, is_folder: bool) -> bool {
        let found = self
            .search
            .pattern_matching_relative_path(path, Some(is_folder), Case::Sensitive);
        found.is_some_and(|found| !found.pattern.is_negative())
    }
}

fn is_above(folder: &BString, path: &BStr) -> bool {
    let rest = path.strip_prefix(folder.as_bytes());
    folder.is_empty() || rest.is_some_and(|rest| rest.starts_with(b"/"))
}
