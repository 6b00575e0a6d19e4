//! The settings of webhooks, for whatever runs a gateway.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use mayfly_gateway::{WebhookConfig, WebhookSecrets};
use mayfly_http::{GuardedClient, HostPattern, HttpPolicy};

use crate::args::extra_ca;
use crate::secret;

/// Who may be told that jobs have ended.
#[derive(Debug, Clone, Args)]
pub(crate) struct WebhookArgs {
    /// Hosts that a job's `callbackUrl` may name: `host`, `host:port` or `*.host`, with commas between them; all public ones when absent.
    #[arg(long, env = "ALLOWED_WEBHOOK_HOSTS", value_delimiter = ',')]
    allowed_webhook_hosts: Vec<HostPattern>,
    /// Allow receivers of webhooks at private, loopback and link-local addresses, and plain `http` to them.
    #[arg(long, env = "ALLOW_PRIVATE_WEBHOOK_HOSTS", num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    allow_private_webhook_hosts: bool,
    /// How often a webhook is tried at most.
    #[arg(long, env = "WEBHOOK_ATTEMPTS", default_value = "8", value_parser = clap::value_parser!(u32).range(1..=20))]
    webhook_attempts: u32,
}

impl WebhookArgs {
    /// How receivers are told; `None` without WEBHOOK_SECRET.
    pub(crate) fn config(&self, extra_ca_file: Option<&PathBuf>) -> anyhow::Result<Option<WebhookConfig>> {
        let Some(secret) = secret::from_environment("WEBHOOK_SECRET")? else {
            return Ok(None);
        };
        let secrets = WebhookSecrets::parse(&secret).context("WEBHOOK_SECRET cannot be used: it")?;
        let policy = HttpPolicy {
            allowed_hosts: self.allowed_webhook_hosts.clone(),
            allow_private: self.allow_private_webhook_hosts,
            extra_ca_pem: extra_ca(extra_ca_file)?,
            ..HttpPolicy::default()
        };
        let client = GuardedClient::new(policy).context("the client for webhooks could not be made")?;
        let mut config = WebhookConfig::new(client, self.allow_private_webhook_hosts, secrets);
        config.pauses.attempts = self.webhook_attempts;
        Ok(Some(config))
    }
}
