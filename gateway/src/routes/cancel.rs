//! `POST /jobs/{id}/cancel`.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::Response;
use http::StatusCode;
use mayfly_server::refuse::json;
use tokio::time::timeout;

use super::job_list::{JobPath, Wanted, find};
use super::{Asking, answer};
use crate::jobs::{Job, JobState};
use crate::state::Gateway;

/// Cancels a job: 200 where it is over, now or already, and 202 where its worker still has to end it. Asking again changes nothing.
pub(super) async fn cancel(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Asking,
    id: JobPath,
) -> Response {
    match find(&gateway, &caller, id, Wanted::Followed).await {
        Ok(job) => {
            stop(&gateway, &job).await;
            let status = match job.log.size().ended {
                true => StatusCode::OK,
                false => StatusCode::ACCEPTED,
            };
            json(status, &job.view(true))
        }
        Err(refusal) => answer(Err(refusal)),
    }
}

/// A job that waits ends at once, and is waited for.
async fn stop(gateway: &Gateway, job: &Job) {
    let waits = job.state() == JobState::Queued;
    job.cancelled.cancel();
    if waits {
        // A worker may just have been found: then the job's stream tells how it ends.
        let _late = timeout(gateway.config.cancel_timeout, job.log.ended()).await;
    }
}
