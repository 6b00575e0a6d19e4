//! The fleet over a real S3 server.

use mayfly_testkit::moto::Moto;
use mayfly_testkit::process::Launch;
use mayfly_testkit::sse::{completed, read_whole};
use serde_json::json;

use super::rig::{Rig, post};

fn over_s3(rig: &Rig, moto: &Moto, bucket: &str) -> Launch {
    rig.launch(&["up", "--port", "0", "--git-workers", "1"])
        .env("STORAGE_URL", format!("s3://{bucket}/fleet"))
        .env("AWS_ENDPOINT_URL", moto.endpoint())
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "any")
        .env("AWS_SECRET_ACCESS_KEY", "any")
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_live_in_a_bucket() {
    let rig = Rig::new();
    let moto = tokio::task::block_in_place(Moto::shared);
    tokio::task::block_in_place(|| moto.create_bucket("fleet-sessions"));
    let mut up = over_s3(&rig, moto, "fleet-sessions").start();
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
    let moto = tokio::task::block_in_place(Moto::shared);
    let mut up = over_s3(&rig, moto, "no-such-bucket").start();
    assert_eq!(up.ended().await.code(), Some(1));
    assert!(up.stderr().contains("NoSuchBucket"), "{}", up.stderr());
    assert!(rig.left_in_tmp().is_empty());
}
