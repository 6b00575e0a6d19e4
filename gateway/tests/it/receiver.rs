//! A receiver of webhooks that does as it is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::Response;
use http::HeaderMap;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What the receiver does with one call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reply {
    Status(u16),
    /// 503, to come back after so many seconds.
    Later(u64),
    /// 302 to this address.
    Redirect(&'static str),
    /// Nothing, ever.
    Hang,
}

/// A call as it came.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

/// What the receiver does, and how often it has since it was told so.
struct Script {
    replies: &'static [Reply],
    done: usize,
}

impl Script {
    fn next(&mut self) -> Reply {
        self.done += 1;
        self.replies[self.done.min(self.replies.len()) - 1]
    }
}

pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
    script: Arc<Mutex<Script>>,
    serving: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Receiver {
    /// Replies so in turn, and then the last way again and again.
    #[expect(clippy::disallowed_methods, reason = "a receiver outside the gateway")]
    pub(crate) async fn start(replies: &'static [Reply]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let script = Arc::new(Mutex::new(Script { replies, done: 0 }));
        let (kept, followed) = (Arc::clone(&calls), Arc::clone(&script));
        let handler = move |headers: HeaderMap, body: Bytes| async move {
            kept.lock().unwrap().push(Call { headers, body });
            let next = followed.lock().unwrap().next();
            reply(next).await
        };
        let serving = tokio::spawn(async move {
            axum::serve(listener, Router::new().fallback(handler))
                .await
                .unwrap();
        });
        Self {
            address,
            calls,
            script,
            serving,
        }
    }

    /// Replies so from now on.
    pub(crate) fn reply(&self, replies: &'static [Reply]) {
        *self.script.lock().unwrap() = Script { replies, done: 0 };
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hooks/canary-path?token=canary-query", self.address)
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }
}

async fn reply(reply: Reply) -> Response {
    let answer = Response::builder();
    let answer = match reply {
        Reply::Status(status) => answer.status(status),
        Reply::Later(seconds) => answer.status(503).header("retry-after", seconds),
        Reply::Redirect(to) => answer.status(302).header("location", to),
        Reply::Hang => std::future::pending().await,
    };
    answer.body(Body::empty()).unwrap()
}
