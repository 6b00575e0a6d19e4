//! Requests to one gateway.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use mayfly_protocol::{ExposeSecret as _, JobId, JobKind, Refusal, SecretString, header};
use reqwest::header::HeaderName;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::time::sleep;
use url::{Host, Url};
use uuid::Uuid;

use super::exit::ClientError;
use crate::args::extra_ca;
use crate::secret;

/// The longest that a stream may be silent; the gateway sends a comment more often than that.
const SILENCE: Duration = Duration::from_secs(30);
/// The longest that a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How often a job is posted whose answer is lost, and the pause between.
const POST_ATTEMPTS: u32 = 5;
const POST_PAUSE: Duration = Duration::from_millis(300);
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The largest refusal that is read, in bytes.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;

/// Which gateway is asked. The key for it comes from MAYFLY_API_KEY, or from the file that MAYFLY_API_KEY_FILE names.
#[derive(Debug, Clone, Args)]
pub(crate) struct GatewayAddress {
    /// Address of the gateway.
    #[arg(long, env = "MAYFLY_URL", default_value = "http://127.0.0.1:8080")]
    url: Url,
    /// Send the key over plain http to another machine, where whoever is in between can read it.
    #[arg(long, env = "ALLOW_PLAIN_HTTP", num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    allow_plain_http: bool,
    /// File of further certificate authorities (PEM), beside the system's.
    #[arg(long, env = "EXTRA_CA_FILE")]
    extra_ca_file: Option<PathBuf>,
}

/// A gateway, and the key for it.
pub(crate) struct Gateway {
    base: Url,
    key: Option<SecretString>,
    http: reqwest::Client,
}

impl Gateway {
    /// By the settings; refuses to send a key where everybody can read it.
    pub(crate) fn from_settings(address: &GatewayAddress) -> anyhow::Result<Self> {
        let key = secret::from_environment("MAYFLY_API_KEY")?;
        let url = &address.url;
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            bail!(
                "the gateway's address holds more than scheme, host, port and path; the key comes from MAYFLY_API_KEY"
            );
        }
        if key.is_some() && !is_private_way(url) && !address.allow_plain_http {
            bail!(
                "the key would go to {url} unencrypted; use https, or --allow-plain-http where the network is yours"
            );
        }
        Self::new(url.clone(), key, address.extra_ca_file.as_ref())
    }

    /// A gateway on this machine that wants no key.
    pub(crate) fn local(base: &str) -> anyhow::Result<Self> {
        Self::new(base.parse()?, None, None)
    }

    fn new(mut base: Url, key: Option<SecretString>, ca: Option<&PathBuf>) -> anyhow::Result<Self> {
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let mut client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE);
        if is_loopback(&base) {
            client = client.no_proxy();
        }
        if let Some(pem) = extra_ca(ca)? {
            client = client.tls_certs_merge(reqwest::Certificate::from_pem_bundle(&pem)?);
        }
        let http = client.build().context("the HTTP client could not be made")?;
        Ok(Self { base, key, http })
    }

    /// A request to a path, with the key.
    pub(super) fn request(&self, method: Method, path: &str) -> anyhow::Result<RequestBuilder> {
        let url = self.base.join(path.trim_start_matches('/'))?;
        let request = self.http.request(method, url);
        Ok(match &self.key {
            Some(key) => request.bearer_auth(key.expose_secret()),
            None => request,
        })
    }

    /// Sends a request, and gives its answer where that is a success.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let answer = request.send().await.map_err(|error| {
            ClientError::Unreachable(
                anyhow!(error.without_url())
                    .context(format!("the gateway at {} cannot be reached", self.base)),
            )
        })?;
        match answer.status().is_success() {
            true => Ok(answer),
            false => Err(refusal(answer).await),
        }
    }

    /// `GET` of something that is JSON.
    pub(super) async fn json(&self, method: Method, path: &str) -> Result<Value, ClientError> {
        let answer = self.send(self.request(method, path)?).await?;
        let read = answer.json().await;
        read.map_err(|error| {
            ClientError::Unreachable(anyhow!(error.without_url()).context("the answer is not whole"))
        })
    }

    /// Posts a job: its stream, and its id. Where the answer is lost the same is sent again, under the same idempotency key: it is one job.
    pub(super) async fn post(&self, kind: JobKind, body: &Value) -> Result<(JobId, Response), ClientError> {
        let (key, mut attempts) = (Uuid::new_v4().to_string(), POST_ATTEMPTS);
        loop {
            attempts -= 1;
            let request = self.request(Method::POST, kind.path())?;
            let sent = self.send(request.header(IDEMPOTENCY_KEY, &key).json(body)).await;
            match sent {
                Err(ClientError::Unreachable(error)) if attempts > 0 && was_sent(&error) => {
                    tracing::debug!("the answer was lost ({error:#}); sending the same again");
                    sleep(POST_PAUSE).await;
                }
                sent => return self.accepted(sent?),
            }
        }
    }

    fn accepted(&self, answer: Response) -> Result<(JobId, Response), ClientError> {
        let id = answer
            .headers()
            .get(header::JOB_ID)
            .and_then(|id| id.to_str().ok()?.parse().ok());
        let id = id.ok_or_else(|| {
            ClientError::Unreachable(anyhow!("what answers at {} is no gateway", self.base))
        })?;
        Ok((id, answer))
    }
}

/// Whether the other side may have seen the request.
fn was_sent(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<reqwest::Error>()
        .is_some_and(|error| !error.is_connect() && !error.is_builder())
}

/// Whether nobody in between can read what is sent.
fn is_private_way(url: &Url) -> bool {
    url.scheme() == "https" || is_loopback(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// What a refusal says; of one that is none of a gateway's, only the status.
async fn refusal(mut answer: Response) -> ClientError {
    let status = answer.status();
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_REFUSAL_BYTES {
            break;
        }
    }
    match serde_json::from_slice::<Refusal>(&body) {
        Ok(refusal) => ClientError::Refused(Box::new(refusal)),
        Err(_) if status == StatusCode::NOT_FOUND => {
            ClientError::Unreachable(anyhow!("what answers there is no gateway: {status}"))
        }
        Err(_) => ClientError::Unreachable(anyhow!("the gateway answered {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_encrypted_or_stays_on_this_machine() {
        let is_private = |url: &str| is_private_way(&url.parse().unwrap());
        assert!(is_private("https://mayfly.example.com"));
        assert!(is_private("http://127.0.0.1:8080"));
        assert!(is_private("http://[::1]:8080"));
        assert!(is_private("http://localhost:8080"));
        assert!(!is_private("http://mayfly.example.com"));
        assert!(!is_private("http://localhost.example.com"));
        assert!(!is_private("http://10.0.0.1"));
    }
}
