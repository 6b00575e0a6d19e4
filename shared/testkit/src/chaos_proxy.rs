//! A proxy before a real server that fails on purpose, at the request that a test says: it answers in the server's place, stalls, cuts, loses
//! the answer of what was done, changes the request, or runs code of the test (which kills a process, say).
//!
//! One [`Chaos`] may have proxies before several servers. It numbers all their requests in the order in which they come, from 1, so that a
//! test can go through them one by one. It must not know what is spoken beyond HTTP.

mod forward;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::https::TestCa;
use crate::server::{TestServer, cut};

/// What the test does to a request before it goes on.
type Alteration = Box<dyn FnOnce(&mut Request<Bytes>) + Send>;
/// What the test makes of an answer's body.
type Change = Box<dyn FnOnce(Bytes) -> Bytes + Send>;
/// What the test does at a request.
type Hook = Box<dyn FnOnce() + Send>;
type Script = Box<dyn FnMut(&Seen) -> Fate + Send>;

/// A request that has come to a proxy.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Counts up from 1 over all proxies of a [`Chaos`], since its last [`Chaos::script`].
    pub number: u64,
    /// The name of the proxy.
    pub proxy: &'static str,
    /// Method, address and headers.
    pub head: Parts,
}

impl Seen {
    /// The query of its address, or nothing.
    pub fn query(&self) -> &str {
        self.head.uri.query().unwrap_or_default()
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, proxy) = (self.number, self.proxy);
        write!(f, "{number}: {proxy} {} {}", self.head.method, self.head.uri)
    }
}

/// What becomes of a request.
pub enum Fate {
    /// It goes through.
    Pass,
    /// It is not done, and this is answered.
    Answer(Refusal),
    /// It is not done, and never answered.
    Stall,
    /// It is not done, and the connection is closed after so many bytes of its body.
    CutRequest(usize),
    /// It is done, and the connection is closed in place of the answer.
    LoseAnswer,
    /// It is done, and this is answered all the same.
    AnswerAfterwards(Refusal),
    /// It is done, and never answered.
    StallAfterwards,
    /// It is done, and the answer breaks off after so many bytes of its body.
    CutAnswer(usize),
    /// It is done, and the answer stops after so many bytes of its body, on an open connection.
    StallAnswer(usize),
    /// It is done, and its answer has the body that the test makes of it.
    ChangeAnswer(Change),
    /// It is done as the test changes it.
    Alter(Alteration),
    /// It is done as the test changes it, and the connection is closed in place of the answer.
    AlterAndLose(Alteration),
    /// It is done, and the test's code runs before the client sees the answer.
    Hold(Hook),
    /// It is not done: the test's code runs, and then the connection is closed.
    RunBefore(Hook),
    /// It is done, the test's code runs before the client sees any of the answer, and then the connection is closed.
    RunAfter(Hook),
}

/// An error in the words of S3; a git client looks at no more than its status.
#[derive(Debug, Clone, Copy)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// The code that S3 has for it.
    pub code: &'static str,
    /// The value of `Retry-After`.
    pub retry_after_secs: Option<u32>,
}

impl Refusal {
    /// This status and code.
    pub const fn new(status: StatusCode, code: &'static str) -> Self {
        Self {
            status,
            code,
            retry_after_secs: None,
        }
    }

