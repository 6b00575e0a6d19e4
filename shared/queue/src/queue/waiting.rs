//! What each tenant has waiting, for figures.

use std::time::Duration;

use mayfly_protocol::TenantId;

use super::Queue;
use crate::kind::WorkerKind;

/// What one tenant has waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantWaiting {
    /// The tenant.
    pub tenant: TenantId,
    /// Its jobs that wait.
    pub jobs: usize,
    /// Since when the first of them was let in.
    pub oldest: Duration,
}

impl Queue {
    /// What each tenant has waiting for this kind of worker; tenants with nothing are left out.
    pub fn waiting_by_tenant(&self, kind: WorkerKind, now: Duration) -> Vec<TenantWaiting> {
        let tenants = self.tenants.iter().filter_map(|(tenant, state)| {
            let waiting = &state.shares[kind].waiting;
            let oldest = self.entries.get(waiting.first()?)?;
            Some(TenantWaiting {
                tenant: tenant.clone(),
                jobs: waiting.len(),
                oldest: now.saturating_sub(oldest.admitted_at),
            })
        });
        tenants.collect()
    }
}
