//! What job commands have in common: the gateway, secrets that go into the body, and how a job is watched.

use std::pin::pin;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use mayfly_protocol::{ExposeSecret as _, JobId, JobKind, SecretString};
use reqwest::{Method, Response};
use serde_json::{Map, Value};

use super::exit::ClientError;
use super::follow::Following;
use super::gateway::{Gateway, GatewayAddress};
use super::view::View;
use crate::secret;

/// How a job is watched.
#[derive(Debug, Clone, Args)]
pub(crate) struct WatchOptions {
    #[command(flatten)]
    pub(super) gateway: GatewayAddress,
    /// Print every event as a line of JSON, and nothing else.
    #[arg(long)]
    pub(super) json: bool,
    /// Ctrl-C cancels the job; without this it only leaves, and the job goes on.
    #[arg(long)]
    pub(super) cancel_on_interrupt: bool,
}

/// The fields of a job's body, without those that nobody gave.
#[derive(Default)]
pub(super) struct Body(Map<String, Value>);

impl Body {
    pub(super) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0.insert(field.to_owned(), value.into());
        self
    }

    pub(super) fn with_some(self, field: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(field, value),
            None => self,
        }
    }

    /// A field that is only there when it is set.
    pub(super) fn with_flag(self, field: &str, is_set: bool, value: bool) -> Self {
        self.with_some(field, is_set.then_some(value))
    }

    /// A secret from the variable, or from the file that `NAME_FILE` names.
    pub(super) fn with_secret(self, field: &str, variable: &str) -> anyhow::Result<Self> {
        let secret = secret::from_environment(variable)?;
        Ok(self.with_some(field, secret.as_ref().map(SecretString::expose_secret)))
    }
}

/// Posts a job, and watches it to its end.
pub(super) async fn run(
    options: &WatchOptions,
    label: &'static str,
    kind: JobKind,
    body: Body,
) -> Result<(), ClientError> {
    let gateway = Gateway::from_settings(&options.gateway)?;
    let started = Instant::now();
    let (job, stream) = gateway.post(kind, &Value::Object(body.0)).await?;
    watch(&gateway, options, label, job, started, None, Some(stream)).await
}

/// Watches a job to its end, or until Ctrl-C.
pub(super) async fn watch(
    gateway: &Gateway,
    options: &WatchOptions,
    label: &'static str,
    job: JobId,
    started: Instant,
    after: Option<String>,
    stream: Option<Response>,
) -> Result<(), ClientError> {
    let mut view = View::new(label, options.json);
    view.begin(&job);
    let followed = {
        let following = Following::new(gateway, job.clone(), started, after, |event| view.show(event));
        let mut following = pin!(following.run(stream));
        let mut may_cancel = options.cancel_on_interrupt;
        loop {
            tokio::select! {
                followed = &mut following => break followed?,
                interrupt = tokio::signal::ctrl_c() => {
                    interrupt.context("Ctrl-C cannot be waited for")?;
                    if !may_cancel {
                        return Err(ClientError::Left(job));
                    }
                    may_cancel = false;
                    cancel(gateway, &job).await?;
                }
            }
        }
    };
    match followed.result {
        Ok(data) => Ok(view.result(&data)?),
        Err(failure) => Err(ClientError::Failed(failure)),
    }
}

/// Asks for the end of a job, and gives the job as it is now.
pub(super) async fn cancel(gateway: &Gateway, job: &JobId) -> Result<Value, ClientError> {
    gateway.json(Method::POST, &format!("/jobs/{job}/cancel")).await
}
