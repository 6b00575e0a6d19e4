//! The names of files in a patch's headers: quoted as in C or plain, with a prefix such as `a/`.
//!
//! Source: `quote.c` and `find_name_common`, `git_header_name` in `apply.c` of git.

use bstr::ByteSlice;
use mayfly_protocol::path::check_path;

use super::{ApplyError, PathFault};

/// A checked path out of a header; `None` is `/dev/null`.
pub(super) type Name = Option<Vec<u8>>;

/// The names before and after.
type Pair = (Vec<u8>, Vec<u8>);

/// Reads a name that stands after `--- ` or `+++ `: it ends at a tab, after which a time may stand.
pub(super) fn side(text: &[u8], line: usize) -> Result<Name, ApplyError> {
    let raw = if text.first() == Some(&b'"') {
        unquote(text).ok_or_else(|| bad_quotes(line))?.0
    } else {
        text.split(|&b| b == b'\t').next().unwrap_or_default().to_vec()
    };
    if raw == b"/dev/null" {
        return Ok(None);
    }
    strip_prefix(&raw, line).map(Some)
}

/// Reads a name that stands whole and without prefix, as after `rename from `.
pub(super) fn whole(text: &[u8], line: usize) -> Result<Vec<u8>, ApplyError> {
    let raw = if text.first() == Some(&b'"') {
        unquote(text).ok_or_else(|| bad_quotes(line))?.0
    } else {
        text.to_vec()
    };
    checked(raw)
}

/// Reads the two names after `diff --git `, where they can be told apart: both quoted, or equal, or without spaces.
pub(super) fn pair(text: &[u8], line: usize) -> Result<Option<Pair>, ApplyError> {
    let Some((old, new)) = split_pair(text) else {
        return Ok(None);
    };
    Ok(Some((strip_prefix(&old, line)?, strip_prefix(&new, line)?)))
}

fn split_pair(text: &[u8]) -> Option<Pair> {
    if text.first() == Some(&b'"') {
        let (old, rest) = unquote(text)?;
        let new = rest.strip_prefix(b" ")?;
        return Some((
            old,
            if new.first() == Some(&b'"') {
                unquote(new)?.0
            } else {
                new.to_vec()
            },
        ));
    }
    if let Some(at) = text.find(b" \"") {
        return Some((text[..at].to_vec(), unquote(&text[at + 1..])?.0));
    }
    let mut spaces = text.find_iter(b" ");
    let only = (spaces.next(), spaces.next());
    let at = same_names(text).or(match only {
        (Some(at), None) => Some(at),
        _ => None,
    })?;
    Some((text[..at].to_vec(), text[at + 1..].to_vec()))
}

/// The space between two names that are equal after their prefixes. As it moves on, the first name grows and the second
/// shrinks, so there is at most one, and it is found in one pass.
fn same_names(text: &[u8]) -> Option<usize> {
    let first = text.find_byte(b'/')?;
    let mut second = first;
    for at in text.find_iter(b" ").filter(|at| *at > first) {
        if second < at {
            second = at + text[at..].find_byte(b'/')?;
        }
        if at - first == text.len() - second && text[first + 1..at] == text[second + 1..] {
            return Some(at);
        }
    }
    None
}

fn after_first_slash(name: &[u8]) -> Option<&[u8]> {
    name.split_once_str("/").map(|(_, rest)| rest)
}

fn strip_prefix(raw: &[u8], line: usize) -> Result<Vec<u8>, ApplyError> {
    if raw.starts_with(b"/") {
        return Err(ApplyError::refused(raw, PathFault::Absolute));
    }
    let reason = "the name has no prefix such as `a/`";
    let name = after_first_slash(raw).ok_or(ApplyError::Invalid { line, reason })?;
    if name.starts_with(b"/") {
        return Err(ApplyError::refused(raw, PathFault::Absolute));
    }
    // A prefix of dots is no prefix, but a way out.
    if raw.starts_with(b"../") {
        checked(raw.to_vec())?;
    }
    checked(name.to_vec())
}

