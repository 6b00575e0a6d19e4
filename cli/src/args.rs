//! The settings of every role, as environment variables and flags.
//!
//! Secrets are not here: they have no flags, see [`crate::secret`].

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use mayfly_http::{GuardedClient, HostPattern, HttpPolicy, InvalidHostPattern};
use mayfly_server::TlsFiles;
use mayfly_storage::probe::ProbeError;
use mayfly_storage::{ObjectStore, Race, SharedOpenError, StorageOptions, StorageUrl};

use crate::confine::SandboxArg;
use crate::gc::CollectArgs;
use crate::redis::RedisArgs;
use crate::trace::TraceArgs;
use crate::webhook::WebhookArgs;

/// How the log looks.
#[derive(Debug, Clone, Args)]
pub(crate) struct LogArgs {
    /// Form of the log on standard error.
    #[arg(
        long = "log-format",
        env = "LOG_FORMAT",
        value_enum,
        default_value = "text",
        global = true
    )]
    pub(crate) format: LogFormat,
    /// What is logged, in the syntax of RUST_LOG; `info` by default, `warn` for the demo.
    #[arg(long = "log", env = "RUST_LOG", global = true)]
    filter: Option<String>,
}

impl LogArgs {
    pub(crate) fn filter(&self, quiet: bool) -> &str {
        self.filter
            .as_deref()
            .unwrap_or(if quiet { "warn" } else { "info" })
    }

    /// The same settings as environment variables, for workers that this process starts.
    pub(crate) fn to_environment(&self, quiet: bool) -> Vec<(OsString, OsString)> {
        let format = match self.format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        vec![
            ("RUST_LOG".into(), self.filter(quiet).into()),
            ("LOG_FORMAT".into(), format.into()),
        ]
    }
}

/// The forms of the log.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl From<LogFormat> for mayfly_telemetry::logging::LogFormat {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

/// TLS of a role that listens.
#[derive(Debug, Clone, Args)]
pub(crate) struct TlsArgs {
    /// File of the certificate (PEM, with those that lead to its authority) to speak TLS with; read again when it changes.
    #[arg(long, env = "TLS_CERT_FILE", requires = "tls_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// File of the certificate's private key (PEM).
    #[arg(long, env = "TLS_KEY_FILE", requires = "tls_cert_file")]
    tls_key_file: Option<PathBuf>,
}

impl TlsArgs {
    pub(crate) fn files(&self) -> Option<TlsFiles> {
        let (certificate, key) = self.tls_cert_file.clone().zip(self.tls_key_file.clone())?;
        Some(TlsFiles { certificate, key })
    }
}

/// What every worker is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct WorkerArgs {
    /// Address to listen on.
    #[arg(long, env = "HOST", default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,
    /// Folder for scratch files; everything in it is removed after the job.
    #[arg(long, env = "TMP_DIR", default_value = "/tmp")]
    pub(crate) tmp_dir: PathBuf,
    /// Seconds that a job may take.
    #[arg(long, env = "JOB_TIMEOUT_SECS", default_value = "1800", value_parser = seconds)]
    pub(crate) job_timeout: Duration,
    /// Seconds that a running job gets to end after SIGTERM.
    #[arg(long, env = "DRAIN_GRACE_SECS", default_value = "30", value_parser = seconds)]
    pub(crate) drain_grace: Duration,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    /// Whether a worker starts where the kernel cannot keep it from the files and processes of others.
    #[arg(long, env = "SANDBOX", value_enum, default_value = "best-effort")]
    pub(crate) sandbox: SandboxArg,
    /// Print `listening on ADDRESS` on standard output as soon as jobs are taken.
    #[arg(long)]
    pub(crate) announce: bool,
    /// Drain and exit when standard input ends.
    #[arg(long)]
    pub(crate) exit_with_parent: bool,
    #[command(flatten)]
    pub(crate) trace: TraceArgs,
}

