//! The one place for a job: claimed once, never given back.
//!
//! This module must not know what the job is or who asked for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mayfly_protocol::{JobId, JobKind};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::delivery::Deliveries;
use crate::events::ProgressSink;

/// The job that has the slot.
#[derive(Debug, Clone)]
pub(crate) struct Occupant {
    pub(crate) job_id: JobId,
    pub(crate) kind: JobKind,
    pub(crate) attempt: u32,
    pub(crate) started_at: OffsetDateTime,
    pub(crate) events: ProgressSink,
    pub(crate) deliveries: Deliveries,
    /// Fires when a client cancels the job.
    pub(crate) asked: CancellationToken,
}

/// Whether a job could be taken now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Availability {
    /// The slot is free.
    Idle,
    /// A job has it.
    Busy,
    /// The process is about to end, whether or not a job still has the slot.
    Draining,
}

#[derive(Default)]
struct State {
    occupant: Option<Occupant>,
    draining: bool,
}

/// The slot of a process.
#[derive(Default)]
pub(crate) struct Slot {
    state: Mutex<State>,
    over: CancellationToken,
}

impl Slot {
    /// Gives the slot to a job, if none has had it and the process is not draining.
    pub(crate) fn try_claim(self: &Arc<Self>, occupant: Occupant) -> Option<JobClaim> {
        let mut state = self.state();
        if state.draining || state.occupant.is_some() {
            return None;
        }
        state.occupant = Some(occupant);
        Some(JobClaim {
            slot: Arc::clone(self),
        })
    }

    /// Takes no job from now on; true where one has the slot.
    pub(crate) fn drain(&self) -> bool {
        let mut state = self.state();
        state.draining = true;
        state.occupant.is_some()
    }

    /// Whether a job could be taken, and the job that has the slot.
    pub(crate) fn report(&self) -> (Availability, Option<Occupant>) {
        let state = self.state();
        let availability = match (state.draining, &state.occupant) {
            (true, _) => Availability::Draining,
            (false, Some(_)) => Availability::Busy,
            (false, None) => Availability::Idle,
        };
        (availability, state.occupant.clone())
    }

    /// Waits until the job that had the slot is over.
    pub(crate) async fn over(&self) {
        self.over.cancelled().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to run the one job; when it is dropped, the process has nothing left to do.
pub(crate) struct JobClaim {
    slot: Arc<Slot>,
}

impl Drop for JobClaim {
    fn drop(&mut self) {
        self.slot.drain();
        self.slot.over.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mayfly_protocol::Source;

    use mayfly_telemetry::trace::{TraceContext, Tracer};

    use super::*;
    use crate::events::{StreamSettings, open};
    use crate::stages::StageSpans;

    fn occupant() -> Occupant {
        let settings = StreamSettings {
            kind: JobKind::CreateBranch,
            job_id: JobId::new_now(),
            source: Source::GitWorker,
            buffer: 1,
            progress_interval: Duration::ZERO,
            stages: StageSpans::below(Tracer::default(), TraceContext::new_root()),
        };
        let (_writer, events, _reader) = open(settings);
        Occupant {
            job_id: JobId::new_now(),
            kind: JobKind::CreateBranch,
            attempt: 1,
            started_at: OffsetDateTime::UNIX_EPOCH,
            events,
            deliveries: Deliveries::default(),
            asked: CancellationToken::new(),
        }
    }

    #[tokio::test]
    async fn one_claim_and_never_another() {
        let slot = Arc::new(Slot::default());
        let claim = slot.try_claim(occupant()).unwrap();
        assert!(slot.try_claim(occupant()).is_none());
        assert_eq!(slot.report().0, Availability::Busy);
        drop(claim);
        slot.over().await;
        assert!(slot.try_claim(occupant()).is_none());
        assert_eq!(slot.report().0, Availability::Draining);
    }

    #[test]
    fn a_draining_slot_is_not_claimed() {
        let slot = Arc::new(Slot::default());
        assert!(!slot.drain());
        assert!(slot.try_claim(occupant()).is_none());
    }
}
