//! Serves a router on loopback from threads of its own, so that a test may block or pause its clock.
//!
//! An answer can say that the connection is to be cut instead ([`cut`]). It must not know git.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdTcpListener};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use mayfly_telemetry::task;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// Marks an answer in whose place the connection is closed.
#[derive(Debug, Clone, Copy)]
struct CutConnection;

/// The answer that closes the connection without a word.
pub fn cut() -> Response {
    let mut response = Response::default();
    response.extensions_mut().insert(CutConnection);
    response
}

/// A running server; it ends at once, with all its connections, when it is dropped.
#[derive(Debug)]
pub struct TestServer {
    addr: SocketAddr,
    scheme: &'static str,
    runtime: Option<Runtime>,
}

impl TestServer {
    /// Serves over plain HTTP, 1.1 and 2.
    pub fn http(router: Router) -> Self {
        Self::start(router, None)
    }

    /// Serves over TLS; see [`crate::https::TestCa::server_config`].
    pub fn https(router: Router, config: Arc<rustls::ServerConfig>) -> Self {
        Self::start(router, Some(TlsAcceptor::from(config)))
    }

    fn start(router: Router, tls: Option<TlsAcceptor>) -> Self {
        let listener = StdTcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on loopback");
        listener
            .set_nonblocking(true)
            .expect("a listener can be non-blocking");
        let addr = listener.local_addr().expect("a bound listener has an address");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("test-server")
            .enable_all()
            .build()
            .expect("a runtime can be built");
        let tasks = TaskTracker::new();
        let _inside = runtime.enter();
        let listener = TcpListener::from_std(listener).expect("the runtime takes the listener");
        task::spawn(&tasks.clone(), accept(listener, router, tls, tasks));
        Self {
            addr,
            scheme,
            runtime: Some(runtime),
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT`, or `https://localhost:PORT`.
    pub fn origin(&self) -> String {
        match self.scheme {
            "https" => format!("https://localhost:{}", self.addr.port()),
            scheme => format!("{scheme}://{}", self.addr),
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, router: Router, tls: Option<TlsAcceptor>, tasks: TaskTracker) {
    while let Ok((stream, _peer)) = listener.accept().await {
        task::spawn(&tasks, connection(stream, router.clone(), tls.clone()));
    }
}

async fn connection(stream: TcpStream, router: Router, tls: Option<TlsAcceptor>) {
    match tls {
        None => serve(stream, router).await,
        Some(tls) => {
            // A client that does not trust the certificate is not the server's failure.
            if let Ok(stream) = tls.accept(stream).await {
                serve(stream, router).await;
            }
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let service = hyper::service::service_fn(move |request| answer(router.clone(), request));
    let builder = auto::Builder::new(TokioExecutor::new());
    // The error is that the client went away, or the cut that was asked for.
    let _ended = builder.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(router: Router, request: Request<Incoming>) -> io::Result<Response> {
    let Ok(response) = router.oneshot(request.map(Body::new)).await;
    match response.extensions().get::<CutConnection>() {
        None => Ok(response),
        Some(CutConnection) => Err(io::Error::other("the connection is to be cut")),
    }
}
