//! A client of the gateway: posts a job and reads its stream to the terminal event.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mayfly_protocol::{Event, EventBody, Failure, JobKind, Refusal};
use mayfly_sse::{DEFAULT_MAX_EVENT_BYTES, Decoded, Decoder};

/// The longest that a stream may be silent; the gateway sends a comment more often than that.
const SILENCE: Duration = Duration::from_secs(30);
/// The longest that a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// A client of one gateway.
pub(crate) struct Client {
    base: String,
    http: reqwest::Client,
}

/// How a job ended.
pub(crate) struct Outcome {
    /// `completed.data`, or why it failed.
    pub(crate) result: Result<serde_json::Value, Failure>,
    /// From the request to the first event.
    pub(crate) first_event: Duration,
    /// From the request to the terminal event.
    pub(crate) elapsed: Duration,
}

impl Client {
    pub(crate) fn new(base: String) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .build()
            .context("the HTTP client could not be made")?;
        Ok(Self { base, http })
    }

    /// Posts a job, hands every event to `observe`, and returns after the terminal one.
    pub(crate) async fn run(
        &self,
        kind: JobKind,
        body: &serde_json::Value,
        mut observe: impl FnMut(&Event),
    ) -> anyhow::Result<Outcome> {
        let started = Instant::now();
        let url = format!("{}{}", self.base, kind.path());
        let mut answer = self
            .http
            .post(&url)
            .json(body)
            .send()
            .await
            .context("the gateway cannot be reached")?;
        if !answer.status().is_success() {
            let status = answer.status();
            let refusal: Refusal = answer
                .json()
                .await
                .with_context(|| format!("the gateway answered {status}"))?;
            bail!("refused with {status} `{}`: {}", refusal.code, refusal.error);
        }
        let mut decoder = Decoder::new(DEFAULT_MAX_EVENT_BYTES);
        let mut first_event = None;
        while let Some(chunk) = answer.chunk().await.context("the stream broke")? {
            for event in events(&mut decoder, &chunk)? {
                let first_event = *first_event.get_or_insert_with(|| started.elapsed());
                observe(&event);
                let elapsed = started.elapsed();
                match event.body {
                    EventBody::Progress { .. } => {}
                    EventBody::Completed { data } => {
                        return Ok(Outcome {
                            result: Ok(data),
                            first_event,
                            elapsed,
                        });
                    }
                    EventBody::Error(failure) => {
                        return Ok(Outcome {
                            result: Err(failure),
                            first_event,
                            elapsed,
                        });
                    }
                }
            }
        }
        bail!("the stream ended without a terminal event")
    }
}

fn events(decoder: &mut Decoder, chunk: &[u8]) -> anyhow::Result<Vec<Event>> {
    let mut events = Vec::new();
    for decoded in decoder.push(chunk).context("the stream is not one of events")? {
        if let Decoded::Message { data, .. } = decoded {
            events.push(serde_json::from_slice(&data).context("an event cannot be read")?);
        }
    }
    Ok(events)
}
