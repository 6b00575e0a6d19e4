//! What the storage says of jobs: those whose worker was lost after it had ended them, and those of before a restart.

use std::sync::Arc;

use mayfly_gateway::GatewayConfig;
use mayfly_protocol::outcome::{FORMAT_VERSION, NumberedEvent};
use mayfly_protocol::{Event, EventBody, JobId, JobKind, JobOutcome, Source, Stage, TenantId};
use mayfly_session::{Kept, OutcomeArchive};
use mayfly_storage::{Fault, FaultyStore, MemoryStore, ObjectStore, Operation, Rule, When};
use serde_json::json;
use time::OffsetDateTime;

use crate::client::{Events, get, job};
use crate::gateway::{TestGateway, config};
use crate::stub_worker::{Act, Part, StubWorker};

pub(crate) fn outcome(id: &str) -> JobOutcome {
    let (job_id, at): (JobId, _) = (id.parse().unwrap(), OffsetDateTime::UNIX_EPOCH);
    let event = |id, body| NumberedEvent {
        id,
        event: Event {
            body,
            source: Source::GitWorker,
            timestamp: at,
            job_id: job_id.clone(),
            usage: None,
        },
    };
    let stage = |id, stage| {
        let message = "m".to_owned();
        event(
            id,
            EventBody::Progress {
                stage,
                message,
                progress: None,
                detail: None,
            },
        )
    };
    let events = vec![
        stage(1, Stage::Preparing),
        stage(2, Stage::Pushing),
        event(
            3,
            EventBody::Completed {
                data: json!({"kept": true}),
            },
        ),
    ];
    JobOutcome {
        format_version: FORMAT_VERSION,
        kind: JobKind::CreateBranch,
        session_id: "s".parse().unwrap(),
        attempt: 1,
        accepted_at: at,
        started_at: at,
        finished_at: at,
        events_before: 2,
        events,
        job_id,
    }
}

pub(crate) async fn keep(storage: &Arc<dyn ObjectStore>, outcome: &JobOutcome) {
    let archive = OutcomeArchive::new(Arc::clone(storage));
    archive.keep(&TenantId::default(), outcome).await.unwrap();
}

/// A storage with the outcome of a job of this tenant.
pub(crate) async fn storage_with(id: &str, tenant: &str) -> Arc<dyn ObjectStore> {
    let storage: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let archive = OutcomeArchive::new(Arc::clone(&storage));
    archive
        .keep(&tenant.parse().unwrap(), &outcome(id))
        .await
        .unwrap();
    storage
}

pub(crate) fn with(storage: &Arc<dyn ObjectStore>, workers: &[&StubWorker]) -> GatewayConfig {
    GatewayConfig {
        storage: Some(Arc::clone(storage)),
        ..config(workers)
    }
}

/// A worker that breaks off after its first stage.
async fn breaking() -> StubWorker {
    StubWorker::start(vec![Act::Stream(vec![Part::Progress("preparing"), Part::Wait])]).await
}

#[tokio::test]
async fn a_lost_worker_that_had_ended_its_job_is_believed() {
    let storage: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let worker = breaking().await;
    let gateway = TestGateway::start(with(&storage, &[&worker])).await;
    let mut events = gateway.post(job("s")).await;
    let id = events.job_id();
    events.until("preparing").await;
    assert_eq!(worker.seen()[0].header("x-job-events-before"), Some("2"));
    keep(&storage, &outcome(&id)).await;
    worker.go_on();
    assert_eq!(events.names().await, ["pushing", "completed"]);
    let view = gateway.get(&format!("/jobs/{id}")).await.1;
    assert_eq!(
        (&view["state"], &view["data"]),
        (&"completed".into(), &json!({"kept": true}))
    );
}

#[tokio::test]
async fn a_lost_worker_without_an_outcome_is_lost() {
    let storage: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let worker = breaking().await;
    let gateway = TestGateway::start(with(&storage, &[&worker])).await;
    let mut events = gateway.post(job("s")).await;
    events.until("preparing").await;
    worker.go_on();
    assert_eq!(events.names().await, ["worker_lost"]);
}

