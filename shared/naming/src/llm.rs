//! Asks an LLM one question, within one bound on time, and reads its answer.
//!
//! This file must not know what is asked, nor what a good answer is.

mod anthropic;
mod openai;
mod retry;

use std::time::Duration;

use mayfly_http::{
    GuardedClient, HeaderMap, HeaderName, HeaderValue, HttpError, Request, Response, StatusCode, header,
};
use mayfly_protocol::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::answer::AnswerFault;
use crate::config::{LlmConfig, Provider};
use crate::prompt::Prompt;
use crate::tokens::LlmUsage;

/// How the credentials of Anthropic begin; they are sent to no other provider.
const ANTHROPIC_CREDENTIAL: &str = "sk-ant-";

/// Why an LLM gave no name. The texts hold neither credentials nor words of its server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LlmError {
    #[error("no LLM is configured")]
    NotConfigured,
    #[error("there is nothing to ask the LLM")]
    NothingToAsk,
    #[error("there is no credential for the LLM")]
    NoCredential,
    #[error("the credential for the LLM has characters that no header can carry")]
    BadCredential,
    #[error("the job was cancelled")]
    Cancelled,
    #[error("the LLM gave no answer within {}s", .0.as_secs_f32())]
    Timeout(Duration),
    #[error("the LLM cannot be asked")]
    Http(#[source] HttpError),
    #[error("the LLM's server answered with status {}: {}", .0.as_u16(), status_meaning(*.0))]
    Status(StatusCode),
    #[error("the LLM's server answered with something that is not its protocol")]
    Unreadable,
    #[error("the LLM's answer was cut off by the limit on its length")]
    Truncated,
    #[error("the LLM's answer {0}")]
    Answer(AnswerFault),
}

impl LlmError {
    /// One line for a log or a progress event.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Http(source) => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }
}

impl From<HttpError> for LlmError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Cancelled => Self::Cancelled,
            other => Self::Http(other),
        }
    }
}

fn status_meaning(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => "it refuses the credential",
        404 => "it knows no such model or path; check the base URL and the model's name",
        429 => "it wants fewer requests",
        400..500 => "it refuses the question",
        500.. => "it is out of order",
        _ => "no answer to this question",
    }
}

/// An LLM that can be asked, with the credential that goes to it.
pub(crate) struct Llm<'a> {
    client: &'a GuardedClient,
    config: &'a LlmConfig,
    headers: HeaderMap,
    usage: &'a LlmUsage,
}

impl<'a> Llm<'a> {
    /// Chooses the credential: the caller's where it is one for this provider, otherwise the configured one.
    pub(crate) fn new(
        client: &'a GuardedClient,
        config: &'a LlmConfig,
        caller: Option<&SecretString>,
        usage: &'a LlmUsage,
    ) -> Result<Self, LlmError> {
        let caller =
            caller.filter(|secret| config.provider == Provider::Anthropic || !is_for_anthropic(secret));
        let credential = caller
            .or(config.api_key.as_ref())
            .map(|secret| secret.expose_secret().trim());
        let mut headers = match config.provider {
            Provider::Anthropic => anthropic::headers(credential.ok_or(LlmError::NoCredential)?)?,
            Provider::OpenAi => openai::headers(credential)?,
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(Self {
            client,
            config,
            headers,
            usage,
        })
    }

    /// The model's answer as text. It takes no longer than the configured bound, whatever the server does.
    pub(crate) async fn ask(&self, prompt: &Prompt, cancel: &CancellationToken) -> Result<String, LlmError> {
        let bound = self.config.timeout;
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(LlmError::Cancelled),
            answer = tokio::time::timeout(bound, self.attempts(prompt, cancel)) => answer.unwrap_or(Err(LlmError::Timeout(bound))),
        }
    }

    async fn attempts(&self, prompt: &Prompt, cancel: &CancellationToken) -> Result<String, LlmError> {
        let deadline = tokio::time::Instant::now() + self.config.timeout;
        let mut attempt = 1;
        loop {
            let response = self.send(prompt, cancel).await?;
            if response.status.is_success() {
                return self.read(response).await;
            }
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let pause = retry::pause(self.config, attempt, response.status, &response.headers, left);
            tokio::time::sleep(pause.ok_or(LlmError::Status(response.status))?).await;
            attempt += 1;
        }
    }

    async fn send(&self, prompt: &Prompt, cancel: &CancellationToken) -> Result<Response, LlmError> {
        let (path, body) = match self.config.provider {
            Provider::Anthropic => (anthropic::PATH, anthropic::body(self.config, prompt)),
            Provider::OpenAi => (openai::PATH, openai::body(self.config, prompt)),
        };
        let mut request =
            Request::post(endpoint(&self.config.base_url, path)).body(body.to_string().into_bytes());
        for (name, value) in &self.headers {
            request = request.header(name.clone(), value.clone());
        }
        Ok(self.client.send(request, cancel).await?)
    }

    async fn read(&self, response: Response) -> Result<String, LlmError> {
        let bytes = response.bytes(self.config.max_answer_bytes).await?;
        let json: Value = serde_json::from_slice(&bytes).map_err(|_| LlmError::Unreadable)?;
        self.usage.count(&json);
        match self.config.provider {
            Provider::Anthropic => anthropic::answer(&json),
            Provider::OpenAi => openai::answer(&json),
        }
    }
}

fn is_for_anthropic(secret: &SecretString) -> bool {
    secret
        .expose_secret()
        .trim_start()
        .starts_with(ANTHROPIC_CREDENTIAL)
}

/// The address of an API call: `v1` is put between base and path unless the base ends with it.
fn endpoint(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    let folder = base.path().trim_end_matches('/');
    let version = if folder.ends_with("/v1") { "" } else { "/v1" };
    url.set_path(&format!("{folder}{version}/{path}"));
    url.set_query(None);
    url.set_fragment(None);
    url
}

/// A header that no log shows.
fn secret_header(headers: &mut HeaderMap, name: HeaderName, value: &str) -> Result<(), LlmError> {
    let mut value = HeaderValue::from_str(value).map_err(|_| LlmError::BadCredential)?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_stands_once() {
        for (base, expected) in [
            (
                "https://api.anthropic.com",
                "https://api.anthropic.com/v1/messages",
            ),
            (
                "https://api.anthropic.com/",
                "https://api.anthropic.com/v1/messages",
            ),
            ("http://127.0.0.1:11434/v1", "http://127.0.0.1:11434/v1/messages"),
            ("http://127.0.0.1:11434/v1/", "http://127.0.0.1:11434/v1/messages"),
            (
                "https://host/proxy/llm?x=1#y",
                "https://host/proxy/llm/v1/messages",
            ),
        ] {
            assert_eq!(endpoint(&base.parse().unwrap(), "messages").as_str(), expected);
        }
    }

    #[test]
    fn errors_say_what_to_do() {
        let text = LlmError::Status(StatusCode::NOT_FOUND).reason();
        assert_eq!(
            text,
            "the LLM's server answered with status 404: it knows no such model or path; check the base URL and the model's name"
        );
        assert_eq!(
            LlmError::Answer(AnswerFault::Empty).reason(),
            "the LLM's answer is empty"
        );
        assert_eq!(
            LlmError::Timeout(Duration::from_millis(1500)).reason(),
            "the LLM gave no answer within 1.5s"
        );
    }
}
