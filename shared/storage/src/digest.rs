//! SHA-256 of content, streamed: versions of the local stores, and "is what is stored what we wrote?".

use std::fmt;
use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

const CHUNK_BYTES: usize = 128 * 1024;

/// The SHA-256 of some content; shown as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// The hash of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The hash of all that a reader gives.
    pub fn of_reader(reader: impl Read) -> io::Result<Self> {
        copy_hashed(reader, &mut io::sink()).map(|(hash, _)| hash)
    }

    pub(crate) fn first_byte(&self) -> u8 {
        self.0[0]
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A hash that is fed piece by piece.
#[derive(Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> ContentHash {
        ContentHash(self.0.finalize().into())
    }
}

/// Copies all that a reader gives, and returns its hash and its size.
pub(crate) fn copy_hashed(mut from: impl Read, to: &mut impl Write) -> io::Result<(ContentHash, u64)> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut hasher = Hasher::default();
    let mut total = 0;
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok((hasher.finish(), total)),
            Ok(n) => {
                hasher.update(&chunk[..n]);
                to.write_all(&chunk[..n])?;
                total += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streamed_and_whole_hashes_agree() {
        let content = vec![7; CHUNK_BYTES * 2 + 1];
        let mut copy = Vec::new();
        let (hash, bytes) = copy_hashed(content.as_slice(), &mut copy).unwrap();
        assert_eq!((hash, bytes), (ContentHash::of(&content), content.len() as u64));
        assert_eq!(copy, content);
        // The value is from FIPS 180-2, appendix B.1.
        assert_eq!(
            ContentHash::of(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