#[tokio::test]
async fn a_job_of_before_a_restart_is_shown_and_replayed() {
    let storage: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let id = JobId::new_now().to_string();
    keep(&storage, &outcome(&id)).await;
    let gateway = TestGateway::start(with(&storage, &[])).await;
    let (status, view) = gateway.get(&format!("/jobs/{id}")).await;
    assert_eq!(
        (status, &view["state"], &view["events"]),
        (200, &"completed".into(), &5.into())
    );
    let replay = Events::of(gateway.send(get(&format!("/jobs/{id}/events"))).await)
        .rest()
        .await;
    assert_eq!(replay.iter().map(|got| got.id).collect::<Vec<_>>(), [3, 4, 5]);
    let forgetful = TestGateway::with(&[]).await;
    assert_eq!(forgetful.get(&format!("/jobs/{id}")).await.0, 404);
}

#[tokio::test]
async fn a_storage_that_fails_is_not_taken_for_an_unknown_job() {
    let faulty = FaultyStore::new(Arc::new(MemoryStore::new()), 1);
    faulty.add(Rule::on(Operation::Get, When::Always, Fault::Unavailable));
    let storage: Arc<dyn ObjectStore> = Arc::new(faulty);
    let gateway = TestGateway::start(with(&storage, &[])).await;
    let (status, refusal) = gateway.get(&format!("/jobs/{}", JobId::new_now())).await;
    assert_eq!((status, &refusal["code"]), (503, &"storage_unavailable".into()));
}

#[tokio::test]
async fn what_is_damaged_is_not_shown() {
    let storage: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let (mine, other) = (JobId::new_now(), JobId::new_now().to_string());
    let mut twice = outcome(mine.as_str());
    twice.events[1] = NumberedEvent {
        id: 2,
        ..twice.events[2].clone()
    };
    let archive = OutcomeArchive::new(Arc::clone(&storage));
    let key = format!("tenants/default/jobs/{mine}.json").parse().unwrap();
    for bytes in [
        b"not json".to_vec(),
        serde_json::to_vec(&outcome(&other)).unwrap(),
        serde_json::to_vec(&twice).unwrap(),
    ] {
        let put = storage.put(&key, bytes.into(), mayfly_storage::Precondition::None);
        put.await.unwrap();
        archive.find(&TenantId::default(), &mine).await.unwrap_err();
    }
}

#[tokio::test]
async fn the_first_outcome_of_the_last_attempt_stays() {
    let storage: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let (archive, tenant) = (OutcomeArchive::new(Arc::clone(&storage)), TenantId::default());
    let id = JobId::new_now();
    let attempt = |attempt, stage| {
        let mut outcome = outcome(id.as_str());
        outcome.attempt = attempt;
        outcome.events_before = stage;
        outcome
    };
    let found = async || archive.find(&tenant, &id).await.unwrap().unwrap();
    assert_eq!(archive.keep(&tenant, &attempt(1, 0)).await.unwrap(), Kept::Ours);
    // The same once more, as after a lost answer; and others.
    assert_eq!(archive.keep(&tenant, &attempt(1, 0)).await.unwrap(), Kept::Ours);
    let theirs = Kept::Theirs(Box::new(attempt(1, 0)));
    assert_eq!(archive.keep(&tenant, &attempt(1, 7)).await.unwrap(), theirs);
    assert_eq!(archive.keep(&tenant, &attempt(2, 0)).await.unwrap(), Kept::Ours);
    let theirs = Kept::Theirs(Box::new(attempt(2, 0)));
    assert_eq!(archive.keep(&tenant, &attempt(1, 7)).await.unwrap(), theirs);
    assert_eq!(found().await, attempt(2, 0));
    let key = format!("tenants/default/jobs/{id}.json").parse().unwrap();
    let put = storage.put(
        &key,
        b"not json".to_vec().into(),
        mayfly_storage::Precondition::None,
    );
    put.await.unwrap();
    assert_eq!(archive.keep(&tenant, &attempt(1, 0)).await.unwrap(), Kept::Ours);
    assert_eq!(found().await, attempt(1, 0));
}
