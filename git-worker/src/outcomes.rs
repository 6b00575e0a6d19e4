//! Keeps outcomes beside the sessions.

use std::sync::Arc;

use mayfly_protocol::{JobOutcome, TenantId};
use mayfly_session::OutcomeArchive;
use mayfly_storage::ObjectStore;
use mayfly_worker::{OutcomeNotKept, OutcomeStore};

/// The outcomes in the storage of the sessions.
#[derive(Debug, Clone)]
pub(crate) struct Outcomes(OutcomeArchive);

impl Outcomes {
    pub(crate) fn new(storage: Arc<dyn ObjectStore>) -> Self {
        Self(OutcomeArchive::new(storage))
    }
}

#[async_trait::async_trait]
impl OutcomeStore for Outcomes {
    async fn keep(&self, tenant: &TenantId, outcome: &JobOutcome) -> Result<(), OutcomeNotKept> {
        let kept = self.0.keep(tenant, outcome).await;
        kept.map_err(|error| OutcomeNotKept(Box::new(error)))
    }
}
