//! An answer that comes from memory, for the fuzz targets of those who read answers. It exists in builds for fuzzing only.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::response::Response;
use crate::traffic::Traffic;

/// An answer whose body arrives in these pieces.
pub fn response(url: Url, pieces: Vec<Bytes>) -> Response {
    let body = reqwest::Body::wrap(Pieces(pieces.into()));
    Response {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        url,
        inner: http::Response::new(body).into(),
        idle_timeout: Duration::from_secs(60),
        cancel: CancellationToken::new(),
        traffic: Traffic::default(),
    }
}

struct Pieces(VecDeque<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}
