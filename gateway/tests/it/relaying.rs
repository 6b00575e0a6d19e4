//! Streams of bad workers: the client's always ends, once, and in time.

use std::time::Duration;

use mayfly_gateway::GatewayConfig;

use crate::client::job;
use crate::gateway::{TestGateway, config};
use crate::stub_worker::{Act, Part, StubWorker, data};
use crate::until::until;

/// Silence is short, and yet longer than a slow machine's pauses.
async fn impatient(worker: &StubWorker) -> TestGateway {
    TestGateway::start(GatewayConfig {
        silence_timeout: Duration::from_secs(1),
        ..config(&[worker])
    })
    .await
}

fn raw(text: &str) -> Part {
    Part::Raw(text.to_owned())
}

fn event(fields: &str) -> Part {
    Part::Raw(format!("data: {}\n\n", data("JOB", fields)))
}

/// An event whose message goes on, behind a line end, as an event of its own.
const FORGED: &str = "data: {\"jobId\":\"JOB\",\"type\":\"progress\",\"stage\":\"cloning\",\"message\":\"xLINE_ENDdata: {}LINE_END\"}\n\n";

#[tokio::test]
async fn a_stream_ends_once_whatever_the_worker_does() {
    use Part::{Comment, Completed, Failed, Progress};
    let huge = format!("data: {}\n\n", "x".repeat(2 * 1024 * 1024));
    let start = ["queued", "dispatched"];
    for (parts, rest) in [
        (vec![Progress("cloning")], &["cloning", "worker_lost"][..]),
        (vec![], &["worker_lost"]),
        (
            vec![Progress("cloning"), Part::Silence],
            &["cloning", "worker_lost"],
        ),
        (vec![Completed, Completed], &["completed"]),
        (vec![Failed("push_rejected"), Completed], &["push_rejected"]),
        (vec![Completed, Part::Silence], &["completed"]),
        (vec![Completed, Part::Flood], &["completed"]),
        (
            vec![Comment, Progress("cloning"), Comment, Completed],
            &["cloning", "completed"],
        ),
        (
            vec![Progress("cloning"), raw("data: rubbish\n\n"), Completed],
            &["cloning", "worker_protocol"],
        ),
        (vec![raw("no stream at all\n"), Completed], &["completed"]),
        (vec![raw(&huge)], &["worker_protocol"]),
        (vec![raw(&"x".repeat(2 * 1024 * 1024))], &["worker_protocol"]),
        (vec![event(r#""type":"progress""#)], &["worker_protocol"]),
        (
            vec![raw(
                "data: {\"jobId\":\"another\",\"type\":\"completed\",\"data\":{}}\n\n",
            )],
            &["worker_protocol"],
        ),
        // A raw line end forges nothing, whatever stands behind it.
        (
            vec![raw(&FORGED.replace("LINE_END", "\r\r"))],
            &["worker_protocol"],
        ),
        (
            vec![raw(&FORGED.replace("LINE_END", "\r\n\r\n"))],
            &["worker_protocol"],
        ),
        (
            vec![raw(&FORGED.replace("LINE_END", "\\r\\n\\r\\n")), Completed],
            &["cloning", "completed"],
        ),
        (
            vec![
                raw("event: completed\nid: 99\r\n"),
                Progress("cloning"),
                Completed,
            ],
            &["cloning", "completed"],
        ),
        (
            vec![raw(
                "data: {\"jobId\":\"JOB\",\ndata: \"type\":\"completed\",\"data\":{}}\n\n",
            )],
            &["completed"],
        ),
    ] {
        let worker = StubWorker::start(vec![Act::Stream(parts.clone())]).await;
        let gateway = impatient(&worker).await;
        let names = gateway.names_of("s").await;
        let shown = format!("{parts:?}");
        assert_eq!(names, [&start[..], rest].concat(), "{shown:.200}");
        assert_eq!(worker.seen().len(), 1);
    }
}

/// A lost worker is noticed within 5 s.
#[test]
fn silence_is_allowed_for_less_than_a_loss_may_go_unnoticed() {
    assert!(GatewayConfig::default().silence_timeout < Duration::from_secs(5));
}

#[tokio::test]
async fn silence_is_noticed_in_time_and_heartbeats_are_no_silence() {
    let parts = vec![Part::Progress("cloning"), Part::Wait, Part::Silence];
    let worker = StubWorker::start(vec![Act::Stream(parts)]).await;
    let gateway = impatient(&worker).await;
    let mut events = gateway.post(job("s")).await;
    let running = events.until("cloning").await;
    // 2 s by heartbeats alone, of which one comes every 50 ms: far beyond the silence that is allowed.
    until(|| worker.beats() >= 40).await;
    let id = running.json["jobId"].as_str().unwrap().to_owned();
    assert_eq!(gateway.get(&format!("/jobs/{id}")).await.1["state"], "running");
    worker.go_on();
    assert_eq!(events.names().await, ["worker_lost"]);
}

#[tokio::test]
async fn a_log_is_bounded_and_the_end_is_kept() {
    let mut parts = vec![Part::Progress("cloning"); 50];
    parts.push(Part::Completed);
    let worker = StubWorker::start(vec![Act::Stream(parts)]).await;
    let gateway = TestGateway::start(GatewayConfig {
        job_log_max_events: 10,
        ..config(&[&worker])
    })
    .await;
    let events = gateway.post(job("s")).await;
    let id = events.job_id();
    let got = events.rest().await;
    assert_eq!(
        (got.len(), got[10].name().as_str(), got[10].id),
        (11, "completed", 11)
    );
    let view = gateway.get(&format!("/jobs/{id}")).await.1;
    assert_eq!(
        (&view["events"], &view["eventsDropped"]),
        (&11.into(), &42.into())
    );
}

#[tokio::test]
async fn a_job_that_never_ends_is_followed_no_longer_than_a_job_may_take() {
    let worker = StubWorker::start(vec![Act::Stream(vec![Part::Flood])]).await;
    let gateway = TestGateway::start(GatewayConfig {
        job_timeout: Duration::from_millis(300),
        job_log_max_events: 5,
        ..config(&[&worker])
    })
    .await;
    let names = gateway.names_of("s").await;
    assert_eq!(
        (names.len(), names.last().unwrap().as_str()),
        (6, "deadline_exceeded")
    );
}

#[tokio::test]
async fn a_faulty_worker_is_set_aside_and_a_good_one_is_used() {
    let bad = StubWorker::start(vec![Act::Close]).await;
    let good = StubWorker::completing().await;
    let gateway = TestGateway::with(&[&bad, &good]).await;
    let mut lost = 0;
    for session in 0..6 {
        let names = gateway.names_of(&format!("s{session}")).await;
        lost += usize::from(names.last().unwrap() == "worker_lost");
    }
    assert!(
        lost <= 3,
        "{lost} of 6 jobs were lost to a worker that loses every one"
    );
    assert!(good.seen().len() >= 3);
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut_off_and_its_job_goes_on() {
    // More than all buffers between the gateway and its client take together.
    let large = format!(
        r#""type":"progress","stage":"cloning","message":"{}""#,
        "m".repeat(256 * 1024)
    );
    let parts: Vec<_> = (0..60)
        .map(|_| event(&large))
        .chain([Part::Wait, Part::Completed])
        .collect();
    let worker = StubWorker::start(vec![Act::Stream(parts)]).await;
    let gateway = TestGateway::start(GatewayConfig {
        write_timeout: Duration::from_millis(300),
        job_log_max_bytes: 64 * 1024 * 1024,
        ..config(&[&worker])
    })
    .await;
    let unread = gateway.send(job("s")).await;
    gateway
        .wait_for("/status", |status| status["jobs"]["openStreams"] == 0)
        .await;
    let id = unread.headers()["x-job-id"].to_str().unwrap().to_owned();
    assert_eq!(gateway.get(&format!("/jobs/{id}")).await.1["state"], "running");
    worker.go_on();
    gateway
        .wait_for(&format!("/jobs/{id}"), |job| job["state"] == "completed")
        .await;
    drop(unread);
}
