//! A client of any side: it posts one job on a connection of its own, and reads the stream to its end.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mayfly_sse::{Decoded, Decoder};
use mayfly_telemetry::task;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What an event says, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(super) struct Said {
    #[serde(rename = "type")]
    kind: Kind,
    pub(super) stage: Option<String>,
    source: Option<String>,
    data: Option<Done>,
    code: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Progress,
    Completed,
    Error,
}

#[derive(Debug, Deserialize)]
struct Done {
    worker: u32,
}

impl Said {
    pub(super) fn is_workers(&self) -> bool {
        self.source.as_deref() != Some("gateway")
    }
}

/// How a job ended for its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// By the terminal event `completed` of this worker.
    Completed { worker: u32 },
    /// By the terminal event `error`, with this code.
    Error(String),
    /// The request was answered with this status, and not with a stream.
    Refused(StatusCode),
    /// The connection failed, or the stream ended without a terminal event.
    Broken(String),
}

/// One job, as its client saw it.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) end: End,
    /// From before the connection was made to the first event of a worker.
    pub(super) first_event: Option<Duration>,
    pub(super) took: Duration,
    /// The worker's events that came, the terminal one among them.
    pub(super) events: u64,
    /// Whether the stream said that another worker was tried.
    pub(super) was_retried: bool,
}

impl Answer {
    pub(super) fn is_completed(&self) -> bool {
        matches!(self.end, End::Completed { .. })
    }
}

/// Posts a clone in a session of its own to this address, and tells `seen` of each event.
pub(super) async fn post(address: SocketAddr, seen: impl FnMut(&Said)) -> Answer {
    let started = Instant::now();
    let mut reading = Reading {
        started,
        seen,
        first_event: None,
        events: 0,
        was_retried: false,
    };
    let end = match reading.follow(address).await {
        Ok(end) => end,
        Err(error) => End::Broken(format!("{error:#}")),
    };
    Answer {
        end,
        first_event: reading.first_event,
        took: started.elapsed(),
        events: reading.events,
        was_retried: reading.was_retried,
    }
}

struct Reading<F> {
    started: Instant,
    seen: F,
    first_event: Option<Duration>,
    events: u64,
    was_retried: bool,
}

impl<F: FnMut(&Said)> Reading<F> {
    async fn follow(&mut self, address: SocketAddr) -> anyhow::Result<End> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        let dropped = CancellationToken::new();
        let _guard = dropped.clone().drop_guard();
        task::spawn(&TaskTracker::new(), async move {
            // How it ended is seen in the answer.
            let _ended = dropped.run_until_cancelled(connection).await;
        });
        let response = sender.send_request(request(address)?).await?;
        if response.status() != StatusCode::OK {
            return Ok(End::Refused(response.status()));
        }
        let mut body = response.into_body();
        let mut decoder = Decoder::default();
        while let Some(frame) = body.frame().await {
            let Ok(chunk) = frame?.into_data() else { continue };
            for item in decoder.push(&chunk)? {
                if let Decoded::Message { data, .. } = item
                    && let Some(end) = self.take(&data)?
                {
                    return Ok(end);
                }
            }
        }
        Ok(End::Broken(
            "the stream ended without a terminal event".to_owned(),
        ))
    }

    /// Takes one event; the end of the job, where it is terminal.
    fn take(&mut self, data: &[u8]) -> anyhow::Result<Option<End>> {
        let said: Said = serde_json::from_slice(data)?;
        (self.seen)(&said);
        self.was_retried |= said.stage.as_deref() == Some("retrying");
        if said.is_workers() {
            self.events += 1;
            self.first_event.get_or_insert_with(|| self.started.elapsed());
        }
        Ok(match (said.kind, said.data) {
            (Kind::Progress, _) => None,
            (Kind::Completed, data) => Some(End::Completed {
                worker: data.map_or(0, |it| it.worker),
            }),
            (Kind::Error, _) => Some(End::Error(said.code.unwrap_or_default())),
        })
    }
}

fn request(address: SocketAddr) -> anyhow::Result<Request<Full<Bytes>>> {
    let session = format!("bench-{}", uuid::Uuid::new_v4().simple());
    let body = json!({"sessionId": session, "repoUrl": "https://git.example.com/owner/repository.git", "branch": "main"});
    Ok(Request::post("/clone-repository")
        .header(HOST, address.to_string())
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body.to_string().into()))?)
}
