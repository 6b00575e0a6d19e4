//! Workers by hand, which answer as they like.

use http::StatusCode;
use mayfly_telemetry::task;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::either::Either;
use tokio_util::task::TaskTracker;

use super::*;

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const SIZED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";

/// What a worker does with its connection.
#[derive(Debug, Clone, Copy)]
enum Reads {
    /// Reads the request, which ends with these bytes.
    To(&'static [u8]),
    /// Nothing, and it stays.
    Nothing,
}

/// A connection to a worker that sends these pieces, and then closes, or stays where it read nothing.
async fn worker(reads: Reads, pieces: Vec<Vec<u8>>) -> Socket {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    task::spawn(&TaskTracker::new(), async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        let mut request = Vec::new();
        if let Reads::To(end) = reads {
            while !request.ends_with(end) {
                assert!(socket.read_buf(&mut request).await.unwrap() > 0);
            }
        }
        for piece in pieces {
            socket.write_all(&piece).await.unwrap();
        }
        if matches!(reads, Reads::Nothing) {
            std::future::pending::<()>().await;
        }
    });
    Either::Left(TcpStream::connect(address).await.unwrap())
}

fn request(body: impl Into<Bytes>) -> Request<Bytes> {
    Request::post("/clone-repository")
        .header("host", "worker")
        .body(body.into())
        .unwrap()
}

/// Status and body, or why there is none, of an answer that comes byte by byte.
async fn answer(text: &str) -> Result<(StatusCode, Option<Vec<u8>>), Outcome> {
    let pieces = text.bytes().map(|byte| vec![byte]).collect();
    let socket = worker(Reads::To(b"the job"), pieces).await;
    let (response, mut body) = send(socket, request("the job")).await?;
    Ok((response.status(), body.whole(100).await))
}

#[tokio::test]
async fn an_answer_is_read_however_it_is_cut() {
    for (text, status, body) in [
        (SIZED.to_owned() + "hello", 200, Some("hello")),
        (SIZED.to_owned() + "hello and more", 200, Some("hello")),
        (
            CHUNKED.to_owned() + "3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
            200,
            Some("hello"),
        ),
        (
            CHUNKED.to_owned() + "5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
            200,
            Some("hello"),
        ),
        ("HTTP/1.1 200 OK\r\n\r\nhello".to_owned(), 200, Some("hello")),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".to_owned() + SIZED + "hello",
            200,
            Some("hello"),
        ),
        (
            "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n".to_owned(),
            429,
            Some(""),
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n".to_owned(),
            302,
            Some(""),
        ),
        // What breaks off, is too long, or is not HTTP.
        (SIZED.to_owned() + "hell", 200, None),
        (CHUNKED.to_owned() + "5\r\nhello\r\n", 200, None),
        (CHUNKED.to_owned() + "5\r\nhello!\r\n", 200, None),
        (CHUNKED.to_owned() + "five\r\nhello\r\n", 200, None),
        (CHUNKED.to_owned() + &"1".repeat(50), 200, None),
        (format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(101)), 200, None),
    ] {
        let expected = (
            StatusCode::from_u16(status).unwrap(),
            body.map(|it| it.as_bytes().to_vec()),
        );
        assert_eq!(answer(&text).await, Ok(expected), "{text}");
    }
}

#[tokio::test]
async fn what_is_no_answer_is_told_apart() {
    let not_a_stream = |text: &str| Err(Outcome::NotAStream(text.to_owned()));
    assert!(matches!(answer("").await, Err(Outcome::NoAnswer(_))));
    assert_eq!(
        answer("HTTP/1.1 200 OK\r\nX-").await,
        not_a_stream("something that breaks off")
    );
    assert_eq!(
        answer("SSH-2.0-OpenSSH\r\n\r\n").await,
        not_a_stream("something that is not HTTP")
    );
}

#[tokio::test]
async fn a_worker_that_never_ends_a_line_is_left() {
    let endless = |before: &str| vec![before.as_bytes().to_vec(), vec![b'x'; 4 * MAX_HEAD]];
    let socket = worker(Reads::Nothing, endless("HTTP/1.1 200 OK\r\nX-Long: ")).await;
    let answered = send(socket, request("the job")).await.err();
    assert_eq!(
        answered,
        Some(Outcome::NotAStream("a head without an end".to_owned()))
    );
    let trailer = CHUNKED.to_owned() + "1\r\nx\r\n0\r\nX-Long: ";
    let socket = worker(Reads::Nothing, endless(&trailer)).await;
    let (_, mut body) = send(socket, request("the job")).await.unwrap();
    assert_eq!(body.whole(100).await, None);
}

#[tokio::test]
async fn an_answer_counts_before_all_is_sent() {
    // More than the buffers of both ends hold.
    let long = Bytes::from(vec![b'x'; 32 << 20]);
    let refusal = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\n{}".to_vec();
    let socket = worker(Reads::Nothing, vec![refusal]).await;
    let (response, mut body) = send(socket, request(long.clone())).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(body.whole(100).await, Some(b"{}".to_vec()));
    let socket = worker(Reads::Nothing, vec![SIZED.as_bytes().to_vec()]).await;
    let answered = send(socket, request(long)).await.err();
    assert_eq!(
        answered,
        Some(Outcome::NotAStream(
            "an answer before it had the whole job".to_owned()
        ))
    );
}

#[test]
fn a_head_that_is_too_long_is_not_sent() {
    let long = |length: usize| {
        let request = Request::post("/").header("x-long", "x".repeat(length));
        written(request.body(Bytes::new()).unwrap()).is_ok()
    };
    assert!(long(10) && long(10_000));
    assert!(!long(MAX_HEAD));
}

#[tokio::test]
async fn a_connection_is_left_for_another_request_where_the_worker_listens_on() {
    let sized = |more: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n{more}\r\nhello");
    for (text, is_left) in [
        (sized(""), true),
        (sized("Connection: close\r\n"), false),
        (sized("") + "HTTP/1.1 200 OK\r\n", false),
        (sized("").replace("1.1", "1.0"), false),
        (CHUNKED.to_owned() + "5\r\nhello\r\n0\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\n\r\nhello".to_owned(), false),
        (
            SIZED.replace("200 OK", "302 Found\r\nLocation: /x") + "hello",
            false,
        ),
    ] {
        let socket = worker(Reads::To(b"the job"), vec![text.clone().into()]).await;
        let (_, mut body) = send(socket, request("the job")).await.unwrap();
        assert_eq!(body.whole(100).await.as_deref(), Some(&b"hello"[..]), "{text}");
        assert_eq!(body.into_line().is_some(), is_left, "{text}");
    }
    let socket = worker(Reads::To(b"the job"), vec![(SIZED.to_owned() + "hel").into()]).await;
    let (_, body) = send(socket, request("the job")).await.unwrap();
    assert!(body.into_line().is_none());
}
