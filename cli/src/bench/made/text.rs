//! Source text that compresses and changes like what people write: words of a vocabulary in which few are frequent, edited a few lines at a time.

use std::fmt::Write as _;

use super::mix;

/// Words of the vocabulary.
const WORDS: u64 = 4096;
/// Lines of a file, from and to.
const LINES: std::ops::Range<u64> = 40..420;
/// The most neighbouring lines that an edit changes.
const EDITED_LINES: u64 = 6;
/// Folders below each folder.
const FOLDERS: u64 = 14;

/// The path of a text file, five folders deep.
pub(super) fn path(file: u64) -> String {
    let (area, part, place) = (
        file % FOLDERS,
        file / FOLDERS % FOLDERS,
        file / (FOLDERS * FOLDERS) % FOLDERS,
    );
    format!("crates/area{area:02}/src/part{part:02}/place{place:02}/file{file:06}.rs")
}

/// Writes texts.
pub(super) struct Source {
    words: Vec<String>,
}

impl Source {
    pub(super) fn new() -> Self {
        const SYLLABLES: [&str; 32] = [
            "re", "con", "ti", "ment", "al", "in", "ex", "port", "er", "qu", "lo", "ck", "st", "ream", "bu",
            "ff", "no", "de", "pa", "th", "si", "ze", "ta", "sk", "wo", "rk", "co", "mm", "it", "pu", "sh",
            "fi",
        ];
        let word = |number: u64| {
            let bits = mix(&[10, number]);
            let count = 2 + bits % 3;
            (0..count)
                .map(|place| SYLLABLES[usize::try_from((bits >> (8 + 5 * place)) % 32).unwrap_or_default()])
                .collect()
        };
        Self {
            words: (0..WORDS).map(word).collect(),
        }
    }

    /// A file after so many edits.
    pub(super) fn file(&self, file: u64, version: u32) -> String {
        let lines = LINES.start + mix(&[11, file]) % (LINES.end - LINES.start);
        let mut last_edit = vec![0; usize::try_from(lines).unwrap_or_default()];
        for edit in 1..=u64::from(version) {
            let bits = mix(&[12, file, edit]);
            let (first, count) = (bits % lines, 1 + (bits >> 32) % EDITED_LINES);
            let edited = last_edit
                .iter_mut()
                .skip(usize::try_from(first).unwrap_or_default());
            for line in edited.take(usize::try_from(count).unwrap_or_default()) {
                *line = edit;
            }
        }
        let mut text = String::with_capacity(last_edit.len() * 48);
        for (line, edit) in (0..).zip(last_edit) {
            self.line(&[file, line, edit], &mut text);
        }
        text
    }

    fn line(&self, place: &[u64], text: &mut String) {
        let bits = mix(place);
        let [a, b, c] = [0, 1, 2].map(|nth| self.word(mix(&[bits, nth])));
        let number = bits >> 52;
        // Writing to a string cannot fail.
        let _ = match bits % 12 {
            0 => writeln!(text, "/// The {a} of a {b}, which the {c} needs."),
            1 => writeln!(text, "pub fn {a}({b}: &{c}) -> Result<(), Error> {{"),
            2 | 3 => writeln!(text, "    let {a} = {b}.{c}({number})?;"),
            4 => writeln!(text, "    if {a}.is_{b}() {{"),
            5 => writeln!(text, "        return Err({a}::{b}({c}));"),
            6 | 7 => writeln!(text, "    {a}.{b}(&{c}, |it| it.len() > {number});"),
            8 => writeln!(text, "    }}"),
            9 => writeln!(text, "}}\n"),
            10 => writeln!(text, "    // {a} {b} {c}"),
            _ => writeln!(text, "    assert_eq!({a}({b}), Some({number}));"),
        };
    }

    /// Few words are frequent.
    fn word(&self, bits: u64) -> &str {
        let uniform = bits % WORDS;
        let skewed = uniform * uniform / WORDS * (bits >> 32 & 1023) / 1024;
        &self.words[usize::try_from(skewed).unwrap_or_default()]
    }

    /// A subject of a commit.
    pub(super) fn sentence(&self, number: u64) -> String {
        let [a, b, c, d] = [0, 1, 2, 3].map(|nth| self.word(mix(&[13, number, nth])));
        format!("{a}: {b} the {c} before its {d}")
    }
}
