//! The outcome is kept before the end is announced, and a failure to keep it changes nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mayfly_protocol::{JobOutcome, Stage, TenantId};
use mayfly_worker::{Ended, JobContext, OutcomeNotKept, OutcomeStore};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::harness::{CLONE, CLONE_BODY, Fixture, Scripted, eventually, tokens, transcript};

/// Keeps outcomes once its gate fires.
#[derive(Default)]
struct Kept {
    gate: CancellationToken,
    fails: bool,
    outcomes: Mutex<Vec<(TenantId, JobOutcome)>>,
}

#[async_trait::async_trait]
impl OutcomeStore for Kept {
    async fn keep(&self, tenant: &TenantId, outcome: &JobOutcome) -> Result<(), OutcomeNotKept> {
        self.outcomes
            .lock()
            .unwrap()
            .push((tenant.clone(), outcome.clone()));
        self.gate.cancelled().await;
        match self.fails {
            true => Err(OutcomeNotKept("the disk is full".into())),
            false => Ok(()),
        }
    }
}

async fn work(
    _: mayfly_protocol::Job,
    context: JobContext,
) -> Result<serde_json::Value, mayfly_protocol::Failure> {
    context.events.stage(Stage::DownloadingSession, "one");
    context.events.stage(Stage::Cloning, "two");
    Ok(json!({"done": true}))
}

#[tokio::test]
async fn the_outcome_is_kept_first_and_is_what_the_client_reads() {
    let kept = Arc::new(Kept::default());
    let fixture = Fixture::start_with(Scripted::new(work).keeping(kept.clone()), |config| {
        config.tokens = Some(tokens("fleet-token"));
    })
    .await;
    let request = fixture.post(CLONE, CLONE_BODY).header("x-tenant-id", "acme");
    let request = request.bearer_auth("fleet-token");
    let request = request
        .header("x-job-events-before", "2")
        .header("x-job-attempt", "3");
    let mut response = request.send().await.unwrap();
    eventually("the outcome", async || {
        tokio::task::yield_now().await;
        !kept.outcomes.lock().unwrap().is_empty()
    })
    .await;
    let status = fixture.get("/status").bearer_auth("fleet-token").send().await;
    assert_eq!(
        status.unwrap().json::<serde_json::Value>().await.unwrap()["state"],
        "busy"
    );
    // Neither the end nor anything else is on its way beyond the two stages.
    let mut sent = Vec::new();
    while sent.windows(5).filter(|it| it == b"\ndata").count() < 2 {
        sent.extend(response.chunk().await.unwrap().unwrap());
    }
    assert!(!String::from_utf8_lossy(&sent).contains("completed"));
    kept.gate.cancel();
    while let Some(chunk) = response.chunk().await.unwrap() {
        sent.extend(chunk);
    }
    let (tenant, outcome) = kept.outcomes.lock().unwrap().pop().unwrap();
    assert_eq!(
        (tenant.to_string(), outcome.attempt, outcome.events_before),
        ("acme".into(), 3, 2)
    );
    assert_eq!(
        outcome.events.iter().map(|it| it.id).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    for numbered in &outcome.events {
        let line = format!(
            "id: {}\ndata: {}\n\n",
            numbered.id,
            serde_json::to_string(&numbered.event).unwrap()
        );
        assert!(String::from_utf8_lossy(&sent).contains(&line), "{line}");
    }
    assert_eq!(fixture.ended().await, Ended::JobDone);
}

#[tokio::test]
async fn a_job_that_nobody_reads_has_its_outcome() {
    let (kept, gate) = (Arc::new(Kept::default()), CancellationToken::new());
    kept.gate.cancel();
    let runner = {
        let gate = gate.clone();
        Scripted::new(move |job, context| {
            let gate = gate.clone();
            async move {
                gate.cancelled().await;
                work(job, context).await
            }
        })
    };
    let fixture = Fixture::start(runner.keeping(kept.clone())).await;
    drop(fixture.post_clone().await);
    gate.cancel();
    assert_eq!(fixture.ended().await, Ended::JobDone);
    let (_, outcome) = kept.outcomes.lock().unwrap().pop().unwrap();
    assert_eq!(outcome.events.len(), 3);
    assert!(outcome.terminal().is_some());
}

#[tokio::test]
async fn a_failure_to_keep_it_and_a_store_that_hangs_change_nothing() {
    let hangs = Kept::default();
    let fails = Kept {
        fails: true,
        ..Kept::default()
    };
    fails.gate.cancel();
    for kept in [hangs, fails] {
        let fixture = Fixture::start_with(Scripted::new(work).keeping(Arc::new(kept)), |config| {
            config.outcome_grace = Duration::from_millis(20);
        })
        .await;
        let events = transcript(fixture.post_clone().await).await;
        assert_eq!(events.len(), 3);
        assert_eq!(fixture.ended().await, Ended::JobDone);
    }
}
