//! Plain text out of any text: ASCII words for names, and lines without characters that could forge or hide something.
//!
//! This file must not know what the words are for.

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// The words of a text in lower-case ASCII, and how much of it could be written so.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    /// Runs of ASCII letters and digits, accents taken off.
    pub(crate) ascii: Vec<String>,
    /// Letters that have an ASCII form.
    pub(crate) ascii_letters: usize,
    /// Letters that have none.
    pub(crate) other_letters: usize,
}

/// Splits a text into words. Addresses (`https://…`) are no words.
pub(crate) fn words(text: &str) -> Words {
    let mut words = Words::default();
    for token in text.split_whitespace().filter(|token| !token.contains("://")) {
        words.take(token);
    }
    words
}

impl Words {
    fn take(&mut self, token: &str) {
        let mut word = String::new();
        for c in token
            .nfkd()
            .filter(|c| !is_combining_mark(*c) && !is_apostrophe(*c))
        {
            match ascii_form(c) {
                Some(form) => {
                    self.ascii_letters += form.bytes().filter(u8::is_ascii_alphabetic).count();
                    word.push_str(&form);
                }
                None => {
                    self.other_letters += usize::from(c.is_alphabetic());
                    self.end(&mut word);
                }
            }
        }
        self.end(&mut word);
    }

    fn end(&mut self, word: &mut String) {
        if !word.is_empty() {
            self.ascii.push(std::mem::take(word));
        }
    }
}

fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '\u{2019}' | '\u{2bc}')
}

/// The ASCII form of a letter or digit, in lower case. The letters listed have no decomposition in Unicode.
fn ascii_form(c: char) -> Option<String> {
    if c.is_ascii_alphanumeric() {
        return Some(c.to_ascii_lowercase().to_string());
    }
    let form = match c {
        'ß' | 'ẞ' => "ss",
        'æ' | 'Æ' => "ae",
        'œ' | 'Œ' => "oe",
        'ø' | 'Ø' => "o",
        'đ' | 'Đ' | 'ð' | 'Ð' => "d",
        'ł' | 'Ł' => "l",
        'þ' | 'Þ' => "th",
        'ı' => "i",
        'ħ' | 'Ħ' => "h",
        _ => return None,
    };
    Some(form.to_owned())
}

/// Whether a character may change how a text around it reads: controls, direction marks, characters without width, line separators.
pub(crate) fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The text on one line: what could forge a line or hide a character is shown as `?`, and the middle is left out where it has more than
/// `max_chars` characters.
pub(crate) fn one_line(text: &str, max_chars: usize) -> String {
    let clean = |c: char| if is_deceptive(c) { '?' } else { c };
    let count = text.chars().count();
    if count <= max_chars {
        return text.chars().map(clean).collect();
    }
    let kept = max_chars.saturating_sub(1);
    let tail = kept - kept / 3;
    let head = text.chars().take(kept / 3).map(clean);
    head.chain(['…'])
        .chain(text.chars().skip(count - tail).map(clean))
        .collect()
}

/// The longest beginning of `text` of at most `max_bytes` bytes that ends with a character.
pub(crate) fn prefix(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accents_fold_and_other_scripts_are_counted() {
        for (text, expected) in [
            ("Añadir modo oscuro", vec!["anadir", "modo", "oscuro"]),
            ("Größe ändern", vec!["grosse", "andern"]),
            ("don't PANIC", vec!["dont", "panic"]),
            ("see https://host/x now", vec!["see", "now"]),
            ("ﬁx ① ＡＢ", vec!["fix", "1", "ab"]),
            ("a_b-c/d", vec!["a", "b", "c", "d"]),
            ("Łódź Ærø", vec!["lodz", "aero"]),
        ] {
            assert_eq!(words(text).ascii, expected, "{text}");
        }
        let mixed = words("修复 login 页面");
        assert_eq!((mixed.ascii_letters, mixed.other_letters), (5, 4));
    }

    #[test]
    fn one_line_neither_forges_nor_grows() {
        assert_eq!(one_line("a\nb\u{202e}c", 10), "a?b?c");
        assert_eq!(one_line("0123456789", 7), "01…6789");
        assert_eq!(one_line("0123456789", 10), "0123456789");
        assert_eq!(one_line("abc", 0), "…");
    }
}
