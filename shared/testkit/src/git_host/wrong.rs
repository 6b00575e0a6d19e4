//! Does the faults: stands between the connection and the real git host.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State as Extracted};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};

use super::State;
use super::fault::Fault;
use crate::server::cut;

const PAUSE_BEFORE_CUT: Duration = Duration::from_millis(20);

type Chunk = Result<Bytes, axum::Error>;

/// The middleware: writes down, counts, and answers as the script wants it.
pub(super) async fn misbehave(
    Extracted(state): Extracted<Arc<State>>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let (number, counters) = state.record.begin(&parts);
    let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    let fault = state.script.take(&parts.method, path, query);
    let request = Request::from_parts(parts, counters.received(body));
    let Some(response) = answer(fault, request, next).await else {
        return cut();
    };
    state.record.answered(number, response.status());
    response.map(|body| counters.sent(body))
}

/// The answer, or none where the connection is to be cut.
async fn answer(fault: Option<Fault>, mut request: Request, next: Next) -> Option<Response> {
    let Some(fault) = fault else {
        return Some(next.run(request).await);
    };
    let answer = match fault {
        Fault::Answer {
            status,
            headers,
            body,
        } => scripted(status, &headers, body),
        Fault::Redirect { status, origin } => redirect(status, &origin, &request),
        Fault::StallBeforeHead => std::future::pending().await,
        Fault::CutBeforeHead => return None,
        Fault::LoseAnswer => {
            drain(next.run(request).await).await;
            return None;
        }
        Fault::LoseAnswerTo(status) => {
            drain(next.run(request).await).await;
            scripted(status, &[], Vec::new())
        }
        Fault::ProtocolV0 => {
            request.headers_mut().remove("git-protocol");
            next.run(request).await
        }
        Fault::StallAfter(bytes) => limited(next.run(request).await, bytes, stalled()),
        Fault::CutAfter(bytes) => limited(next.run(request).await, bytes, broken()),
        Fault::Trickle { bytes, every } => trickled(next.run(request).await, bytes, every),
        Fault::ContentType(text) => with_content_type(next.run(request).await, &text),
        Fault::Lie(body) => with_body(next.run(request).await, Body::from(body)),
    };
    Some(answer)
}

fn scripted(status: u16, headers: &[(String, String)], body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).expect("a fault has a valid status");
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a fault has valid header names");
        response.headers_mut().append(name, header_value(value));
    }
    response
}

fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("a fault has valid header values")
}

fn redirect(status: u16, origin: &str, request: &Request) -> Response {
    let target = request.uri().path_and_query().map_or("/", |it| it.as_str());
    let location = ("location".to_owned(), format!("{origin}{target}"));
    scripted(status, &[location], Vec::new())
}

/// Waits until git has done all of it.
async fn drain(response: Response) {
    let mut chunks = response.into_body().into_data_stream();
    while let Some(Ok(_)) = chunks.next().await {}
}

fn stalled() -> impl Stream<Item = Chunk> + Send {
    futures::stream::pending()
}

fn broken() -> impl Stream<Item = Chunk> + Send {
    let error = axum::Error::new(io::Error::other("the connection is to be cut"));
    // The pause lets the connection send what it holds; an error at once would take that along.
    futures::stream::once(async {
        tokio::time::sleep(PAUSE_BEFORE_CUT).await;
        Err(error)
    })
}

/// The first bytes of the answer, and then what `end` says.
fn limited(response: Response, bytes: u64, end: impl Stream<Item = Chunk> + Send + 'static) -> Response {
    response.map(|body| {
        let begun = body.into_data_stream().scan(bytes, |left, chunk| {
            let chunk = chunk
                .map(|chunk| chunk.slice(..chunk.len().min(usize::try_from(*left).unwrap_or(usize::MAX))));
            let taken = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
            let go_on = *left > 0;
            *left -= taken;
            std::future::ready(go_on.then_some(chunk))
        });
        Body::from_stream(begun.chain(end))
    })
}

fn trickled(response: Response, bytes: usize, every: Duration) -> Response {
    response.map(|body| {
        let pieces = body.into_data_stream().map_ok(move |chunk| {
            let starts = (0..chunk.len()).step_by(bytes);
            let pieces: Vec<Chunk> = starts
                .map(|start| Ok(chunk.slice(start..chunk.len().min(start + bytes))))
                .collect();
            futures::stream::iter(pieces)
        });
        Body::from_stream(pieces.try_flatten().then(move |piece| async move {
            tokio::time::sleep(every).await;
            piece
        }))
    })
}

fn with_content_type(mut response: Response, text: &str) -> Response {
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header_value(text));
    response
}

fn with_body(mut response: Response, body: Body) -> Response {
    response.headers_mut().remove(header::CONTENT_LENGTH);
    *response.body_mut() = body;
    response
}
