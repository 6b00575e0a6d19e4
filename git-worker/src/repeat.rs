//! Repeated attempts at a job: what was done is answered again, and an earlier attempt that was only slow is shut out.
//!
//! The gateway repeats a job whose worker it lost, under the same id. Three things may be true then. The earlier attempt had saved: the manifest has its
//! answer. It had announced a push: the intent is taken up (see [`crate::publish`]). It had done nothing that counts, and may yet wake up: the
//! fence changes the manifest, so that its save, and the announcement without which it does not push, lose their swap.

use mayfly_protocol::{ErrorCode, JobKind, SessionId, Stage};
use mayfly_session::{Fence, Session, SessionStore};
use mayfly_worker::JobContext;
use serde_json::Value;

use crate::failure::JobError;

/// What this very job answered when it was done by an earlier attempt, whose worker was lost before it could say so.
pub(crate) fn done_before(
    session: &Session,
    kind: JobKind,
    context: &JobContext,
) -> Result<Option<Value>, JobError> {
    let manifest = &session.manifest;
    let Some(done) = manifest.done(&context.job_id, kind) else {
        return Ok(None);
    };
    let result = manifest.last_result.as_ref();
    let Some(result) = result.filter(|result| result.job_id == context.job_id) else {
        let text = format!(
            "this job was done by an earlier attempt, which saved generation {} of session `{}`; other jobs have changed it since, \
             so look at the session before sending it again",
            done.generation, manifest.session_id
        );
        return Err(JobError::new(ErrorCode::SessionConflict, text));
    };
    let message = "An earlier attempt has done this job; its result stands";
    context.events.stage(Stage::DownloadingSession, message);
    Ok(Some(result.data.clone()))
}

/// Makes the session this attempt's, if it is not the first: an earlier one loses its next swap.
pub(crate) async fn shut_out_earlier(
    sessions: &SessionStore,
    session: Session,
    context: &JobContext,
) -> Result<Session, JobError> {
    if context.attempt == 1 {
        return Ok(session);
    }
    let mut fenced = session.manifest.clone();
    fenced.fence = Some(Fence {
        job_id: context.job_id.clone(),
        attempt: context.attempt,
    });
    Ok(sessions.save(Some(&session), fenced).await?)
}

/// What a repeated attempt answers that lost a swap: it may have been an earlier attempt at this very job that won it.
pub(crate) async fn lost_swap(
    sessions: &SessionStore,
    (session, kind): (&SessionId, JobKind),
    context: &JobContext,
    error: JobError,
) -> Result<Value, JobError> {
    if context.attempt == 1 || error.code() != ErrorCode::SessionConflict {
        return Err(error);
    }
    let Some(session) = sessions.load(session).await? else {
        return Err(error);
    };
    done_before(&session, kind, context)?.ok_or(error)
}
