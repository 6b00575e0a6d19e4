//! The jobs that are not over, one small object each, beside the sign of life of the gateway that has them: what other gateways know of them,
//! and what is taken over when that gateway is gone. Nothing of a job's body is in here.
//!
//! A job stands in the folder of one gateway at a time. This module must not know when a gateway counts as gone.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use mayfly_protocol::event::timestamp;
use mayfly_protocol::{JobId, JobKind, SessionId, TenantId};
use mayfly_storage::{InvalidKey, Key, ObjectStore, Precondition, StorageError, Version};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

pub(crate) const FORMAT_VERSION: u32 = 1;
/// The largest object of this kind, in bytes.
const MAX_BYTES: u64 = 64 * 1024;
/// Gateways that are looked at; with more in the storage, the others are left alone.
const MAX_GATEWAYS: NonZeroUsize = NonZeroUsize::new(1000).unwrap();
/// Records that are read at the same moment.
const AT_ONCE: usize = 16;
pub(crate) const ROOT: &str = "gateways/";

/// One life of a gateway's process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GatewayId(String);

/// A text is no id of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a gateway's id is a UUID in lower case with hyphens")]
pub struct InvalidGatewayId;

impl GatewayId {
    /// Makes a new id.
    pub fn new_now() -> Self {
        Self(Uuid::now_v7().hyphenated().to_string())
    }
}

impl FromStr for GatewayId {
    type Err = InvalidGatewayId;
    fn from_str(text: &str) -> Result<Self, InvalidGatewayId> {
        let uuid = Uuid::try_parse(text).map_err(|_| InvalidGatewayId)?;
        let canonical = uuid.hyphenated().to_string();
        match canonical == text {
            true => Ok(Self(canonical)),
            false => Err(InvalidGatewayId),
        }
    }
}

impl TryFrom<String> for GatewayId {
    type Error = InvalidGatewayId;
    fn try_from(text: String) -> Result<Self, InvalidGatewayId> {
        text.parse()
    }
}

impl From<GatewayId> for String {
    fn from(id: GatewayId) -> Self {
        id.0
    }
}

impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// That a gateway lives, or who takes over what it had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignOfLife {
    format_version: u32,
    /// Grows while the gateway lives.
    pub beat: u64,
    /// The gateway that takes over, once this one is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heir: Option<GatewayId>,
}

impl SignOfLife {
    /// The sign of a gateway that lives.
    pub fn of_beat(beat: u64) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            beat,
            heir: None,
        }
    }

    /// The same, of a gateway whose jobs another one takes over.
    #[must_use]
    pub fn inherited_by(self, heir: GatewayId) -> Self {
        Self {
            heir: Some(heir),
            ..self
        }
    }
}

/// A job that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenJob {
    format_version: u32,
    /// The job.
    pub job_id: JobId,
    /// What it is.
    pub kind: JobKind,
    /// Whose it is.
    pub tenant: TenantId,
    /// The session that it works on.
    pub session_id: SessionId,
    /// When it was accepted.
    #[serde(with = "timestamp")]
    pub accepted_at: OffsetDateTime,
    /// Where it was sent; written before it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Sent>,
}

/// To whom a job was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    /// The worker's address.
    pub worker: String,
    /// As which attempt, from 1.
    pub attempt: u32,
    /// How many events the job's stream has before the worker's first.
    pub events_before: u64,
}

impl OpenJob {
    /// A job that no worker has.
    pub fn waiting(
        job_id: JobId,
        kind: JobKind,
        tenant: TenantId,
        session_id: SessionId,
        accepted_at: OffsetDateTime,
    ) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            job_id,
            kind,
            tenant,
            session_id,
            accepted_at,
            sent: None,
        }
    }
}

