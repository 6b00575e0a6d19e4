//! What Prometheus is told, by the word of Prometheus' own tool.

use std::time::Duration;

use http_body_util::BodyExt as _;
use mayfly_gateway::GatewayConfig;
use mayfly_testkit::process::Launch;
use mayfly_testkit::tools;
use tempfile::TempDir;

use crate::client::{get, job};
use crate::gateway::{TestGateway, config};
use crate::stub_worker::{Act, Part, StubWorker, busy, completing};
use crate::until::until_some;

async fn scrape(gateway: &TestGateway) -> String {
    let response = gateway.send(get("/metrics")).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// `promtool check metrics`, which reads them as Prometheus does, and knows its rules for names.
async fn check(text: &str) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("metrics");
    std::fs::write(&file, text).unwrap();
    let mut promtool = Launch::new(tools::path("prometheus/promtool"))
        .args(["check", "metrics"])
        .stdin(&file)
        .start();
    let status = promtool.ended().await;
    let said = promtool.stdout() + &promtool.stderr();
    assert!(status.success() && said.is_empty(), "{said}\n{text}");
}

fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    let line = line.unwrap_or_else(|| panic!("no `{series}` in\n{text}"));
    line.trim().parse().unwrap()
}

#[tokio::test]
async fn jobs_are_counted_by_how_they_ended_and_promtool_agrees_with_the_form() {
    let used = r#"data: {"type":"completed","data":{},"source":"git-worker","timestamp":"2026-01-02T03:04:05.678Z","jobId":"JOB","usage":{"storageReadBytes":5,"gitReceivedBytes":6,"llmRequests":1,"llmInputTokens":7,"llmOutputTokens":8}}"#;
    let worker = StubWorker::start(vec![
        busy(),
        Act::Stream(vec![Part::Raw(format!("id: 1\n{used}\n\n"))]),
        Act::Stream(vec![Part::Failed("push_rejected")]),
        Act::Stream(vec![Part::Progress("preparing")]),
        completing(),
    ])
    .await;
    let gateway = TestGateway::start(GatewayConfig {
        job_attempts: 2,
        ..config(&[&worker])
    })
    .await;
    assert!(gateway.names_of("a").await.ends_with(&["completed".to_owned()]));
    assert!(
        gateway
            .names_of("b")
            .await
            .ends_with(&["push_rejected".to_owned()])
    );
    assert!(gateway.names_of("c").await.ends_with(&["completed".to_owned()]));
    gateway.get("/no-such-path").await;
    let text = scrape(&gateway).await;
    check(&text).await;
    for (series, expected) in [
        (r#"mayfly_jobs_accepted_total{kind="create_branch"}"#, 3.0),
        (
            r#"mayfly_jobs_ended_total{kind="create_branch",outcome="completed"}"#,
            2.0,
        ),
        (
            r#"mayfly_jobs_ended_total{kind="create_branch",outcome="push_rejected"}"#,
            1.0,
        ),
        (
            r#"mayfly_job_retries_total{kind="create_branch",reason="lost"}"#,
            1.0,
        ),
        (
            r#"mayfly_job_retries_total{kind="create_branch",reason="refused"}"#,
            1.0,
        ),
        (r#"mayfly_workers_lost_total{worker="git-worker"}"#, 1.0),
        (r#"mayfly_job_wait_seconds_count{kind="create_branch"}"#, 4.0),
        (r#"mayfly_job_run_seconds_count{kind="create_branch"}"#, 4.0),
        (
            r#"mayfly_job_storage_bytes_total{direction="read",kind="create_branch"}"#,
            5.0,
        ),
        (
            r#"mayfly_job_git_bytes_total{direction="received",kind="create_branch"}"#,
            6.0,
        ),
        (r#"mayfly_job_llm_requests_total{kind="create_branch"}"#, 1.0),
        (
            r#"mayfly_job_llm_tokens_total{direction="input",kind="create_branch"}"#,
            7.0,
        ),
        (
            r#"mayfly_job_llm_tokens_total{direction="output",kind="create_branch"}"#,
            8.0,
        ),
        (
            r#"mayfly_http_requests_total{method="POST",route="/create-branch",status="200"}"#,
            3.0,
        ),
        (
            r#"mayfly_http_requests_total{method="GET",route="unknown",status="404"}"#,
            1.0,
        ),
        (r#"mayfly_jobs{state="finished"}"#, 3.0),
        (r#"mayfly_queue_capacity_jobs"#, 1000.0),
    ] {
        assert_eq!(value(&text, series), expected, "{series}");
    }
}

#[tokio::test]
async fn what_waits_is_told_by_tenant_with_its_age() {
    let worker = StubWorker::start(vec![Act::Stream(vec![Part::Wait, Part::Completed])]).await;
    let gateway = TestGateway::start(GatewayConfig {
        queue_timeout: Duration::from_secs(60),
        ..config(&[&worker])
    })
    .await;
    let _first = gateway.post(job("a")).await;
    // Of the same session, so that it waits for sure.
    let _second = gateway.post(job("a")).await;
    let series = r#"{tenant="default",worker="git-worker"}"#;
    let text = until_some("an age", async || {
        let text = scrape(&gateway).await;
        let name = format!("mayfly_queue_oldest_seconds{series}");
        let is_there = text.contains(&name) && value(&text, &name) > 0.0;
        is_there.then_some(text)
    })
    .await;
    assert_eq!(value(&text, &format!("mayfly_queue_jobs{series}")), 1.0);
    assert_eq!(
        value(&text, r#"mayfly_workers{state="busy",worker="git-worker"}"#),
        1.0
    );
    assert_eq!(value(&text, r#"mayfly_jobs{state="running"}"#), 1.0);
    check(&text).await;
    worker.go_on();
    worker.go_on();
    // A tenant with nothing to do keeps its series.
    until_some("an empty queue", async || {
        let text = scrape(&gateway).await;
        (value(&text, &format!("mayfly_queue_jobs{series}")) == 0.0).then_some(())
    })
    .await;
}
