//! Streams of events: the same however they are cut, within the bound, and what was read can be sent on.

use mayfly_sse::{Decoded, Decoder, encode_data};

use crate::Input;

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let (limit, step) = (1 + input.below(300), 1 + input.below(9));
    let stream = input.rest();
    let (whole, failed) = decode(stream, limit, stream.len());
    assert_eq!(decode(stream, limit, step), (whole.clone(), failed));
    for item in whole {
        let Decoded::Message { id, data, .. } = item else {
            continue;
        };
        assert!(data.len() <= limit && id.is_none_or(|id| id.len() <= 3 * limit));
        let again = decode(&encode_data(7, &data), usize::MAX / 2, usize::MAX).0;
        let [
            Decoded::Message {
                id,
                data: read,
                event,
            },
        ] = again.as_slice()
        else {
            panic!("one message became {again:?}");
        };
        assert_eq!((id.as_deref(), read, event), (Some("7"), &data, &None));
    }
}

fn decode(stream: &[u8], limit: usize, step: usize) -> (Vec<Decoded>, bool) {
    let mut decoder = Decoder::new(limit);
    let mut items = Vec::new();
    for piece in stream.chunks(step.max(1)) {
        items.extend(decoder.push(piece).unwrap_or_default());
    }
    let failed = decoder.push(b"").is_err();
    (items, failed)
}
