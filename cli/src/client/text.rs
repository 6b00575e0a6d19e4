//! What a server says, made harmless for a terminal: a message may hold what a stranger wrote into a repository.

use std::borrow::Cow;

/// Whether a character may move a cursor, change a colour, or turn the order of a line.
fn is_harmful(character: char) -> bool {
    let turns = matches!(character, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() || turns || matches!(character, '\u{2028}' | '\u{2029}')
}

/// One line: each harmful character is a `�`.
pub(super) fn line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace(is_harmful, "\u{fffd}"))
}

/// Several lines for a terminal: line ends and tabs stay.
pub(super) fn lines(text: &str) -> String {
    text.replace(
        |character| is_harmful(character) && !matches!(character, '\n' | '\t'),
        "\u{fffd}",
    )
}

/// JSON with every harmful character escaped: they stand in strings only, so it is the same value.
pub(super) fn json(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    if !text.contains(is_harmful) {
        return text;
    }
    text.chars()
        .map(|character| match is_harmful(character) {
            true => format!("\\u{:04x}", u32::from(character)),
            false => character.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NASTY: &str = "a\u{1b}[31mred\u{9b}2J\r\n\u{202e}txt.exe\u{7f}é";

    #[test]
    fn nothing_harmful_is_left() {
        assert_eq!(line("plain – ü"), "plain – ü");
        assert_eq!(
            line(NASTY),
            "a\u{fffd}[31mred\u{fffd}2J\u{fffd}\u{fffd}\u{fffd}txt.exe\u{fffd}é"
        );
        assert_eq!(lines("a\tb\n\u{1b}c\r\n"), "a\tb\n\u{fffd}c\u{fffd}\n");
    }

    #[test]
    fn json_is_the_same_value() {
        let text = json(&NASTY);
        assert!(!text.contains(is_harmful), "{text}");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), NASTY);
    }
}
