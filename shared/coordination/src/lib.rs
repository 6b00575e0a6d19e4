//! What gateways of one fleet tell one another while jobs run: whose turn it is in a session, what a job's stream has so far, and what is to be
//! cancelled. Nothing here is durable: what has to outlive all gateways is in object storage, and each gateway tells again what it has when all was lost.
//!
//! Two sides of one port ([`Coordination`]): [`MemoryCoordination`] for gateways of one process, and [`RedisCoordination`]. Every operation is bounded in time,
//! may be repeated, and fails as [`Unavailable`] without harm. This crate must not know what an event or a record says, or what a worker is.

mod memory;
mod port;
mod redis;

pub use memory::{MemoryBoard, MemoryCoordination};
pub use port::{
    Change, Coordination, InLine, JobRef, Lifetimes, Lined, News, Numbered, Owner, RECORDS_KEPT, Unavailable,
};
pub use redis::{InvalidRedisUrl, RedisCoordination, RedisOpenError, RedisSettings, RedisUrl};
