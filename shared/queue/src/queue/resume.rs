//! Jobs that run already when the queue hears of them.

use std::time::Duration;

use super::{Entry, Lane, Queue, Ticket};
use crate::kind::WorkerKind;

impl Queue {
    /// Takes in a job that runs already, as one that was begun elsewhere: no limit keeps it out, and its session's other jobs wait behind it.
    pub fn resume(&mut self, kind: WorkerKind, lane: &Lane, now: Duration) -> Ticket {
        self.last += 1;
        let ticket = Ticket(self.last);
        self.tenants.entry(lane.tenant.clone()).or_default().shares[kind]
            .waiting
            .insert(ticket);
        self.kinds[kind].waiting += 1;
        let waiting = &mut self.lanes.entry(lane.clone()).or_default().waiting;
        let overtaken = waiting.first().copied();
        waiting.insert(ticket);
        let entry = Entry {
            kind,
            lane: lane.clone(),
            admitted_at: now,
            is_held: false,
            run: None,
        };
        self.entries.insert(ticket, entry);
        self.start(ticket, now);
        if let Some(overtaken) = overtaken {
            self.take_back(overtaken, lane);
        }
        ticket
    }

    /// Marks a job as one that another of its session holds back.
    pub(super) fn take_back(&mut self, overtaken: Ticket, lane: &Lane) {
        let kind = self.entries[&overtaken].kind;
        if let Some(tenant) = self.tenants.get_mut(&lane.tenant) {
            tenant.shares[kind].runnable.remove(&overtaken);
        }
        self.list(kind, &lane.tenant);
    }
}
