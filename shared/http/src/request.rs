//! What is sent: a request whose body is in memory, and which notes when a piece of it leaves.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tokio::time::Instant;
use url::Url;

use crate::traffic::Traffic;

/// The largest piece that is handed to the connection at once; each piece that leaves counts as a sign of life.
const PIECE_BYTES: usize = 64 * 1024;

/// A request. Its `Debug` form shows neither the query of the URL nor the value of `Authorization`.
pub struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

impl Request {
    /// A request without headers and body.
    pub fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Body::default(),
        }
    }

    /// A `GET` request.
    pub fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    /// A `POST` request.
    pub fn post(url: Url) -> Self {
        Self::new(Method::POST, url)
    }

    /// The same request with a header set. The value of `Authorization` is marked as sensitive.
    #[must_use]
    pub fn header(mut self, name: HeaderName, mut value: HeaderValue) -> Self {
        if name == header::AUTHORIZATION {
            value.set_sensitive(true);
        }
        self.headers.insert(name, value);
        self
    }

    /// The same request with a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("origin", &self.url.origin().ascii_serialization())
            .field("path", &self.url.path())
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

/// The body of a request: pieces of memory that are sent one after the other, under a `Content-Length`.
#[derive(Debug, Clone, Default)]
pub struct Body {
    pieces: VecDeque<Bytes>,
}

impl Body {
    /// The bytes of all pieces.
    pub fn len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.pieces.iter().all(Bytes::is_empty)
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self {
            pieces: VecDeque::from([bytes]),
        }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl FromIterator<Bytes> for Body {
    fn from_iter<I: IntoIterator<Item = Bytes>>(pieces: I) -> Self {
        Self {
            pieces: pieces.into_iter().collect(),
        }
    }
}

/// When something last moved on a connection.
#[derive(Clone)]
pub(crate) struct Activity(Arc<Mutex<Instant>>);

impl Activity {
    pub(crate) fn starting_now() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once nothing has moved for that long.
    pub(crate) async fn silence(&self, bound: Duration) {
        loop {
            let last = self.last();
            tokio::time::sleep_until(last + bound).await;
            if self.last() == last {
                return;
            }
        }
    }
}

/// A body on its way out.
pub(crate) struct Upload {
    body: Body,
    left: u64,
    activity: Activity,
    traffic: Traffic,
}

impl Upload {
    pub(crate) fn new(body: Body, activity: Activity, traffic: Traffic) -> Self {
        let left = body.len();
        Self {
            body,
            left,
            activity,
            traffic,
        }
    }

    fn next_piece(&mut self) -> Option<Bytes> {
        let mut piece = self.body.pieces.pop_front()?;
        if piece.len() > PIECE_BYTES {
            let rest = piece.split_off(PIECE_BYTES);
            self.body.pieces.push_front(rest);
        }
        self.left -= piece.len() as u64;
        self.traffic.count_sent(piece.len());
        Some(piece)
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        self.activity.note();
        Poll::Ready(self.next_piece().map(|piece| Ok(http_body::Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pieces_leave_in_small_ones() {
        let body = Body::from_iter([Bytes::from_static(b"ab"), Bytes::from(vec![7; PIECE_BYTES + 1])]);
        let mut upload = Upload::new(body, Activity::starting_now(), Traffic::default());
        let mut sizes = Vec::new();
        while let Some(piece) = upload.next_piece() {
            sizes.push(piece.len());
        }
        assert_eq!(sizes, [2, PIECE_BYTES, 1]);
        assert_eq!(upload.left, 0);
        assert_eq!(upload.traffic.sent_bytes(), PIECE_BYTES as u64 + 3);
    }

    #[test]
    fn secrets_do_not_show() {
        let request = Request::get("https://host/path?token=canary".parse().unwrap())
            .header(header::AUTHORIZATION, HeaderValue::from_static("Bearer canary"));
        assert!(!format!("{request:?}").contains("canary"));
        assert!(request.headers[header::AUTHORIZATION].is_sensitive());
    }
}
