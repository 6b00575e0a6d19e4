//! The webhooks that a gateway owes, one small object each, beside its jobs that are not over: what the next gateway delivers when that one is gone.
//!
//! The address often is a secret: it is in here only as whoever wrote it has sealed it. This module must not know how.

use mayfly_protocol::event::timestamp;
use mayfly_protocol::{JobId, TenantId};
use mayfly_storage::{InvalidKey, Key, Precondition};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::open_job::{FORMAT_VERSION, GatewayId, OpenJobError, OpenJobs, ROOT};

/// The largest object of this kind, in bytes: a message holds what its job answered.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// A webhook that is still to be delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwedWebhook {
    format_version: u32,
    /// The job that it tells of.
    pub job_id: JobId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The address, sealed.
    pub receiver: String,
    /// What is sent, once the job is over: the same bytes in every try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The tries that have failed.
    pub tries: u32,
    /// When the next one is due.
    #[serde(with = "timestamp")]
    pub next_at: OffsetDateTime,
}

impl OwedWebhook {
    /// A webhook of a job that is not over.
    pub fn new(job_id: JobId, tenant: TenantId, receiver: String) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            job_id,
            tenant,
            receiver,
            message: None,
            tries: 0,
            next_at: OffsetDateTime::now_utc(),
        }
    }
}

impl OpenJobs {
    /// The webhooks that a gateway owes; what is damaged is told apart.
    pub async fn webhooks_of(
        &self,
        gateway: &GatewayId,
    ) -> Result<Vec<Result<OwedWebhook, Key>>, OpenJobError> {
        self.records(&folder(gateway), MAX_BYTES, |owed: &OwedWebhook| {
            owed.format_version
        })
        .await
    }

    /// Writes what a gateway owes; it alone does so.
    pub async fn write_webhook(&self, gateway: &GatewayId, owed: &OwedWebhook) -> Result<(), OpenJobError> {
        let key = key(gateway, &owed.tenant, &owed.job_id)?;
        let body = serde_json::to_vec(owed).map_err(|_| OpenJobError::Damaged { key: key.clone() })?;
        let put = self.storage.put(&key, body.into(), Precondition::None);
        Ok(put.await.map(drop)?)
    }

    /// Removes what is owed no more.
    pub async fn remove_webhook(
        &self,
        gateway: &GatewayId,
        tenant: &TenantId,
        job: &JobId,
    ) -> Result<(), OpenJobError> {
        Ok(self.storage.delete(&key(gateway, tenant, job)?).await?)
    }
}

fn folder(gateway: &GatewayId) -> String {
    format!("{ROOT}{gateway}/webhooks/")
}

/// `gateways/<gateway>/webhooks/<tenant>/<job>.json`
fn key(gateway: &GatewayId, tenant: &TenantId, job: &JobId) -> Result<Key, InvalidKey> {
    format!("{}{tenant}/{job}.json", folder(gateway)).parse()
}
