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
                let asked = gateway.client.is_idle(&worker.url);
                let told = match ended.run_until_cancelled(asked).await {
                    Some(Ok(true)) => Told::Idle,
                    Some(Ok(false)) => Told::Not(Aside::Busy),
                    Some(Err(outcome)) => {
                        tracing::debug!(worker = %worker.url, "asked whether it is idle, the worker {outcome}");
                        Told::Not(outcome.aside())
                    }
                    None => Told::Not(Aside::Away),
                };
                gateway.dispatcher.told(kind, &worker, told);
                drop(place);
            });
        }
    };
    // It goes on until the gateway ends.
    let _ended: Option<()> = ended.run_until_cancelled(asking).await;
}
