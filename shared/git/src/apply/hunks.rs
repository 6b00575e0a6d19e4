//! Hunks of text: reading them, and finding the place that each fits exactly.
//!
//! Source: `parse_fragment`, `find_pos` and `match_fragment` in git's `apply.c`, without its options for white space, less context and
//! overlap. One rule is stricter: hunks come in the order of their places, as `git diff` writes them.

use bstr::ByteSlice;

use super::ApplyError;
use super::patch::Lines;

/// Lines that may be compared while places are sought, over all files of a patch.
const MAX_COMPARISONS: u64 = 50_000_000;

/// One hunk. Its sides are read out of its lines when they are needed.
#[derive(Debug)]
pub(super) struct Hunk<'a> {
    /// Where it stands in the patch, from 1.
    line: usize,
    /// The line that it says it begins at, in the old file and in the new one, from 1; 0 where that file is empty.
    old_start: u64,
    new_start: u64,
    /// All its lines, from the one after `@@`.
    body: &'a [u8],
}

/// Why hunks do not fit a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfit {
    /// The hunk at this line of the patch fits nowhere.
    Hunk(usize),
    /// The result has more bytes than allowed.
    TooLarge,
    /// The search took more comparisons than allowed.
    TooSlow,
}

/// What is left of the comparisons that one patch may cost.
pub(super) struct Effort(u64);

impl Effort {
    pub(super) fn new() -> Self {
        Self(MAX_COMPARISONS)
    }

    fn spend(&mut self, comparisons: u64) -> Result<(), Misfit> {
        self.0 = self.0.checked_sub(comparisons).ok_or(Misfit::TooSlow)?;
        Ok(())
    }
}

/// Reads the hunks of one file.
pub(super) fn parse<'a>(lines: &mut Lines<'a>) -> Result<Vec<Hunk<'a>>, ApplyError> {
    let mut hunks = Vec::new();
    while let Some(line) = lines.peek_text().filter(|line| line.starts_with(b"@@ -")) {
        let Some([(old_start, old_lines), (new_start, new_lines)]) = ranges(line) else {
            return lines.invalid("a hunk does not begin with `@@ -<line>,<lines> +<line>,<lines> @@`");
        };
        let number = lines.number;
        lines.skip();
        let start = lines.rest();
        pass_over(lines, old_lines, new_lines)?;
        let body = &start[..start.len() - lines.rest().len()];
        hunks.push(Hunk {
            line: number,
            old_start,
            new_start,
            body,
        });
    }
    Ok(hunks)
}

fn ranges(line: &[u8]) -> Option<[(u64, u64); 2]> {
    let (old, rest) = line.strip_prefix(b"@@ -")?.split_once_str(" +")?;
    let (new, _) = rest.split_once_str(" @@")?;
    Some([range(old)?, range(new)?])
}

/// `12,3`, or `12` for one line.
fn range(text: &[u8]) -> Option<(u64, u64)> {
    let number = |text: &[u8]| {
        let is_plain = !text.is_empty() && text.len() <= 10 && text.iter().all(u8::is_ascii_digit);
        text.to_str().ok().filter(|_| is_plain)?.parse().ok()
    };
    match text.split_once_str(",") {
        Some((start, lines)) => Some((number(start)?, number(lines)?)),
        None => Some((number(text)?, 1)),
    }
}

/// Goes to the end of a hunk with so many lines on its sides.
fn pass_over(lines: &mut Lines<'_>, mut old: u64, mut new: u64) -> Result<(), ApplyError> {
    while old > 0 || new > 0 {
        let Some(line) = lines.peek() else {
            return lines.invalid("it ends in the middle of a hunk");
        };
        let (from_old, from_new) = match line[0] {
            b' ' | b'\n' | b'\r' => (1, 1),
            b'-' => (1, 0),
            b'+' => (0, 1),
            b'\\' => (0, 0),
            _ => return lines.invalid("a line of a hunk does not begin with a space, `-`, `+` or `\\`"),
        };
        let (Some(old_left), Some(new_left)) = (old.checked_sub(from_old), new.checked_sub(from_new)) else {
            return lines.invalid("a hunk has other lines than its `@@` line counts");
        };
        (old, new) = (old_left, new_left);
        lines.skip();
    }
    if lines.peek().is_some_and(|line| line.starts_with(b"\\ ")) {
        lines.skip();
    }
    Ok(())
}

/// The lines of a hunk before and after, and how many are at its end on both sides.
struct Sides<'a> {
    old: Vec<&'a [u8]>,
    new: Vec<&'a [u8]>,
    trailing: usize,
}

