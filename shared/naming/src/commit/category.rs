//! The type of a Conventional Commit, judged by which files changed and how.
//!
//! This file must not know how the message is put together.

use crate::change::{ChangeSummary, ChangedFile, FileChangeKind};
use crate::commit::area::Area;

/// The type at the front of a Conventional Commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Category {
    Feat,
    Fix,
    Docs,
    Style,
    Refactor,
    Perf,
    Test,
    Build,
    Ci,
    Chore,
    Revert,
}

/// Lines of a change to existing files up to which it is taken for a correction.
const SMALL_CHANGE_LINES: u64 = 20;
/// How many lines are added for one that is removed where something new came in.
const GROWTH: u64 = 3;
/// Languages where a change of blanks can be a change of meaning.
const BLANKS_MATTER: &[&str] = &[
    "coffee", "haml", "mk", "nim", "pug", "py", "pyi", "sass", "yaml", "yml",
];

impl Category {
    /// Every category.
    pub(crate) const ALL: &[Self] = &[
        Self::Feat,
        Self::Fix,
        Self::Docs,
        Self::Style,
        Self::Refactor,
        Self::Perf,
        Self::Test,
        Self::Build,
        Self::Ci,
        Self::Chore,
        Self::Revert,
    ];

    /// The word in the message.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Feat => "feat",
            Self::Fix => "fix",
            Self::Docs => "docs",
            Self::Style => "style",
            Self::Refactor => "refactor",
            Self::Perf => "perf",
            Self::Test => "test",
            Self::Build => "build",
            Self::Ci => "ci",
            Self::Chore => "chore",
            Self::Revert => "revert",
        }
    }
}

/// The category of a change.
pub(super) fn of(change: &ChangeSummary) -> Category {
    let mut areas = change.files.iter().map(|file| Area::of(&file.path));
    let Some(first) = areas.next() else {
        return Category::Chore;
    };
    if areas.all(|area| area == first) && first != Area::Source {
        return of_area(first);
    }
    let sources: Vec<&ChangedFile> = change
        .files
        .iter()
        .filter(|file| Area::of(&file.path) == Area::Source)
        .collect();
    of_sources(&sources)
}

fn of_area(area: Area) -> Category {
    match area {
        Area::Docs => Category::Docs,
        Area::Test => Category::Test,
        Area::Ci => Category::Ci,
        Area::Build => Category::Build,
        Area::Settings | Area::Source => Category::Chore,
    }
}

fn of_sources(files: &[&ChangedFile]) -> Category {
    let all = |kind| files.iter().all(|file| file.kind == kind);
    if files.is_empty() || all(FileChangeKind::Deleted) {
        Category::Chore
    } else if all(FileChangeKind::Renamed) {
        Category::Refactor
    } else if files.iter().any(|file| file.kind == FileChangeKind::Added) {
        Category::Feat
    } else if files.iter().all(|file| changes_only_blanks(file)) {
        Category::Style
    } else {
        of_line_counts(files)
    }
}

fn of_line_counts(files: &[&ChangedFile]) -> Category {
    let sum =
        |count: fn(&ChangedFile) -> u64| files.iter().map(|file| count(file)).fold(0, u64::saturating_add);
    let (added, removed) = (sum(|file| file.insertions), sum(|file| file.deletions));
    if added.saturating_add(removed) <= SMALL_CHANGE_LINES {
        Category::Fix
    } else if added >= removed.saturating_mul(GROWTH) {
        Category::Feat
    } else {
        Category::Refactor
    }
}

fn changes_only_blanks(file: &ChangedFile) -> bool {
    let extension = file.path.rsplit_once('.').map_or("", |(_, extension)| extension);
    let Some(text) = file
        .text
        .as_deref()
        .filter(|_| !BLANKS_MATTER.contains(&extension))
    else {
        return false;
    };
    let side = |sign: char| {
        let lines = text.lines().filter_map(move |line| line.strip_prefix(sign));
        lines.flat_map(str::chars).filter(|c| !c.is_whitespace())
    };
    side('+').next().is_some() && side('+').eq(side('-'))
}
