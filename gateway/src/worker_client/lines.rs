//! Connections to workers that have said that they are idle, kept for the job that follows, which then waits for no new one.
//!
//! Each is for one job. One on which anything comes before that, were it only its end, is closed: a worker says nothing unasked. This module must not know
//! what is sent on them.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io::ErrorKind::WouldBlock;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::either::Either;

use super::Socket;
use crate::fleet::address::WorkerUrl;

/// A connection is kept no longer: workers close those that ask nothing after ten seconds, and none is to be used at that moment.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many are kept at most.
const MOST: usize = 64;

/// The connections that are kept, one for a worker.
#[derive(Default)]
pub(crate) struct Lines(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    lines: HashMap<WorkerUrl, Line>,
    made: u64,
}

struct Line {
    socket: Socket,
    /// Tells it from those that were kept before it for the same worker.
    number: u64,
}

/// A connection that is kept until this is dropped, or somebody takes it.
pub(crate) struct KeptLine<'a> {
    lines: &'a Lines,
    url: WorkerUrl,
    number: u64,
}

impl Lines {
    /// Keeps a connection on which all was answered; `None` where there are as many as may be.
    pub(super) fn keep(&self, url: &WorkerUrl, socket: Socket) -> Option<KeptLine<'_>> {
        let mut kept = self.kept();
        if kept.lines.len() >= MOST {
            return None;
        }
        kept.made += 1;
        let number = kept.made;
        kept.lines.insert(url.clone(), Line { socket, number });
        Some(KeptLine {
            lines: self,
            url: url.clone(),
            number,
        })
    }

    /// The connection that is kept to this worker, if nothing has come on it.
    pub(super) fn take(&self, url: &WorkerUrl) -> Option<Socket> {
        let socket = self.kept().lines.remove(url)?.socket;
        is_silent(tcp(&socket)).then_some(socket)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn line(&self, url: &WorkerUrl, number: u64) -> Option<&Line> {
        self.lines.get(url).filter(|line| line.number == number)
    }
}

impl KeptLine<'_> {
    /// Waits until the connection was taken, something came on it, or it is too old to be kept.
    pub(crate) async fn until_over(self) {
        let over = poll_fn(|context| {
            let kept = self.lines.kept();
            let Some(line) = kept.line(&self.url, self.number) else {
                return Poll::Ready(());
            };
            let socket = tcp(&line.socket);
            loop {
                let _readable = ready!(socket.poll_read_ready(context));
                if !is_silent(socket) {
                    return Poll::Ready(());
                }
            }
        });
        // Too old or over, it is dropped.
        let _in_time = timeout(PATIENCE, over).await;
    }
}

impl Drop for KeptLine<'_> {
    fn drop(&mut self) {
        let mut kept = self.lines.kept();
        if kept.line(&self.url, self.number).is_some() {
            kept.lines.remove(&self.url);
        }
    }
}

/// Whether nothing has come, not even the end.
fn is_silent(socket: &TcpStream) -> bool {
    let read = socket.try_read(&mut [0]);
    read.is_err_and(|error| error.kind() == WouldBlock)
}

fn tcp(socket: &Socket) -> &TcpStream {
    match socket {
        Either::Left(socket) => socket,
        Either::Right(socket) => socket.get_ref().0,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    async fn connection(listener: &TcpListener) -> (Socket, TcpStream) {
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (ours, theirs) = tokio::join!(connecting, listener.accept());
        (Either::Left(ours.unwrap()), theirs.unwrap().0)
    }

    fn worker(number: u16) -> WorkerUrl {
        format!("http://127.0.0.1:{number}").parse().unwrap()
    }

    #[tokio::test]
    async fn a_connection_is_taken_once_and_only_for_its_worker() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (lines, (ours, _theirs)) = (Lines::default(), connection(&listener).await);
        let kept = lines.keep(&worker(1), ours).unwrap();
        assert!(lines.take(&worker(2)).is_none());
        assert!(lines.take(&worker(1)).is_some());
        assert!(lines.take(&worker(1)).is_none());
        kept.until_over().await;
    }

    #[tokio::test]
    async fn one_on_which_something_comes_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for said in [&b"HTTP/1.1 408 Request Timeout\r\n\r\n"[..], b""] {
            let (lines, (ours, mut theirs)) = (Lines::default(), connection(&listener).await);
            let kept = lines.keep(&worker(1), ours).unwrap();
            theirs.write_all(said).await.unwrap();
            theirs.shutdown().await.unwrap();
            kept.until_over().await;
            assert!(lines.take(&worker(1)).is_none());
            assert!(lines.kept().lines.is_empty());
        }
    }

    #[tokio::test]
    async fn a_later_one_takes_the_place_of_an_earlier_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let lines = Lines::default();
        let (first, _first_end) = connection(&listener).await;
        let (second, _second_end) = connection(&listener).await;
        let earlier = lines.keep(&worker(1), first).unwrap();
        let _later = lines.keep(&worker(1), second).unwrap();
        earlier.until_over().await;
        assert!(lines.take(&worker(1)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn none_is_kept_for_long_and_not_too_many_are() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let lines = Lines::default();
        let mut kept = Vec::new();
        let mut ends = Vec::new();
        for number in 0..=MOST as u16 {
            let (ours, theirs) = connection(&listener).await;
            ends.push(theirs);
            kept.extend(lines.keep(&worker(number + 1), ours));
        }
        assert_eq!(kept.len(), MOST);
        // The clock goes on when nothing else does.
        kept.pop().unwrap().until_over().await;
        assert_eq!(lines.kept().lines.len(), MOST - 1);
        kept.clear();
        assert!(lines.kept().lines.is_empty());
    }
}
