//! The reader against the examples of the standard, against itself in other chunks, and against noise.

use proptest::prelude::*;

use super::*;
use crate::encode::{HEARTBEAT, encode_data};

fn message(id: Option<&str>, data: &str) -> Decoded {
    Decoded::Message {
        id: id.map(str::to_owned),
        event: None,
        data: data.into(),
    }
}

fn decode(stream: &[u8]) -> Vec<Decoded> {
    Decoder::default().push(stream).unwrap()
}

/// Everything that a stream gives, and whether it failed, read in chunks that end at these places.
fn decode_in_chunks(stream: &[u8], cuts: &[usize], limit: usize) -> (Vec<Decoded>, bool) {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    cuts.push(stream.len());
    cuts.sort_unstable();
    let (mut decoder, mut items, mut start) = (Decoder::new(limit), Vec::new(), 0);
    for cut in cuts {
        items.extend(decoder.push(&stream[start..cut]).unwrap_or_default());
        start = cut;
    }
    let failed = decoder.push(b"").is_err();
    (items, failed)
}

#[test]
fn the_examples_of_the_standard() {
    let table: &[(&str, Vec<Decoded>)] = &[
        (
            "data: YHOO\ndata: +2\ndata: 10\n\n",
            vec![message(None, "YHOO\n+2\n10")],
        ),
        (
            ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            vec![
                Decoded::Comment,
                message(Some("1"), "first event"),
                message(Some(""), "second event"),
                message(Some(""), " third event"),
            ],
        ),
        (
            "data\n\ndata\ndata\n\ndata:",
            vec![message(None, ""), message(None, "\n")],
        ),
        (
            "data:test\n\ndata: test\n\n",
            vec![message(None, "test"), message(None, "test")],
        ),
    ];
    for (stream, expected) in table {
        assert_eq!(&decode(stream.as_bytes()), expected, "{stream:?}");
    }
}

#[test]
fn every_line_end_and_a_byte_order_mark_are_taken() {
    for stream in [
        "data: a\n\n",
        "data: a\r\r",
        "data: a\r\n\r\n",
        "data: a\r\n\n",
        "\u{feff}data: a\n\r",
    ] {
        assert_eq!(decode(stream.as_bytes()), [message(None, "a")], "{stream:?}");
    }
    assert_eq!(
        decode("data: a\n\u{feff}data: b\n\n".as_bytes()),
        [message(None, "a")]
    );
}

#[test]
fn an_id_lasts_and_one_with_a_nul_is_ignored() {
    let stream = b"id: 4\n\nid: 5\0\ndata: a\n\ndata: b\n\n";
    assert_eq!(decode(stream), [message(Some("4"), "a"), message(Some("4"), "b")]);
}

#[test]
fn a_name_belongs_to_one_event_only() {
    let items = decode(b"event: x\n\nevent: y\ndata: a\n\ndata: b\n\n");
    let names: Vec<_> = items
        .iter()
        .map(|item| match item {
            Decoded::Message { event, .. } => event.as_deref(),
            Decoded::Comment => None,
        })
        .collect();
    assert_eq!(names, [Some("y"), None]);
}

#[test]
fn retry_counts_only_as_a_number() {
    let mut decoder = Decoder::default();
    decoder
        .push(b"retry: 1000\nretry: 5x\nretry: -1\nretry:\n")
        .unwrap();
    assert_eq!(decoder.retry(), Some(Duration::from_secs(1)));
}

#[test]
fn unknown_fields_and_unfinished_events_give_nothing() {
    assert_eq!(decode(b"data : a\nDATA: b\nfoo: c\n\ndata: d\n"), []);
}

#[test]
fn what_is_too_long_is_an_error_that_stays() {
    let limit = 16;
    for stream in [
        &b"data: 0123456789abcdef"[..],
        b": 0123456789abcdef",
        b"data: 01234567\ndata: 01234567\n",
    ] {
        let mut decoder = Decoder::new(limit);
        assert_eq!(decoder.push(stream), Err(DecodeError::TooLong { limit }));
        assert_eq!(
            decoder.push(b"\n\ndata: a\n\n"),
            Err(DecodeError::TooLong { limit })
        );
    }
    let many_empty_lines = b"data\n".repeat(limit + 1);
    assert!(Decoder::new(limit).push(&many_empty_lines).is_err());
}

#[test]
fn what_comes_before_something_too_long_is_given() {
    let mut decoder = Decoder::new(16);
    let items = decoder.push(b"data: a\n\ndata: 0123456789abcdef").unwrap();
    assert_eq!(items, [message(None, "a")]);
    assert!(decoder.push(b"").is_err());
}

/// Bytes that look like a stream more often than plain noise does.
fn stream_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            &b"\n"[..],
            b"\r",
            b"\r\n",
            b"\n\n",
            b"data",
            b"data: ",
            b"id: ",
            b"event:",
            b"retry: 9",
            b": c",
            b":",
            b"\0",
            b"\xEF\xBB\xBF",
            b"\xFF",
            b"{\"a\":1}",
        ])
        .prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same(
        stream in stream_like(),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
        limit in 8_usize..200,
    ) {
        let whole = decode_in_chunks(&stream, &[], limit);
        let bytes: Vec<usize> = (0..stream.len()).collect();
        prop_assert_eq!(&decode_in_chunks(&stream, &cuts, limit), &whole);
        prop_assert_eq!(&decode_in_chunks(&stream, &bytes, limit), &whole);
    }

    #[test]
    fn noise_never_panics(stream in prop::collection::vec(any::<u8>(), 0..2000), limit in 1_usize..100) {
        let (items, _failed) = decode_in_chunks(&stream, &[], limit);
        for item in items {
            if let Decoded::Message { data, .. } = item {
                prop_assert!(data.len() <= limit);
            }
        }
    }

    #[test]
    fn frames_read_back_as_they_were(frames in prop::collection::vec((1_u64.., "[^\r\n]{0,80}"), 0..8), beat in any::<bool>()) {
        let mut stream = Vec::new();
        for (id, data) in &frames {
            stream.extend_from_slice(&encode_data(*id, data.as_bytes()));
            if beat { stream.extend_from_slice(HEARTBEAT); }
        }
        let mut items = decode(&stream);
        items.retain(|item| *item != Decoded::Comment);
        let expected: Vec<_> = frames.iter().map(|(id, data)| message(Some(&id.to_string()), data)).collect();
        prop_assert_eq!(items, expected);
    }

    #[test]
    fn data_of_any_bytes_makes_exactly_one_message(data in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut expected = Vec::new();
        let mut bytes = data.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            if byte == b'\r' { bytes.next_if_eq(&b'\n'); }
            expected.push(if byte == b'\r' { b'\n' } else { byte });
        }
        let items = decode(&encode_data(3, &data));
        prop_assert_eq!(items, vec![Decoded::Message { id: Some("3".into()), event: None, data: expected }]);
    }
}
