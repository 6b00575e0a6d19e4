//! Reads the remote's report of a push (gitprotocol-pack(5), "Report Status"), out of the side band if there is one.

use gix_packetline::PacketLineRef;
use gix_packetline::decode::{Stream, streaming};

use super::PushError;
use crate::remote::packet::{Packet, Packets, text};
use crate::remote::words::{MAX_CHARS, one_line};

/// The most bytes of a report; ours has one ref.
const MAX_REPORT_BYTES: usize = 64 * 1024;
/// The most characters that are kept of what the remote says.
const MAX_WORDS: usize = 2048;

/// What the remote reported.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// `ok`, or what is wrong with the pack; `None` if the report does not say.
    pub(crate) unpack: Option<String>,
    /// The refs, each with the reason why it was not moved, if it was not.
    pub(crate) refs: Vec<(String, Option<String>)>,
    /// Why the remote gave up, if it did.
    pub(crate) fatal: Option<String>,
    /// What it said besides, as of hooks: one line.
    pub(crate) words: String,
}

pub(crate) async fn read(mut packets: Packets, has_side_band: bool) -> Result<Outcome, PushError> {
    packets.pack_begins();
    let (mut report, mut words) = (Vec::new(), Vec::new());
    let mut fatal = None;
    while let Some(packet) = packets.next().await.map_err(PushError::after_sending)? {
        let Packet::Data(data) = packet else {
            break;
        };
        packets.was_message(data.len())?;
        match (has_side_band, data.first()) {
            (false, _) => report.push(text(&data).to_vec()),
            (true, Some(1)) => report.push(data[1..].to_vec()),
            (true, Some(2)) => keep(&mut words, &data[1..]),
            (true, Some(3)) => fatal = Some(one_line(&data[1..], MAX_CHARS)),
            (true, _) => return Err(packets.wrong("a packet is on no side band").into()),
        }
        if report.iter().map(Vec::len).sum::<usize>() > MAX_REPORT_BYTES {
            return Err(packets.wrong("its report of the push is too long").into());
        }
    }
    let mut outcome = Outcome {
        fatal,
        words: one_line(&words, MAX_WORDS),
        ..Outcome::default()
    };
    if has_side_band {
        lines_of(&report.concat(), &mut outcome);
    } else {
        report.iter().for_each(|line| take(line, &mut outcome));
    }
    Ok(outcome)
}

fn keep(words: &mut Vec<u8>, more: &[u8]) {
    let room = (4 * MAX_WORDS).saturating_sub(words.len());
    words.extend_from_slice(&more[..more.len().min(room)]);
}

/// The report inside the side band is made of packets of its own.
fn lines_of(mut report: &[u8], outcome: &mut Outcome) {
    while let Ok(Stream::Complete { line, bytes_consumed }) = streaming(report) {
        let PacketLineRef::Data(data) = line else {
            return;
        };
        take(text(data), outcome);
        report = &report[bytes_consumed..];
    }
}

fn take(line: &[u8], outcome: &mut Outcome) {
    let line = String::from_utf8_lossy(line);
    match line.split_once(' ') {
        Some(("unpack", result)) => outcome.unpack = Some(one_line(result.as_bytes(), MAX_CHARS)),
        Some(("ok", name)) => outcome.refs.push((name.to_owned(), None)),
        Some(("ng", rest)) => {
            let (name, reason) = rest.split_once(' ').unwrap_or((rest, "no reason is given"));
            let reason = one_line(reason.as_bytes(), MAX_CHARS);
            outcome.refs.push((name.to_owned(), Some(reason)));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::packet::PacketWriter;

    #[test]
    fn a_report_is_read_line_by_line() {
        let mut report = PacketWriter::default();
        report.line("unpack ok").line("ok refs/heads/x");
        report.line("ng refs/heads/y hook\x1b declined").flush();
        let mut outcome = Outcome::default();
        lines_of(&report.take(), &mut outcome);
        assert_eq!(outcome.unpack.as_deref(), Some("ok"));
        let refused = ("refs/heads/y".to_owned(), Some("hook declined".to_owned()));
        assert_eq!(outcome.refs, [("refs/heads/x".to_owned(), None), refused]);
        let mut broken = Outcome::default();
        lines_of(b"00zz", &mut broken);
        assert_eq!(broken, Outcome::default());
    }
}