/// A git worker.
#[derive(Debug, Clone, Args)]
pub(crate) struct GitWorkerArgs {
    /// Port to listen on; 0 takes a free one.
    #[arg(long, env = "PORT", default_value = "5002")]
    pub(crate) port: u16,
    #[command(flatten)]
    pub(crate) worker: WorkerArgs,
    /// Where sessions are kept: `file:///folder` or `s3://bucket/prefix`.
    #[arg(long, env = "STORAGE_URL")]
    pub(crate) storage_url: StorageUrl,
    #[command(flatten)]
    pub(crate) storage: StorageArgs,
    #[command(flatten)]
    pub(crate) git: GitArgs,
}

/// How object storage is reached, beside the AWS SDK's own variables.
#[derive(Debug, Clone, Args)]
pub(crate) struct StorageArgs {
    /// File of certificate authorities (PEM) that S3 is trusted by, in place of the system's.
    #[arg(long, env = "AWS_CA_BUNDLE")]
    aws_ca_bundle: Option<PathBuf>,
    /// Seconds that S3 may take to answer one attempt of a request; moving content comes on top.
    #[arg(long, env = "STORAGE_TIMEOUT_SECS", default_value = "30", value_parser = seconds)]
    storage_timeout: Duration,
    /// Seconds without a byte after which a transfer from or to S3 has failed.
    #[arg(long, env = "STORAGE_IDLE_SECS", default_value = "20", value_parser = seconds)]
    storage_idle: Duration,
    /// Run with a storage whose conditional writes lose races; then never let two jobs of one session run at the same time.
    #[arg(long, env = "ACCEPT_ONE_WRITER", num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    pub(crate) accept_one_writer: bool,
}

impl StorageArgs {
    pub(crate) fn options(&self) -> StorageOptions {
        let mut options = StorageOptions {
            operation_timeout: self.storage_timeout,
            stall_timeout: self.storage_idle,
            ..StorageOptions::default()
        };
        options.s3.ca_bundle.clone_from(&self.aws_ca_bundle);
        options
    }

    pub(crate) fn ca_bundle(&self) -> Option<&PathBuf> {
        self.aws_ca_bundle.as_ref()
    }

    /// Opens the storage, and refuses one in which two workers could both win one session.
    pub(crate) async fn open(&self, url: &StorageUrl, race: Race) -> anyhow::Result<Arc<dyn ObjectStore>> {
        if self.accept_one_writer {
            return Ok(mayfly_storage::open(url, &self.options()).await?);
        }
        match mayfly_storage::open_shared(url, &self.options(), race).await {
            Ok(storage) => Ok(storage),
            Err(SharedOpenError::Open(error)) => Err(error.into()),
            Err(SharedOpenError::Probe(error @ ProbeError::Storage(_))) => {
                Err(error).with_context(|| format!("{url} cannot be used"))
            }
            Err(error) => Err(error).with_context(|| {
                format!(
                    "{url} is not safe for several workers; --accept-one-writer runs with it all the same"
                )
            }),
        }
    }

    /// The same settings as environment variables, for workers that this process starts.
    pub(crate) fn to_environment(&self) -> Vec<(OsString, OsString)> {
        let settings = [
            ("ACCEPT_ONE_WRITER", self.accept_one_writer.to_string()),
            (
                "STORAGE_TIMEOUT_SECS",
                self.storage_timeout.as_secs_f64().to_string(),
            ),
            ("STORAGE_IDLE_SECS", self.storage_idle.as_secs_f64().to_string()),
        ];
        let mut pairs: Vec<(OsString, OsString)> =
            settings.map(|(name, value)| (name.into(), value.into())).into();
        pairs.extend(
            self.aws_ca_bundle
                .as_ref()
                .map(|file| ("AWS_CA_BUNDLE".into(), file.into())),
        );
        pairs
    }
}

/// A code worker.
#[derive(Debug, Clone, Args)]
pub(crate) struct CodeWorkerArgs {
    /// Port to listen on; 0 takes a free one.
    #[arg(long, env = "PORT", default_value = "3001")]
    pub(crate) port: u16,
    #[command(flatten)]
    pub(crate) worker: WorkerArgs,
}

