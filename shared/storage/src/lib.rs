//! The object-storage port: immutable objects by key, and one small pointer swapped by compare-and-swap.
//!
//! Three stores keep the same promises: a directory ([`DirectoryStore`]), memory ([`MemoryStore`]) and S3 ([`S3Store`]); [`open`] makes one of
//! a [`StorageUrl`]. Wrappers stand round any of them: [`Metered`] counts, [`FaultyStore`] fails on purpose.
//! This crate must not know what is stored: no sessions, no manifests, no git.
//!
//! # Promises of every store
//!
//! - A write is whole or absent; a reader never sees half of one.
//! - A write under [`Precondition::IfAbsent`] or [`Precondition::IfMatch`] takes effect for exactly one of any number of racing writers, in
//!   whatever process they are. (An S3 server may break this promise for us: [`probe::conditional_writes`] finds out.)
//! - [`StorageError::PreconditionFailed`] means that this write was not done. The one exception is described at [`ObjectStore::put`].
//! - Every wait is bounded by [`StorageOptions`].

mod body;
pub mod digest;
mod directory;
mod download;
mod error;
mod fault;
mod folder;
mod key;
mod memory;
mod meter;
mod open;
mod options;
pub mod probe;
mod s3;
mod store;
mod upload;
mod url;

pub use body::Body;
pub use directory::DirectoryStore;
pub use error::{OpenError, Operation, StorageError};
pub use fault::{Fault, FaultyStore, Rule, When};
pub use key::{InvalidKey, Key};
pub use memory::MemoryStore;
pub use meter::{Metered, RequestCounts};
pub use open::{Race, SharedOpenError, open, open_shared};
pub use options::{EtagForm, S3Credentials, S3Options, StorageOptions};
pub use s3::S3Store;
pub use store::{FolderPage, MAX_REPLACEMENT_BYTES, Object, ObjectMeta, ObjectStore, Precondition, Version};
pub use upload::{Unfinished, UnfinishedId, Upload};
pub use url::{InvalidStorageUrl, StorageUrl};
