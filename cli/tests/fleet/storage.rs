//! The fleet over a real S3 server.

use mayfly_protocol::ErrorCode;
use mayfly_testkit::chaos_proxy::{Chaos, Fate, Refusal};
use mayfly_testkit::process::Launch;
use mayfly_testkit::s3::S3Place;
use mayfly_testkit::sse::{completed, failed, read_whole};
use serde_json::json;

use super::rig::{Rig, post};

const UP: &[&str] = &["up", "--port", "0", "--git-workers", "1"];
const WORKER: &[&str] = &["git-worker", "--port", "0", "--announce"];

pub(super) fn over_s3(rig: &Rig, place: &S3Place, url: &str, args: &[&str]) -> Launch {
    let launch = rig.launch(args).env("STORAGE_URL", url);
    let variables = place.environment();
    variables
        .into_iter()
        .fold(launch, |launch, (name, value)| launch.env(name, value))
}

/// A server that is started now, if it does not run yet.
pub(super) fn server(start: fn() -> &'static S3Place) -> &'static S3Place {
    tokio::task::block_in_place(start)
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_live_in_a_bucket() {
    for start in [S3Place::moto, S3Place::ministack, S3Place::ceph] {
        jobs_run_over(server(start)).await;
    }
}

async fn jobs_run_over(place: &S3Place) {
    let rig = Rig::new();
    let mut up = over_s3(&rig, place, &place.fresh_url(), UP).start();
    let line = up.line_on_stdout("listening on ").await;
    let base = format!("http://{}", line.rsplit(' ').next().unwrap());
    let token = rig.host.token();
    for (path, body) in [
        ("/clone-repository", rig.clone_body("s")),
        (
            "/create-branch",
            json!({"sessionId": "s", "userRequest": "Add x", "githubAccessToken": token}),
        ),
        (
            "/apply-changes",
            json!({"sessionId": "s", "files": [{"path": "README.md", "content": "x\n"}]}),
        ),
        (
            "/commit-and-push",
            json!({"sessionId": "s", "githubAccessToken": token}),
        ),
    ] {
        completed(&read_whole(post(&base, path, &body).await).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_is_refused_at_start() {
    let rig = Rig::new();
    for args in [UP, WORKER] {
        let mut process = over_s3(&rig, server(S3Place::moto), "s3://no-such-bucket/x", args).start();
        assert_eq!(process.ended().await.code(), Some(1));
        assert!(process.stderr().contains("NoSuchBucket"), "{}", process.stderr());
    }
    assert!(rig.left_in_tmp().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_loses_races_is_refused_unless_one_writer_is_accepted() {
    let rig = Rig::new();
    let racy = server(S3Place::racy);
    for args in [UP, WORKER] {
        let url = racy.fresh_url();
        let mut process = over_s3(&rig, racy, &url, args).start();
        assert_eq!(process.ended().await.code(), Some(1));
        let said = process.stderr();
        assert!(
            said.contains(&format!("{url} is not safe for several workers")),
            "{said}"
        );
        assert!(
            said.contains("--accept-one-writer") && said.contains("of 32 writers"),
            "{said}"
        );
        let mut accepted = over_s3(&rig, racy, &url, args)
            .env("ACCEPT_ONE_WRITER", "true")
            .start();
        accepted.line_on_stdout("listening on ").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_asks_for_the_note_that_an_earlier_one_left() {
    let rig = Rig::new();
    let (place, chaos) = (server(S3Place::moto), Chaos::new());
    let proxy = chaos.proxy("s3", &place.endpoint);
    let (place, url) = (place.through(proxy.origin()), place.fresh_url());
    for is_first in [true, false] {
        chaos.behave();
        let mut worker = over_s3(&rig, &place, &url, WORKER).start();
        worker.line_on_stdout("listening on ").await;
        let requests = chaos.requests();
        assert!(
            if is_first { requests > 128 } else { requests == 1 },
            "{requests}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_starts_while_its_store_is_away_and_proves_it_with_the_next_start() {
    let rig = Rig::new();
    let (place, chaos) = (server(S3Place::moto), Chaos::new());
    let proxy = chaos.proxy("s3", &place.endpoint);
    let (through, url) = (place.through(proxy.origin()), place.fresh_url());
    let away: [fn() -> Fate; 2] = [|| Fate::Answer(Refusal::slow_down()), || Fate::Stall];
    for fate in away {
        chaos.script(move |_| fate());
        let mut worker = over_s3(&rig, &through, &url, WORKER)
            .env("STORAGE_TIMEOUT_SECS", "0.2")
            .start();
        let line = worker.line_on_stdout("listening on ").await;
        let base = format!("http://{}", line.rsplit(' ').next().unwrap());
        let events = read_whole(post(&base, "/clone-repository", &rig.clone_body("s")).await).await;
        let failure = failed(&events);
        assert_eq!(
            (failure.code, failure.retryable),
            (ErrorCode::StorageUnavailable, true)
        );
        assert_eq!(worker.ended().await.code(), Some(0));
        assert!(worker.stderr().contains("are not proved"), "{}", worker.stderr());
    }
    chaos.behave();
    let mut worker = over_s3(&rig, &through, &url, WORKER).start();
    worker.line_on_stdout("listening on ").await;
    assert!(chaos.requests() > 128, "{}", chaos.requests());
}
