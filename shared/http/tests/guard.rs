//! The guarded client against real servers on loopback: who may be reached, what a redirect may do, how long a wait lasts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod guard {
    pub(crate) mod server;
}

use std::time::Duration;

use bytes::Bytes;
use guard::server::{Server, silent, speaking};
use mayfly_http::{
    GuardedClient, HeaderValue, HostRefusal, HttpError, HttpPolicy, Method, Request, StatusCode, Url, header,
};
use mayfly_protocol::ErrorCode;
use tokio_util::sync::CancellationToken;

const CANARY: &str = "Bearer canary-7f3a";

fn private_policy() -> HttpPolicy {
    HttpPolicy {
        allow_private: true,
        connect_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(5),
        ..HttpPolicy::default()
    }
}

fn client(policy: HttpPolicy) -> GuardedClient {
    GuardedClient::new(policy).unwrap()
}

async fn get(policy: HttpPolicy, url: &str) -> Result<mayfly_http::Response, HttpError> {
    let request =
        Request::get(url.parse().unwrap()).header(header::AUTHORIZATION, HeaderValue::from_static(CANARY));
    client(policy).send(request, &CancellationToken::new()).await
}

async fn refusal(policy: HttpPolicy, url: &str) -> HttpError {
    let error = get(policy, url).await.expect_err(url);
    let text = format!("{error} {error:?}");
    assert!(!text.contains("canary"), "{text}");
    error
}

#[tokio::test]
async fn private_addresses_are_refused_in_every_spelling() {
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "127.0.0.1.",
        "0",
        "0.0.0.0",
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "0251.0376.0251.0376",
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "100.64.0.1",
        "１２７.0.0.1",
        "127。0。0。1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:a9fe:a9fe]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "localhost",
        "LOCALHOST",
    ] {
        let url = format!("https://{host}:1/r?token=canary");
        let error = refusal(HttpPolicy::default(), &url).await;
        let why = HostRefusal::PrivateAddress;
        assert!(
            matches!(&error, HttpError::HostRefused { why: w, .. } if *w == why),
            "{host}: {error:?}"
        );
        assert_eq!(error.code(), ErrorCode::HostRefused);
    }
}

