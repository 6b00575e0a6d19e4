//! A proxy before the S3 server that fails on purpose: loses answers, cuts them, forges some, and strips conditions.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Request, StatusCode, request::Parts};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use mayfly_testkit::https::TestCa;
use mayfly_testkit::moto::Moto;
use mayfly_testkit::server::{TestServer, cut};

const MAX_BODY_BYTES: usize = 256 * 1024 * 1024;

/// What becomes of a request.
pub(crate) enum Action {
    /// It goes through.
    Pass,
    /// It is done, and its answer is lost.
    LoseAnswer,
    /// It is not done; the proxy answers with an S3 error.
    Refuse(StatusCode, &'static str),
    /// It is not done, and never answered.
    Stall,
    /// It is not done: another writer puts these bytes there first, and the connection breaks.
    Rival(&'static str),
    /// It goes through without its conditions.
    WithoutConditions,
    /// It is done, and the answer breaks off after so many bytes of its body.
    CutAnswer(usize),
}

/// Decides by the request and by how many there were before.
type Script = dyn FnMut(&Parts, u64) -> Action + Send;

struct Wire {
    script: std::sync::Mutex<(Box<Script>, u64)>,
    http: reqwest::Client,
}

/// A running proxy.
pub(crate) struct Proxy {
    server: TestServer,
    wire: Arc<Wire>,
}

impl Proxy {
    pub(crate) fn new(script: impl FnMut(&Parts, u64) -> Action + Send + 'static) -> Self {
        let (router, wire) = route(script);
        let server = TestServer::http(router);
        Self { server, wire }
    }

    /// Over TLS, by a certificate of this authority.
    pub(crate) fn tls(ca: &TestCa) -> Self {
        let (router, wire) = route(|_, _| Action::Pass);
        let server = TestServer::https(router, ca.server_config());
        Self { server, wire }
    }

    pub(crate) fn endpoint(&self) -> String {
        self.server.origin()
    }

    /// How many requests came so far.
    pub(crate) fn requests(&self) -> u64 {
        self.wire.script.lock().unwrap().1
    }
}

fn route(script: impl FnMut(&Parts, u64) -> Action + Send + 'static) -> (Router, Arc<Wire>) {
    let wire = Arc::new(Wire {
        script: std::sync::Mutex::new((Box::new(script), 0)),
        http: mayfly_testkit::sse::http_client(),
    });
    (Router::new().fallback(handle).with_state(wire.clone()), wire)
}

async fn handle(State(wire): State<Arc<Wire>>, request: Request<Body>) -> Response {
    let (mut parts, body) = request.into_parts();
    let action = {
        let mut script = wire.script.lock().unwrap();
        script.1 += 1;
        let before = script.1 - 1;
        (script.0)(&parts, before)
    };
    if let Action::Stall = action {
        return std::future::pending().await;
    }
    let body = to_bytes(body, MAX_BODY_BYTES).await.unwrap();
    match action {
        Action::Pass => forward(&wire, &parts, body).await,
        Action::LoseAnswer => {
            forward(&wire, &parts, body).await;
            cut()
        }
        Action::Refuse(status, code) => refusal(status, code),
        Action::Stall => unreachable!("handled above"),
        Action::Rival(content) => {
            strip_conditions(&mut parts.headers);
            parts.headers.remove("content-md5");
            forward(&wire, &parts, content.into()).await;
            cut()
        }
        Action::WithoutConditions => {
            strip_conditions(&mut parts.headers);
            forward(&wire, &parts, body).await
        }
        Action::CutAnswer(bytes) => {
            let (parts, body) = forward(&wire, &parts, body).await.into_parts();
            let whole = to_bytes(body, MAX_BODY_BYTES).await.unwrap();
            Response::from_parts(parts, cut_after(whole.slice(..bytes)))
        }
    }
}

/// The bytes are sent before the cut: the server flushes when it has to wait for more.
fn cut_after(bytes: Bytes) -> Body {
    let sent = stream::iter([Ok(bytes)]);
    let end = stream::once(async {
        tokio::task::yield_now().await;
        Err(std::io::Error::other("cut on purpose"))
    });
    Body::from_stream(sent.chain(end))
}

fn strip_conditions(headers: &mut HeaderMap) {
    headers.remove("if-match");
    headers.remove("if-none-match");
}

fn refusal(status: StatusCode, code: &str) -> Response {
    let body = format!("<Error><Code>{code}</Code><Message>on purpose</Message></Error>");
    (status, body).into_response()
}

async fn forward(wire: &Wire, parts: &Parts, body: Bytes) -> Response {
    let mut headers = parts.headers.clone();
    for own in ["host", "content-length", "expect", "connection"] {
        headers.remove(own);
    }
    let url = format!(
        "{}{}",
        Moto::shared().endpoint(),
        parts.uri.path_and_query().unwrap()
    );
    let answer = wire
        .http
        .request(parts.method.clone(), url)
        .headers(headers)
        .body(body)
        .send()
        .await
        .unwrap();
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    headers.remove("connection");
    headers.remove("transfer-encoding");
    let body = match parts.method {
        Method::HEAD => Body::empty(),
        _ => Body::from(answer.bytes().await.unwrap()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
