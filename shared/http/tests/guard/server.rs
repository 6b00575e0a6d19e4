//! Servers on loopback: one that answers as it is asked to, one that says nothing, one that says a fixed text.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, get};
use mayfly_telemetry::task;
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

/// The head of a request that a server got.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) headers: HeaderMap,
}

type Log = Arc<Mutex<Vec<Seen>>>;

pub(crate) struct Server {
    base: String,
    address: SocketAddr,
    log: Log,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let log = Log::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = router(log.clone());
        task::spawn(&TaskTracker::new(), async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self {
            base: format!("http://{address}"),
            address,
            log,
        }
    }

    /// Serves HTTPS as `localhost`, with a certificate for `name`.
    pub(crate) async fn start_tls(authority: &Authority, name: &str) -> Self {
        let plain = Self::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = authority.acceptor(name);
        let behind = plain.address;
        task::spawn(&TaskTracker::new(), async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that does not like the certificate ends the handshake.
                let Ok(mut outer) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut inner = tokio::net::TcpStream::connect(behind).await.unwrap();
                let _ended = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
            }
        });
        Self {
            base: format!("https://localhost:{}", address.port()),
            address,
            log: plain.log,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }
}

fn router(log: Log) -> Router {
    Router::new()
        .route("/ok", get(async || "ok"))
        .route("/echo", any(async |request: Request| request.into_body()))
        .route(
            "/zeros/{count}",
            get(async |Path(count): Path<usize>| vec![0u8; count]),
        )
        .route("/redirect", any(redirect))
        .route("/hop/{left}", any(hop))
        .route("/stall", get(stall))
        .layer(axum::middleware::from_fn_with_state(log, note))
}

async fn note(State(log): State<Log>, request: Request, next: axum::middleware::Next) -> Response {
    log.lock().unwrap().push(Seen {
        headers: request.headers().clone(),
    });
    next.run(request).await
}

async fn redirect(Query(asked): Query<std::collections::HashMap<String, String>>) -> Response {
    let status = StatusCode::from_bytes(asked["status"].as_bytes()).unwrap();
    (status, [(header::LOCATION, asked["to"].clone())]).into_response()
}

async fn hop(Path(left): Path<u32>) -> Response {
    match left.checked_sub(1) {
        Some(left) => Redirect::temporary(&format!("/hop/{left}")).into_response(),
        None => "arrived".into_response(),
    }
}

async fn stall() -> Body {
    let (mut writer, reader) = tokio::io::duplex(64);
    task::spawn(&TaskTracker::new(), async move {
        writer.write_all(b"first").await.unwrap();
        std::future::pending::<()>().await;
    });
    Body::from_stream(tokio_util::io::ReaderStream::new(reader))
}

/// A host that accepts, and neither reads nor writes.
pub(crate) async fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    task::spawn(&TaskTracker::new(), async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    address
}

/// A host that answers the first request with a fixed text and closes.
pub(crate) async fn speaking(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    task::spawn(&TaskTracker::new(), async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _read = stream.read(&mut request).await.unwrap();
        stream.write_all(answer).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    address
}

/// A certificate authority of the test's own.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}
