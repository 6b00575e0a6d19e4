//! The events of a job that another gateway has, as that one tells them.

use std::sync::Arc;

use mayfly_coordination::Unavailable;
use mayfly_sse::{Decoded, Decoder};

use super::{Exchange, Interest, Topic, job_ref};
use crate::jobs::{End, Job, JobWriter};
use crate::relay;

/// A place in what is told of a job.
pub(crate) struct Tail {
    exchange: Arc<Exchange>,
    grown: Interest,
    after: u64,
    max_event_bytes: usize,
}

impl Tail {
    /// Behind the events that the job's log has.
    pub(crate) fn new(exchange: &Arc<Exchange>, job: &Job, max_event_bytes: usize) -> Self {
        Self {
            grown: exchange.interest(&job_ref(job), Topic::Events),
            exchange: Arc::clone(exchange),
            after: job.log.size().events,
            max_event_bytes,
        }
    }

    /// Waits until there may be more.
    pub(crate) async fn grown(&mut self) {
        self.grown.changed().await;
    }

    /// Asks the gateway that has the job to cancel it. Nobody knows whether that was heard: the end tells.
    pub(crate) async fn ask_to_cancel(&self) {
        let _unheard = self.exchange.coordination.ask_to_cancel(&self.grown.key.0).await;
    }

    /// Takes what is told into the log; gives the end with its number, where that is told.
    ///
    /// What cannot be read is passed over: the storage has the job's true end.
    pub(crate) async fn read(&mut self, writer: &JobWriter) -> Result<Option<(End, u64)>, Unavailable> {
        loop {
            let job = &self.grown.key.0;
            let events = self.exchange.coordination.events(job, self.after).await?;
            if events.is_empty() {
                return Ok(None);
            }
            for (number, frame) in events {
                self.after = number;
                let mut decoder = Decoder::new(self.max_event_bytes);
                for item in decoder.push(&frame).unwrap_or_default() {
                    if let Decoded::Message { data, .. } = item
                        && let Ok(Some(end)) = relay::take(writer, data, Some(number))
                    {
                        return Ok(Some((end, number)));
                    }
                }
            }
        }
    }
}
