//! Which tenants have labels of their own: the first ones, up to a number, so that the series neither grow without end nor jump about.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use mayfly_protocol::TenantId;

/// The label of all further tenants.
pub(super) const OTHER: &str = "other";

/// The tenants with labels of their own.
#[derive(Debug)]
pub(super) struct Tenants {
    most: usize,
    named: Mutex<BTreeSet<TenantId>>,
}

impl Tenants {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            named: Mutex::default(),
        }
    }

    /// The label of a tenant; one that is really called `other` is among the others.
    pub(super) fn label(&self, tenant: &TenantId) -> String {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let is_named = named.contains(tenant) || (named.len() < self.most && named.insert(tenant.clone()));
        match is_named {
            true => tenant.to_string(),
            false => OTHER.to_owned(),
        }
    }

    /// Every label that was given, so that series do not vanish when a tenant has nothing to do.
    pub(super) fn labels(&self) -> Vec<String> {
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.iter().map(ToString::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_tenants_keep_their_labels_and_the_rest_share_one() {
        let tenants = Tenants::new(2);
        let label = |name: &str| tenants.label(&name.parse().unwrap());
        assert_eq!([label("a"), label("b"), label("c")], ["a", "b", OTHER]);
        assert_eq!([label("b"), label("d"), label("a")], ["b", OTHER, "a"]);
        assert_eq!(tenants.labels(), ["a", "b"]);
    }
}
