//! Packet lines (gitprotocol-common(5)): reading them from an answer under its bounds, and writing them.

use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use gix_packetline::PacketLineRef;
use gix_packetline::decode::{Stream, streaming};
use mayfly_http::Response;
use mayfly_protocol::RepoUrl;

use super::pace::{OutOfPace, Pace};
use super::words::{MAX_CHARS, one_line};
use super::{RemoteError, TransferLimits};

/// The hexadecimal digits that each packet begins with.
const LENGTH_DIGITS: usize = 4;
/// The most bytes of data in one packet.
const MAX_DATA: usize = 65516;

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packet {
    Data(Bytes),
    Flush,
    Delimiter,
    ResponseEnd,
}

/// The packets of one answer.
pub(crate) struct Packets {
    url: RepoUrl,
    response: Response,
    buffer: BytesMut,
    received: u64,
    pace: Pace,
    limits: TransferLimits,
    /// Bytes that the answer may still have; beside a pack, only messages count.
    budget: u64,
    in_pack: bool,
}

impl Packets {
    pub(crate) fn new(url: &RepoUrl, response: Response, limits: &TransferLimits) -> Self {
        Self {
            url: url.clone(),
            response,
            buffer: BytesMut::new(),
            received: 0,
            pace: Pace::flowing(limits.min_bytes_per_second, limits.rate_window),
            limits: limits.clone(),
            budget: limits.max_ref_bytes,
            in_pack: false,
        }
    }

    /// Lets the remote prepare a pack before bytes must flow.
    pub(crate) fn preparing(mut self) -> Self {
        self.pace = self.pace.preparing_for(self.limits.prepare_timeout);
        self
    }

    /// Bytes that have arrived, framing included.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// From now on the answer carries a pack: all else in it is messages.
    pub(crate) fn pack_begins(&mut self) {
        self.in_pack = true;
        self.budget = self.limits.max_message_bytes;
    }

    /// The packet just read is a part of the pack: from now on bytes must flow.
    pub(crate) fn was_pack(&mut self) {
        self.pace.begins();
    }

    /// The packet just read is a message beside the pack.
    pub(crate) fn was_message(&mut self, bytes: usize) -> Result<(), RemoteError> {
        match self.budget.checked_sub(bytes as u64 + 5) {
            Some(left) => self.budget = left,
            None => return Err(self.wrong("it floods the transfer with messages")),
        }
        Ok(())
    }

    /// An error that says that the remote breaks a rule.
    pub(crate) fn wrong(&self, what: &'static str) -> RemoteError {
        RemoteError::Protocol {
            url: self.url.clone(),
            what,
        }
    }

    /// The next packet; `None` at the end of the answer. A packet that begins with `ERR` is an error.
    pub(crate) async fn next(&mut self) -> Result<Option<Packet>, RemoteError> {
        loop {
            if let Some((packet, size)) = self.decode()? {
                if !self.in_pack {
                    self.spend(size)?;
                }
                return self.unless_error(packet).map(Some);
            }
            if !self.fill().await? {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(self.wrong("its answer ends in the middle of a packet")),
                };
            }
        }
    }

    /// All packets to the end of the answer.
    pub(crate) async fn rest(mut self) -> Result<Vec<Packet>, RemoteError> {
        let mut packets = Vec::new();
        while let Some(packet) = self.next().await? {
            packets.push(packet);
        }
        Ok(packets)
    }

    /// Takes one packet, with its length, out of what has arrived.
    fn decode(&mut self) -> Result<Option<(Packet, usize)>, RemoteError> {
        let (special, size) = match streaming(&self.buffer) {
            Ok(Stream::Incomplete { .. }) => return Ok(None),
            Ok(Stream::Complete { line, bytes_consumed }) => (special(&line), bytes_consumed),
            Err(_) => return Err(self.wrong("a packet has no proper length")),
        };
        let mut whole = self.buffer.split_to(size).freeze();
        let packet = special.unwrap_or_else(|| {
            whole.advance(LENGTH_DIGITS);
            Packet::Data(whole)
        });
        Ok(Some((packet, size)))
    }

    fn spend(&mut self, bytes: usize) -> Result<(), RemoteError> {
        match self.budget.checked_sub(bytes as u64) {
            Some(left) => {
                self.budget = left;
                Ok(())
            }
            None => Err(RemoteError::RefsTooLarge {
                url: self.url.clone(),
                limit: self.limits.max_ref_bytes,
                unit: "bytes",
            }),
        }
    }

    fn unless_error(&self, packet: Packet) -> Result<Packet, RemoteError> {
        match &packet {
            Packet::Data(data) if data.starts_with(b"ERR ") => Err(RemoteError::Said {
                url: self.url.clone(),
                words: one_line(&data[4..], MAX_CHARS),
            }),
            _ => Ok(packet),
        }
    }

    /// Waits for bytes; false at the end of the answer.
    async fn fill(&mut self) -> Result<bool, RemoteError> {
        let asked = Instant::now();
        let chunk = self.response.chunk().await?;
        let Some(chunk) = chunk else {
            return Ok(false);
        };
        self.received += chunk.len() as u64;
        self.pace
            .note(asked.elapsed(), chunk.len())
            .map_err(|fault| self.out_of_pace(&fault))?;
        self.buffer.extend_from_slice(&chunk);
        Ok(true)
    }

    fn out_of_pace(&self, fault: &OutOfPace) -> RemoteError {
        let url = self.url.clone();
        match fault {
            OutOfPace::TooSlow => RemoteError::TooSlow {
                url,
                min_bytes_per_second: self.limits.min_bytes_per_second,
            },
            OutOfPace::NeverReady => RemoteError::NeverReady {
                url,
                limit: self.limits.prepare_timeout,
            },
        }
    }
}

/// The packet that a line without data is.
fn special(line: &PacketLineRef<'_>) -> Option<Packet> {
    match line {
        PacketLineRef::Data(_) => None,
        PacketLineRef::Flush => Some(Packet::Flush),
        PacketLineRef::Delimiter => Some(Packet::Delimiter),
        PacketLineRef::ResponseEnd => Some(Packet::ResponseEnd),
    }
}

/// The text of a packet, without the line feed that may end it.
pub(crate) fn text(data: &[u8]) -> &[u8] {
    data.strip_suffix(b"\n").unwrap_or(data)
}

/// Writes packets.
#[derive(Debug, Default)]
pub(crate) struct PacketWriter(BytesMut);

impl PacketWriter {
    /// A packet with a line of text, which gets a line feed.
    pub(crate) fn line(&mut self, line: &str) -> &mut Self {
        debug_assert!(line.len() < MAX_DATA, "our own lines are short");
        let size = line.len() + 1 + LENGTH_DIGITS;
        self.0.extend_from_slice(format!("{size:04x}{line}\n").as_bytes());
        self
    }

    pub(crate) fn flush(&mut self) -> &mut Self {
        self.0.extend_from_slice(b"0000");
        self
    }

    pub(crate) fn delimiter(&mut self) -> &mut Self {
        self.0.extend_from_slice(b"0001");
        self
    }

    pub(crate) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.0).freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_written_with_their_length() {
        let mut writer = PacketWriter::default();
        writer.line("command=ls-refs").delimiter().line("peel").flush();
        assert_eq!(writer.take(), "0014command=ls-refs\n00010009peel\n0000");
    }
}