    /// 500, as S3 says it.
    pub const fn internal_error() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError")
    }

    /// 503 with `Retry-After`, as S3 says it to one who asks too often.
    pub const fn slow_down() -> Self {
        Self {
            retry_after_secs: Some(1),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "SlowDown")
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = self.code;
        let body = format!("<Error><Code>{code}</Code><Message>on purpose</Message></Error>");
        let mut response = (self.status, body).into_response();
        if let Some(seconds) = self.retry_after_secs {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// Decides over the requests of its proxies.
#[derive(Clone)]
pub struct Chaos(Arc<Mutex<Plan>>);

struct Plan {
    script: Script,
    seen: Vec<Seen>,
}

impl Chaos {
    /// Lets everything through until there is a script.
    pub fn new() -> Self {
        Self::by(|_| Fate::Pass)
    }

    /// Decides by this script.
    pub fn by(script: impl FnMut(&Seen) -> Fate + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Plan {
            script: Box::new(script),
            seen: Vec::new(),
        })))
    }

    /// Forgets what was seen, counts from 1 again, and decides by this script from now on.
    pub fn script(&self, script: impl FnMut(&Seen) -> Fate + Send + 'static) {
        let mut plan = self.plan();
        plan.script = Box::new(script);
        plan.seen.clear();
    }

    /// [`Chaos::script`] with one fate for the request of this number, and [`Fate::Pass`] for all others.
    pub fn at(&self, number: u64, fate: Fate) {
        let mut fate = Some(fate);
        self.script(move |seen| match seen.number == number {
            true => fate.take().unwrap_or(Fate::Pass),
            false => Fate::Pass,
        });
    }

    /// Lets everything through from now on, and counts from 1 again.
    pub fn behave(&self) {
        self.script(|_| Fate::Pass);
    }

    /// The requests since the last [`Chaos::script`].
    pub fn seen(&self) -> Vec<Seen> {
        self.plan().seen.clone()
    }

    /// How many requests came since the last [`Chaos::script`].
    pub fn requests(&self) -> u64 {
        self.plan().seen.len() as u64
    }

    /// A proxy before the server at `upstream` (`http://host:port`), under a name that tells it from the others.
    pub fn proxy(&self, name: &'static str, upstream: &str) -> ChaosProxy {
        ChaosProxy(TestServer::http(self.router(name, upstream)))
    }

    /// The same over TLS, by a certificate of this authority.
    pub fn tls_proxy(&self, name: &'static str, upstream: &str, ca: &TestCa) -> ChaosProxy {
        ChaosProxy(TestServer::https(self.router(name, upstream), ca.server_config()))
    }

    fn router(&self, name: &'static str, upstream: &str) -> Router {
        let lane = Lane {
            chaos: self.clone(),
            name,
            upstream: forward::Upstream::new(upstream),
        };
        Router::new().fallback(handle).with_state(Arc::new(lane))
    }

    fn judge(&self, proxy: &'static str, head: Parts) -> Fate {
        let mut plan = self.plan();
        let number = plan.seen.len() as u64 + 1;
        let seen = Seen { number, proxy, head };
        let fate = (plan.script)(&seen);
        plan.seen.push(seen);
        fate
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Chaos {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chaos")
            .field("requests", &self.requests())
            .finish_non_exhaustive()
    }
}

/// A running proxy; it ends with all its connections when it is dropped.
#[derive(Debug)]
pub struct ChaosProxy(TestServer);

impl ChaosProxy {
    /// `http://127.0.0.1:PORT`, or `https://localhost:PORT`.
    pub fn origin(&self) -> String {
        self.0.origin()
    }
}

struct Lane {
    chaos: Chaos,
    name: &'static str,
    upstream: forward::Upstream,
}

async fn handle(State(lane): State<Arc<Lane>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let fate = lane.chaos.judge(lane.name, head.clone());
    match fate {
        Fate::Stall => std::future::pending().await,
        Fate::CutRequest(bytes) => {
            forward::read_up_to(body, bytes).await;
            cut()
        }
        Fate::RunBefore(hook) => {
            hook();
            cut()
        }
        fate => match forward::whole(body).await {
            Some(body) => answered(&lane, Request::from_parts(head, body), fate).await,
            // The client broke off in the middle of its request.
            None => cut(),
        },
    }
}

/// The answer to a request that has come whole.
async fn answered(lane: &Lane, mut request: Request<Bytes>, fate: Fate) -> Response {
    match fate {
        Fate::Answer(refusal) => refusal.into_response(),
        Fate::Alter(alter) => {
            alter(&mut request);
            lane.upstream.forward(request).await
        }
        Fate::AlterAndLose(alter) => {
            alter(&mut request);
            lane.upstream.forward(request).await;
            cut()
        }
        fate => afterwards(lane.upstream.forward(request).await, fate).await,
    }
}

/// What becomes of the answer of a request that was done.
async fn afterwards(answer: Response, fate: Fate) -> Response {
    match fate {
        Fate::LoseAnswer => cut(),
        Fate::AnswerAfterwards(refusal) => refusal.into_response(),
        Fate::StallAfterwards => std::future::pending().await,
        Fate::CutAnswer(bytes) => forward::cut_after(answer, bytes),
        Fate::ChangeAnswer(change) => forward::changed(answer, change).await,
        Fate::StallAnswer(bytes) => forward::stall_after(answer, bytes),
        Fate::Hold(hook) => {
            hook();
            answer
        }
        Fate::RunAfter(hook) => {
            hook();
            cut()
        }
        _ => answer,
    }
}
