//! Stops a job that a client cancelled: one that waits at once, one that runs on its worker, within a bound.
//!
//! What the worker says of the end is the end. Only where it says nothing in time the gateway ends the job itself.

use std::future::pending;

use mayfly_protocol::{ErrorCode, Failure, JobId};
use tokio::time::{sleep, timeout};

use crate::config::GatewayConfig;
use crate::fleet::address::WorkerUrl;
use crate::jobs::Job;
use crate::state::Gateway;

/// Waits until the job is cancelled, and then as long as its end may take.
pub(crate) async fn overdue(config: &GatewayConfig, job: &Job) {
    job.cancelled.cancelled().await;
    sleep(config.cancel_timeout).await;
}

/// Waits until the job is cancelled, tells its worker, and returns when the end has not come in time.
pub(crate) async fn without_end(gateway: &Gateway, worker: &WorkerUrl, job: &Job) {
    job.cancelled.cancelled().await;
    // On the heap: every job that runs waits here, and few are cancelled.
    let told = Box::pin(async {
        tell(gateway, worker, &job.id).await;
        pending::<()>().await;
    });
    // The end, if it comes, is seen by whoever follows the stream.
    let _late = timeout(gateway.config.cancel_timeout, told).await;
}

/// Tells a worker to cancel the job.
pub(crate) async fn tell(gateway: &Gateway, worker: &WorkerUrl, job: &JobId) {
    match gateway.client.cancel(worker, job).await {
        Ok(()) => tracing::info!(job.id = %job, worker = %worker, "told the worker to cancel the job"),
        Err(outcome) => {
            tracing::warn!(job.id = %job, worker = %worker, "the worker was to cancel the job, and {outcome}");
        }
    }
}

/// The end of a job that no worker has; `attempt` is the one that it waited for, and earlier ones were lost.
pub(crate) fn waiting(attempt: u32) -> Failure {
    let text = match attempt {
        1 => "the job was cancelled before a worker had begun it: the session is as it was",
        _ => {
            "the job was cancelled after its worker was lost, and before another had begun it: the session may be as it was or as the job leaves it, \
             so look at it before sending the job again"
        }
    };
    Failure::new(ErrorCode::Cancelled, text)
}

/// The end of a job whose worker did not say in time how it ended.
pub(crate) fn unsettled(config: &GatewayConfig) -> Failure {
    let seconds = config.cancel_timeout.as_secs_f32();
    let text = format!(
        "the job was cancelled, and its worker did not say within {seconds} s how it ended: the session may be as it was or as the job leaves it, \
         so look at it before sending the job again"
    );
    Failure::new(ErrorCode::Cancelled, text)
}
