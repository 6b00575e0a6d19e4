//! Where a waiting job stands, as far as that can be told cheaply.

use std::collections::BTreeSet;

use super::{Queue, Ticket};

/// So many are counted; what stands further behind is estimated.
const COUNTED: usize = 1000;
/// Among the tickets of so many arrivals a job's place is counted.
const COUNTED_ARRIVALS: u64 = 4 * COUNTED as u64;

/// Where a waiting job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// From 1: the jobs that are to be begun up to and with this one. Exact for the first 1,000 jobs of a tenant that waits alone; an estimate
    /// where other tenants wait, too, by their weights.
    pub number: usize,
    /// What it waits for.
    pub reason: WaitReason,
}

/// What a job waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitReason {
    /// A worker.
    NoFreeWorker,
    /// An earlier job of its session.
    SessionBusy,
    /// Any job of its tenant, which runs as many as it may.
    TenantLimit,
}

impl Queue {
    /// Where a waiting job stands; `None` where it does not wait.
    pub fn position(&self, ticket: Ticket) -> Option<Position> {
        let entry = self.entries.get(&ticket).filter(|entry| entry.run.is_none())?;
        let (state, tenant) = (&self.kinds[entry.kind], self.tenants.get(&entry.lane.tenant)?);
        let share = &tenant.shares[entry.kind];
        let rank = rank(&share.waiting, ticket);
        let before = match (rank, &share.listed) {
            (1, Some(standing)) => state.ready.range(..standing).take(COUNTED).count(),
            _ => {
                let others = state.weight - share.counted_weight;
                let turns = (rank as u64).saturating_mul(others) / share.counted_weight.max(1);
                usize::try_from(turns).unwrap_or(usize::MAX)
            }
        };
        let others_waiting = state.waiting - share.waiting.len();
        let reason = match (share.runnable.contains(&ticket), tenant.may_run()) {
            (false, _) => WaitReason::SessionBusy,
            (true, false) => WaitReason::TenantLimit,
            (true, true) => WaitReason::NoFreeWorker,
        };
        Some(Position {
            number: rank + before.min(others_waiting),
            reason,
        })
    }
}

/// The place of a ticket among these, from 1: counted near the front, and taken as evenly spread behind.
fn rank(tickets: &BTreeSet<Ticket>, ticket: Ticket) -> usize {
    let (Some(first), Some(last)) = (tickets.first(), tickets.last()) else {
        return 1;
    };
    let behind_first = ticket.0 - first.0;
    if behind_first < COUNTED_ARRIVALS {
        let counted = tickets.range(..=ticket).take(COUNTED).count();
        if counted < COUNTED {
            return counted;
        }
    }
    let part = behind_first as f64 / (last.0 - first.0).max(1) as f64;
    let rank = 1 + ((tickets.len() - 1) as f64 * part) as usize;
    rank.clamp(COUNTED.min(tickets.len()), tickets.len())
}
