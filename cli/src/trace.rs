//! The settings of traces, and the client that brings them to a collector.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use mayfly_http::{GuardedClient, HttpPolicy, Request};
use mayfly_telemetry::trace::{HttpClient, HttpError, Tracing};
use tokio_util::sync::CancellationToken;
use url::Url;

/// How long the last spans may hold up the end of a process.
pub(crate) const GRACE: Duration = Duration::from_secs(2);
/// Bytes of a collector's answer.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Where traces go.
#[derive(Debug, Clone, Args)]
pub(crate) struct TraceArgs {
    /// Collector of traces (OTLP over HTTP, protobuf), such as `http://collector:4318`; without it none are exported.
    #[arg(long = "otlp-endpoint", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    endpoint: Option<Url>,
}

impl TraceArgs {
    /// What exports the spans of this process, called so.
    pub(crate) fn open(&self, service: &'static str) -> anyhow::Result<Tracing> {
        let Some(endpoint) = &self.endpoint else {
            return Ok(Tracing::off());
        };
        // The operator chose the address: it may be private.
        let policy = HttpPolicy {
            allow_private: true,
            ..HttpPolicy::default()
        };
        let client = GuardedClient::new(policy).context("the client for traces could not be made")?;
        let url = format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/'));
        let tracing = Tracing::otlp(&url, service, Collector(client));
        tracing.context("OTEL_EXPORTER_OTLP_ENDPOINT cannot be used")
    }

    /// The same setting for workers that this process starts.
    pub(crate) fn to_environment(&self) -> Option<(OsString, OsString)> {
        let endpoint = self.endpoint.as_ref()?;
        Some(("OTEL_EXPORTER_OTLP_ENDPOINT".into(), endpoint.as_str().into()))
    }
}

/// The way to a collector.
#[derive(Debug)]
struct Collector(GuardedClient);

#[async_trait::async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let mut asked = Request::post(head.uri.to_string().parse()?).body(body);
        for (name, value) in &head.headers {
            asked = asked.header(name.clone(), value.clone());
        }
        // Dropped with the request, which the exporter bounds.
        let answer = self.0.send(asked, &CancellationToken::new()).await?;
        let mut response = http::Response::builder().status(answer.status);
        if let Some(headers) = response.headers_mut() {
            *headers = answer.headers.clone();
        }
        Ok(response.body(answer.bytes(MAX_ANSWER_BYTES).await?)?)
    }
}
