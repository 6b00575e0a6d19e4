//! The pack as the indexing thread sees it: a stream of bytes, each of which is counted, hashed and written down as it is used.

use std::io::{self, Write};

use bytes::Bytes;
use gix_hash::Hasher;
use tokio::sync::mpsc;

use super::FetchError;

/// What a truncated pack is called.
const ENDS_EARLY: FetchError = FetchError::BadPack {
    what: "it ends early",
};

/// The incoming pack, copied to `out` as it is read.
pub(crate) struct Input<W> {
    pieces: mpsc::Receiver<Bytes>,
    current: Bytes,
    out: W,
    hasher: Hasher,
    offset: u64,
}

impl<W: Write> Input<W> {
    pub(crate) fn new(pieces: mpsc::Receiver<Bytes>, out: W) -> Self {
        Self {
            pieces,
            current: Bytes::new(),
            out,
            hasher: gix_hash::hasher(gix_hash::Kind::Sha1),
            offset: 0,
        }
    }

    /// Bytes used so far.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes that are here and not used yet: never none. Waits for them.
    pub(crate) fn available(&mut self) -> Result<Bytes, FetchError> {
        while self.current.is_empty() {
            self.current = self.pieces.blocking_recv().ok_or(ENDS_EARLY)?;
        }
        Ok(self.current.clone())
    }

    /// Uses the first `count` of the available bytes.
    pub(crate) fn take(&mut self, count: usize) -> Result<(), FetchError> {
        let used = self.current.split_to(count);
        self.hasher.update(&used);
        self.offset += count as u64;
        self.out.write_all(&used).map_err(FetchError::from_disk)
    }

    /// Uses exactly as many bytes as `target` has room for.
    pub(crate) fn take_exact(&mut self, target: &mut [u8]) -> Result<(), FetchError> {
        let mut filled = 0;
        while filled < target.len() {
            let piece = self.available()?;
            let count = piece.len().min(target.len() - filled);
            target[filled..filled + count].copy_from_slice(&piece[..count]);
            self.take(count)?;
            filled += count;
        }
        Ok(())
    }

    /// Reads the checksum at the end, compares it with that of all bytes before it, and sees that nothing follows.
    pub(crate) fn finish(&mut self) -> Result<gix_hash::ObjectId, FetchError> {
        let fresh = gix_hash::hasher(gix_hash::Kind::Sha1);
        let computed = std::mem::replace(&mut self.hasher, fresh)
            .try_finalize()
            .map_err(|error| FetchError::Unindexable(error.into()))?;
        let mut stated = [0; 20];
        self.take_exact(&mut stated)?;
        if computed.as_slice() != stated {
            return Err(FetchError::BadPack {
                what: "its checksum is wrong",
            });
        }
        self.out.flush().map_err(FetchError::from_disk)?;
        if !self.current.is_empty() || self.pieces.blocking_recv().is_some() {
            return Err(FetchError::BadPack {
                what: "bytes follow its end",
            });
        }
        Ok(computed)
    }
}

/// Reads single bytes of an entry's header, and keeps them. The first failure is kept too: `io::Error` cannot carry it unharmed.
pub(crate) struct HeaderReader<'a, W> {
    pub(crate) input: &'a mut Input<W>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) failure: Option<FetchError>,
}

impl<W: Write> io::Read for HeaderReader<'_, W> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        match self.input.take_exact(target) {
            Ok(()) => {
                self.bytes.extend_from_slice(target);
                Ok(target.len())
            }
            Err(failure) => {
                self.failure = Some(failure);
                Err(io::ErrorKind::Other.into())
            }
        }
    }
}
