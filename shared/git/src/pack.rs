//! What a pack on disk is: a pack file with its index, named by the hash that the pack ends with; and the limits that its objects have.
//!
//! This module must not know where a pack came from, nor how its objects are read.

mod limits;

use std::path::PathBuf;

pub use limits::{PackLimitError, PackLimits};

/// A complete pack and its index (version 2), as files.
///
/// Source of the formats: gitformat-pack(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackFiles {
    /// The pack, `pack-<hash>.pack`.
    pub pack: PathBuf,
    /// Its index, `pack-<hash>.idx`.
    pub index: PathBuf,
    /// The SHA-1 that the pack ends with: 40 lower-case hexadecimal digits.
    pub hash: String,
    /// Objects in the pack.
    pub objects: u32,
    /// Bytes of the pack file.
    pub pack_bytes: u64,
    /// Bytes of the index file.
    pub index_bytes: u64,
}