/// How git hosts and LLMs are reached, and what is taken from them. The same for one worker and for a fleet of them.
#[derive(Debug, Clone, Args)]
pub(crate) struct GitArgs {
    /// Git hosts that may be reached, as `host`, `host:port` or `*.domain`, separated by commas; all public ones when empty.
    #[arg(
        long,
        env = "ALLOWED_GIT_HOSTS",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) allowed_git_hosts: HostList,
    /// Allow git hosts on private and loopback addresses, and plain http.
    #[arg(long, env = "ALLOW_PRIVATE_GIT_HOSTS", num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    pub(crate) allow_private_git_hosts: bool,
    /// File of further certificate authorities (PEM), beside the system's.
    #[arg(long, env = "EXTRA_CA_FILE")]
    pub(crate) extra_ca_file: Option<PathBuf>,
    /// Seconds without a byte after which a transfer is given up.
    #[arg(long, env = "TRANSFER_IDLE_SECS", default_value = "30", value_parser = seconds)]
    pub(crate) transfer_idle: Duration,
    /// Bytes that one fetch may bring.
    #[arg(long, env = "MAX_REPOSITORY_BYTES", default_value = "4294967296")]
    pub(crate) max_repository_bytes: u64,
    /// Bytes of the largest object that one fetch may bring.
    #[arg(long, env = "MAX_OBJECT_BYTES", default_value = "536870912")]
    pub(crate) max_object_bytes: u64,
    /// Objects that a clone may bring of which nobody said how deep; one with more is shallow.
    #[arg(long, env = "FULL_CLONE_MAX_OBJECTS", default_value = "5000000")]
    pub(crate) full_clone_max_objects: u32,
    /// Bytes that such a clone may bring.
    #[arg(long, env = "FULL_CLONE_MAX_BYTES", default_value = "2147483648")]
    pub(crate) full_clone_max_bytes: u64,
    /// Bytes of files that the repository's ignore rules exclude which a session keeps in its worktree; 0 leaves all of them out.
    #[arg(long, env = "KEEP_IGNORED_BYTES", default_value = "0")]
    pub(crate) keep_ignored_bytes: u64,
    /// Bytes of Git LFS contents that one job may fetch.
    #[arg(long, env = "MAX_LFS_BYTES", default_value = "1073741824")]
    pub(crate) max_lfs_bytes: u64,
    /// Name of the committer, and of the author where a job names none.
    #[arg(long, env = "COMMIT_NAME", default_value = "Mayfly")]
    pub(crate) commit_name: String,
    /// E-mail address of the same.
    #[arg(long, env = "COMMIT_EMAIL", default_value = "mayfly@noreply.invalid")]
    pub(crate) commit_email: String,
    #[command(flatten)]
    pub(crate) llm: LlmArgs,
}

/// Hosts, with commas between them. An empty text is an empty list: a stack file sets every variable that it knows.
#[derive(Debug, Clone)]
pub(crate) struct HostList(Vec<HostPattern>);

impl FromStr for HostList {
    type Err = InvalidHostPattern;

    fn from_str(text: &str) -> Result<Self, InvalidHostPattern> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        text.split(',')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// The LLM that writes names and messages. Its key is ANTHROPIC_API_KEY or OPENAI_API_KEY.
#[derive(Debug, Clone, Args)]
pub(crate) struct LlmArgs {
    /// Which API the LLM speaks.
    #[arg(long, env = "LLM_PROVIDER", value_enum, default_value = "anthropic")]
    pub(crate) llm_provider: LlmProvider,
    /// Model that is asked; the provider's default when absent.
    #[arg(long, env = "LLM_MODEL")]
    pub(crate) llm_model: Option<String>,
    /// Base URL of the Anthropic Messages API.
    #[arg(long, env = "ANTHROPIC_BASE_URL", default_value = "https://api.anthropic.com")]
    pub(crate) anthropic_base_url: url::Url,
    /// Base URL of an OpenAI-compatible server.
    #[arg(long, env = "OPENAI_BASE_URL", default_value = "https://api.openai.com/v1")]
    pub(crate) openai_base_url: url::Url,
    /// Seconds that the LLM may take before a name or message is made by rule.
    #[arg(long, env = "LLM_TIMEOUT_SECS", default_value = "20", value_parser = seconds)]
    pub(crate) llm_timeout: Duration,
}

/// The APIs that an LLM can speak.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LlmProvider {
    /// Anthropic's Messages API.
    Anthropic,
    /// OpenAI's chat completions, as many servers speak them.
    Openai,
}

