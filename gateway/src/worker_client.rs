//! Offers a job to one worker over HTTP/1.1: one connection for one job, which may be the one on which the worker has said that it is idle.
//!
//! There is no pool (a worker exits after its job), no proxy, no redirect and no repetition: each of them could send a job twice, or its secrets elsewhere.
//! That is why this is a bare connection: it also tells "never sent" from "sent, and no answer". This module must not know the queue.

mod ask;
mod cancel;
mod follow;
mod lines;
mod link;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use mayfly_protocol::event::timestamp;
use mayfly_protocol::{ExposeSecret, JobId, Refusal, SecretString, TenantId, header};
use mayfly_telemetry::trace::TraceContext;
use rustls::pki_types::ServerName;
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::fleet::address::WorkerUrl;
use crate::retry::Outcome;
use link::{Body, send};

pub(crate) use ask::Said;
pub(crate) use lines::Lines;
pub(crate) use link::Cut;

/// Plain, or with TLS on it.
type Socket = Either<TcpStream, Box<TlsStream<TcpStream>>>;

const MAX_REFUSAL_BYTES: usize = 64 * 1024;

/// A job as a worker gets it.
pub(crate) struct Order<'a> {
    pub(crate) path: &'static str,
    pub(crate) job_id: &'a JobId,
    /// From 1.
    pub(crate) attempt: u32,
    pub(crate) accepted_at: OffsetDateTime,
    pub(crate) tenant: &'a TenantId,
    /// Events of the job's stream before the worker's first.
    pub(crate) events_before: u64,
    pub(crate) body: Bytes,
    pub(crate) trace: TraceContext,
}

/// Offers jobs to workers.
pub(crate) struct WorkerClient {
    pub(crate) token: Option<SecretString>,
    /// There where some workers are asked over TLS.
    pub(crate) tls: Option<TlsConnector>,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) lines: Lines,
}

/// The stream of a worker that took a job; dropped, its connection is closed.
pub(crate) struct WorkerStream(Box<Body>);

impl WorkerStream {
    /// The next piece of the stream. Nothing is lost when the future is dropped.
    pub(crate) async fn chunk(&mut self) -> Option<Result<Bytes, Cut>> {
        self.0.chunk().await
    }
}

impl WorkerClient {
    /// Offers a job to a worker, and gives its stream if it takes it.
    pub(crate) async fn offer(&self, url: &WorkerUrl, order: &Order<'_>) -> Result<WorkerStream, Outcome> {
        if let Some(socket) = self.lines.take(url) {
            match self.offer_on(socket, url, order).await {
                // Nothing was sent on it, so the job goes the long way.
                Err(Outcome::Unreachable(_)) => {}
                answered => return answered,
            }
        }
        let socket = self.connect(url).await?;
        self.offer_on(socket, url, order).await
    }

    async fn offer_on(
        &self,
        socket: Socket,
        url: &WorkerUrl,
        order: &Order<'_>,
    ) -> Result<WorkerStream, Outcome> {
        match timeout(self.response_timeout, self.ask(socket, url, order)).await {
            Ok(answer) => answer,
            Err(_) => Err(Outcome::NoAnswer(format!(
                "nothing came within {} s",
                self.response_timeout.as_secs_f32()
            ))),
        }
    }

    async fn connect(&self, url: &WorkerUrl) -> Result<Socket, Outcome> {
        match timeout(self.connect_timeout, self.reach(url)).await {
            Ok(Ok(socket)) => Ok(socket),
            Ok(Err(error)) => Err(Outcome::Unreachable(error.to_string())),
            Err(_) => Err(Outcome::Unreachable("no connection in time".to_owned())),
        }
    }

    async fn reach(&self, url: &WorkerUrl) -> io::Result<Socket> {
        let socket = TcpStream::connect(url.authority()).await?;
        socket.set_nodelay(true)?;
        let (Some(name), Some(tls)) = (url.tls_name(), &self.tls) else {
            return Ok(Either::Left(socket));
        };
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let socket = tls.connect(name, socket).await?;
        Ok(Either::Right(Box::new(socket)))
    }

    async fn ask(&self, socket: Socket, url: &WorkerUrl, order: &Order<'_>) -> Result<WorkerStream, Outcome> {
        let (response, body) = send(socket, self.request(url, order)?).await?;
        judge_head(&response, body).await
    }

    fn request(&self, url: &WorkerUrl, order: &Order<'_>) -> Result<Request<Bytes>, Outcome> {
        let mut request = Request::new(order.body.clone());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = http::Uri::from_static(order.path);
        let headers = request.headers_mut();
        self.address(headers, url)?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        let ours = [
            (header::JOB_ID, order.job_id.to_string()),
            (header::ATTEMPT, order.attempt.to_string()),
            (header::ACCEPTED_AT, timestamp::format(order.accepted_at)),
            (header::EVENTS_BEFORE, order.events_before.to_string()),
            (header::TENANT, order.tenant.to_string()),
            (header::TRACEPARENT, order.trace.to_string()),
        ];
        for (name, value) in ours {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::try_from(value).map_err(unsendable)?,
            );
        }
        Ok(request)
    }

    /// Says to whom a request goes, and that it comes from the fleet's gateway.
    fn address(&self, headers: &mut HeaderMap, url: &WorkerUrl) -> Result<(), Outcome> {
        headers.insert(HOST, HeaderValue::try_from(url.authority()).map_err(unsendable)?);
        if let Some(token) = &self.token {
            let value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()));
            let mut value = value.map_err(unsendable)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(())
    }
}

fn unsendable<E>(_: E) -> Outcome {
    Outcome::Unreachable("the request cannot be written as HTTP".to_owned())
}

async fn judge_head(response: &Response<()>, body: Body) -> Result<WorkerStream, Outcome> {
    let status = response.status();
    match status {
        StatusCode::OK if is_event_stream(response.headers()) => Ok(WorkerStream(Box::new(body))),
        StatusCode::TOO_MANY_REQUESTS => Err(Outcome::Busy),
        StatusCode::SERVICE_UNAVAILABLE => Err(Outcome::Unready),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Outcome::Unauthorized),
        StatusCode::NOT_FOUND | StatusCode::NOT_IMPLEMENTED => Err(Outcome::Stranger(status.as_u16())),
        _ => Err(match read_refusal(status, body).await {
            Some(refusal) if refusal.code.status() == status.as_u16() => Outcome::Refused(refusal),
            _ if status.is_redirection() || status.is_client_error() => Outcome::Stranger(status.as_u16()),
            _ => Outcome::NotAStream(format!("status {}", status.as_u16())),
        }),
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("text/event-stream")
}

async fn read_refusal(status: StatusCode, mut body: Body) -> Option<Refusal> {
    if status.is_success() {
        return None;
    }
    serde_json::from_slice(&body.whole(MAX_REFUSAL_BYTES).await?).ok()
}
