//! Just enough of Rust's grammar to tell code from comments and literals, and to find functions.
//!
//! Source of the rules: "Tokens" and "Comments" in the Rust reference. This file must not know what the code is searched for.

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    /// Line of `fn`, counted from 1.
    pub(super) first_line: usize,
    /// Line of the closing brace.
    pub(super) last_line: usize,
}

/// The code with blanks in place of comments and of what stands in quotes. Lines stay where they are.
pub(super) fn mask(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    let mut after_word = false;
    while let Some(first) = rest.chars().next() {
        let length = if after_word { 0 } else { skipped_length(rest) };
        let length = if length == 0 { quoted_length(rest) } else { length };
        if length == 0 {
            masked.push(first);
            after_word = first.is_alphanumeric() || first == '_';
            rest = &rest[first.len_utf8()..];
        } else {
            masked.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            after_word = false;
            rest = &rest[length..];
        }
    }
    masked
}

/// Bytes of the literal with a prefix (`b"`, `r#"`, …) that `text` begins with; 0 if there is none.
fn skipped_length(text: &str) -> usize {
    let prefix = text.len() - text.trim_start_matches(['b', 'c', 'r']).len();
    let (letters, rest) = text.split_at(prefix.min(2));
    if letters.is_empty() {
        return 0;
    }
    if letters.ends_with('r') {
        let hashes = rest.len() - rest.trim_start_matches('#').len();
        if !rest[hashes..].starts_with('"') {
            return 0;
        }
        let end = format!("\"{}", "#".repeat(hashes));
        let body = &rest[hashes + 1..];
        return letters.len() + hashes + 1 + body.find(&end).map_or(body.len(), |at| at + end.len());
    }
    match letters.len() {
        1 if rest.starts_with(['"', '\'']) => 1 + quoted_length(rest),
        _ => 0,
    }
}

/// Bytes of the comment, string or character that `text` begins with; 0 if there is none.
fn quoted_length(text: &str) -> usize {
    if text.starts_with("//") {
        text.find('\n').unwrap_or(text.len())
    } else if text.starts_with("/*") {
        block_comment_length(text)
    } else if text.starts_with('"') {
        until_quote(text, '"')
    } else if is_character(text) {
        until_quote(text, '\'')
    } else {
        0
    }
}

fn block_comment_length(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(found) = text[at..].find(['/', '*']) {
        at += found;
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

fn until_quote(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Tells `'a'` and `'\n'` from the lifetime `'a`.
fn is_character(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next() == Some('\'') && (chars.next() == Some('\\') || chars.next() == Some('\''))
}

/// The functions with a body in masked code, in their order.
pub(super) fn functions(code: &str) -> Vec<Function> {
    let mut functions = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let is_word = code[..at]
            .chars()
            .next_back()
            .is_none_or(|before| !before.is_alphanumeric() && before != '_');
        let name: String = code[at + 3..]
            .trim_start()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        if !is_word || name.is_empty() {
            continue;
        }
        if let Some(end) = body_end(&code[at..]) {
            let line_of = |at: usize| code[..at].matches('\n').count() + 1;
            functions.push(Function {
                name,
                first_line: line_of(at),
                last_line: line_of(at + end),
            });
        }
    }
    functions
}

/// Where the body of the function that `code` begins with ends; nothing for a function without one.
fn body_end(code: &str) -> Option<usize> {
    let (mut nested, mut braces) = (0_usize, 0_usize);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => nested += 1,
            ')' | ']' => nested = nested.saturating_sub(1),
            ';' if nested == 0 && braces == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 && nested == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked() {
        for (text, expected) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"a "b\"{" c"#, r#"a        c"#),
            ("a r#\"b\"{\"# c", "a          c"),
            ("br\"x\" y", "      y"),
            ("b'{' b\"{\" c", "          c"),
            ("'{' '\\'' 'a", "         'a"),
            ("fn a<'a>(x: &'a str) {}", "fn a<'a>(x: &'a str) {}"),
            ("ab\"c\" d", "ab    d"),
            ("\"a\nb\"", "  \n  "),
            ("/* open", "       "),
            ("\"open", "     "),
            ("'ä' b", "    b"),
            ("break 'b", "break 'b"),
        ] {
            assert_eq!(mask(text), expected, "{text}");
        }
    }

    #[test]
    fn functions_are_found_with_their_lines() {
        let code = mask(
            "fn a() {}\ntrait T { fn none(&self) -> [u8; 3]; }\nimpl S {\n  pub async fn b<F: Fn(u8)>(\n    f: F,\n  ) where F: Copy {\n    if x { \"}\" }\n  }\n}\nlet p: fn (u8) = q;\nfn c() -> [u8; { 1 }] {\n}\n",
        );
        let found: Vec<_> = functions(&code)
            .into_iter()
            .map(|f| (f.name, f.first_line, f.last_line))
            .collect();
        assert_eq!(
            found,
            [
                ("a".to_owned(), 1, 1),
                ("b".to_owned(), 4, 8),
                ("c".to_owned(), 11, 12)
            ]
        );
    }
}