fn checked(path: Vec<u8>) -> Result<Vec<u8>, ApplyError> {
    if path.starts_with(b"/") {
        return Err(ApplyError::refused(&path, PathFault::Absolute));
    }
    match check_path(&path) {
        Ok(()) => Ok(path),
        Err(invalid) => Err(ApplyError::refused(&path, PathFault::Invalid(invalid))),
    }
}

fn bad_quotes(line: usize) -> ApplyError {
    ApplyError::Invalid {
        line,
        reason: "a quoted name does not end, or has an unknown escape",
    }
}

/// Reads a name in C's quotes, and gives what follows it.
fn unquote(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut name = Vec::new();
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        match byte {
            b'"' => return Some((name, rest)),
            b'\\' => {
                let (value, after) = escape(rest)?;
                name.push(value);
                rest = after;
            }
            other => name.push(other),
        }
    }
}

fn escape(text: &[u8]) -> Option<(u8, &[u8])> {
    let (&kind, rest) = text.split_first()?;
    let value = match kind {
        b'a' => 7,
        b'b' => 8,
        b't' => b'\t',
        b'n' => b'\n',
        b'v' => 11,
        b'f' => 12,
        b'r' => b'\r',
        b'"' | b'\\' => kind,
        b'0'..=b'3' => {
            let digits = text
                .get(..3)
                .filter(|digits| digits.iter().all(|b| (b'0'..=b'7').contains(b)))?;
            let value = digits
                .iter()
                .fold(0u8, |value, digit| value << 3 | (digit - b'0'));
            return Some((value, &text[3..]));
        }
        _ => return None,
    };
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_prefixes_quotes_and_times() {
        for (text, name) in [
            ("a/x", &b"x"[..]),
            ("b/dir/x y\t2026-01-01 00:00:00", b"dir/x y"),
            (r#""a/caf\351 \"q\"\t""#, b"caf\xe9 \"q\"\t"),
            ("old/x", b"x"),
        ] {
            assert_eq!(side(text.as_bytes(), 1).unwrap().unwrap(), name, "{text}");
        }
        assert_eq!(side(b"/dev/null", 1).unwrap(), None);
        for text in ["x", r#""a/x"#, r#""a/\x41""#, r#""a/\400""#, r#""a/\1""#] {
            assert!(
                matches!(side(text.as_bytes(), 1), Err(ApplyError::Invalid { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn names_that_lead_out_are_refused_in_every_place() {
        for bad in [
            "../x",
            "a/../x",
            "/etc/passwd",
            "a//etc",
            "a/.git/config",
            "a/.GIT",
            "a/x/",
            r#""a/\056git/x""#,
        ] {
            let refused = |outcome: Result<(), ApplyError>| {
                assert!(
                    matches!(outcome, Err(ApplyError::PathRefused { .. })),
                    "{bad}: {outcome:?}"
                );
            };
            refused(side(bad.as_bytes(), 1).map(drop));
            refused(pair(format!("{bad} {bad}").as_bytes(), 1).map(drop));
        }
        for bad in ["../x", "/x", ".git/x", r#""\056git""#, ""] {
            assert!(
                matches!(whole(bad.as_bytes(), 1), Err(ApplyError::PathRefused { .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn pairs_that_can_be_told_apart() {
        let pair = |text: &str| pair(text.as_bytes(), 1).unwrap();
        let both = |name: &str| Some((name.as_bytes().to_vec(), name.as_bytes().to_vec()));
        assert_eq!(pair("a/x b/x"), both("x"));
        assert_eq!(pair("a/x y b/x y"), both("x y"));
        assert_eq!(pair("i/long b/ i/x w/long b/ i/x"), both("long b/ i/x"));
        assert_eq!(pair(r#""a/x\ty" "b/x\ty""#), both("x\ty"));
        assert_eq!(pair(r#"a/x "b/y\t""#), Some((b"x".to_vec(), b"y\t".to_vec())));
        assert_eq!(pair("a/x b/y"), Some((b"x".to_vec(), b"y".to_vec())));
        assert_eq!(pair("a/x y b/z"), None);
    }
}
