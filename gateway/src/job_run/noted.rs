//! What is noted of a job before it waits and before it is sent, for whoever takes over from this gateway.

use std::sync::Arc;

use mayfly_protocol::{ErrorCode, Failure};
use mayfly_session::Sent;
use mayfly_telemetry::task;

use super::JobRun;
use crate::dispatch::Lease;
use crate::open_record::NotNoted;

/// Why a job must not be sent.
pub(super) enum Unsent {
    Over(Failure),
    /// Another gateway took it over while this one seemed to be gone, and says what becomes of it.
    Elsewhere,
}

impl JobRun {
    /// Has it noted that the job waits; nobody waits for that.
    pub(super) fn note_waiting(&self) {
        if self.is_touched {
            // What is noted stands: the worker that it names may have done something.
            return;
        }
        let (record, id, sends) = (Arc::clone(&self.record), self.writer.job().id.clone(), self.sends);
        task::spawn(&self.gateway.running, async move {
            if let Err(error) = record.note_untouched(sends).await {
                let error = &error as &(dyn std::error::Error + 'static);
                tracing::warn!(job.id = %id, error, "a waiting job could not be noted");
            }
        });
    }

    /// Has it noted to whom the job is about to be sent; the end of a job that must not be.
    pub(super) async fn note_worker(&mut self, lease: &Lease) -> Option<Unsent> {
        self.sends += 1;
        let sent = Sent {
            worker: lease.url().to_string(),
            attempt: self.attempt,
            events_before: self.events_before(),
        };
        let error = self.record.send_to(sent).await.err()?;
        let job = self.writer.job();
        tracing::warn!(job.id = %job.id, error = &error as &(dyn std::error::Error + 'static), "a job could not be noted before it is sent to a worker");
        match error {
            NotNoted::Taken if self.gateway.exchange.is_some() => Some(Unsent::Elsewhere),
            NotNoted::Taken => {
                let text = "another gateway took this one for gone, and has ended the job before a worker had begun it; send it again";
                Some(Unsent::Over(Failure::new(ErrorCode::GatewayLost, text)))
            }
            // Another gateway could begin it, too, as the same attempt.
            NotNoted::Late | NotNoted::Storage(_) if self.record.is_promised() || self.is_sheltered() => {
                let text =
                    "the storage did not take note of the job in time, so it was not begun; send it again";
                Some(Unsent::Over(Failure::new(ErrorCode::StorageUnavailable, text)))
            }
            NotNoted::Late | NotNoted::Storage(_) => None,
        }
    }
}