#[tokio::test]
async fn a_public_host_is_not_spoken_to_in_clear() {
    let error = refusal(HttpPolicy::default(), "http://host.example/r").await;
    assert!(
        matches!(
            error,
            HttpError::HostRefused {
                why: HostRefusal::NotEncrypted,
                ..
            }
        ),
        "{error:?}"
    );
    let error = refusal(private_policy(), "ftp://host.example/r").await;
    assert!(
        matches!(
            error,
            HttpError::HostRefused {
                why: HostRefusal::Scheme,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn hosts_that_are_not_listed_are_refused() {
    let server = Server::start().await;
    let policy = |pattern: &str| HttpPolicy {
        allowed_hosts: vec![pattern.parse().unwrap()],
        ..private_policy()
    };
    let allowed = format!("127.0.0.1:{}", server.port());
    assert!(get(policy(&allowed), &server.url("/ok")).await.is_ok());
    let error = refusal(policy("github.com"), &server.url("/ok")).await;
    assert!(
        matches!(
            error,
            HttpError::HostRefused {
                why: HostRefusal::NotAllowed,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_redirect_to_another_origin_never_sees_the_token() {
    let (here, there) = (Server::start().await, Server::start().await);
    let other_name = there.url("/ok").replace("127.0.0.1", "localhost");
    for target in [there.url("/ok"), other_name, "https://127.0.0.1:1/ok".to_owned()] {
        for status in [301, 302, 303, 307, 308] {
            let url = format!("{}?status={status}&to={target}", here.url("/redirect"));
            let error = refusal(private_policy(), &url).await;
            assert_eq!(error.code(), ErrorCode::RedirectRefused);
            let origin = target.parse::<Url>().unwrap().origin().ascii_serialization();
            assert!(error.to_string().contains(&origin), "{error}");
        }
    }
    assert!(there.seen().is_empty());
}

#[tokio::test]
async fn three_redirects_within_the_origin_are_followed() {
    let server = Server::start().await;
    let response = get(private_policy(), &server.url("/hop/3")).await.unwrap();
    assert_eq!(response.status, StatusCode::OK);
    assert_eq!(response.url.path(), "/hop/0");
    for head in server.seen() {
        assert_eq!(head.headers[header::AUTHORIZATION], CANARY);
        for absent in [header::REFERER, header::ACCEPT_ENCODING, header::COOKIE] {
            assert!(!head.headers.contains_key(&absent), "{absent}");
        }
    }
    let error = refusal(private_policy(), &server.url("/hop/4")).await;
    assert_eq!(error.code(), ErrorCode::RedirectRefused);
}

#[tokio::test]
async fn a_request_with_a_body_follows_no_redirect() {
    let server = Server::start().await;
    let request = Request::post(server.url("/hop/1").parse().unwrap()).body(Bytes::from_static(b"x"));
    let error = client(private_policy())
        .send(request, &CancellationToken::new())
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::RedirectRefused);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn bodies_arrive_whole_in_both_directions() {
    let server = Server::start().await;
    let body: Vec<Bytes> = vec![Bytes::from(vec![1; 100_000]), Bytes::from_static(b"end")];
    let request = Request::new(Method::POST, server.url("/echo").parse().unwrap())
        .body(mayfly_http::Body::from_iter(body.clone()));
    let response = client(private_policy())
        .send(request, &CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(response.bytes(100_003).await.unwrap(), body.concat());
    assert_eq!(server.seen()[0].headers[header::CONTENT_LENGTH], "100003");
    let again = get(private_policy(), &server.url("/zeros/100")).await.unwrap();
    assert!(matches!(
        again.bytes(99).await,
        Err(HttpError::TooLarge { max: 99, .. })
    ));
}

#[tokio::test]
async fn a_host_that_accepts_and_says_nothing_times_out() {
    let address = silent().await;
    let policy = HttpPolicy {
        idle_timeout: Duration::from_millis(150),
        ..private_policy()
    };
    let error = refusal(policy.clone(), &format!("http://{address}/")).await;
    assert_eq!(error.code(), ErrorCode::RemoteTimeout);
    let stalled = Request::post(format!("http://{address}/").parse().unwrap()).body(vec![0; 64 << 20]);
    let error = client(policy.clone())
        .send(stalled, &CancellationToken::new())
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::RemoteTimeout);
    let tls = HttpPolicy {
        connect_timeout: Duration::from_millis(150),
        ..private_policy()
    };
    let error = refusal(tls, &format!("https://{address}/")).await;
    assert_eq!(error.code(), ErrorCode::RemoteTimeout);
}

#[tokio::test]
async fn a_body_that_stops_times_out_and_one_that_is_cut_breaks() {
    let server = Server::start().await;
    let policy = HttpPolicy {
        idle_timeout: Duration::from_millis(150),
        ..private_policy()
    };
    let mut response = get(policy, &server.url("/stall")).await.unwrap();
    assert!(response.chunk().await.unwrap().is_some());
    assert!(matches!(response.chunk().await, Err(HttpError::Timeout { .. })));

    let address = speaking(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
    let cut = get(private_policy(), &format!("http://{address}/"))
        .await
        .unwrap();
    let error = cut.bytes(100).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RemoteUnreachable, "{error:?}");

    for (answer, code) in [
        (&b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..], ErrorCode::RemoteProtocol),
        (b"", ErrorCode::RemoteUnreachable),
    ] {
        let address = speaking(answer).await;
        let error = refusal(private_policy(), &format!("http://{address}/")).await;
        assert_eq!(error.code(), code, "{error:?}");
    }
}

#[tokio::test]
async fn cancel_ends_a_wait_for_the_head_and_for_the_body() {
    let (server, address) = (Server::start().await, silent().await);
    let cancel = CancellationToken::new();
    let client = client(private_policy());
    let waiting = client.send(
        Request::get(format!("http://{address}/").parse().unwrap()),
        &cancel,
    );
    let (result, ()) = tokio::join!(waiting, async { cancel.cancel() });
    assert!(matches!(result, Err(HttpError::Cancelled)));

    let cancel = CancellationToken::new();
    let request = Request::get(server.url("/stall").parse().unwrap());
    let mut response = client.send(request, &cancel).await.unwrap();
    assert!(response.chunk().await.unwrap().is_some());
    let (result, ()) = tokio::join!(response.chunk(), async { cancel.cancel() });
    assert!(matches!(result, Err(HttpError::Cancelled)));
}

#[tokio::test]
async fn hosts_that_are_not_there_are_told_apart() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let error = refusal(private_policy(), &format!("http://{address}/")).await;
    assert_eq!(error.code(), ErrorCode::RemoteUnreachable);
    let error = refusal(private_policy(), "http://no-such-host.invalid/").await;
    assert_eq!(error.code(), ErrorCode::HostUnknown, "{error:?}");
}

#[tokio::test]
async fn certificates_are_verified() {
    let authority = guard::server::Authority::new();
    let trusting = HttpPolicy {
        extra_ca_pem: Some(authority.pem()),
        ..private_policy()
    };
    let server = Server::start_tls(&authority, "localhost").await;
    let response = get(trusting.clone(), &server.url("/ok")).await.unwrap();
    assert_eq!(response.bytes(10).await.unwrap(), "ok");

    let error = refusal(private_policy(), &server.url("/ok")).await;
    assert!(error.to_string().contains("unknown authority"), "{error}");
    assert_eq!(error.code(), ErrorCode::TlsFailed);
    let other = Server::start_tls(&authority, "other.example").await;
    let error = refusal(trusting, &other.url("/ok")).await;
    assert!(error.to_string().contains("another name"), "{error}");
}
