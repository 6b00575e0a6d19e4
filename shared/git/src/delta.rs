//! Applies git's binary deltas.
//!
//! Source of the format: gitformat-pack(5), "Deltified representation".

/// A delta is damaged, or does not fit its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the delta is damaged, or does not fit what it builds on")]
pub(crate) struct BadDelta;

/// The sizes that a delta says its base and its result have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeltaSizes {
    pub(crate) base: u64,
    pub(crate) result: u64,
}

/// Reads the sizes, and what follows them.
pub(crate) fn sizes(delta: &[u8]) -> Result<(DeltaSizes, &[u8]), BadDelta> {
    let (base, rest) = size(delta)?;
    let (result, rest) = size(rest)?;
    Ok((DeltaSizes { base, result }, rest))
}

fn size(bytes: &[u8]) -> Result<(u64, &[u8]), BadDelta> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok((value, &bytes[index + 1..]));
        }
    }
    Err(BadDelta)
}

/// Builds the result on a base, which must have at most `max` bytes.
pub(crate) fn apply(base: &[u8], delta: &[u8], max: u64) -> Result<Vec<u8>, BadDelta> {
    let mut result = Vec::new();
    apply_into(base, delta, max, &mut result)?;
    Ok(result)
}

/// Builds the result, of at most `max` bytes, in the place of what was in `result`.
pub(crate) fn apply_into(base: &[u8], delta: &[u8], max: u64, result: &mut Vec<u8>) -> Result<(), BadDelta> {
    let (sizes, _) = sizes(delta)?;
    if sizes.result > max {
        return Err(BadDelta);
    }
    result.clear();
    result.reserve(usize::try_from(sizes.result).map_err(|_| BadDelta)?);
    pieces(base, delta, max, |piece| result.extend_from_slice(piece))
}

/// Gives the pieces of the result, which has at most `max` bytes, in their order.
pub(crate) fn pieces(
    base: &[u8],
    delta: &[u8],
    max: u64,
    mut each: impl FnMut(&[u8]),
) -> Result<(), BadDelta> {
    let (sizes, mut rest) = sizes(delta)?;
    if sizes.base != base.len() as u64 || sizes.result > max {
        return Err(BadDelta);
    }
    let mut missing = usize::try_from(sizes.result).map_err(|_| BadDelta)?;
    while let Some((&command, after)) = rest.split_first() {
        let piece;
        (piece, rest) = match command {
            0 => return Err(BadDelta),
            1..=0x7f => after.split_at_checked(usize::from(command)).ok_or(BadDelta)?,
            _ => copy(base, command, after)?,
        };
        missing = missing.checked_sub(piece.len()).ok_or(BadDelta)?;
        each(piece);
    }
    if missing == 0 { Ok(()) } else { Err(BadDelta) }
}

/// A copy command: its bits say which of the four bytes of the offset and the three of the size follow.
fn copy<'a, 'd>(base: &'a [u8], command: u8, mut after: &'d [u8]) -> Result<(&'a [u8], &'d [u8]), BadDelta>
where
    'd: 'a,
{
    let mut fields = [0u8; 7];
    for (bit, field) in fields.iter_mut().enumerate() {
        if command & (1 << bit) != 0 {
            let (byte, rest) = after.split_first().ok_or(BadDelta)?;
            (*field, after) = (*byte, rest);
        }
    }
    let offset = u32::from_le_bytes([fields[0], fields[1], fields[2], fields[3]]) as usize;
    let size = match u32::from_le_bytes([fields[4], fields[5], fields[6], 0]) as usize {
        0 => 0x10000,
        size => size,
    };
    let piece = base
        .get(offset..)
        .and_then(|rest| rest.get(..size))
        .ok_or(BadDelta)?;
    Ok((piece, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &[u8] = b"0123456789";

    #[test]
    fn copies_and_insertions() {
        let delta = [10, 7, 0x91, 2, 3, 2, b'x', b'y', 0x91, 8, 2];
        assert_eq!(apply(BASE, &delta, 7).as_deref(), Ok(&b"234xy89"[..]));
        assert_eq!(sizes(&delta).unwrap().0, DeltaSizes { base: 10, result: 7 });
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let cases: &[&[u8]] = &[
            &[],
            &[10],
            &[0x80; 12],
            &[9, 1, 1, b'x'],
            &[10, 2, 1, b'x'],
            &[10, 1, 2, b'x', b'y'],
            &[10, 1, 2, b'x'],
            &[10, 1, 0],
            &[10, 8, 0x91, 9, 8],
            &[10, 1, 0x91, 9],
            &[10, 1, 0x9f, 0xff, 0xff, 0xff, 0xff, 1],
            &[
                10, 8, 1, b'x', 1, b'x', 1, b'x', 1, b'x', 1, b'x', 1, b'x', 1, b'x', 1, b'x',
            ],
        ];
        for delta in cases {
            assert_eq!(apply(BASE, delta, 7), Err(BadDelta), "{delta:?}");
        }
    }
}
