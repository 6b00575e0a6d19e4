//! Jobs that wait for others which this queue does not have: earlier ones of their session, at another gateway.

use std::time::Duration;

use super::{Lane, Queue, QueueFull, Ticket};
use crate::kind::WorkerKind;
use crate::tenant::Terms;

impl Queue {
    /// Puts a job behind the others of its tenant, where it is not begun before [`Queue::release`] says that it may. It waits for no job of its session
    /// that is held, too: their order is settled elsewhere.
    pub fn admit_held(
        &mut self,
        kind: WorkerKind,
        lane: Lane,
        terms: Terms,
        now: Duration,
    ) -> Result<Ticket, QueueFull> {
        self.let_in(kind, lane, terms, now, true)
    }

    /// Lets a held job run when it is next. One that is not held stays as it is.
    pub fn release(&mut self, ticket: Ticket) {
        let Some(entry) = self.entries.get_mut(&ticket).filter(|entry| entry.is_held) else {
            return;
        };
        entry.is_held = false;
        let (kind, lane) = (entry.kind, entry.lane.clone());
        let Some(state) = self.lanes.get_mut(&lane) else {
            return;
        };
        state.held.remove(&ticket);
        let overtaken = state.waiting.first().copied().filter(|first| ticket < *first);
        state.waiting.insert(ticket);
        if let Some(overtaken) = overtaken {
            self.take_back(overtaken, &lane);
        }
        self.offer_first(&lane);
        self.list(kind, &lane.tenant);
    }
}
