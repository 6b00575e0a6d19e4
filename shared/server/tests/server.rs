//! The server over real sockets: bad senders, bad readers, and TLS with a certificate that changes.

#![expect(clippy::unwrap_used, reason = "a test panics where its preparation fails")]

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Extension;
use axum::routing::{get, post};
use bytes::Bytes;
use futures::stream;
use mayfly_server::{ConnectionLimits, Delivered, Server, Tls, TlsFiles};
use mayfly_telemetry::task;
use mayfly_testkit::https::TestCa;
use mayfly_testkit::wait::within;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const CHUNK_BYTES: usize = 16 * 1024;
const GOOD: &str = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

fn limits() -> ConnectionLimits {
    ConnectionLimits {
        connections: 4,
        header_timeout: Duration::from_secs(1),
        write_timeout: Duration::from_millis(300),
        buffer_bytes: 16 * 1024,
        accept_pause: Duration::from_millis(10),
        linger: Duration::from_millis(300),
        close_grace: Duration::from_secs(1),
    }
}

/// What the route without an end saw of its reader.
#[derive(Clone, Default)]
struct Flood {
    chunks: Arc<AtomicUsize>,
    ended: CancellationToken,
}

fn app(flood: &Flood) -> Router {
    let without_end = |Extension(flood): Extension<Flood>, Extension(delivered): Extension<Delivered>| async move {
        let ended = flood.ended.clone();
        task::spawn(&TaskTracker::new(), async move {
            delivered.token().cancelled().await;
            ended.cancel();
        });
        let chunks = stream::repeat_with(move || {
            flood.chunks.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(Bytes::from(vec![b'x'; CHUNK_BYTES]))
        });
        Body::from_stream(chunks)
    };
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route(
            "/length",
            post(|body: Bytes| async move { body.len().to_string() }),
        )
        .route("/flood", get(without_end))
        .layer(Extension(flood.clone()))
}

async fn serve(flood: &Flood, tls: Option<Tls>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::new(limits(), app(flood), tls);
    task::spawn(&TaskTracker::new(), async move { server.accept(&listener).await });
    address
}

/// A server that accepts until it is told to end; then it ends, and waits for its clients as long as the test does.
fn serve_until(ending: &CancellationToken, listener: TcpListener, tls: Option<Tls>) -> JoinHandle<()> {
    let patience = Duration::from_secs(600);
    let patient = ConnectionLimits {
        header_timeout: patience,
        linger: patience,
        close_grace: patience,
        ..limits()
    };
    let server = Server::new(patient, app(&Flood::default()), tls);
    let ending = ending.clone();
    task::spawn(&TaskTracker::new(), async move {
        let _ended = ending.run_until_cancelled(server.accept(&listener)).await;
        server.close(listener).await;
    })
}

/// Sends these bytes, and reads to the end of the connection.
async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    // The server may answer and close before it has read everything.
    let _cut_short = socket.write_all(bytes).await;
    rest_of(&mut socket).await
}

async fn rest_of(socket: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    let _reset = within("the end of the connection", socket.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads until this has come.
async fn read_until(socket: &mut (impl AsyncRead + Unpin), text: &str) {
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains(text) {
        let read = within("the answer", socket.read_buf(&mut answer)).await.unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&answer));
    }
}

async fn is_well(address: SocketAddr) {
    let answer = raw(address, GOOD.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hello"),
        "{answer}"
    );
}

#[tokio::test]
async fn heads_that_are_slow_too_long_too_many_or_rubbish_end_their_connection_alone() {
    let address = serve(&Flood::default(), None).await;
    let long_name = format!("GET / HTTP/1.1\r\n{}: x\r\n\r\n", "a".repeat(100_000));
    let long_value = format!("GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "a".repeat(100_000));
    let long_path = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(2000));
    for (bytes, status) in [
        ("", ""),
        ("GET / HT", ""),
        ("GET / HTTP/1.1\r\nhost: x\r\nslow", ""),
        (&long_name, "HTTP/1.1 431 "),
        (&long_value, "HTTP/1.1 431 "),
        (&long_path, "HTTP/1.1 4"),
        (&many, "HTTP/1.1 431 "),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", "HTTP/1.1 400 "),
        ("GET / HTTP/1.1\r\nhost: x\r\na: b\rc\r\n\r\n", "HTTP/1.1 400 "),
    ] {
        let answer = raw(address, bytes.as_bytes()).await;
        let shown: String = bytes.chars().take(40).collect();
        match status {
            "" => assert_eq!(answer, "", "{shown}"),
            _ => assert!(answer.starts_with(status), "{shown}: {answer}"),
        }
        assert!(!answer.contains("hello"), "{shown}: {answer}");
    }
    is_well(address).await;
}

