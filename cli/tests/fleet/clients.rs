//! Clients that nobody here wrote read the streams: curl, Python's httpx-sse, and the npm package `eventsource`.

use std::path::{Path, PathBuf};

use mayfly_testkit::process::Launch;
use serde_json::{Value, json};

use super::rig::{Rig, get_json};

fn tool(path: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/tools")
        .join(path);
    assert!(
        file.exists(),
        "{} is missing; run `.ci/tools.sh` once",
        file.display()
    );
    file
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(name)
}

/// The events that a client printed, one JSON object a line.
async fn printed(launch: Launch) -> Vec<Value> {
    let mut client = launch.start();
    let status = client.ended().await;
    assert!(status.success(), "{}", client.stderr());
    client
        .stdout()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn is_whole(events: &[Value]) {
    let terminal = events.iter().filter(|event| event["type"] != "progress").count();
    assert_eq!(terminal, 1, "{events:?}");
    assert_eq!(events.last().unwrap()["type"], "completed");
    assert!(events.iter().all(|event| event["jobId"] == events[0]["jobId"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn three_clients_read_the_same_events() {
    let rig = Rig::new();
    let (_up, base) = rig.start(&["up", "--port", "0", "--git-workers", "2"]).await;

    let url = format!("{base}/clone-repository");
    let body = rig.clone_body("curl").to_string();
    let curl = [
        "-sN",
        "--fail",
        "-H",
        "content-type: application/json",
        "-d",
        &body,
        &url,
    ];
    let mut client = Launch::new(Path::new("curl")).args(curl).start();
    assert!(client.ended().await.success(), "{}", client.stderr());
    let text = client.stdout();
    let by_curl: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    is_whole(&by_curl);

    let body = rig.clone_body("httpx").to_string();
    let python =
        Launch::new(tool("py/bin/python")).args([script("httpx_client.py").to_str().unwrap(), &url, &body]);
    let by_python = printed(python).await;
    is_whole(&by_python);

    let job = by_python[0]["jobId"].as_str().unwrap();
    let events = format!("{base}/jobs/{job}/events");
    let modules = tool("node/node_modules");
    let node = |last: &str| {
        Launch::new(Path::new("node")).args([
            script("eventsource_client.mjs").to_str().unwrap(),
            modules.to_str().unwrap(),
            &events,
            last,
        ])
    };
    assert_eq!(printed(node("")).await, by_python, "the replay is the stream");
    let last = by_python.len() - 1;
    assert_eq!(
        printed(node(&last.to_string())).await,
        by_python[last..],
        "Last-Event-ID leaves out what was read"
    );

    let jobs = get_json(&base, "/jobs?sessionId=httpx").await;
    assert_eq!(jobs["jobs"][0]["id"], json!(job));
}
