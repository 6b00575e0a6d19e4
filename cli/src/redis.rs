//! The Redis that several gateways share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use mayfly_coordination::{Coordination, Lifetimes, RedisCoordination, RedisSettings, RedisUrl};
use mayfly_gateway::WaitingJobsKeys;
use mayfly_protocol::ExposeSecret as _;

use crate::args::{extra_ca, seconds};
use crate::secret;

/// The pause before Redis is tried again.
const INTERVAL: Duration = Duration::from_millis(500);

/// How gateways that share a Redis use it. Its address has a password, and so comes from REDIS_URL or REDIS_URL_FILE.
#[derive(Debug, Clone, Args)]
pub(crate) struct RedisArgs {
    /// What every key in Redis begins with; fleets that share one have one each.
    #[arg(long, env = "REDIS_PREFIX", default_value = "mayfly")]
    redis_prefix: String,
    /// Seconds that one operation of Redis may take.
    #[arg(long, env = "REDIS_TIMEOUT_SECS", default_value = "0.5", value_parser = seconds)]
    redis_timeout: Duration,
}

impl RedisArgs {
    /// What the gateways share; `None` without REDIS_URL.
    pub(crate) async fn open(
        &self,
        extra_ca_file: Option<&PathBuf>,
    ) -> anyhow::Result<Option<Arc<dyn Coordination>>> {
        let Some(secret) = secret::from_environment("REDIS_URL")? else {
            return Ok(None);
        };
        let url: RedisUrl = secret
            .expose_secret()
            .parse()
            .context("REDIS_URL cannot be used")?;
        let tls = mayfly_http::client_config(extra_ca(extra_ca_file)?.as_deref())?;
        let settings = RedisSettings {
            url,
            tls: Arc::new(tls),
            prefix: self.redis_prefix.clone(),
            timeout: self.redis_timeout,
            interval: INTERVAL,
            lifetimes: Lifetimes::default(),
        };
        Ok(Some(Arc::new(RedisCoordination::open(settings).await?)))
    }
}

/// What bodies of jobs that are not over are sealed with: WAITING_JOBS_KEY, one or, while it is changed, two with a comma between them.
pub(crate) fn waiting_jobs_keys() -> anyhow::Result<Option<WaitingJobsKeys>> {
    let list = secret::from_environment("WAITING_JOBS_KEY")?;
    let keys = list.as_ref().map(WaitingJobsKeys::parse).transpose();
    keys.context("WAITING_JOBS_KEY cannot be used: it")
}
