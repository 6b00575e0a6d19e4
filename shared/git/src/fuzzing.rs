//! Doors for fuzz targets to the parsers of what a remote sends, which otherwise stand behind an exchange over HTTP. It exists in builds for fuzzing only.
//!
//! What was read is given as text: it is compared, and not used.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::fetch::index::{Budget, IndexJob};
use crate::fetch::progress::Counters;
use crate::fetch::{FetchError, answer};
use crate::pack::PackFiles;
use crate::push::report;
use crate::refs::advertisement::Reader;
use crate::remote::packet::Packets;
use crate::remote::{Remote, TransferLimits};

/// What is expected of a remote's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// What it says first.
    Advertisement,
    /// A list of refs in protocol 2.
    Refs,
    /// What stands before a pack in protocol 2.
    BeforePack,
    /// What stands before a pack in protocol 0, with a boundary or without.
    BeforePackV0 {
        /// Whether a depth was asked for.
        has_depth: bool,
    },
    /// The report of a push, on a side band or not.
    Report {
        /// Whether there is a side band.
        has_side_band: bool,
    },
}

/// Reads an answer that arrives in these pieces.
pub async fn read_answer(pieces: Vec<Bytes>, expected: Expected, limits: &TransferLimits) -> String {
    let remote = Remote {
        url: "https://host/o/r".parse().expect("it is an address"),
        credential: None,
    };
    let response = mayfly_http::fuzzing::response(remote.url.as_url().clone(), pieces);
    let mut packets = Packets::new(&remote.url, response, limits);
    let reader = Reader::new(&remote, limits);
    match expected {
        Expected::Advertisement => match packets.rest().await {
            Ok(packets) => format!("{:?}", reader.advertisement(&packets)),
            Err(error) => format!("{error:?}"),
        },
        Expected::Refs => match packets.rest().await {
            Ok(packets) => format!("{:?}", reader.v2_refs(&packets)),
            Err(error) => format!("{error:?}"),
        },
        Expected::BeforePack => format!("{:?}", answer::read_v2(&mut packets).await),
        Expected::BeforePackV0 { has_depth } => {
            format!("{:?}", answer::read_v0(&mut packets, has_depth).await)
        }
        Expected::Report { has_side_band } => format!("{:?}", report::read(packets, has_side_band).await),
    }
}

/// How much memory indexing may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// As ever.
    Usual,
    /// Next to none: every run has a few records, no base is kept, everything is large.
    Tiny,
}

/// Indexes a pack that arrives in pieces of so many bytes, into the folder.
pub fn index(
    pack: &[u8],
    piece_bytes: usize,
    memory: Memory,
    into: &Path,
    limits: &TransferLimits,
) -> Result<Option<PackFiles>, FetchError> {
    let pieces: Vec<&[u8]> = pack.chunks(piece_bytes.max(1)).collect();
    let (sender, input) = mpsc::channel(pieces.len().max(1));
    for piece in pieces {
        let room = sender.try_send(Bytes::copy_from_slice(piece));
        room.expect("there is room for every piece");
    }
    drop(sender);
    let budget = match memory {
        Memory::Usual => Budget::default(),
        Memory::Tiny => Budget {
            workers: 1,
            sort_bytes: 100,
            bases_bytes: 0,
            large_bytes: 0,
        },
    };
    let job = IndexJob {
        into: into.to_owned(),
        limits: limits.clone(),
        counters: Arc::new(Counters::default()),
        budget,
        stop: Arc::new(AtomicBool::new(false)),
        input,
    };
    job.run()
}

/// Applies a delta to a base; `None` where it is damaged.
pub fn apply_delta(base: &[u8], delta: &[u8], max_bytes: u64) -> Option<Vec<u8>> {
    crate::delta::apply(base, delta, max_bytes).ok()
}
