//! The connection under a request to a worker, moved on by whoever waits for the answer.
//!
//! It has no task of its own: each event of each stream would go from one task to the next.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::Socket;
use crate::retry::Outcome;

type Connection = http1::Connection<TokioIo<Socket>, Full<Bytes>>;

/// A connection to a worker; dropped, it is closed.
pub(super) struct Link(Option<Pin<Box<Connection>>>);

impl Link {
    /// Speaks HTTP on the socket.
    pub(super) async fn open(socket: Socket) -> Result<(http1::SendRequest<Full<Bytes>>, Self), Outcome> {
        let (sender, connection) = http1::handshake(TokioIo::new(socket))
            .await
            .map_err(|error| Outcome::Unreachable(error.to_string()))?;
        Ok((sender, Self(Some(Box::pin(connection)))))
    }

    /// Waits for something that comes over the connection.
    pub(super) async fn drive<T>(&mut self, awaited: impl Future<Output = T>) -> T {
        let mut awaited = pin!(awaited);
        poll_fn(|context| match awaited.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(value),
            Poll::Pending => {
                self.move_on(context);
                awaited.as_mut().poll(context)
            }
        })
        .await
    }

    fn move_on(&mut self, context: &mut Context<'_>) {
        if let Some(connection) = &mut self.0
            && connection.as_mut().poll(context).is_ready()
        {
            // How it ended is seen by whoever reads the answer.
            self.0 = None;
        }
    }
}