impl<'a> Hunk<'a> {
    fn sides(&self) -> Sides<'a> {
        let mut sides = Sides {
            old: Vec::new(),
            new: Vec::new(),
            trailing: 0,
        };
        let mut last = b' ';
        for line in self.body.split_inclusive(|&b| b == b'\n') {
            let kind = if line[0] == b'\n' || line[0] == b'\r' {
                b' '
            } else {
                line[0]
            };
            let content = if kind == line[0] { &line[1..] } else { line };
            match kind {
                b'-' => sides.old.push(content),
                b'+' => sides.new.push(content),
                b'\\' => sides.end_without_newline(last),
                _ => {
                    sides.old.push(content);
                    sides.new.push(content);
                }
            }
            match kind {
                b'\\' => {}
                b' ' => (sides.trailing, last) = (sides.trailing + 1, b' '),
                _ => (sides.trailing, last) = (0, kind),
            }
        }
        sides
    }
}

impl Sides<'_> {
    /// `\ No newline at end of file` speaks of the line before it.
    fn end_without_newline(&mut self, last: u8) {
        for (side, other) in [(&mut self.old, b'+'), (&mut self.new, b'-')] {
            if last != other
                && let Some(line) = side.last_mut()
            {
                *line = line.strip_suffix(b"\n").unwrap_or(line);
            }
        }
    }
}

/// The lines of a file, without a slice for each.
struct Index<'a> {
    bytes: &'a [u8],
    ends: Vec<u32>,
}

impl<'a> Index<'a> {
    /// `None`: the file has 4 GiB or more.
    fn new(bytes: &'a [u8]) -> Option<Self> {
        u32::try_from(bytes.len()).ok()?;
        let mut ends: Vec<u32> = bytes.find_iter(b"\n").map(|at| at as u32 + 1).collect();
        if bytes.last().is_some_and(|last| *last != b'\n') {
            ends.push(bytes.len() as u32);
        }
        Some(Self { bytes, ends })
    }

    fn start(&self, line: usize) -> usize {
        line.checked_sub(1).map_or(0, |before| self.ends[before] as usize)
    }

    /// The bytes of these lines.
    fn lines(&self, from: usize, to: usize) -> &'a [u8] {
        &self.bytes[self.start(from)..self.start(to)]
    }

    fn matches(&self, at: usize, lines: &[&[u8]], effort: &mut Effort) -> Result<bool, Misfit> {
        for (offset, line) in lines.iter().enumerate() {
            effort.spend(1 + line.len() as u64 / 64)?;
            if self.lines(at + offset, at + offset + 1) != *line {
                return Ok(false);
            }
        }
        effort.spend(1)?;
        Ok(true)
    }
}

/// Applies the hunks of one file.
pub(super) fn apply(
    old: &[u8],
    hunks: &[Hunk<'_>],
    max: u64,
    effort: &mut Effort,
) -> Result<Vec<u8>, Misfit> {
    let index = Index::new(old).ok_or(Misfit::TooLarge)?;
    let mut result = Vec::with_capacity(old.len());
    let (mut taken, mut result_lines) = (0, 0);
    for hunk in hunks {
        let sides = hunk.sides();
        let at = find(&index, hunk, &sides, (taken, result_lines), effort)?.ok_or(Misfit::Hunk(hunk.line))?;
        result.extend_from_slice(index.lines(taken, at));
        sides.new.iter().for_each(|line| result.extend_from_slice(line));
        result_lines += at - taken + sides.new.len();
        taken = at + sides.old.len();
        if result.len() as u64 > max {
            return Err(Misfit::TooLarge);
        }
    }
    result.extend_from_slice(index.lines(taken, index.ends.len()));
    if result.len() as u64 > max {
        Err(Misfit::TooLarge)
    } else {
        Ok(result)
    }
}

/// The line at which the old side stands, at or after `taken`: nearest to where it should be.
///
/// A hunk that begins at the first line, or that has nothing after its changes, belongs to that end of the file.
fn find(
    index: &Index<'_>,
    hunk: &Hunk<'_>,
    sides: &Sides<'_>,
    (taken, result_lines): (usize, usize),
    effort: &mut Effort,
) -> Result<Option<usize>, Misfit> {
    let Some(last) = index
        .ends
        .len()
        .checked_sub(sides.old.len())
        .filter(|last| *last >= taken)
    else {
        return Ok(None);
    };
    let (mut low, mut high) = (taken, last);
    if hunk.old_start <= 1 {
        high = 0;
    }
    if sides.trailing == 0 {
        low = low.max(last);
    }
    if low > high {
        return Ok(None);
    }
    let said = usize::try_from(hunk.new_start.saturating_sub(1)).unwrap_or(usize::MAX);
    let expected = (taken.saturating_add(said))
        .saturating_sub(result_lines)
        .clamp(low, high);
    for distance in 0..=(expected - low).max(high - expected) {
        let before = expected.checked_sub(distance).filter(|at| *at >= low);
        let after = expected
            .checked_add(distance)
            .filter(|at| *at <= high && distance > 0);
        for at in before.into_iter().chain(after) {
            if index.matches(at, &sides.old, effort)? {
                return Ok(Some(at));
            }
        }
    }
    Ok(None)
}
