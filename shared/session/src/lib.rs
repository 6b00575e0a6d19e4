//! Sessions in object storage: a small manifest that is replaced by compare-and-swap, and immutable git packs.
//!
//! A session *is* git objects. Its [`Manifest`] names the packs that hold them, the head, and the tree that is the workspace.
//! The order of a save is packs first, then the manifest, so that whoever dies in between leaves the old session whole.
//!
//! This crate must not know HTTP, jobs' logic or git hosts. It moves packs as files and reads single objects by range; [`view`] shows what a
//! session holds.

mod delete;
mod fold;
pub mod gc;
mod idempotency;
mod incoming;
mod key;
mod lfs;
mod list;
mod manifest;
mod open_job;
mod outcome;
mod owed_webhook;
mod pack_name;
mod packed;
mod packs;
mod pin;
mod repository;
mod store;
pub mod view;

pub use delete::{DeleteError, Deleted};
pub use fold::{packs_to_fold, received_to_fold};
pub use idempotency::{Claimed, HexDigest, KeyArchive, KeyArchiveError, KeyRecord};
pub use incoming::IncomingPack;
pub use lfs::{Lfs, LfsEntry, LfsList, LfsOrigin, LfsStoreError, LfsWeek};
pub use list::{ListError, SessionPage};
pub use manifest::{
    Fence, Fetched, HistoryEntry, Intent, JobResult, MAX_WHOLE_BYTES, Manifest, PackEntry, PackKind,
    PackScope,
};
pub use open_job::{GatewayId, InvalidGatewayId, OpenJob, OpenJobError, OpenJobs, Sent, SignOfLife};
pub use outcome::{Kept, OutcomeArchive, OutcomeError};
pub use owed_webhook::OwedWebhook;
pub use pack_name::{InvalidPackName, PackName};
pub use packed::PackedObjects;
pub use pin::PinError;
pub use repository::{Brought, FoldedPacks, KnownRepository, KnownTip};
pub use store::{LoadError, SaveError, Session, SessionStore};
