//! Takes the pack out of the side band, and hands it to the indexing thread while it arrives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use mayfly_telemetry::task;
use tokio::sync::mpsc;

use super::index::{Budget, IndexJob};
use super::progress::{REPORT_INTERVAL, Reporter};
use super::{Destination, FetchError, PackSink};
use crate::pack::PackFiles;
use crate::remote::exchange::Exchange;
use crate::remote::packet::{Packet, Packets};
use crate::remote::words::{MAX_CHARS, one_line};
use crate::remote::{RemoteError, TransferLimits};

/// Pieces of the pack (of at most 64 KiB) between the connection and the indexing thread.
const PIECES_IN_FLIGHT: usize = 32;

/// Receives the pack into `into`; `None` if it has no object.
pub(crate) async fn receive(
    packets: &mut Packets,
    into: Destination<'_>,
    exchange: &Exchange,
    mut reporter: Reporter,
) -> Result<Option<PackFiles>, FetchError> {
    let (pieces, input) = mpsc::channel(PIECES_IN_FLIGHT);
    let stop = StopOnDrop(Arc::new(AtomicBool::new(false)));
    let job = IndexJob {
        into: into.folder.to_owned(),
        limits: exchange.limits().clone(),
        counters: reporter.counters(),
        budget: Budget::default(),
        stop: stop.0.clone(),
        input,
    };
    let indexing = task::blocking(move || job.run());
    tokio::pin!(indexing);
    let fed = tokio::select! {
        biased;
        fed = feed(packets, (pieces, into.copy), exchange, &mut reporter) => fed,
        indexed = &mut indexing => return indexed.and(Err(AFTER_END)),
    };
    if fed.is_err() {
        stop.0.store(true, Ordering::Relaxed);
    }
    let indexed = wait(&mut indexing, &stop.0, exchange, &mut reporter).await;
    match fed? {
        Fed::Whole => unless_cancelled(indexed, exchange),
        Fed::IndexerGone => indexed.and(Err(AFTER_END)),
    }
}

/// The pack said how many objects it has, and more came.
const AFTER_END: FetchError = FetchError::BadPack {
    what: "bytes follow its end",
};

/// How the side band ended.
enum Fed {
    /// With its flush packet.
    Whole,
    /// The indexing thread takes no more: it has failed.
    IndexerGone,
}

/// Waits for the indexing thread, also after a failure: it removes what it has written.
async fn wait(
    indexing: &mut (impl Future<Output = Result<Option<PackFiles>, FetchError>> + Unpin),
    stop: &AtomicBool,
    exchange: &Exchange,
    reporter: &mut Reporter,
) -> Result<Option<PackFiles>, FetchError> {
    let mut tick = tokio::time::interval(REPORT_INTERVAL);
    loop {
        let is_stopping = stop.load(Ordering::Relaxed);
        tokio::select! {
            biased;
            indexed = &mut *indexing => return indexed,
            () = exchange.cancel().cancelled(), if !is_stopping => stop.store(true, Ordering::Relaxed),
            _ = tick.tick(), if !is_stopping => reporter.resolving(),
        }
    }
}

fn unless_cancelled<T>(result: Result<T, FetchError>, exchange: &Exchange) -> Result<T, FetchError> {
    match result {
        Err(_) if exchange.cancel().is_cancelled() => Err(FetchError::Cancelled),
        result => result,
    }
}

/// Reads the side band to its end (gitprotocol-pack(5), "Packfile Data").
async fn feed(
    packets: &mut Packets,
    (pieces, mut copy): (mpsc::Sender<Bytes>, Option<&mut dyn PackSink>),
    exchange: &Exchange,
    reporter: &mut Reporter,
) -> Result<Fed, FetchError> {
    packets.pack_begins();
    let mut bytes = 0;
    loop {
        let Some(packet) = packets.next().await? else {
            return Err(packets.wrong("its answer ends in the middle of the pack").into());
        };
        let Packet::Data(data) = packet else {
            return Ok(Fed::Whole);
        };
        match data.split_first() {
            Some((1, piece)) => {
                packets.was_pack();
                bytes += piece.len() as u64;
                check_bytes(bytes, exchange.limits())?;
                reporter.receiving(bytes);
                if !hand_over(&pieces, data.slice(1..), exchange).await? {
                    return Ok(Fed::IndexerGone);
                }
                if let Some(copy) = &mut copy {
                    write_copy(*copy, data.slice(1..), exchange).await?;
                }
            }
            Some((2, message)) => {
                packets.was_message(data.len())?;
                reporter.remote(message);
            }
            Some((3, message)) => return Err(said(exchange, message)),
            _ => return Err(packets.wrong("a packet is on no side band").into()),
        }
    }
}

fn check_bytes(bytes: u64, limits: &TransferLimits) -> Result<(), FetchError> {
    let limit = limits.max_pack_bytes;
    if bytes > limit {
        return Err(FetchError::RepositoryTooLarge { limit, what: "" });
    }
    Ok(())
}

fn said(exchange: &Exchange, message: &[u8]) -> FetchError {
    let url = exchange.remote().url.clone();
    let words = one_line(message, MAX_CHARS);
    RemoteError::Said { url, words }.into()
}

/// Waits for room; false if the indexing thread has gone.
async fn hand_over(
    pieces: &mpsc::Sender<Bytes>,
    piece: Bytes,
    exchange: &Exchange,
) -> Result<bool, FetchError> {
    if piece.is_empty() {
        return Ok(true);
    }
    tokio::select! {
        biased;
        () = exchange.cancel().cancelled() => Err(FetchError::Cancelled),
        sent = pieces.send(piece) => Ok(sent.is_ok()),
    }
}

/// Waits for the copy, which holds the remote back as well.
async fn write_copy(copy: &mut dyn PackSink, piece: Bytes, exchange: &Exchange) -> Result<(), FetchError> {
    tokio::select! {
        biased;
        () = exchange.cancel().cancelled() => Err(FetchError::Cancelled),
        written = copy.write(piece) => written.map_err(FetchError::Copy),
    }
}

/// Tells the indexing thread to stop when the fetch is dropped.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
