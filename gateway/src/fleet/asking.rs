//! Asks workers that were set aside whether they are idle, so that a job is offered to those that have said so.
//!
//! Whom to ask, and when, is the roster's to say. This module must not know jobs.

use std::sync::Arc;

use mayfly_telemetry::task;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::fleet::roster::Told;
use crate::retry::Aside;
use crate::state::Gateway;
use crate::worker_client::Said;

/// Workers that are asked at the same time.
const ASKED_AT_ONCE: usize = 64;

/// Asks until the token fires.
pub(crate) async fn ask_when_due(gateway: Arc<Gateway>, asks: TaskTracker, ended: CancellationToken) {
    let places = Arc::new(Semaphore::new(ASKED_AT_ONCE));
    let asking = async {
        loop {
            let place = Arc::clone(&places).acquire_owned().await;
            let place = place.expect("the semaphore is never closed");
            let (kind, worker) = gateway.dispatcher.next_to_ask().await;
            let (gateway, ended) = (Arc::clone(&gateway), ended.clone());
            task::spawn(&asks, async move {
                let asked = gateway.client.ask_whether_idle(&worker.url);
                let mut kept = None;
                let told = match ended.run_until_cancelled(asked).await {
                    Some(Ok(Said::Idle(line))) => {
                        kept = line;
                        Told::Idle
                    }
                    Some(Ok(Said::Busy)) => Told::Not(Aside::Busy),
                    Some(Err(outcome)) => {
                        tracing::debug!(worker = %worker.url, "asked whether it is idle, the worker {outcome}");
                        Told::Not(outcome.aside())
                    }
                    None => Told::Not(Aside::Away),
                };
                gateway.dispatcher.told(kind, &worker, told);
                drop(place);
                if let Some(line) = kept {
                    // It is kept no longer than the gateway goes on.
                    let _ended = ended.run_until_cancelled(line.until_over()).await;
                }
            });
        }
    };
    // It goes on until the gateway ends.
    let _ended: Option<()> = ended.run_until_cancelled(asking).await;
}
