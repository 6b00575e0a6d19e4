//! Inflates zlib streams whose length is known beforehand, and never more than that.

use gix_zlib::{Decompress, FlushDecompress, Status};

/// A stream is no zlib stream, or has another length than was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the compressed data is damaged, or has another length than it says")]
pub(crate) struct BadStream;

/// An inflation that gets its input bit by bit.
pub(crate) struct Inflation {
    state: Decompress,
    /// As long as the content, and one byte more, so that a longer stream shows.
    output: Vec<u8>,
    done: bool,
}

impl Inflation {
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            state: Decompress::new(),
            output: vec![0; bytes + 1],
            done: false,
        }
    }

    /// Takes more input; true once the stream has ended. What follows the stream is left alone.
    pub(crate) fn feed(&mut self, mut input: &[u8]) -> Result<bool, BadStream> {
        while !self.done && !input.is_empty() {
            let (read, written) = (self.state.total_in(), self.written());
            let (_, room) = self.output.split_at_mut(written);
            let status = self
                .state
                .decompress(input, room, FlushDecompress::None)
                .map_err(|_| BadStream)?;
            let consumed = usize::try_from(self.state.total_in() - read).map_err(|_| BadStream)?;
            let is_stuck = consumed == 0 && self.written() == written;
            self.done = status == Status::StreamEnd;
            if self.written() == self.output.len() || (is_stuck && !self.done) {
                return Err(BadStream);
            }
            input = &input[consumed..];
        }
        Ok(self.done)
    }

    /// The content, where the stream has ended after exactly as many bytes as were said.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, BadStream> {
        if !self.done || self.written() + 1 != self.output.len() {
            return Err(BadStream);
        }
        self.output.pop();
        Ok(self.output)
    }

    fn written(&self) -> usize {
        usize::try_from(self.state.total_out()).unwrap_or(usize::MAX)
    }
}

/// Inflates a whole stream of `bytes` bytes.
pub(crate) fn inflate(input: &[u8], bytes: usize) -> Result<Vec<u8>, BadStream> {
    let mut inflation = Inflation::new(bytes);
    inflation.feed(input)?;
    inflation.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `hello` by zlib's own compressor.
    const HELLO: &[u8] = &[
        0x78, 0x9c, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x06, 0x2c, 0x02, 0x15,
    ];

    #[test]
    fn only_the_said_length_is_taken() {
        assert_eq!(inflate(HELLO, 5).as_deref(), Ok(&b"hello"[..]));
        for wrong in [0, 4, 6, 1000] {
            assert_eq!(inflate(HELLO, wrong), Err(BadStream), "{wrong}");
        }
        for cut in 0..HELLO.len() {
            assert_eq!(inflate(&HELLO[..cut], 5), Err(BadStream), "{cut}");
        }
        assert_eq!(inflate(b"no zlib stream", 5), Err(BadStream));
    }

    #[test]
    fn input_may_come_byte_by_byte() {
        let mut inflation = Inflation::new(5);
        let ended: Vec<bool> = HELLO
            .iter()
            .map(|byte| inflation.feed(&[*byte]).unwrap())
            .collect();
        assert_eq!(ended.iter().filter(|ended| **ended).count(), 1);
        assert_eq!(inflation.finish().as_deref(), Ok(&b"hello"[..]));
    }
}