#[tokio::test]
async fn rubbish_behind_a_good_request_is_refused_and_the_good_one_answered() {
    let address = serve(&Flood::default(), None).await;
    let answer = raw(
        address,
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n\x00\xff nonsense\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(answer.matches("hello").count(), 1, "{answer}");
    assert!(!answer[20..].contains("HTTP/1.1 200 "), "{answer}");
    // Two good ones in one go are two requests, in their order.
    let both = format!("POST /length HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc{GOOD}");
    let answer = raw(address, both.as_bytes()).await;
    let (first, second) = (answer.find("\r\n\r\n3").unwrap(), answer.find("hello").unwrap());
    assert!(first < second, "{answer}");
    is_well(address).await;
}

#[tokio::test]
async fn a_half_closed_connection_gives_its_place_back() {
    let address = serve(&Flood::default(), None).await;
    // More than there are places: each must be given back.
    for bytes in [
        "",
        "GET / HT",
        "POST /length HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc",
        GOOD,
    ]
    .repeat(3)
    {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(bytes.as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
        let answer = rest_of(&mut socket).await;
        assert!(
            !answer.contains("HTTP/1.1 200 ") || bytes == GOOD,
            "{bytes}: {answer}"
        );
    }
    is_well(address).await;
}

#[tokio::test]
async fn a_reader_that_never_reads_costs_little_is_given_up_and_harms_nobody() {
    let flood = Flood::default();
    let address = serve(&flood, None).await;
    let mut stalled = TcpStream::connect(address).await.unwrap();
    stalled
        .write_all(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    is_well(address).await;
    within("the end of the stalled answer", flood.ended.cancelled()).await;
    // What the kernel took is not the server's: that is a few megabytes on both sides together.
    let produced = flood.chunks.load(Ordering::Relaxed) * CHUNK_BYTES;
    assert!(
        produced < 32 * 1024 * 1024,
        "{produced} bytes were made for a reader that reads none"
    );
    drop(stalled);
}

/// The answer to a request that nobody has read.
fn assert_unread(answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\"code\":\"shutting_down\""), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains(&format!("content-length: {}", body.len())),
        "{answer}"
    );
}

#[tokio::test]
async fn a_server_that_ends_says_so_on_connections_on_which_it_has_read_nothing() {
    let (listener, ending) = (
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        CancellationToken::new(),
    );
    let address = listener.local_addr().unwrap();
    let served = serve_until(&ending, listener, None);
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut kept = TcpStream::connect(address).await.unwrap();
    write(&mut kept, "GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut kept, "hello").await;
    // Its body is on its way when the server ends, and its answer comes after that.
    let mut halfway = TcpStream::connect(address).await.unwrap();
    let half =
        "GET / HTTP/1.1\r\nhost: x\r\n\r\nPOST /length HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab";
    write(&mut halfway, half).await.unwrap();
    read_until(&mut halfway, "hello").await;
    ending.cancel();
    // A request that crosses with the answer is not read.
    let _crosses = write(&mut silent, GOOD).await;
    assert_unread(&rest_of(&mut silent).await);
    assert_unread(&rest_of(&mut kept).await);
    write(&mut halfway, "cd").await.unwrap();
    let answer = rest_of(&mut halfway).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n4"),
        "{answer}"
    );
    drop((silent, kept, halfway));
    within("the server's end", served).await.unwrap();
}

#[tokio::test]
async fn connections_that_nobody_has_accepted_yet_are_answered_when_the_server_ends() {
    let (ca, folder) = (TestCa::new(), tempfile::tempdir().unwrap());
    let (certificate, key) = ca.write_server_pem(folder.path());
    let tls = load(&TlsFiles { certificate, key }).await;
    for tls in [None, Some(tls)] {
        let (listener, ending) = (
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            CancellationToken::new(),
        );
        let address = listener.local_addr().unwrap();
        // All are in the kernel's hands before the server looks, and one has sent its request.
        let silent = TcpStream::connect(address).await.unwrap();
        let mut asking = TcpStream::connect(address).await.unwrap();
        let is_plain = tls.is_none();
        if is_plain {
            write(&mut asking, GOOD).await.unwrap();
        }
        ending.cancel();
        let served = serve_until(&ending, listener, tls);
        let (mut silent, mut asking) = match is_plain {
            true => (Either::Left(silent), Either::Left(asking)),
            false => {
                let name = ServerName::try_from("localhost").unwrap();
                let silent = trusting(&ca).connect(name.clone(), silent).await.unwrap();
                let asking = trusting(&ca).connect(name, asking).await.unwrap();
                (Either::Right(silent), Either::Right(asking))
            }
        };
        assert_unread(&rest_of(&mut silent).await);
        // Whether it is read any more is the server's choice, which it tells.
        let answer = rest_of(&mut asking).await;
        match is_plain && answer.ends_with("hello") {
            true => assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}"),
            false => assert_unread(&answer),
        }
        drop((silent, asking));
        within("the server's end", served).await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}

fn trusting(ca: &TestCa) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// One request over TLS: the server's certificate, and the answer.
async fn ask_over_tls(address: SocketAddr, ca: &TestCa) -> io::Result<(Vec<u8>, String)> {
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut socket = trusting(ca).connect(name, socket).await?;
    let certificates = socket.get_ref().1.peer_certificates().unwrap();
    let certificate = certificates[0].as_ref().to_vec();
    write(&mut socket, GOOD).await?;
    Ok((certificate, rest_of(&mut socket).await))
}

async fn write(socket: &mut (impl AsyncWrite + Unpin), text: &str) -> io::Result<()> {
    socket.write_all(text.as_bytes()).await?;
    socket.flush().await
}

async fn load(files: &TlsFiles) -> Tls {
    Tls::load(files.clone(), Duration::from_millis(20)).await.unwrap()
}

#[tokio::test]
async fn tls_is_spoken_and_a_new_certificate_is_taken_while_it_runs() {
    let (ca, folder) = (TestCa::new(), tempfile::tempdir().unwrap());
    let (certificate, key) = ca.write_server_pem(folder.path());
    let files = TlsFiles { certificate, key };
    let address = serve(&Flood::default(), Some(load(&files).await)).await;
    let (first, answer) = ask_over_tls(address, &ca).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hello"),
        "{answer}"
    );

    // Who trusts another authority, speaks no TLS, or says nothing, is not served, and harms nobody.
    assert!(ask_over_tls(address, &TestCa::new()).await.is_err());
    assert!(!raw(address, GOOD.as_bytes()).await.contains("hello"));
    assert_eq!(raw(address, b"").await, "");

    ca.write_server_pem(folder.path());
    let renewed = async {
        loop {
            let (now, answer) = ask_over_tls(address, &ca).await.unwrap();
            assert!(answer.ends_with("hello"), "{answer}");
            if now != first {
                return;
            }
        }
    };
    within("the new certificate", renewed).await;
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let (ca, folder) = (TestCa::new(), tempfile::tempdir().unwrap());
    let (certificate, key) = ca.write_server_pem(folder.path());
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    let other = tempfile::tempdir().unwrap();
    let (_, foreign) = ca.write_server_pem(other.path());
    for (certificate, key, text) in [
        (folder.path().join("absent"), key.clone(), "cannot be read"),
        (empty.clone(), key.clone(), "no certificate"),
        (certificate.clone(), empty, "no private key"),
        (certificate, foreign, "cannot be used together"),
    ] {
        let refused = Tls::load(TlsFiles { certificate, key }, Duration::from_secs(1)).await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}
