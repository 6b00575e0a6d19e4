//! Reads a stream in whatever chunks it arrives, within a bound.
//!
//! The rules are those of the WHATWG HTML standard, 9.2.6 "Interpreting an event stream". This module must not know what the data means.

use std::time::Duration;

/// The bound of [`Decoder::default`]: bytes of one line, and of one message.
pub const DEFAULT_MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// What a stream said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// A message: an event with data, ended by an empty line.
    Message {
        /// The number in force: that of this message, or of the last one before it that had one.
        id: Option<String>,
        /// The name of the event, where it has one.
        event: Option<String>,
        /// The data; its lines are joined with LF.
        data: Vec<u8>,
    },
    /// A comment line, such as a heartbeat.
    Comment,
}

/// The stream cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A line or a message is longer than the bound.
    #[error("an event of the stream is longer than {limit} bytes")]
    TooLong {
        /// The bound.
        limit: usize,
    },
}

/// An incremental reader; it holds at most one line and one message.
#[derive(Debug)]
pub struct Decoder {
    max_event_bytes: usize,
    line: Vec<u8>,
    data: Vec<u8>,
    event: Option<String>,
    last_id: Option<String>,
    retry: Option<Duration>,
    after_cr: bool,
    at_start: bool,
    failed: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_EVENT_BYTES)
    }
}

impl Decoder {
    /// A reader that refuses lines and messages of more than `max_event_bytes`.
    pub fn new(max_event_bytes: usize) -> Self {
        Self {
            max_event_bytes,
            line: Vec::new(),
            data: Vec::new(),
            event: None,
            last_id: None,
            retry: None,
            after_cr: false,
            at_start: true,
            failed: false,
        }
    }

    /// Takes the next bytes, and gives what they complete.
    ///
    /// What came before something too long is still given: the error then comes from the next call, and from every one after it.
    /// An event that is not ended by an empty line when the stream ends is no message.
    pub fn push(&mut self, chunk: &[u8]) -> Result<Vec<Decoded>, DecodeError> {
        let mut items = Vec::new();
        if !self.failed && self.read(chunk, &mut items).is_err() {
            self.fail();
        }
        if self.failed && items.is_empty() {
            return Err(self.too_long());
        }
        if self.line.is_empty() {
            // Nothing is held while nothing comes.
            self.line = Vec::new();
        }
        Ok(items)
    }

    /// How long the stream asks readers to wait before they connect again.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    fn fail(&mut self) {
        self.failed = true;
        self.line = Vec::new();
        self.data = Vec::new();
    }

    fn too_long(&self) -> DecodeError {
        DecodeError::TooLong {
            limit: self.max_event_bytes,
        }
    }

    fn read(&mut self, chunk: &[u8], items: &mut Vec<Decoded>) -> Result<(), DecodeError> {
        let mut rest = chunk;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            let part = &rest[..end.unwrap_or(rest.len())];
            self.extend_line(part)?;
            let Some(end) = end else { break };
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            self.end_line(items)?;
        }
        Ok(())
    }

    fn extend_line(&mut self, part: &[u8]) -> Result<(), DecodeError> {
        if self.line.len() + part.len() > self.max_event_bytes {
            return Err(self.too_long());
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn end_line(&mut self, items: &mut Vec<Decoded>) -> Result<(), DecodeError> {
        let line = std::mem::take(&mut self.line);
        let is_first = std::mem::take(&mut self.at_start);
        let text = match line.strip_prefix(BYTE_ORDER_MARK) {
            Some(text) if is_first => text,
            _ => &line,
        };
        match Line::parse(text) {
            Line::Empty => items.extend(self.dispatch()),
            Line::Comment => items.push(Decoded::Comment),
            Line::Field(name, value) => self.field(name, value)?,
        }
        self.line = line;
        self.line.clear();
        Ok(())
    }

    fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), DecodeError> {
        match name {
            b"data" => return self.extend_data(value),
            b"event" => self.event = Some(text(value)),
            b"id" if !value.contains(&0) => self.last_id = Some(text(value)),
            b"retry" => self.retry = millis(value).or(self.retry),
            _ => {}
        }
        Ok(())
    }

    fn extend_data(&mut self, value: &[u8]) -> Result<(), DecodeError> {
        if self.data.len() + value.len() + 1 > self.max_event_bytes {
            return Err(self.too_long());
        }
        self.data.extend_from_slice(value);
        self.data.push(b'\n');
        Ok(())
    }

    /// Ends the event; without a `data` line there is no message.
    fn dispatch(&mut self) -> Option<Decoded> {
        let event = self.event.take().filter(|name| !name.is_empty());
        let mut data = std::mem::take(&mut self.data);
        // The LF after the last line; without a line of data there is none.
        data.pop()?;
        Some(Decoded::Message {
            id: self.last_id.clone(),
            event,
            data,
        })
    }
}

enum Line<'a> {
    Empty,
    Comment,
    Field(&'a [u8], &'a [u8]),
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Self {
        match line.iter().position(|byte| *byte == b':') {
            None if line.is_empty() => Self::Empty,
            None => Self::Field(line, b""),
            Some(0) => Self::Comment,
            Some(colon) => {
                let value = &line[colon + 1..];
                Self::Field(&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
            }
        }
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// A `retry` value counts only if it is all digits; one that is too large for a number is left out as well.
fn millis(value: &[u8]) -> Option<Duration> {
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    text(value).parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
