//! Keeps outcomes beside the sessions.

use std::sync::Arc;

use mayfly_protocol::{JobOutcome, TenantId};
use mayfly_session::{Kept, OutcomeArchive};
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
        match self.0.keep(tenant, outcome).await {
            Ok(Kept::Ours) => Ok(()),
            Ok(Kept::Theirs(theirs)) => {
                tracing::warn!(job.id = %outcome.job_id, job.attempt = theirs.attempt, "the job was ended by others, and their end stays");
                Ok(())
            }
            Err(error) => Err(OutcomeNotKept(Box::new(error))),
        }
    }
}
