//! What holds for several gateways, whatever they share.

use std::sync::Arc;

use http::Request;
use mayfly_storage::{Fault, FaultyStore, Operation, Rule, When};
use serde_json::{Value, json};

use super::Fleet;
use crate::client::{self, Events, Got, get, job, post};
use crate::gateway::TestGateway;
use crate::leaving::resume;
use crate::until::until_some;

/// A job that its worker runs.
pub(super) async fn running(gateway: &TestGateway, session: &str) -> Events {
    let mut events = gateway.post(job(session)).await;
    events.until("preparing").await;
    events
}

async fn waits_for_session(events: &mut Events) {
    let queued = events.until("queued").await;
    assert_eq!(queued.json["detail"]["reason"], "session_busy", "{}", queued.json);
}

pub(crate) async fn jobs_of_a_session_run_in_the_order_in_which_they_came_to_any_gateway(fleet: Fleet) {
    let (one, other) = (fleet.gateway(&[0, 2]).await, fleet.gateway(&[1]).await);
    let first = running(&one, "s").await;
    let mut second = other.post(job("s")).await;
    waits_for_session(&mut second).await;
    let mut third = one.post(job("s")).await;
    waits_for_session(&mut third).await;
    fleet.go_on(&one, &first.job_id()).await;
    second.until("preparing").await;
    // The gateway of the third has a free worker, and its own earlier job is over.
    assert_eq!(first.names().await.last().unwrap(), "completed");
    let (_, view) = one.get(&format!("/jobs/{}", third.job_id())).await;
    assert_eq!(view["state"], "queued");
    fleet.go_on(&other, &second.job_id()).await;
    assert_eq!(second.names().await.last().unwrap(), "completed");
    third.until("preparing").await;
    fleet.go_on(&one, &third.job_id()).await;
    assert_eq!(third.names().await.last().unwrap(), "completed");
}

fn told(events: &[Got]) -> Vec<(u64, Vec<u8>)> {
    events.iter().map(|got| (got.id, got.data.clone())).collect()
}

pub(crate) async fn every_gateway_streams_all_events_as_they_come(fleet: Fleet) {
    // The other gateway could not even ask the worker.
    let (one, other) = (fleet.gateway(&[0]).await, fleet.gateway(&[1]).await);
    let mut here = one.post(job("s")).await;
    let id = here.job_id();
    let mut there = resume(&other, &id, 0).await;
    let last = there.until("preparing").await.id;
    let behind = resume(&other, &id, last - 1).await;
    let first = here.next().await.unwrap();
    fleet.go_on(&one, &id).await;
    let (here, whole) = (here.rest().await, resume(&other, &id, 0).await.rest().await);
    assert_eq!(told(&whole)[0], (1, first.data));
    assert_eq!(told(&whole)[1..], told(&here));
    let there = told(&there.rest().await);
    assert_eq!(there, told(&whole)[last as usize..]);
    assert_eq!(told(&behind.rest().await), told(&whole)[last as usize - 1..]);
}

pub(crate) async fn every_gateway_shows_and_lists_jobs_as_they_stand(fleet: Fleet) {
    let (one, other) = (fleet.gateway(&[0]).await, fleet.gateway(&[1]).await);
    let first = running(&one, "s").await;
    let second = one.post(job("s")).await;
    let ids = [first.job_id(), second.job_id()];
    // Somebody reads along there, which must not hide what the job's gateway knows.
    let along = resume(&other, &ids[0], 0).await;
    for (id, state, stage) in [
        (&ids[0], "running", json!("preparing")),
        (&ids[1], "queued", Value::Null),
    ] {
        let path = format!("/jobs/{id}");
        let view = other.wait_for(&path, |view| view["state"] == state).await;
        assert_eq!((&view["sessionId"], &view["lastStage"]), (&json!("s"), &stage));
    }
    let listed = |list: &Value| -> Vec<Value> {
        let jobs = list["jobs"].as_array().unwrap();
        jobs.iter().map(|job| job["id"].clone()).collect()
    };
    let both = other.wait_for("/jobs", |list| listed(list).len() == 2).await;
    assert_eq!(
        listed(&both),
        [ids[1].as_str(), ids[0].as_str()],
        "the newest first"
    );
    let running = other.get("/jobs?state=running").await.1;
    assert_eq!(listed(&running), [ids[0].as_str()]);
    assert_eq!(listed(&other.get("/jobs?sessionId=t").await.1), [""; 0]);
    assert_eq!(listed(&other.get("/jobs?limit=1").await.1), [ids[1].as_str()]);
    fleet.go_on(&one, &ids[0]).await;
    assert_eq!(first.names().await.last().unwrap(), "completed");
    assert_eq!(along.names().await.last().unwrap(), "completed");
    let done = other
        .wait_for(&format!("/jobs/{}", ids[0]), |view| view["state"] == "completed")
        .await;
    assert_eq!(done["data"]["jobId"], ids[0].as_str());
}

pub(crate) async fn a_waiting_job_is_cancelled_at_any_gateway(fleet: Fleet) {
    let (one, other) = (fleet.gateway(&[0]).await, fleet.gateway(&[1]).await);
    let first = running(&one, "s").await;
    let waiting = one.post(job("s")).await;
    let answer = other
        .send(post(&format!("/jobs/{}/cancel", waiting.job_id()), ""))
        .await;
    assert_eq!(answer.status(), 200);
    assert_eq!(waiting.names().await.last().unwrap(), "cancelled");
    fleet.go_on(&one, &first.job_id()).await;
    assert_eq!(first.names().await.last().unwrap(), "completed");
}

