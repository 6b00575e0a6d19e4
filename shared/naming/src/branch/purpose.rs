//! What a request is for, judged by its words: the prefix of the branch name.
//!
//! This file must not know how names are put together.

/// What a branch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Feature,
    Fix,
    Docs,
    Refactor,
    Test,
    Chore,
}

/// Words that settle the purpose when a request begins with them.
const VERBS: &[(&str, Purpose)] = &[
    ("bugfix", Purpose::Fix),
    ("correct", Purpose::Fix),
    ("debug", Purpose::Fix),
    ("fix", Purpose::Fix),
    ("fixes", Purpose::Fix),
    ("fixing", Purpose::Fix),
    ("hotfix", Purpose::Fix),
    ("patch", Purpose::Fix),
    ("repair", Purpose::Fix),
    ("resolve", Purpose::Fix),
    ("solve", Purpose::Fix),
    ("doc", Purpose::Docs),
    ("docs", Purpose::Docs),
    ("document", Purpose::Docs),
    ("clean", Purpose::Refactor),
    ("cleanup", Purpose::Refactor),
    ("deduplicate", Purpose::Refactor),
    ("extract", Purpose::Refactor),
    ("move", Purpose::Refactor),
    ("refactor", Purpose::Refactor),
    ("refactoring", Purpose::Refactor),
    ("rename", Purpose::Refactor),
    ("reorganise", Purpose::Refactor),
    ("reorganize", Purpose::Refactor),
    ("restructure", Purpose::Refactor),
    ("rewrite", Purpose::Refactor),
    ("simplify", Purpose::Refactor),
    ("split", Purpose::Refactor),
    ("test", Purpose::Test),
    ("tests", Purpose::Test),
    ("bump", Purpose::Chore),
    ("chore", Purpose::Chore),
    ("delete", Purpose::Chore),
    ("downgrade", Purpose::Chore),
    ("drop", Purpose::Chore),
    ("pin", Purpose::Chore),
    ("release", Purpose::Chore),
    ("remove", Purpose::Chore),
    ("upgrade", Purpose::Chore),
];

/// Words that settle the purpose when they are what the first verb is about.
const OBJECTS: &[(&str, Purpose)] = &[
    ("coverage", Purpose::Test),
    ("test", Purpose::Test),
    ("tests", Purpose::Test),
    ("changelog", Purpose::Docs),
    ("docs", Purpose::Docs),
    ("docstrings", Purpose::Docs),
    ("documentation", Purpose::Docs),
    ("readme", Purpose::Docs),
    ("dependencies", Purpose::Chore),
    ("dependency", Purpose::Chore),
    ("deps", Purpose::Chore),
    ("lockfile", Purpose::Chore),
];

/// Verbs that say nothing without their object.
const OPEN_VERBS: &[&str] = &[
    "add",
    "change",
    "create",
    "extend",
    "generate",
    "implement",
    "improve",
    "increase",
    "make",
    "update",
    "write",
];

/// Words that tell of something broken wherever they stand.
const FAULTS: &[&str] = &[
    "broken",
    "bug",
    "bugs",
    "crash",
    "crashes",
    "crashing",
    "error",
    "errors",
    "exception",
    "fail",
    "failing",
    "fails",
    "failure",
    "leak",
    "regression",
    "typo",
    "wrong",
];

/// How many words after an open verb are looked at for its object.
const OBJECT_WORDS: usize = 3;

/// The purpose of a request with these words, of which there is at least one.
pub(crate) fn of(words: &[String]) -> Purpose {
    let Some((first, rest)) = words.split_first() else {
        return Purpose::Feature;
    };
    if let Some(purpose) = look_up(VERBS, first) {
        return purpose;
    }
    if OPEN_VERBS.contains(&first.as_str()) {
        return rest
            .iter()
            .take(OBJECT_WORDS)
            .find_map(|word| look_up(OBJECTS, word))
            .unwrap_or(Purpose::Feature);
    }
    if words.iter().any(|word| FAULTS.contains(&word.as_str())) {
        return Purpose::Fix;
    }
    Purpose::Feature
}

fn look_up(table: &[(&str, Purpose)], word: &str) -> Option<Purpose> {
    table
        .iter()
        .find(|(entry, _)| *entry == word)
        .map(|(_, purpose)| *purpose)
}

impl Purpose {
    /// The first part of the branch name.
    pub(crate) const fn prefix(self) -> &'static str {
        match self {
            Self::Feature => "feature",
            Self::Fix => "fix",
            Self::Docs => "docs",
            Self::Refactor => "refactor",
            Self::Test => "test",
            Self::Chore => "chore",
        }
    }

    /// Whether the prefix says the same as the word, so that the word can be left out.
    pub(crate) fn is_said_by(self, word: &str) -> bool {
        match self {
            Self::Fix => matches!(word, "fix" | "fixes" | "fixing" | "bugfix" | "hotfix"),
            Self::Docs => matches!(word, "doc" | "docs" | "document"),
            Self::Refactor => matches!(word, "refactor" | "refactoring"),
            Self::Test => matches!(word, "test" | "tests"),
            Self::Chore => word == "chore",
            Self::Feature => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_weighs_most() {
        for (text, expected) in [
            ("add error page", Purpose::Feature),
            ("improve documentation api", Purpose::Docs),
            ("increase coverage", Purpose::Test),
            ("remove legacy endpoint", Purpose::Chore),
            ("login fails", Purpose::Fix),
            ("rename tests", Purpose::Refactor),
            ("dark mode", Purpose::Feature),
        ] {
            let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            assert_eq!(of(&words), expected, "{text}");
        }
        assert_eq!(of(&[]), Purpose::Feature);
    }
}
