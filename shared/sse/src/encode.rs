//! Frames of a job's stream: a number, and one line of JSON.
//!
//! There is no `event:` field, so that a browser's `onmessage` sees every frame. This module must not know where frames go.

use std::io::Write as _;

use bytes::Bytes;
use mayfly_protocol::Event;

/// A comment that keeps a silent connection alive; readers skip it.
pub const HEARTBEAT: &[u8] = b": keep-alive\n\n";

/// Milliseconds that a reader waits before it connects again.
///
/// It goes inside the frame with number 1: alone, several readers make an empty message of it.
pub const RECONNECT_MILLIS: u32 = 1000;

/// The frame of an event with its number in the stream, from 1.
pub fn encode_event(id: u64, event: &Event) -> Bytes {
    let data = serde_json::to_vec(event).expect("an event has text keys only, so it is always JSON");
    encode_data(id, &data)
}

/// The frame of one line of JSON, byte for byte as it was received.
///
/// JSON on one line has no raw line end. Should there be one, the data goes on in a further `data:` line, which readers join with LF:
/// nothing in `data` can end the frame or begin another field.
pub fn encode_data(id: u64, data: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(data.len() + 48);
    if id == 1 {
        line(&mut frame, "retry", RECONNECT_MILLIS);
    }
    line(&mut frame, "id", id);
    for part in lines(data) {
        frame.extend_from_slice(b"data: ");
        frame.extend_from_slice(part);
        frame.push(b'\n');
    }
    frame.push(b'\n');
    // A log keeps many of them for long.
    frame.into_boxed_slice().into()
}

fn line(frame: &mut Vec<u8>, field: &str, value: impl std::fmt::Display) {
    writeln!(frame, "{field}: {value}").expect("a vector takes every write");
}

/// Splits at CR LF, LF and CR, which all end a line in this format; without any of them there is one part.
fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let data = rest?;
        let Some(end) = data.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
            rest = None;
            return Some(data);
        };
        let width = if data[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = Some(&data[end + width..]);
        Some(&data[..end])
    })
}

#[cfg(test)]
mod tests {
    use mayfly_protocol::{EventBody, Source, Stage};
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_first_frame_says_when_to_reconnect_and_later_ones_do_not() {
        assert_eq!(encode_data(1, b"{}"), "retry: 1000\nid: 1\ndata: {}\n\n");
        assert_eq!(encode_data(2, b"{}"), "id: 2\ndata: {}\n\n");
    }

    #[test]
    fn line_ends_in_data_cannot_make_a_frame() {
        let forged = b"a\r\ndata: b\n\nid: 9\rc";
        assert_eq!(
            encode_data(2, forged),
            "id: 2\ndata: a\ndata: data: b\ndata: \ndata: id: 9\ndata: c\n\n"
        );
    }

    #[test]
    fn a_message_with_line_ends_stays_on_one_line() {
        let event = Event {
            body: EventBody::Progress {
                stage: Stage::Cloning,
                message: "remote:\r\ndata: {}\n\nid: 7".into(),
                progress: None,
                detail: None,
            },
            source: Source::GitWorker,
            timestamp: datetime!(2026-01-02 03:04:05 UTC),
            job_id: mayfly_protocol::JobId::new_now(),
            usage: None,
        };
        let frame = encode_event(4, &event);
        assert_eq!(frame.iter().filter(|byte| **byte == b'\n').count(), 3);
        assert!(!frame.contains(&b'\r'));
    }
}
