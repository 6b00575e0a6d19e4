//! A git remote's answers: the same however they are cut, and within the limits.

use bytes::Bytes;
use mayfly_git::fuzzing::{Expected, read_answer};
use mayfly_git::remote::TransferLimits;

use crate::{Input, run};

/// Characters of an answer that can be as long as they like: words of the remote are cut, ids and names are counted.
const MAX_SHOWN_FACTOR: usize = 40;
const MAX_REFS: usize = 8;

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let expected = match input.byte() % 7 {
        0 => Expected::Advertisement,
        1 => Expected::Refs,
        2 => Expected::BeforePack,
        3 => Expected::BeforePackV0 { has_depth: true },
        4 => Expected::BeforePackV0 { has_depth: false },
        5 => Expected::Report { has_side_band: true },
        _ => Expected::Report { has_side_band: false },
    };
    let (is_framed, step) = (input.byte() & 1 == 1, 1 + input.below(20));
    let limits = TransferLimits {
        max_ref_bytes: 4096,
        max_refs: MAX_REFS,
        max_message_bytes: 4096,
        min_bytes_per_second: 0,
        ..TransferLimits::default()
    };
    let answer = match is_framed {
        true => input.rest().to_vec(),
        false => framed(input.rest()),
    };
    let read = |step: usize| {
        let pieces = answer.chunks(step).map(Bytes::copy_from_slice).collect();
        run(read_answer(pieces, expected, &limits))
    };
    let whole = read(answer.len().max(1));
    assert_eq!(read(step), whole);
    assert!(
        whole.len() < 4096 + MAX_SHOWN_FACTOR * answer.len().min(3 * 4096),
        "{} characters",
        whole.len()
    );
    assert!(whole.matches("ObjectId(").count() <= 4096 / 40 + MAX_REFS);
}

/// Lines as packets; one of the digits 0 to 2 alone is a packet without data.
fn framed(lines: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        match line {
            b"0\n" => answer.extend_from_slice(b"0000"),
            b"1\n" => answer.extend_from_slice(b"0001"),
            b"2\n" => answer.extend_from_slice(b"0002"),
            _ => {
                let line = &line[..line.len().min(65_516)];
                answer.extend_from_slice(format!("{:04x}", line.len() + 4).as_bytes());
                answer.extend_from_slice(line);
            }
        }
    }
    answer
}
