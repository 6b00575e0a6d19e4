//! A Redis that goes away under gateways: killed, held up, emptied. Jobs go on, and everything is as before once it is back.

use tokio::task::block_in_place;

use super::cases::running;
use super::redis;
use crate::client::job;
use crate::gateway::TestGateway;
use crate::until::until;

async fn until_coordinated(gateway: &TestGateway, is_ready: bool) {
    let ready = gateway
        .wait_for("/ready", |ready| ready["coordination"]["ready"] == is_ready)
        .await;
    assert_eq!(ready["ready"], true, "jobs go on, so the gateway is ready");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_begin_and_end_without_redis_and_are_known_to_all_when_it_is_back() {
    let mut fleet = redis().await;
    let (one, other) = (fleet.gateway(&[0, 1]).await, fleet.gateway(&[2]).await);
    let before = running(&one, "s").await;
    block_in_place(|| fleet.redis().kill());
    until_coordinated(&one, false).await;
    let mut meanwhile = one.post(job("t")).await;
    meanwhile.until("preparing").await;
    fleet.go_on(&one, &before.job_id()).await;
    assert_eq!(before.names().await.last().unwrap(), "completed");
    block_in_place(|| fleet.redis().start_again());
    until_coordinated(&one, true).await;
    other
        .wait_for("/jobs?state=running", |list| {
            list["jobs"][0]["id"] == meanwhile.job_id().as_str()
        })
        .await;
    // What has ended in the outage holds nothing up, and what runs since then does.
    let mut behind = other.post(job("t")).await;
    let queued = behind.until("queued").await;
    assert_eq!(queued.json["detail"]["reason"], "session_busy");
    fleet.go_on(&one, &meanwhile.job_id()).await;
    assert_eq!(meanwhile.names().await.last().unwrap(), "completed");
    behind.until("preparing").await;
    fleet.go_on(&other, &behind.job_id()).await;
    assert_eq!(behind.names().await.last().unwrap(), "completed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_held_up_holds_no_job_up() {
    let mut fleet = redis().await;
    let one = fleet.gateway(&[0, 1]).await;
    let running = running(&one, "s").await;
    fleet.redis().hold();
    let mut meanwhile = one.post(job("t")).await;
    meanwhile.until("preparing").await;
    until_coordinated(&one, false).await;
    fleet.go_on(&one, &running.job_id()).await;
    assert_eq!(running.names().await.last().unwrap(), "completed");
    fleet.redis().go_on();
    until_coordinated(&one, true).await;
    // The end that could not be told is told now: the session is free at every gateway.
    let other = fleet.gateway(&[2]).await;
    let mut next = other.post(job("s")).await;
    next.until("preparing").await;
    fleet.go_on(&one, &meanwhile.job_id()).await;
    fleet.go_on(&other, &next.job_id()).await;
    assert_eq!(meanwhile.names().await.last().unwrap(), "completed");
    assert_eq!(next.names().await.last().unwrap(), "completed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_redis_is_filled_again_and_no_job_overtakes_another() {
    let mut fleet = redis().await;
    let (one, other) = (fleet.gateway(&[0]).await, fleet.gateway(&[1]).await);
    let first = running(&one, "s").await;
    let id = first.job_id();
    let mut behind = other.post(job("s")).await;
    behind.until("queued").await;
    fleet.redis().empty();
    other
        .wait_for(&format!("/jobs/{id}"), |view| view["lastStage"] == "preparing")
        .await;
    let whole = crate::leaving::resume(&other, &id, 0).await;
    fleet.go_on(&one, &id).await;
    let first = first.rest().await;
    let whole = whole.rest().await;
    assert_eq!(whole[0].id, 1);
    assert_eq!(whole.last().unwrap().data, first.last().unwrap().data);
    let started = behind.until("preparing").await;
    let text = |got: &crate::client::Got| got.json["timestamp"].as_str().unwrap().to_owned();
    assert!(
        text(&started) >= text(first.last().unwrap()),
        "one after the other"
    );
    fleet.go_on(&other, &behind.job_id()).await;
    assert_eq!(behind.names().await.last().unwrap(), "completed");
}

/// The password of Redis, and what jobs are given, are in no key and no value.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_redis() {
    let mut fleet = redis().await;
    let (one, other) = (fleet.gateway(&[0]).await, fleet.gateway(&[1]).await);
    let canary = mayfly_testkit::canary::Canary::new();
    let body =
        serde_json::json!({"sessionId": "s", "userRequest": "x", "githubAccessToken": canary.as_str()});
    let mut events = one
        .post(crate::client::post("/create-branch", body.to_string()))
        .await;
    events.until("preparing").await;
    let id = events.job_id();
    let waiting = one
        .post(crate::client::post("/create-branch", body.to_string()))
        .await;
    other
        .wait_for("/jobs", |list| {
            list["jobs"][0]["state"] == "queued" && list["jobs"][1]["lastStage"] == "preparing"
        })
        .await;
    let waiting_id = waiting.job_id();
    let mut content = Vec::new();
    let has = |content: &[u8], text: &str| content.windows(text.len()).any(|part| part == text.as_bytes());
    until(|| {
        content = block_in_place(|| fleet.redis().content());
        [&id, &waiting_id]
            .iter()
            .all(|job| has(&content, &format!(":shelter:{job}")))
    })
    .await;
    assert!(has(&content, "preparing"), "it is the right file");
    canary.assert_not_in("Redis", &content);
    assert!(!has(&content, fleet.redis().password()) && !has(&content, super::KEY));
    let cancel = crate::client::post(&format!("/jobs/{waiting_id}/cancel"), "");
    assert!(one.send(cancel).await.status().is_success());
    assert_eq!(waiting.names().await.last().unwrap(), "cancelled");
    fleet.go_on(&one, &id).await;
    assert_eq!(events.names().await.last().unwrap(), "completed");
    // Nothing is kept of a job that is over, however it ended.
    until(|| !has(&block_in_place(|| fleet.redis().content()), ":shelter:")).await;
}
