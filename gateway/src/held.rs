//! How many bytes of bodies are held, in all and for each tenant: no tenant can hold so many that another's job is refused for it.
//!
//! A tenant may hold as many bytes as are free beside them (the dynamic threshold that switches share their buffers by): half of all where it is alone, a
//! third each where two want as many as they can get. A part stays free for whoever comes next. This module must not know HTTP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mayfly_protocol::TenantId;

/// The bytes of all bodies.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    limit: usize,
    is_shared: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    all: usize,
    of: HashMap<TenantId, usize>,
}

/// Bytes of one body, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    bytes: Arc<HeldBytes>,
    tenant: TenantId,
    held: usize,
}

impl HeldBytes {
    /// `is_shared` says whether there are tenants to be fair to.
    pub(crate) fn new(limit: usize, is_shared: bool) -> Self {
        Self {
            limit,
            is_shared,
            state: Mutex::default(),
        }
    }

    /// A hold for a body of this tenant, of no byte yet.
    pub(crate) fn hold(self: &Arc<Self>, tenant: &TenantId) -> Hold {
        Hold {
            bytes: Arc::clone(self),
            tenant: tenant.clone(),
            held: 0,
        }
    }

    /// All that is held.
    pub(crate) fn held(&self) -> usize {
        self.state().all
    }

    fn take(&self, tenant: &TenantId, more: usize) -> bool {
        let mut state = self.state();
        let own = state
            .of
            .get(tenant)
            .copied()
            .unwrap_or_default()
            .saturating_add(more);
        let all = state.all.saturating_add(more);
        if all > self.limit || (self.is_shared && own > self.limit - all) {
            return false;
        }
        state.all = all;
        state.of.insert(tenant.clone(), own);
        true
    }

    fn give_back(&self, tenant: &TenantId, bytes: usize) {
        let mut state = self.state();
        state.all -= bytes;
        if let Some(own) = state.of.get_mut(tenant) {
            *own -= bytes;
            if *own == 0 {
                state.of.remove(tenant);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hold {
    /// Holds more bytes; false where there are too many.
    pub(crate) fn grow(&mut self, more: usize) -> bool {
        let is_taken = self.bytes.take(&self.tenant, more);
        if is_taken {
            self.held += more;
        }
        is_taken
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.bytes.give_back(&self.tenant, self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    #[test]
    fn who_is_alone_has_half_and_leaves_room_for_others() {
        let bytes = Arc::new(HeldBytes::new(120, true));
        let (mut a, mut b, mut c) = (
            bytes.hold(&tenant("a")),
            bytes.hold(&tenant("b")),
            bytes.hold(&tenant("c")),
        );
        assert!(a.grow(60) && !a.grow(1));
        assert!(b.grow(30) && !b.grow(1));
        assert!(c.grow(15) && !c.grow(1) && !a.grow(1));
        drop(a);
        assert!(b.grow(7) && bytes.held() == 52);
        drop((b, c));
        assert_eq!(bytes.held(), 0);
        assert!(bytes.state().of.is_empty());
    }

    #[test]
    fn without_tenants_all_may_be_held() {
        let bytes = Arc::new(HeldBytes::new(100, false));
        let mut hold = bytes.hold(&TenantId::default());
        assert!(hold.grow(100) && !hold.grow(1));
        assert!(!hold.grow(usize::MAX));
    }
}
