//! Server-Sent Events: a job's events to bytes, and bytes back to messages.
//!
//! The format is that of the WHATWG HTML standard, chapter 9.2, "Server-sent events". This crate is pure: it must not know HTTP,
//! async, clocks, or which component speaks. [`encode_event`] and [`encode_data`] write frames, a [`Decoder`] reads them.

pub mod decode;
pub mod encode;

pub use decode::{DEFAULT_MAX_EVENT_BYTES, DecodeError, Decoded, Decoder};
pub use encode::{HEARTBEAT, RECONNECT_MILLIS, encode_data, encode_event};
