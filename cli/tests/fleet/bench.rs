//! The benches, on a repository that is as small as they make.

use mayfly_testkit::moto::Moto;
use mayfly_testkit::process::{Launch, descendants_of, is_alive};
use mayfly_testkit::sse::http_client;
use mayfly_testkit::wait::eventually;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::rig::Rig;

fn sessions(rig: &Rig, origin: &[&str]) -> Launch {
    let file = rig.folder.path().join("figures.json");
    let mut args = vec!["bench", "sessions", "--runs", "1", "--json"];
    args.push(file.to_str().unwrap());
    args.extend(origin);
    rig.launch(&args)
}

/// Runs to the end, and gives the tables and the figures.
async fn figures(rig: &Rig, launch: Launch) -> (String, Value) {
    let mut running = launch.start();
    let ended = running.ended().await;
    assert!(ended.success(), "{}", running.stderr());
    assert!(rig.left_in_tmp().is_empty(), "{:?}", rig.left_in_tmp());
    let text = std::fs::read_to_string(rig.folder.path().join("figures.json")).unwrap();
    (running.stdout(), serde_json::from_str(&text).unwrap())
}

/// The comparisons of one job with archives.
fn against_archives<'a>(figures: &'a Value, job: &str) -> Vec<&'a Value> {
    let comparisons = figures["repositories"][0]["comparisons"].as_array().unwrap();
    let with_archives = |it: &&Value| it["against"] == "tar" || it["against"] == "tar-zstd";
    let found: Vec<_> = comparisons.iter().filter(|it| it["job"] == job).collect();
    found.into_iter().filter(with_archives).collect()
}

fn assert_plausible(figures: &Value) {
    let comparisons = figures["repositories"][0]["comparisons"].as_array().unwrap();
    assert_eq!(comparisons.len(), 4 + 1 + 4 * 2);
    for job in ["pull", "create-branch", "apply-changes", "commit-and-push"] {
        let found = against_archives(figures, job);
        assert_eq!(found.len(), 2, "{job}");
        for comparison in found {
            let (ours, theirs) = (&comparison["ours"], &comparison["theirs"]);
            let moved = |side: &Value| side["storage_bytes"].as_f64().unwrap();
            assert!(
                moved(ours) > 100.0 && moved(ours) * 5.0 < moved(theirs),
                "{comparison}"
            );
            let asked = |side: &Value| side["host_bytes"].as_f64().unwrap() > 0.0;
            assert!(
                job == "apply-changes" || (asked(ours) && asked(theirs)),
                "{comparison}"
            );
            assert!(ours["wall_ms"].as_f64().unwrap() > 0.0 && ours["cpu_ms"].as_f64().unwrap() > 0.0);
            let peak = ours["peak_mib"].as_f64().unwrap();
            assert!(ours["anonymous_mib"].as_f64().unwrap() < peak, "{comparison}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_measured_in_a_folder() {
    let rig = Rig::new();
    let (tables, figures) = figures(&rig, sessions(&rig, &["--make-repository", "1MB"])).await;
    assert_plausible(&figures);
    assert_eq!(figures["growth"], Value::Array(Vec::new()));
    // Which side was the faster one is for the bench to tell: on a busy machine either is, once in a while.
    assert!(
        tables.contains("| commit and push | git + tar.zst | "),
        "{tables}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_measured_in_a_bucket_which_is_empty_again() {
    let rig = Rig::new();
    let moto = tokio::task::block_in_place(Moto::shared);
    tokio::task::block_in_place(|| moto.create_bucket("bench-sessions"));
    let storage = [
        "--make-repository",
        "1MB",
        "--storage-url",
        "s3://bench-sessions/here",
    ];
    let launch = sessions(&rig, &storage)
        .env("AWS_ENDPOINT_URL", moto.endpoint())
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "any")
        .env("AWS_SECRET_ACCESS_KEY", "any");
    let (_, figures) = figures(&rig, launch).await;
    assert_eq!(figures["storage"], "s3");
    assert_plausible(&figures);
    let listing = format!("{}/bench-sessions?list-type=2", moto.endpoint());
    let listing = http_client()
        .get(listing)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(listing.contains("<KeyCount>0</KeyCount>"), "{listing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn growth_is_told_from_the_smallest_repository() {
    let rig = Rig::new();
    let sweep = ["--sweep", "2MB,1MB", "--against", "none", "--storage-url"];
    let url = format!("file://{}", rig.folder.path().join("storage").display());
    let launch = sessions(&rig, &[&sweep[..], &[&url]].concat());
    let (tables, figures) = figures(&rig, launch).await;
    let growth = figures["growth"].as_array().unwrap();
    assert_eq!(growth.len(), 6 * 2);
    assert!(
        growth
            .iter()
            .all(|it| it["smallest"] == "1MB" && it["side"] == "mayfly")
    );
    assert_eq!(growth[0]["wall_ratio"]["median"], 1.0);
    assert!(
        tables.contains("| clone of an unknown repository | mayfly | 2MB |"),
        "{tables}"
    );
    let left = std::fs::read_dir(rig.folder.path().join("storage")).unwrap();
    assert_eq!(left.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bench_that_is_stopped_leaves_nothing() {
    let rig = Rig::new();
    let url = format!("file://{}", rig.folder.path().join("storage").display());
    let origin = [
        "--make-repository",
        "20MB",
        "--against",
        "tar",
        "--storage-url",
        &url,
    ];
    let mut running = sessions(&rig, &origin).start();
    running.line_on_stderr("mayfly job=clone of an unknown").await;
    let started = descendants_of(running.id());
    running.signal(Signal::SIGTERM);
    assert_eq!(running.ended().await.code(), Some(1));
    assert!(
        running.stderr().contains("stopped by a signal"),
        "{}",
        running.stderr()
    );
    eventually("all processes are gone", || {
        !started.iter().any(|&pid| is_alive(pid))
    })
    .await;
    assert!(rig.left_in_tmp().is_empty(), "{:?}", rig.left_in_tmp());
    let left = std::fs::read_dir(rig.folder.path().join("storage")).unwrap();
    assert_eq!(left.count(), 0);
}
