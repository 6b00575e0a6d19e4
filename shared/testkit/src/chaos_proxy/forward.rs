//! Sends requests on and brings answers back, whole, so that they can be cut to measure.
//!
//! The client's `Host` is kept, because signatures cover it.

use std::io;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};

const MAX_BODY_BYTES: usize = 256 * 1024 * 1024;

/// The server behind a proxy.
pub(super) struct Upstream {
    origin: String,
    http: reqwest::Client,
}

impl Upstream {
    pub(super) fn new(origin: &str) -> Self {
        // The error is that a provider is there already, which is what is needed.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            // A kept connection that the server closes at the wrong moment would be a fault that nobody asked for.
            .pool_max_idle_per_host(0);
        Self {
            origin: origin.to_owned(),
            http: client.build().expect("a client can be built"),
        }
    }

    /// What the server says; 502 where it cannot be asked.
    pub(super) async fn forward(&self, request: Request<Bytes>) -> Response {
        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let request = self
            .http
            .request(head.method.clone(), format!("{}{path}", self.origin))
            .headers(end_to_end(head.headers))
            .body(body);
        match bring_back(request, &head.method).await {
            Ok(response) => response,
            Err(error) => {
                let text = format!("the server behind the proxy cannot be asked: {error:?}");
                (StatusCode::BAD_GATEWAY, text).into_response()
            }
        }
    }
}

async fn bring_back(request: reqwest::RequestBuilder, method: &Method) -> reqwest::Result<Response> {
    let answer = request.send().await?;
    let (status, headers) = (answer.status(), end_to_end_answer(answer.headers().clone()));
    let body = match *method {
        Method::HEAD => Body::empty(),
        _ => Body::from(answer.bytes().await?),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// Without what belongs to one connection (RFC 9110, section 7.6.1), and without the length, which the body tells.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for own in [header::CONNECTION, header::CONTENT_LENGTH, header::EXPECT] {
        headers.remove(own);
    }
    headers.remove(header::TRANSFER_ENCODING);
    headers
}

/// The length stays: it is all that an answer to `HEAD` has.
fn end_to_end_answer(mut headers: HeaderMap) -> HeaderMap {
    for own in [header::CONNECTION, header::TRANSFER_ENCODING] {
        headers.remove(own);
    }
    headers
}

/// The whole body; none if the client broke off.
pub(super) async fn whole(body: Body) -> Option<Bytes> {
    to_bytes(body, MAX_BODY_BYTES).await.ok()
}

/// Reads so many bytes of the body, or all where it has fewer.
pub(super) async fn read_up_to(body: Body, bytes: usize) {
    let mut chunks = body.into_data_stream();
    let mut rest = bytes;
    while rest > 0 {
        match chunks.next().await {
            Some(Ok(chunk)) => rest = rest.saturating_sub(chunk.len()),
            _ => return,
        }
    }
}

/// The same head with another body, whose length the server tells.
pub(super) async fn changed(answer: Response, change: impl FnOnce(Bytes) -> Bytes) -> Response {
    let (mut head, body) = answer.into_parts();
    head.headers.remove(header::CONTENT_LENGTH);
    let body = whole(body).await.unwrap_or_default();
    Response::from_parts(head, Body::from(change(body)))
}

/// The same head and length, and then only so many bytes and the end of the connection.
pub(super) fn cut_after(answer: Response, bytes: usize) -> Response {
    let end = stream::once(async {
        // The bytes are sent before the cut: the server flushes when it has to wait for more.
        tokio::task::yield_now().await;
        Err(io::Error::other("cut on purpose"))
    });
    truncated(answer, bytes, end)
}

/// The same head and length, and then only so many bytes and silence.
pub(super) fn stall_after(answer: Response, bytes: usize) -> Response {
    truncated(answer, bytes, stream::pending())
}

fn truncated(
    answer: Response,
    bytes: usize,
    end: impl futures::Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Response {
    let (head, body) = answer.into_parts();
    let chunks = body
        .into_data_stream()
        .map(|chunk| chunk.map_err(io::Error::other));
    let start = chunks.scan(bytes, |rest, chunk| {
        let part = chunk.map(|chunk| chunk.slice(..chunk.len().min(*rest)));
        *rest -= part.as_ref().map_or(0, Bytes::len);
        std::future::ready(Some(part))
    });
    Response::from_parts(head, Body::from_stream(start.chain(end)))
}
