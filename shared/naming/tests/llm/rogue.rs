//! A server that answers as no LLM's server should, and remembers what it was sent.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mayfly_http::Url;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// What the server does with a question.
#[derive(Debug, Clone)]
pub(crate) enum Manner {
    /// Sends this body, as JSON by its type.
    Says(String),
    /// Sends more than anyone takes.
    Floods,
    /// Redirects to there.
    Redirects(Url),
    /// Sends one byte of a good answer now and then.
    Trickles,
    /// Takes the question and never answers.
    Hangs,
}

/// A running server; it ends with this value.
pub(crate) struct Rogue {
    pub(crate) url: Url,
    seen: Arc<Mutex<Vec<HeaderMap>>>,
    _stop: DropGuard,
}

#[derive(Clone)]
struct Shared {
    manner: Manner,
    seen: Arc<Mutex<Vec<HeaderMap>>>,
}

impl Rogue {
    pub(crate) async fn start(manner: Manner) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        let seen = Arc::default();
        let shared = Shared {
            manner,
            seen: Arc::clone(&seen),
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let router = Router::new().fallback(answer).with_state(shared);
        mayfly_telemetry::task::spawn(&TaskTracker::new(), async move {
            tokio::select! {
                () = stopped => {}
                served = async { axum::serve(listener, router).await } => served.unwrap(),
            }
        });
        Self {
            url,
            seen,
            _stop: stop.drop_guard(),
        }
    }

    /// The headers of the requests that came, oldest first.
    pub(crate) fn seen(&self) -> Vec<HeaderMap> {
        self.seen.lock().unwrap().clone()
    }
}

async fn answer(State(shared): State<Shared>, headers: HeaderMap, _question: Bytes) -> Response {
    shared.seen.lock().unwrap().push(headers);
    match shared.manner {
        Manner::Says(text) => text.into_response(),
        Manner::Floods => " ".repeat(1 << 20).into_response(),
        Manner::Redirects(target) => (
            StatusCode::TEMPORARY_REDIRECT,
            [(header::LOCATION, target.to_string())],
        )
            .into_response(),
        Manner::Trickles => Body::from_stream(trickle()).into_response(),
        Manner::Hangs => std::future::pending().await,
    }
}

/// One byte every 20 ms, for longer than any test waits.
fn trickle() -> impl futures::Stream<Item = Result<Bytes, std::convert::Infallible>> {
    futures::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Some((Ok(Bytes::from_static(b" ")), ()))
    })
}
