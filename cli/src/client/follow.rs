//! Follows a job to its end, over as many connections as it takes.
//!
//! A stream that breaks is taken up behind the last event that was seen (`Last-Event-ID`), so each event is seen once.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use mayfly_protocol::{Event, EventBody, Failure, JobId, JobKind};
use mayfly_sse::{DEFAULT_MAX_EVENT_BYTES, Decoded, Decoder};
use reqwest::header::HeaderName;
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use tokio::time::sleep;

use super::exit::ClientError;
use super::gateway::Gateway;

/// The time without a sign of life after which a stream is given up.
const PATIENCE: Duration = Duration::from_secs(120);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// How a job ended.
pub(crate) struct Followed {
    /// `completed.data`, or why it failed.
    pub(crate) result: Result<Value, Failure>,
    /// From the request to the first event.
    pub(crate) first_event: Duration,
    /// From the request to the terminal event.
    pub(crate) elapsed: Duration,
}

/// Posts a job, hands every event to `observe`, and returns after the terminal one.
pub(crate) async fn follow_posted(
    gateway: &Gateway,
    kind: JobKind,
    body: &Value,
    observe: impl FnMut(&Event),
) -> Result<Followed, ClientError> {
    let started = Instant::now();
    let (job, stream) = gateway.post(kind, body).await?;
    Following::new(gateway, job, started, None, observe)
        .run(Some(stream))
        .await
}

/// A job that is followed.
pub(super) struct Following<'a, F> {
    gateway: &'a Gateway,
    job: JobId,
    observe: F,
    started: Instant,
    first_event: Option<Duration>,
    /// The number of the last event that was seen, as the stream has it.
    last_id: Option<String>,
    last_sign: Instant,
}

/// How one connection ended.
enum Connection {
    Ended(Result<Value, Failure>),
    Broke(anyhow::Error),
}

impl<'a, F: FnMut(&Event)> Following<'a, F> {
    /// Follows from behind the event `last_id`, or from the beginning.
    pub(super) fn new(
        gateway: &'a Gateway,
        job: JobId,
        started: Instant,
        last_id: Option<String>,
        observe: F,
    ) -> Self {
        Self {
            gateway,
            job,
            observe,
            started,
            first_event: None,
            last_id,
            last_sign: Instant::now(),
        }
    }

    /// Reads to the terminal event, from a stream that is open already or from a new one.
    pub(super) async fn run(mut self, mut stream: Option<Response>) -> Result<Followed, ClientError> {
        let mut pause = FIRST_PAUSE;
        loop {
            let opened = match stream.take() {
                Some(stream) => Ok(stream),
                None => self.open().await,
            };
            let broken = match opened {
                Ok(answer) if answer.status() == StatusCode::NO_CONTENT => {
                    let result = self.outcome().await?;
                    return Ok(self.followed(result));
                }
                Ok(answer) => {
                    let seen = self.last_id.clone();
                    match self.read(answer).await {
                        Connection::Ended(result) => return Ok(self.followed(result)),
                        Connection::Broke(error) => {
                            if seen != self.last_id {
                                pause = FIRST_PAUSE;
                            }
                            ClientError::Unreachable(error)
                        }
                    }
                }
                Err(error) => error,
            };
            let wait = self.wait(broken, pause)?;
            sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn followed(&self, result: Result<Value, Failure>) -> Followed {
        let elapsed = self.started.elapsed();
        Followed {
            result,
            first_event: self.first_event.unwrap_or(elapsed),
            elapsed,
        }
    }

    async fn open(&self) -> Result<Response, ClientError> {
        let path = format!("/jobs/{}/events", self.job);
        let request = self.gateway.request(Method::GET, &path)?;
        let request = match &self.last_id {
            Some(id) => request.header(LAST_EVENT_ID, id),
            None => request,
        };
        self.gateway.send(request).await
    }

    /// How long to wait before the stream is opened again; the error where that has no use any more.
    fn wait(&self, broken: ClientError, pause: Duration) -> Result<Duration, ClientError> {
        let told = match &broken {
            ClientError::Unreachable(_) => None,
            ClientError::Refused(refusal) if refusal.retryable => {
                refusal.retry_after.map(Duration::from_secs)
            }
            _ => return Err(broken),
        };
        let wait = told.unwrap_or(pause);
        if self.last_sign.elapsed() + wait > PATIENCE {
            let text = format!("the stream of job {} was lost; the job may go on", self.job);
            return Err(ClientError::Unreachable(anyhow!("{broken}").context(text)));
        }
        tracing::debug!("the stream broke off ({broken}); taking it up again in {wait:?}");
        Ok(wait)
    }

    async fn read(&mut self, mut stream: Response) -> Connection {
        let mut decoder = Decoder::new(DEFAULT_MAX_EVENT_BYTES);
        loop {
            let chunk = match stream.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Connection::Broke(anyhow!("the stream ended before the job did")),
                Err(error) => return Connection::Broke(anyhow!(error.without_url())),
            };
            self.last_sign = Instant::now();
            let decoded = match decoder.push(&chunk) {
                Ok(decoded) => decoded,
                Err(error) => return Connection::Broke(anyhow!(error)),
            };
            for message in decoded {
                let Decoded::Message { id, data, .. } = message else {
                    continue;
                };
                match serde_json::from_slice(&data) {
                    Ok(event) => {
                        if let Some(result) = self.take(id, event) {
                            return Connection::Ended(result);
                        }
                    }
                    Err(_) => return Connection::Broke(anyhow!("what the gateway sent is no event")),
                }
            }
        }
    }

    fn take(&mut self, id: Option<String>, event: Event) -> Option<Result<Value, Failure>> {
        self.last_id = id.or(self.last_id.take());
        self.first_event.get_or_insert(self.started.elapsed());
        (self.observe)(&event);
        match event.body {
            EventBody::Progress { .. } => None,
            EventBody::Completed { data } => Some(Ok(data)),
            EventBody::Error(failure) => Some(Err(failure)),
        }
    }

    /// How the job ended, where its stream has nothing more to say.
    async fn outcome(&self) -> Result<Result<Value, Failure>, ClientError> {
        let mut job = self
            .gateway
            .json(Method::GET, &format!("/jobs/{}", self.job))
            .await?;
        if job.get("code").is_some() {
            let failure = serde_json::from_value(job);
            return failure.map(Err).map_err(|error| {
                ClientError::Unreachable(
                    anyhow!(error).context("the gateway does not tell how the job ended"),
                )
            });
        }
        match job.get_mut("data") {
            Some(data) => Ok(Ok(data.take())),
            None => Err(ClientError::Unreachable(anyhow!(
                "the gateway does not tell how the job ended"
            ))),
        }
    }
}
