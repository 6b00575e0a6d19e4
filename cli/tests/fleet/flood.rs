//! A worker that sends far more than anybody wants: its job is followed to its end, and what the gateway keeps of it has a bound.

use std::net::SocketAddr;

use mayfly_telemetry::task;
use mayfly_testkit::sse::{Stream, completed};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use super::rig::{Rig, get_json, post};

/// Events of the worker, and the bytes of the message of each.
const EVENTS: usize = 1024;
const MESSAGE_BYTES: usize = 128 * 1024;
/// By how much the gateway's memory may grow: far more than the log of a job, and far less than what the worker sends.
const MOST_GROWTH_KIB: u64 = 32 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_sends_without_measure_costs_the_gateway_a_measure() {
    let rig = Rig::new();
    let worker = flooding_worker().await;
    let launch = rig
        .launch(&["gateway", "--port", "0"])
        .env("GIT_WORKERS", format!("http://{worker}"));
    let (gateway, base) = super::restart::start_gateway(launch).await;
    let before = peak_kib(gateway.id());
    let body = json!({"sessionId": "s", "userRequest": "x"});
    let response = post(&base, "/create-branch", &body).await;
    assert_eq!(response.status(), 200);
    let events = Stream::of(response).rest().await;
    assert_eq!(*completed(&events), json!({"sent": EVENTS}));
    let grown = peak_kib(gateway.id()) - before;
    assert!(
        grown < MOST_GROWTH_KIB,
        "{grown} KiB, {before} KiB at the beginning"
    );
    let jobs = get_json(&base, "/jobs").await;
    let (kept, dropped) = (&jobs["jobs"][0]["events"], &jobs["jobs"][0]["eventsDropped"]);
    let number = |value: &serde_json::Value| value.as_u64().unwrap() as usize;
    assert_eq!(number(kept), events.len());
    // Beside the worker's progress there are kept: that the job waits, that it was sent, and its end.
    assert_eq!(number(kept) - 3 + number(dropped), EVENTS - 1);
}

/// The largest resident memory that the process has had (proc_pid_status(5)).
fn peak_kib(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

async fn flooding_worker() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    task::spawn(&TaskTracker::new(), async move {
        while let Ok((socket, _)) = listener.accept().await {
            task::spawn(&TaskTracker::new(), answer(socket));
        }
    });
    address
}

/// Says that it is idle; does a job by sending.
async fn answer(socket: TcpStream) {
    let mut socket = BufReader::new(socket);
    let (mut head, mut line) = (String::new(), String::new());
    while socket.read_line(&mut line).await.unwrap() > 2 {
        head.push_str(&std::mem::take(&mut line));
    }
    let header = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(": "))
            .find_map(|(found, value)| found.eq_ignore_ascii_case(name).then(|| value.to_owned()))
    };
    let length = header("content-length").map_or(0, |length| length.parse().unwrap());
    socket.read_exact(&mut vec![0; length]).await.unwrap();
    let Some(job) = header("x-job-id") else {
        let idle = r#"{"state":"idle"}"#;
        let text = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{idle}",
            idle.len()
        );
        return socket.write_all(text.as_bytes()).await.unwrap();
    };
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let event = |id: usize, rest: serde_json::Value| {
        let mut event =
            json!({"source": "git-worker", "timestamp": "2026-01-02T03:04:05.678Z", "jobId": job});
        event
            .as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        format!("id: {id}\ndata: {event}\n\n")
    };
    let message = "m".repeat(MESSAGE_BYTES);
    for id in 1..EVENTS {
        let progress = json!({"type": "progress", "stage": "cloning", "message": message});
        socket.write_all(event(id, progress).as_bytes()).await.unwrap();
    }
    let end = json!({"type": "completed", "data": {"sent": EVENTS}});
    socket.write_all(event(EVENTS, end).as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
}
