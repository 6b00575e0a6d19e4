//! An archive as the body of an answer: written on a blocking thread, a few pieces ahead of the client and no more.

use std::io::{self, Write};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::stream;
use mayfly_session::view::Archive;
use mayfly_telemetry::task;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{Place, Sessions};

const PIECE_BYTES: usize = 64 * 1024;
const PIECES_AHEAD: usize = 8;

/// What the blocking thread says at its end.
type Outcome = Result<(), mayfly_session::view::ArchiveError>;

/// Starts to write the archive. What goes wrong from here on breaks the body off, so that the client sees that it is not whole.
pub(crate) fn body(sessions: &Sessions, archive: Archive, place: Place) -> Body {
    let (pieces, reader) = mpsc::channel(PIECES_AHEAD);
    let (end, ended) = oneshot::channel();
    let out = PieceWriter {
        pieces,
        filled: BytesMut::with_capacity(PIECE_BYTES),
        stall_timeout: sessions.config().stall_timeout,
        runtime: Handle::current(),
    };
    task::spawn(sessions.tasks(), async move {
        let outcome = task::blocking(move || {
            let outcome = write(&archive, out);
            // The files go before their folder, and both on this thread.
            drop(archive);
            drop(place);
            outcome
        });
        let outcome = outcome.await;
        if let Err(error) = &outcome {
            let error = error as &(dyn std::error::Error + 'static);
            tracing::warn!(error, "an archive was broken off");
        }
        // The client may be gone.
        let _unread = end.send(outcome);
    });
    let pieces = stream::try_unfold(Some((reader, ended)), next);
    Body::from_stream(pieces)
}

fn write(archive: &Archive, out: PieceWriter) -> Outcome {
    let mut out = archive.write_to(out)?;
    out.flush()?;
    Ok(())
}

type Reading = Option<(mpsc::Receiver<Bytes>, oneshot::Receiver<Outcome>)>;

async fn next(reading: Reading) -> io::Result<Option<(Bytes, Reading)>> {
    let Some((mut reader, ended)) = reading else {
        return Ok(None);
    };
    if let Some(piece) = reader.recv().await {
        return Ok(Some((piece, Some((reader, ended)))));
    }
    match ended.await {
        Ok(Ok(())) => Ok(None),
        _ => Err(io::Error::other("the archive was broken off")),
    }
}

/// Hands on what is written, piece by piece, and waits for the client within a bound.
struct PieceWriter {
    pieces: mpsc::Sender<Bytes>,
    filled: BytesMut,
    stall_timeout: Duration,
    runtime: Handle,
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE_BYTES - self.filled.len();
        let taken = bytes.len().min(room);
        self.filled.extend_from_slice(&bytes[..taken]);
        if self.filled.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.filled.is_empty() {
            return Ok(());
        }
        let piece = self.filled.split().freeze();
        let sent = timeout_of(self.stall_timeout, self.pieces.send(piece));
        match self.runtime.block_on(sent) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client is gone")),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client takes nothing any more",
            )),
        }
    }
}

/// The timer is made inside of the runtime, where it belongs.
async fn timeout_of<T>(
    bound: Duration,
    work: impl Future<Output = T>,
) -> Result<T, tokio::time::error::Elapsed> {
    timeout(bound, work).await
}
