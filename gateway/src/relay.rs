//! Follows a worker's stream into a job's log: events unchanged, under new numbers, up to the terminal event and not beyond.
//!
//! Silence, a broken connection and rubbish are told apart and end the relay. This module must not know the queue or the fleet.

use std::time::Duration;

use bytes::Bytes;
use mayfly_protocol::{ErrorCode, Failure, JobId};
use mayfly_sse::{Decoded, Decoder};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::time::{Instant, timeout_at};

use crate::jobs::{End, JobWriter};
use crate::worker_client::{Cut, WorkerStream};

/// The bounds of a relay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RelayLimits {
    pub(crate) silence: Duration,
    pub(crate) max_event_bytes: usize,
}

/// Why a stream ended without its terminal event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RelayError {
    #[error("the worker said nothing for {} s", .0.as_secs_f32())]
    Silent(Duration),
    #[error("the connection to the worker ended before the job did")]
    Broken,
    #[error("the worker's stream is not the contract's: {0}")]
    Rubbish(String),
}

impl RelayError {
    /// Whether the worker is lost, rather than wrong.
    pub(crate) fn is_loss(&self) -> bool {
        matches!(self, Self::Silent(_) | Self::Broken)
    }
}

impl From<RelayError> for Failure {
    fn from(error: RelayError) -> Self {
        let code = match error {
            RelayError::Silent(_) | RelayError::Broken => ErrorCode::WorkerLost,
            RelayError::Rubbish(_) => ErrorCode::WorkerProtocol,
        };
        Self::new(
            code,
            format!("{error}; the job may have run, so look at the session before sending it again"),
        )
    }
}

/// Under which numbers a worker's events go into the job's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// The next ones.
    Next,
    /// The worker's own, behind this many events: those that another gateway gave them.
    Behind(u64),
}

impl Numbers {
    fn of(self, id: Option<&str>) -> Result<Option<u64>, RelayError> {
        let Self::Behind(before) = self else {
            return Ok(None);
        };
        let number: Option<u64> = id.and_then(|id| id.parse().ok());
        let number = number.and_then(|number| number.checked_add(before));
        let number = number.ok_or_else(|| RelayError::Rubbish("an event has no number".to_owned()))?;
        Ok(Some(number))
    }
}

/// Relays events to the writer until the terminal event, which it gives back with its number, where that is not just the next.
pub(crate) async fn relay(
    stream: &mut WorkerStream,
    limits: RelayLimits,
    writer: &JobWriter,
    numbers: Numbers,
) -> Result<(End, Option<u64>), RelayError> {
    let mut decoder = Decoder::new(limits.max_event_bytes);
    let mut silent_at = Instant::now() + limits.silence;
    loop {
        let chunk = next_chunk(stream, silent_at, limits.silence).await?;
        let items = decoder
            .push(&chunk)
            .map_err(|error| RelayError::Rubbish(error.to_string()))?;
        if !items.is_empty() {
            silent_at = Instant::now() + limits.silence;
        }
        for item in items {
            let Decoded::Message { id, data, .. } = item else {
                continue;
            };
            let number = numbers.of(id.as_deref())?;
            if let Some(end) = take(writer, data, number)? {
                return Ok((end, number));
            }
        }
    }
}

/// Adds one event to the log under this number, or the next; gives the end, where it is one.
pub(crate) fn take(
    writer: &JobWriter,
    data: Vec<u8>,
    number: Option<u64>,
) -> Result<Option<End>, RelayError> {
    match (Said::parse(&data, &writer.job().id)?, number) {
        (Said::Progress(stage), Some(number)) => writer.relay_at(number, stage, &data),
        (Said::Progress(stage), None) => writer.relay(stage, &data),
        (Said::Completed, _) => return Ok(Some(End::Completed(data.into()))),
        (Said::Failed, _) => return Ok(Some(End::Failed(data.into()))),
    }
    Ok(None)
}

/// Reads what a worker still sends after its terminal event, so that it sees its stream delivered.
pub(crate) async fn linger(stream: &mut WorkerStream, patience: Duration) {
    let until = Instant::now() + patience;
    while let Ok(Some(Ok(_))) = timeout_at(until, stream.chunk()).await {}
}

async fn next_chunk(
    stream: &mut WorkerStream,
    silent_at: Instant,
    silence: Duration,
) -> Result<Bytes, RelayError> {
    let chunk = timeout_at(silent_at, stream.chunk()).await;
    match chunk.map_err(|_| RelayError::Silent(silence))? {
        Some(Ok(chunk)) => Ok(chunk),
        Some(Err(Cut)) | None => Err(RelayError::Broken),
    }
}

/// What the gateway has to know of an event; the rest is the client's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Progress(String),
    Completed,
    Failed,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(rename = "type")]
    kind: String,
    job_id: String,
    stage: Option<String>,
    data: Option<IgnoredAny>,
    code: Option<String>,
}

impl Said {
    pub(crate) fn parse(data: &[u8], job: &JobId) -> Result<Self, RelayError> {
        let rubbish = |text: &str| RelayError::Rubbish(text.to_owned());
        let text = std::str::from_utf8(data).map_err(|_| rubbish("an event is not UTF-8"))?;
        let wire: Wire = serde_json::from_str(text)
            .map_err(|_| rubbish("an event is not a JSON object with `type` and `jobId`"))?;
        if wire.job_id != job.as_str() {
            return Err(rubbish("an event belongs to another job"));
        }
        match (wire.kind.as_str(), wire.stage) {
            ("progress", Some(stage)) => Ok(Self::Progress(stage)),
            ("completed", _) if wire.data.is_some() => Ok(Self::Completed),
            ("error", _) if wire.code.is_some() => Ok(Self::Failed),
            _ => Err(rubbish(
                "an event is neither `progress`, `completed` nor `error` with its fields",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_from_rubbish() {
        let job = JobId::new_now();
        let say = |fields: &str| format!(r#"{{"jobId":"{job}",{fields}}}"#);
        for (text, expected) in [
            (
                say(r#""type":"progress","stage":"of_the_future","message":"m""#),
                Ok(Said::Progress("of_the_future".into())),
            ),
            (say(r#""type":"completed","data":null"#), Err(())),
            (say(r#""type":"completed","data":{}"#), Ok(Said::Completed)),
            (say(r#""type":"error","code":"x","error":"e""#), Ok(Said::Failed)),
            (say(r#""type":"error""#), Err(())),
            (say(r#""type":"progress""#), Err(())),
            (say(r#""type":"other""#), Err(())),
            (r#"{"jobId":"x","type":"completed","data":{}}"#.into(), Err(())),
            ("not json".into(), Err(())),
            ("[".repeat(100_000), Err(())),
        ] {
            assert_eq!(
                Said::parse(text.as_bytes(), &job).map_err(|_| ()),
                expected,
                "{text:.80}"
            );
        }
        assert!(Said::parse(b"\xff", &job).is_err());
    }
}