/// The gateway.
#[derive(Debug, Clone, Args)]
pub(crate) struct GatewayArgs {
    /// Port to listen on; 0 takes a free one.
    #[arg(long, env = "PORT", default_value = "8080")]
    pub(crate) port: u16,
    /// Address to listen on.
    #[arg(long, env = "HOST", default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,
    /// File of the keys that clients need, one a line (`mayfly keys new`); read again when it changes. Wanted beyond loopback.
    #[arg(long = "api-keys-file", env = "GATEWAY_API_KEYS_FILE")]
    pub(crate) api_keys_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    /// File of further certificate authorities (PEM), beside the system's, for workers at `https://` addresses.
    #[arg(long, env = "EXTRA_CA_FILE")]
    pub(crate) extra_ca_file: Option<PathBuf>,
    /// Git workers: `http://host:port,…`, `https://…`, `dns://tasks.git-worker:5002` or `dns+https://…`.
    #[arg(long, env = "GIT_WORKERS")]
    pub(crate) git_workers: Option<String>,
    /// Code workers, in the same form.
    #[arg(long, env = "CODE_WORKERS")]
    pub(crate) code_workers: Option<String>,
    /// Where the workers keep sessions and outcomes: `file:///folder` or `s3://bucket/prefix`. Without it the gateway shows no sessions,
    /// does not know jobs of before a restart, and keeps idempotency keys in memory.
    #[arg(long, env = "STORAGE_URL")]
    pub(crate) storage_url: Option<StorageUrl>,
    #[command(flatten)]
    pub(crate) storage: StorageArgs,
    /// Folder for scratch files of those who read sessions.
    #[arg(long, env = "TMP_DIR", default_value = "/tmp")]
    pub(crate) tmp_dir: PathBuf,
    #[command(flatten)]
    pub(crate) redis: RedisArgs,
    #[command(flatten)]
    pub(crate) queue: QueueArgs,
    #[command(flatten)]
    pub(crate) collect: CollectArgs,
    #[command(flatten)]
    pub(crate) webhooks: WebhookArgs,
    #[command(flatten)]
    pub(crate) trace: TraceArgs,
}

/// How long jobs may wait, and how many.
#[derive(Debug, Clone, Args)]
pub(crate) struct QueueArgs {
    /// Jobs that may wait for a worker.
    #[arg(long, env = "QUEUE_CAPACITY", default_value = "1000")]
    pub(crate) queue_capacity: usize,
    /// Seconds for which running jobs are followed after SIGTERM; then their streams end, to be read on at the next gateway.
    #[arg(long = "gateway-drain-grace-secs", env = "GATEWAY_DRAIN_GRACE_SECS", default_value = "30", value_parser = seconds)]
    pub(crate) gateway_drain_grace: Duration,
    /// Seconds that a job may wait for a worker.
    #[arg(long, env = "QUEUE_TIMEOUT_SECS", default_value = "60", value_parser = seconds)]
    pub(crate) queue_timeout: Duration,
    /// How often a job is attempted at most, where its workers are lost.
    #[arg(long, env = "JOB_ATTEMPTS", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) job_attempts: u32,
}

/// Parses seconds, with or without a fraction.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let value: f64 = text
        .parse()
        .map_err(|_| "is not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(value).map_err(|_| "is not a number of seconds from 0".to_owned())
}

