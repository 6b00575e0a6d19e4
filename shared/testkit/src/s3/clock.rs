//! A server whose clock goes on by days while a test runs for seconds: what it lists of one object is dated later.

use std::time::Duration;

use axum::body::Bytes;
use mayfly_protocol::event::timestamp;

use crate::chaos_proxy::{Fate, Seen};

/// The element that holds the time of a listed object.
const MODIFIED: (&str, &str) = ("<LastModified>", "</LastModified>");

/// A script by which the one object whose key ends with `key` is listed, where it alone is asked for, as if it had been written `by` later. All others
/// keep their times: to whoever takes that object's time for now, they are older by so much.
pub fn dated_later(key: &'static str, by: Duration) -> impl FnMut(&Seen) -> Fate + Send + 'static {
    let encoded = key.replace('/', "%2F");
    move |seen| {
        let query = seen.query();
        let is_asked_for = query.contains(&encoded) || query.contains(key);
        match query.contains("list-type=2") && is_asked_for {
            true => Fate::ChangeAnswer(Box::new(move |answer| later(&answer, by))),
            false => Fate::Pass,
        }
    }
}

fn later(answer: &[u8], by: Duration) -> Bytes {
    let text = String::from_utf8_lossy(answer);
    let mut pieces = text.split(MODIFIED.0);
    let mut changed = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (time, rest) = piece.split_once(MODIFIED.1).expect("a listing is well-formed");
        let time = timestamp::parse(time).expect("a listing has times");
        changed.push_str(MODIFIED.0);
        changed.push_str(&timestamp::format(time + by));
        changed.push_str(MODIFIED.1);
        changed.push_str(rest);
    }
    changed.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_moved_and_nothing_else() {
        let answer = b"<a/><LastModified>2026-01-02T03:04:05.678Z</LastModified><b/>";
        assert_eq!(
            &later(answer, Duration::from_secs(3600))[..],
            b"<a/><LastModified>2026-01-02T04:04:05.678Z</LastModified><b/>"
        );
        assert_eq!(&later(b"<a/>", Duration::ZERO)[..], b"<a/>");
    }
}