/// What is known of jobs that are not over could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum OpenJobError {
    /// The storage failed.
    #[error("what is known of jobs that are not over could not be kept or read")]
    Storage(#[from] StorageError),
    /// What is stored cannot be what was kept.
    #[error("`{key}` is damaged, or of a format that this build does not know")]
    Damaged {
        /// The object.
        key: Key,
    },
    /// The ids make no storage key.
    #[error("the job has no place in object storage")]
    Key(#[from] InvalidKey),
}

/// The jobs that are not over, in a storage.
#[derive(Debug, Clone)]
pub struct OpenJobs {
    pub(crate) storage: Arc<dyn ObjectStore>,
}

impl OpenJobs {
    /// Those in this storage.
    pub fn new(storage: Arc<dyn ObjectStore>) -> Self {
        Self { storage }
    }

    /// Every gateway that has anything here, up to a bound.
    pub async fn gateways(&self) -> Result<Vec<GatewayId>, OpenJobError> {
        let page = self.storage.list_folder(ROOT, None, MAX_GATEWAYS).await?;
        let names = page.folders.iter().filter_map(|folder| {
            let name = folder.strip_prefix(ROOT)?.strip_suffix('/')?;
            name.parse().ok()
        });
        Ok(names.collect())
    }

    /// The sign of life of a gateway, and its version for the next one; `None` where it has none, as one that has ended.
    pub async fn sign(&self, gateway: &GatewayId) -> Result<Option<(SignOfLife, Version)>, OpenJobError> {
        self.read(&sign_key(gateway)?, MAX_BYTES, |sign: &SignOfLife| {
            sign.format_version
        })
        .await
    }

    /// Writes a sign of life over the version that is known (`None`: there was none); `None` where another was written meanwhile.
    pub async fn write_sign(
        &self,
        gateway: &GatewayId,
        sign: &SignOfLife,
        over: Option<Version>,
    ) -> Result<Option<Version>, OpenJobError> {
        self.swap(&sign_key(gateway)?, sign, over).await
    }

    /// Removes the sign of a gateway, which is then known to have ended.
    pub async fn remove_sign(&self, gateway: &GatewayId) -> Result<(), OpenJobError> {
        Ok(self.storage.delete(&sign_key(gateway)?).await?)
    }

    /// The jobs of a gateway; what is damaged is told apart.
    pub async fn of(&self, gateway: &GatewayId) -> Result<Vec<Result<OpenJob, Key>>, OpenJobError> {
        self.records(&jobs_folder(gateway), MAX_BYTES, |job: &OpenJob| {
            job.format_version
        })
        .await
    }

    /// All records below a prefix; what is damaged is told apart.
    pub(crate) async fn records<T: DeserializeOwned>(
        &self,
        prefix: &str,
        max_bytes: u64,
        format: impl Fn(&T) -> u32,
    ) -> Result<Vec<Result<T, Key>>, OpenJobError> {
        let listed = self.storage.list(prefix).await?;
        let format = &format;
        let reading =
            stream::iter(listed).map(async |meta| match self.read(&meta.key, max_bytes, format).await {
                Ok(found) => Ok(found.map(|(record, _)| Ok(record))),
                Err(OpenJobError::Damaged { key }) => Ok(Some(Err(key))),
                Err(error) => Err(error),
            });
        let found: Vec<Option<_>> = reading.buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Removes what is damaged.
    pub async fn discard(&self, key: &Key) -> Result<(), OpenJobError> {
        Ok(self.storage.delete(key).await?)
    }

    /// The version of a job's record; `None` where the gateway has no such job.
    pub async fn version(
        &self,
        gateway: &GatewayId,
        tenant: &TenantId,
        job: &JobId,
    ) -> Result<Option<Version>, OpenJobError> {
        let key = job_key(gateway, tenant, job)?;
        let found = self
            .read(&key, MAX_BYTES, |job: &OpenJob| job.format_version)
            .await?;
        Ok(found.map(|(_, version)| version))
    }

    /// Looks for a job at every gateway.
    pub async fn find(
        &self,
        tenant: &TenantId,
        job: &JobId,
    ) -> Result<Option<(GatewayId, OpenJob)>, OpenJobError> {
        for gateway in self.gateways().await? {
            let key = job_key(&gateway, tenant, job)?;
            if let Some((found, _)) = self
                .read(&key, MAX_BYTES, |job: &OpenJob| job.format_version)
                .await?
            {
                return Ok(Some((gateway, found)));
            }
        }
        Ok(None)
    }

    /// Writes a job over the version that is known (`None`: there was none); `None` where somebody else has written or removed it meanwhile.
    pub async fn write(
        &self,
        gateway: &GatewayId,
        job: &OpenJob,
        over: Option<Version>,
    ) -> Result<Option<Version>, OpenJobError> {
        let key = job_key(gateway, &job.tenant, &job.job_id)?;
        self.swap(&key, job, over).await
    }

    /// Removes a job from a gateway's.
    pub async fn remove(
        &self,
        gateway: &GatewayId,
        tenant: &TenantId,
        job: &JobId,
    ) -> Result<(), OpenJobError> {
        Ok(self.storage.delete(&job_key(gateway, tenant, job)?).await?)
    }

    async fn swap<T: Serialize>(
        &self,
        key: &Key,
        value: &T,
        over: Option<Version>,
    ) -> Result<Option<Version>, OpenJobError> {
        let body = serde_json::to_vec(value).map_err(|_| OpenJobError::Damaged { key: key.clone() })?;
        let precondition = over.map_or(Precondition::IfAbsent, Precondition::IfMatch);
        match self.storage.put(key, body.into(), precondition).await {
            Ok(version) => Ok(Some(version)),
            Err(StorageError::PreconditionFailed { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn read<T: DeserializeOwned>(
        &self,
        key: &Key,
        max_bytes: u64,
        format: impl Fn(&T) -> u32,
    ) -> Result<Option<(T, Version)>, OpenJobError> {
        let object = match self.storage.get(key, max_bytes).await {
            Ok(object) => object,
            Err(StorageError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let parsed: Option<T> = serde_json::from_slice(&object.bytes).ok();
        match parsed.filter(|it| format(it) == FORMAT_VERSION) {
            Some(parsed) => Ok(Some((parsed, object.version))),
            None => Err(OpenJobError::Damaged { key: key.clone() }),
        }
    }
}

/// `gateways/<gateway>/alive.json`
fn sign_key(gateway: &GatewayId) -> Result<Key, InvalidKey> {
    format!("{ROOT}{gateway}/alive.json").parse()
}

fn jobs_folder(gateway: &GatewayId) -> String {
    format!("{ROOT}{gateway}/jobs/")
}

/// `gateways/<gateway>/jobs/<tenant>/<job>.json`
fn job_key(gateway: &GatewayId, tenant: &TenantId, job: &JobId) -> Result<Key, InvalidKey> {
    format!("{}{tenant}/{job}.json", jobs_folder(gateway)).parse()
}