/// Reads the authorities that EXTRA_CA_FILE names.
pub(crate) fn extra_ca(file: Option<&PathBuf>) -> anyhow::Result<Option<Vec<u8>>> {
    let read = |file: &PathBuf| {
        std::fs::read(file)
            .with_context(|| format!("EXTRA_CA_FILE names {}, which cannot be read", file.display()))
    };
    file.map(read).transpose()
}

impl GitArgs {
    pub(crate) fn extra_ca_file(&self) -> Option<&PathBuf> {
        self.extra_ca_file.as_ref()
    }

    /// The guard for git hosts.
    pub(crate) fn git_client(&self) -> anyhow::Result<GuardedClient> {
        let policy = HttpPolicy {
            allowed_hosts: self.allowed_git_hosts.0.clone(),
            allow_private: self.allow_private_git_hosts,
            extra_ca_pem: extra_ca(self.extra_ca_file.as_ref())?,
            idle_timeout: self.transfer_idle,
            ..HttpPolicy::default()
        };
        GuardedClient::new(policy).context("the client for git hosts could not be made")
    }

    /// The client for the LLM, whose address the operator chose: it may be private.
    pub(crate) fn llm_client(&self) -> anyhow::Result<GuardedClient> {
        let policy = HttpPolicy {
            allow_private: true,
            extra_ca_pem: extra_ca(self.extra_ca_file.as_ref())?,
            ..HttpPolicy::default()
        };
        GuardedClient::new(policy).context("the client for the LLM could not be made")
    }

    /// The same settings as environment variables, for workers that this process starts.
    pub(crate) fn to_environment(&self) -> Vec<(OsString, OsString)> {
        let hosts: Vec<String> = self.allowed_git_hosts.0.iter().map(ToString::to_string).collect();
        let llm = &self.llm;
        let provider = match llm.llm_provider {
            LlmProvider::Anthropic => "anthropic",
            LlmProvider::Openai => "openai",
        };
        let mut pairs: Vec<(OsString, OsString)> = [
            ("ALLOWED_GIT_HOSTS", hosts.join(",")),
            (
                "ALLOW_PRIVATE_GIT_HOSTS",
                self.allow_private_git_hosts.to_string(),
            ),
            ("TRANSFER_IDLE_SECS", self.transfer_idle.as_secs_f64().to_string()),
            ("MAX_REPOSITORY_BYTES", self.max_repository_bytes.to_string()),
            ("MAX_OBJECT_BYTES", self.max_object_bytes.to_string()),
            ("FULL_CLONE_MAX_OBJECTS", self.full_clone_max_objects.to_string()),
            ("FULL_CLONE_MAX_BYTES", self.full_clone_max_bytes.to_string()),
            ("KEEP_IGNORED_BYTES", self.keep_ignored_bytes.to_string()),
            ("MAX_LFS_BYTES", self.max_lfs_bytes.to_string()),
            ("COMMIT_NAME", self.commit_name.clone()),
            ("COMMIT_EMAIL", self.commit_email.clone()),
            ("LLM_PROVIDER", provider.to_owned()),
            ("ANTHROPIC_BASE_URL", llm.anthropic_base_url.to_string()),
            ("OPENAI_BASE_URL", llm.openai_base_url.to_string()),
            ("LLM_TIMEOUT_SECS", llm.llm_timeout.as_secs_f64().to_string()),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
        pairs.extend(
            llm.llm_model
                .as_ref()
                .map(|model| ("LLM_MODEL".into(), model.into())),
        );
        pairs.extend(
            self.extra_ca_file
                .as_ref()
                .map(|file| ("EXTRA_CA_FILE".into(), file.into())),
        );
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_hosts_may_be_empty_and_its_members_may_not() {
        let count = |text: &str| text.parse::<HostList>().map(|list| list.0.len()).ok();
        assert_eq!(count(""), Some(0));
        assert_eq!(count("github.com"), Some(1));
        assert_eq!(count("github.com,*.example.com:8443"), Some(2));
        for wrong in [",", "github.com,", ",github.com", "a b"] {
            assert_eq!(count(wrong), None, "{wrong}");
        }
    }
}
