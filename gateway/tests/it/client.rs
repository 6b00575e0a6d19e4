//! A client of the gateway: one connection a request, and a reader of streams.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use mayfly_sse::{Decoded, Decoder};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than anything that a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

#[expect(clippy::disallowed_methods, reason = "a client outside the gateway")]
pub(crate) async fn send(address: SocketAddr, request: Request<Bytes>) -> Response<Incoming> {
    let socket = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
        .await
        .unwrap();
    tokio::spawn(connection);
    timeout(PATIENCE, sender.send_request(request.map(Full::new)))
        .await
        .unwrap()
        .unwrap()
}

pub(crate) fn get(path: &str) -> Request<Bytes> {
    Request::get(path)
        .header("host", "gateway")
        .body(Bytes::new())
        .unwrap()
}

pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Request<Bytes> {
    Request::post(path)
        .header("host", "gateway")
        .header("content-type", "application/json")
        .body(body.into())
        .unwrap()
}

/// A `/create-branch` of this session.
pub(crate) fn job(session: &str) -> Request<Bytes> {
    post(
        "/create-branch",
        format!(r#"{{"sessionId":"{session}","userRequest":"x"}}"#),
    )
}

pub(crate) async fn json(response: Response<Incoming>) -> Value {
    let body = timeout(PATIENCE, response.into_body().collect())
        .await
        .unwrap()
        .unwrap();
    serde_json::from_slice(&body.to_bytes()).unwrap()
}

pub(crate) async fn text(response: Response<Incoming>) -> String {
    let body = timeout(PATIENCE, response.into_body().collect())
        .await
        .unwrap()
        .unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

/// One event as the client reads it.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub(crate) id: u64,
    pub(crate) data: Vec<u8>,
    pub(crate) json: Value,
}

impl Got {
    /// The stage, or how the job ended.
    pub(crate) fn name(&self) -> String {
        let part = |name: &str| self.json[name].as_str().unwrap_or_default().to_owned();
        match self.json["type"].as_str() {
            Some("progress") => part("stage"),
            Some("error") => part("code"),
            _ => part("type"),
        }
    }
}

pub(crate) struct Events {
    pub(crate) response: Response<()>,
    body: Incoming,
    decoder: Decoder,
    ready: VecDeque<Got>,
    comments: usize,
}

impl Events {
    pub(crate) fn of(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        assert_eq!(head.status, 200, "{head:?}");
        Self {
            response: Response::from_parts(head, ()),
            body,
            decoder: Decoder::default(),
            ready: VecDeque::new(),
            comments: 0,
        }
    }

    pub(crate) fn job_id(&self) -> String {
        self.response.headers()["x-job-id"].to_str().unwrap().to_owned()
    }

    /// The next event; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Got> {
        while self.ready.is_empty() {
            self.read().await?;
        }
        self.ready.pop_front()
    }

    /// The comments so far.
    pub(crate) fn comments(&self) -> usize {
        self.comments
    }

    /// Reads until the stream has had this many comments.
    pub(crate) async fn until_comments(&mut self, number: usize) {
        while self.comments < number {
            self.read().await.expect("the stream ended");
        }
    }

    async fn read(&mut self) -> Option<()> {
        let frame = timeout(PATIENCE, self.body.frame())
            .await
            .expect("the stream says nothing")?;
        let chunk = frame.unwrap().into_data().unwrap();
        for item in self.decoder.push(&chunk).unwrap() {
            match item {
                Decoded::Comment => self.comments += 1,
                Decoded::Message { id, data, .. } => self.ready.push_back(Got {
                    id: id.unwrap().parse().unwrap(),
                    json: serde_json::from_slice(&data).unwrap(),
                    data,
                }),
            }
        }
        Some(())
    }

    /// Reads until this event.
    pub(crate) async fn until(&mut self, name: &str) -> Got {
        loop {
            let got = self
                .next()
                .await
                .unwrap_or_else(|| panic!("the stream ended before `{name}`"));
            if got.name() == name {
                return got;
            }
        }
    }

    /// Reads to the end, and checks what holds for every stream: numbers without a gap, and one terminal event, the last.
    pub(crate) async fn rest(mut self) -> Vec<Got> {
        let mut all: Vec<Got> = Vec::new();
        while let Some(got) = self.next().await {
            if let Some(last) = all.last() {
                assert_eq!(got.id, last.id + 1, "{all:?}");
                assert_eq!(last.json["type"], "progress", "{all:?}");
            }
            all.push(got);
        }
        assert_ne!(all.last().expect("an event").json["type"], "progress", "{all:?}");
        all
    }

    /// The names of all events to the end.
    pub(crate) async fn names(self) -> Vec<String> {
        self.rest().await.iter().map(Got::name).collect()
    }
}
