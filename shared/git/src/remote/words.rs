//! What a remote says in its own words, made fit to be shown: one line, no control characters, bounded. Pure.

/// The most characters of one message.
pub(crate) const MAX_CHARS: usize = 200;

/// One line of at most `max` characters: controls and invisible characters become spaces, runs of white space become one space.
pub(crate) fn one_line(raw: &[u8], max: usize) -> String {
    let text = String::from_utf8_lossy(raw);
    let mut line = String::new();
    let mut count = 0;
    for word in text
        .split(|c: char| c.is_whitespace() || is_hidden(c))
        .filter(|word| !word.is_empty())
    {
        if count > 0 {
            line.push(' ');
            count += 1;
        }
        for c in word.chars() {
            if count >= max {
                return line;
            }
            line.push(c);
            count += 1;
        }
    }
    line
}

/// The last message in a piece of progress, whose messages end with a carriage return or a line feed.
pub(crate) fn last_message(raw: &[u8]) -> Option<String> {
    raw.rsplit(|&b| b == b'\r' || b == b'\n')
        .map(|message| one_line(message, MAX_CHARS))
        .find(|message| !message.is_empty())
}

/// Controls, and characters that change the direction of text or take no room.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_cannot_forge_a_line_or_an_escape() {
        assert_eq!(
            one_line(b"a\r\ndata: {}\x1b[2J\0b\xff", 99),
            "a data: {} [2J b\u{fffd}"
        );
        assert_eq!(one_line("a\u{202e}b\u{2028}c".as_bytes(), 99), "a b c");
        assert_eq!(one_line("ääää".as_bytes(), 3), "äää");
        assert_eq!(one_line(b"aa bb", 3), "aa ");
        assert_eq!(one_line(b" \n ", 3), "");
    }

    #[test]
    fn of_a_piece_of_progress_the_last_message_counts() {
        assert_eq!(
            last_message(b"Counting: 1%\rCounting: 2%\r").as_deref(),
            Some("Counting: 2%")
        );
        assert_eq!(last_message(b"\r\n"), None);
    }
}
