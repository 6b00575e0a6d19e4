//! What a worker keeps of its job before it announces the end.
//!
//! A failure to keep it is logged, and changes nothing for the client. This module must not know where outcomes are kept.

use mayfly_protocol::outcome::{FORMAT_VERSION, NumberedEvent};
use mayfly_protocol::{JobId, JobKind, JobOutcome, SessionId, TenantId};
use time::OffsetDateTime;
use tokio::time::timeout;

use crate::request::JobRequest;
use crate::run::Worker;

/// The job as its outcome names it.
pub(crate) struct Facts {
    job_id: JobId,
    tenant: TenantId,
    kind: JobKind,
    session: SessionId,
    attempt: u32,
    accepted_at: OffsetDateTime,
    started_at: OffsetDateTime,
    events_before: u64,
}

impl Facts {
    pub(crate) fn of(request: &JobRequest, started_at: OffsetDateTime) -> Self {
        let JobRequest { job, order } = request;
        Self {
            job_id: order.job_id.clone(),
            tenant: order.tenant.clone(),
            kind: job.kind(),
            session: job.session_id().clone(),
            attempt: order.attempt,
            accepted_at: order.accepted_at,
            started_at,
            events_before: order.events_before,
        }
    }

    /// Keeps the outcome where the runner says, within the bound.
    pub(crate) async fn keep(self, worker: &Worker, events: Vec<NumberedEvent>) {
        let Some(outcomes) = worker.runner.outcomes() else {
            return;
        };
        let tenant = self.tenant.clone();
        let outcome = self.with(events);
        match timeout(worker.config.outcome_grace, outcomes.keep(&tenant, &outcome)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = &error as &(dyn std::error::Error + 'static);
                tracing::error!(job.id = %outcome.job_id, error, "the end of the job is announced without being kept");
            }
            Err(_) => {
                tracing::error!(job.id = %outcome.job_id, "the outcome of the job takes too long to keep");
            }
        }
    }

    fn with(self, events: Vec<NumberedEvent>) -> JobOutcome {
        JobOutcome {
            format_version: FORMAT_VERSION,
            job_id: self.job_id,
            kind: self.kind,
            session_id: self.session,
            attempt: self.attempt,
            accepted_at: self.accepted_at,
            started_at: self.started_at,
            finished_at: OffsetDateTime::now_utc(),
            events_before: self.events_before,
            events,
        }
    }
}
