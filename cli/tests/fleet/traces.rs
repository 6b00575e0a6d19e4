//! Traces of a real fleet, at a collector that reads them as any other does.

use std::path::Path;

use mayfly_testkit::process::Launch;
use mayfly_testkit::sse::http_client;
use mayfly_testkit::tools;
use serde_json::Value;

use super::rig::Rig;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

#[tokio::test(flavor = "multi_thread")]
async fn a_jobs_trace_goes_through_gateway_and_worker_to_the_collector() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/otlp/collector.py");
    let mut collector = Launch::new(tools::path("openapi/bin/python"))
        .args([&script])
        .start();
    let line = collector.line_on_stdout("listening on ").await;
    let endpoint = format!("http://{}", line.rsplit(' ').next().unwrap());
    let rig = Rig::new();
    let mut up = rig
        .launch(&["up", "--port", "0", "--git-workers", "1"])
        .env("LOG_FORMAT", "json")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=canary")
        .start();
    let line = up.line_on_stdout("listening on ").await;
    let base = format!("http://{}", line.rsplit(' ').next().unwrap());
    let answer = http_client()
        .post(format!("{base}/clone-repository"))
        .header("traceparent", format!("00-{TRACE}-{CALLER}-01"))
        .json(&rig.clone_body("s"))
        .send()
        .await
        .unwrap();
    answer.text().await.unwrap();
    collector.line_on_stdout("\"work clone_repository\"").await;
    collector.line_on_stdout("\"job clone_repository\"").await;
    collector.line_on_stdout("\"uploading\"").await;

    let text = collector.stdout();
    let spans: Vec<Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let span = |name: &str| {
        let found = spans.iter().find(|span| span["name"] == name);
        found.unwrap_or_else(|| panic!("no span `{name}` in\n{text}"))
    };
    let job = span("job clone_repository");
    assert_eq!(job["parentSpanId"], CALLER);
    assert_eq!(job["attributes"]["mayfly.session.id"], "s");
    for (name, above, service) in [
        ("queue", "job clone_repository", "mayfly-gateway"),
        ("attempt", "job clone_repository", "mayfly-gateway"),
        ("dispatch", "attempt", "mayfly-gateway"),
        ("work clone_repository", "attempt", "mayfly-git-worker"),
        (
            "downloading_session",
            "work clone_repository",
            "mayfly-git-worker",
        ),
        ("cloning", "work clone_repository", "mayfly-git-worker"),
        ("uploading", "work clone_repository", "mayfly-git-worker"),
    ] {
        let found = span(name);
        assert_eq!(found["parentSpanId"], span(above)["spanId"], "{name}\n{text}");
        assert_eq!(
            (&found["service"], &found["header"]),
            (&service.into(), &"canary".into())
        );
        assert!(found["nanos"].as_i64().unwrap() >= 0, "{found}");
    }
    assert!(spans.iter().all(|span| span["traceId"] == TRACE), "{text}");

    // The same id stands in the log of gateway and worker.
    let traced = up.line_on_stderr("\"the job is done\"").await;
    let entry: Value = serde_json::from_str(&traced).unwrap();
    assert_eq!(entry["trace_id"], TRACE);
    assert!(!up.stderr().contains("canary"));
}
