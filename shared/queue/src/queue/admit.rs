//! Who is let in: the bounds of the queue and of each tenant.

use std::time::Duration;

use mayfly_protocol::TenantId;

use super::{Entry, FullOf, Lane, Queue, QueueFull, Ticket};
use crate::departures::{Departures, come_back_after};
use crate::kind::WorkerKind;
use crate::tenant::{Terms, is_below};

/// Tenants that owe nothing and have no job are looked for after this many arrivals.
const SWEEP_EVERY: u64 = 1024;

impl Queue {
    /// Puts a job behind the others of its tenant, whose terms are these from now on.
    pub fn admit(
        &mut self,
        kind: WorkerKind,
        lane: Lane,
        terms: Terms,
        now: Duration,
    ) -> Result<Ticket, QueueFull> {
        self.let_in(kind, lane, terms, now, false)
    }

    pub(super) fn let_in(
        &mut self,
        kind: WorkerKind,
        lane: Lane,
        terms: Terms,
        now: Duration,
        is_held: bool,
    ) -> Result<Ticket, QueueFull> {
        self.check_room(kind, &lane.tenant, terms, now)?;
        self.last += 1;
        if self.last.is_multiple_of(SWEEP_EVERY) {
            self.forget_idle();
        }
        let ticket = Ticket(self.last);
        self.tenants.entry(lane.tenant.clone()).or_default().terms = terms;
        let entry = Entry {
            kind,
            lane,
            admitted_at: now,
            is_held,
            run: None,
        };
        self.entries.insert(ticket, entry);
        self.wait(ticket);
        Ok(ticket)
    }

    fn check_room(
        &self,
        kind: WorkerKind,
        tenant: &TenantId,
        terms: Terms,
        now: Duration,
    ) -> Result<(), QueueFull> {
        let full = |of, waiting, departures: &Departures| QueueFull {
            of,
            waiting,
            come_back: come_back_after(departures.per_second(now), waiting, self.settings.come_back),
        };
        let (state, tenant) = (&self.kinds[kind], self.tenants.get(tenant));
        if let Some(tenant) = tenant
            && !is_below(tenant.waiting(), terms.waiting)
        {
            let departures = &tenant.shares[kind].departures;
            return Err(full(FullOf::Tenant, tenant.waiting(), departures));
        }
        let (own, counted) = tenant.map_or((0, 0), |tenant| {
            let share = &tenant.shares[kind];
            (share.waiting.len(), share.counted_weight)
        });
        let capacity = self.settings.capacity;
        let weight = u64::from(u32::from(terms.weight));
        let all = state.weight - counted + weight;
        let fair = (capacity as u64).saturating_mul(weight) / all;
        let has_share_left = (own as u64) < fair.max(1) && state.waiting < capacity.saturating_mul(2);
        match state.waiting < capacity || has_share_left {
            true => Ok(()),
            false => Err(full(FullOf::Queue, state.waiting, &state.departures)),
        }
    }
}