pub(crate) async fn a_running_job_is_cancelled_at_any_gateway(fleet: Fleet) {
    // The other gateway does not know the worker: it is the job's own gateway that tells it.
    let (one, other) = (fleet.gateway(&[0]).await, fleet.gateway(&[1]).await);
    let running = running(&one, "s").await;
    let along = resume(&other, &running.job_id(), 0).await;
    let answer = other
        .send(post(&format!("/jobs/{}/cancel", running.job_id()), ""))
        .await;
    assert!([200, 202].contains(&answer.status().as_u16()));
    assert_eq!(running.names().await.last().unwrap(), "cancelled");
    assert_eq!(along.names().await.last().unwrap(), "cancelled");
}

pub(crate) async fn a_key_is_one_job_at_all_gateways(fleet: Fleet) {
    let (one, other) = (fleet.gateway(&[0]).await, fleet.gateway(&[1]).await);
    let keyed = || -> Request<_> {
        let mut request = job("s");
        request
            .headers_mut()
            .insert("idempotency-key", "k".parse().unwrap());
        request
    };
    let (here, there) = tokio::join!(one.post(keyed()), other.post(keyed()));
    assert_eq!(here.job_id(), there.job_id());
    fleet.go_on(&one, &here.job_id()).await;
    let (here, there) = (here.rest().await, there.rest().await);
    assert_eq!(told(&here), told(&there));
    let again = one.post(keyed()).await;
    assert_eq!(told(&again.rest().await), told(&here));
}

pub(crate) async fn a_gateway_that_ends_takes_no_running_job_with_it(fleet: Fleet) {
    let (mut one, other) = (fleet.gateway(&[0]).await, fleet.gateway(&[0, 1]).await);
    let running = running(&one, "s").await;
    let id = running.job_id();
    let mut behind = other.post(job("s")).await;
    waits_for_session(&mut behind).await;
    one.stop().await;
    let along = resume(&other, &id, 0).await;
    other
        .wait_for(&format!("/jobs/{id}"), |view| view["state"] == "running")
        .await;
    let (_, view) = other.get(&format!("/jobs/{}", behind.job_id())).await;
    assert_eq!(view["state"], "queued");
    fleet.go_on(&other, &id).await;
    // All of it, from the first event, though that gateway never read the job along before.
    let whole = along.rest().await;
    assert_eq!((whole[0].id, whole[0].name()), (1, "queued".to_owned()));
    assert_eq!(whole.last().unwrap().name(), "completed");
    behind.until("preparing").await;
    fleet.go_on(&other, &behind.job_id()).await;
    assert_eq!(behind.names().await.last().unwrap(), "completed");
}

pub(crate) async fn a_job_whose_gateway_and_worker_are_lost_is_repeated_by_another_gateway(fleet: Fleet) {
    let (mut one, other) = (fleet.gateway(&[0]).await, fleet.gateway(&[0, 1]).await);
    let id = running(&one, "s").await.job_id();
    let mut behind = other.post(job("s")).await;
    waits_for_session(&mut behind).await;
    // Nobody reaches it any more, though it goes on for itself.
    fleet.workers[0].ended.abort();
    one.stop().await;
    let mut along = resume(&other, &id, 0).await;
    let retrying = along.until("retrying").await;
    assert_eq!(retrying.json["detail"], json!({"attempt": 2, "attempts": 3}));
    along.until("preparing").await;
    let view = other.get(&format!("/jobs/{id}")).await.1;
    assert_eq!(
        (&view["state"], &view["attempts"]),
        (&json!("running"), &json!(2))
    );
    let (_, waiting) = other.get(&format!("/jobs/{}", behind.job_id())).await;
    assert_eq!(waiting["state"], "queued");
    fleet.go_on(&other, &id).await;
    let end = along.until("completed").await;
    assert_eq!(end.json["data"], json!({"attempt": 2, "jobId": id}));
    assert!(along.next().await.is_none());
}

/// Otherwise another gateway could begin it as the same attempt, and not know of that worker.
pub(crate) async fn a_job_that_others_can_begin_is_sent_to_no_worker_before_that_is_noted(mut fleet: Fleet) {
    let faulty = Arc::new(FaultyStore::new(Arc::clone(&fleet.storage), 1));
    fleet.storage = Arc::clone(&faulty) as _;
    let gateway = fleet.gateway(&[0]).await;
    faulty.add(Rule::on(Operation::Put, When::Always, Fault::Unavailable));
    let names = gateway.names_of("s").await;
    assert_eq!(names.last().unwrap(), "storage_unavailable");
    assert!(!names.contains(&"dispatched".to_owned()));
    assert!(!fleet.workers[0].ended.is_finished());
}

pub(crate) async fn a_session_with_a_job_at_another_gateway_is_not_deleted(fleet: Fleet) {
    let (one, other) = (fleet.gateway(&[0]).await, fleet.gateway(&[1]).await);
    let running = running(&one, "s").await;
    let delete = async || {
        let mut request = get("/sessions/s");
        *request.method_mut() = http::Method::DELETE;
        client::json(other.send(request).await).await["code"].clone()
    };
    assert_eq!(delete().await, "session_busy");
    fleet.go_on(&one, &running.job_id()).await;
    assert_eq!(running.names().await.last().unwrap(), "completed");
    until_some("the session is free", async || {
        (delete().await == "session_not_found").then_some(())
    })
    .await;
}
