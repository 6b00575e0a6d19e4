//! Begins a job here that another gateway had, which is gone: one that waited there, or one whose worker is lost, too.
//!
//! Its body was kept for this: it takes up its place in the line of its session, and waits on, for its first attempt or for the next one.

use std::sync::Arc;

use mayfly_session::OpenJob;
use mayfly_telemetry::task;

use crate::exchange::KeptJob;
use crate::fleet::WorkerKind;
use crate::intake::HeldBody;
use crate::job_run::JobRun;
use crate::job_trace::JobTrace;
use crate::jobs::JobWriter;
use crate::open_record::OpenRecord;
use crate::state::Gateway;

/// Clients may have read a few events more than were told: what comes now has numbers beyond them.
const BEYOND_UNTOLD: u64 = 1000;

/// Puts the job into the queue; gives it back where there is no room for it.
pub(crate) fn begin_again(
    gateway: &Arc<Gateway>,
    writer: JobWriter,
    open: &OpenJob,
    kept: KeptJob,
) -> Result<(), JobWriter> {
    let job = Arc::clone(writer.job());
    let KeptJob { terms, body } = kept;
    let Some(body) = HeldBody::inherited(&gateway.held_bytes, &job.lane.tenant, body) else {
        return Err(writer);
    };
    let kind = WorkerKind::from(job.kind);
    let admitted = gateway
        .dispatcher
        .admit(kind, job.lane.clone(), terms, &job.id, true);
    let Ok((place, position)) = admitted else {
        return Err(writer);
    };
    tracing::info!(job.id = %job.id, was_sent = open.sent.is_some(), "begins a job of a gateway that is gone");
    job.repeated.cancel();
    job.log.skip(BEYOND_UNTOLD);
    let mut trace = JobTrace::begin(&gateway.config.tracer, job.kind, None);
    trace.of(&job);
    let record = Arc::new(OpenRecord::inherited(gateway.own_jobs.clone(), open));
    let run = JobRun::new(Arc::clone(gateway), writer, place, position, body, record, trace);
    let run = match &open.sent {
        Some(lost) => run.repeat_after(lost),
        None => run,
    };
    task::spawn(&gateway.running, run.carry_out());
    Ok(())
}
