//! What is received: a status, headers, and a body that is read piece by piece under the idle bound.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::error::{HttpError, host_of};
use crate::traffic::Traffic;

/// A response whose body has not been read yet. Dropping it closes the connection.
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// Where the response came from, after redirects.
    pub url: Url,
    pub(crate) inner: reqwest::Response,
    pub(crate) idle_timeout: Duration,
    pub(crate) cancel: CancellationToken,
    pub(crate) traffic: Traffic,
}

impl Response {
    /// The next piece of the body, or `None` at its end.
    ///
    /// It waits at most for the idle bound, and no longer than until the request is cancelled.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        let host = || host_of(&self.url);
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(HttpError::Cancelled),
            received = tokio::time::timeout(self.idle_timeout, self.inner.chunk()) => match received {
                Ok(Ok(chunk)) => {
                    self.traffic.count_received(chunk.as_ref().map_or(0, Bytes::len));
                    Ok(chunk)
                }
                Ok(Err(error)) => Err(HttpError::from_reqwest(error, host())),
                Err(_) => Err(HttpError::Timeout { host: host(), idle: self.idle_timeout }),
            },
        }
    }

    /// The whole body, if it has at most `max` bytes.
    pub async fn bytes(mut self, max: usize) -> Result<Bytes, HttpError> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if body.len() + chunk.len() > max {
                let host = host_of(&self.url);
                return Err(HttpError::TooLarge { host, max });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("host", &host_of(&self.url))
            .finish_non_exhaustive()
    }
}
