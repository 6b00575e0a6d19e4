//! Where a pack goes while it arrives, besides the scratch folder. Must not know what is there.

use async_trait::async_trait;
use bytes::Bytes;

/// Takes a copy of the pack, in order and from its first byte. A copy of a fetch that fails is of no use; its owner discards it.
#[async_trait]
pub trait PackSink: Send {
    /// Takes the next bytes; the remote is read no faster than this returns.
    async fn write(&mut self, bytes: Bytes) -> Result<(), SinkError>;
}

/// Why a sink takes no more.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SinkError(pub Box<dyn std::error::Error + Send + Sync>);
