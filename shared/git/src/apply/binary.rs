//! Binary patches: base 85 and zlib, either the whole new content or a delta.
//!
//! Source: `parse_binary_hunk` in git's `apply.c` and git's `base85.c`.

use super::ApplyError;
use super::patch::Lines;
use crate::delta;
use crate::inflate::inflate;

const ALPHABET: &[u8; 85] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

/// The way forward of a binary patch, still compressed.
#[derive(Debug)]
pub(super) struct Binary<'a> {
    pub(super) is_delta: bool,
    /// Bytes after inflation.
    bytes: u64,
    /// Its lines in base 85.
    encoded: &'a [u8],
}

/// Why a binary patch gives no content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadBinary {
    /// It is damaged, or does not fit the old content.
    Damaged,
    /// The result has more bytes than allowed.
    TooLarge,
}

/// Reads a binary patch, and passes over the way back that may follow it.
pub(super) fn parse<'a>(lines: &mut Lines<'a>) -> Result<Binary<'a>, ApplyError> {
    lines.skip();
    let Some(forward) = part(lines)? else {
        return lines.invalid("a binary patch begins with neither `literal` nor `delta`");
    };
    part(lines)?;
    Ok(forward)
}

fn part<'a>(lines: &mut Lines<'a>) -> Result<Option<Binary<'a>>, ApplyError> {
    let line = lines.peek_text().unwrap_or_default();
    let (is_delta, digits) = match (line.strip_prefix(b"literal "), line.strip_prefix(b"delta ")) {
        (Some(digits), _) => (false, digits),
        (_, Some(digits)) => (true, digits),
        _ => return Ok(None),
    };
    let number = std::str::from_utf8(digits)
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let Some(bytes) = number.and_then(|text| text.parse().ok()) else {
        return lines.invalid("the size of a binary patch is no number");
    };
    lines.skip();
    let start = lines.rest();
    while lines.peek_text().is_some_and(|line| !line.is_empty()) {
        if !lines.peek_text().is_some_and(is_encoded) {
            return lines.invalid("a line of a binary patch is not in git's base 85");
        }
        lines.skip();
    }
    let encoded = &start[..start.len() - lines.rest().len()];
    if lines.peek().is_some() {
        lines.skip();
    }
    Ok(Some(Binary {
        is_delta,
        bytes,
        encoded,
    }))
}

/// Whether a line has the length that its first character says.
fn is_encoded(line: &[u8]) -> bool {
    line.split_first().is_some_and(|(first, digits)| {
        let groups = line_bytes(*first).map(|bytes| bytes.div_ceil(4));
        groups.is_some_and(|groups| digits.len() == groups * 5)
    })
}

/// `A` to `Z` are 1 to 26 bytes, `a` to `z` 27 to 52.
fn line_bytes(first: u8) -> Option<usize> {
    match first {
        b'A'..=b'Z' => Some(usize::from(first - b'A') + 1),
        b'a'..=b'z' => Some(usize::from(first - b'a') + 27),
        _ => None,
    }
}

impl Binary<'_> {
    /// The new content, at most `max` bytes.
    pub(super) fn apply(&self, old: &[u8], max: u64) -> Result<Vec<u8>, BadBinary> {
        if self.bytes > max {
            return Err(BadBinary::TooLarge);
        }
        let bytes = usize::try_from(self.bytes).map_err(|_| BadBinary::TooLarge)?;
        let compressed = decode(self.encoded).ok_or(BadBinary::Damaged)?;
        let content = inflate(&compressed, bytes).map_err(|_| BadBinary::Damaged)?;
        if !self.is_delta {
            return Ok(content);
        }
        let (sizes, _) = delta::sizes(&content).map_err(|_| BadBinary::Damaged)?;
        if sizes.result > max {
            return Err(BadBinary::TooLarge);
        }
        delta::apply(old, &content, max).map_err(|_| BadBinary::Damaged)
    }
}

fn decode(encoded: &[u8]) -> Option<Vec<u8>> {
    let mut values = [None; 256];
    for (value, digit) in ALPHABET.iter().enumerate() {
        values[usize::from(*digit)] = Some(value as u32);
    }
    let mut decoded = Vec::with_capacity(encoded.len() / 5 * 4);
    for line in encoded.split(|&b| b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some((first, digits)) = line.split_first() else {
            continue;
        };
        let end = decoded.len() + line_bytes(*first)?;
        for group in digits.chunks(5) {
            let add = |sum: u32, digit: &u8| sum.checked_mul(85)?.checked_add(values[usize::from(*digit)]?);
            let value = group.iter().try_fold(0u32, add)?;
            decoded.extend_from_slice(&value.to_be_bytes());
        }
        decoded.truncate(end);
    }
    Some(decoded)
}
