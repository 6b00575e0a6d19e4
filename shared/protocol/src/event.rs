//! What a job's stream says: progress, and exactly one terminal event.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::error::ErrorCode;
use crate::id::JobId;
use crate::stage::Stage;

/// The component that speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The gateway.
    Gateway,
    /// A git worker.
    GitWorker,
    /// A code worker.
    CodeWorker,
}

impl Source {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::GitWorker => "git-worker",
            Self::CodeWorker => "code-worker",
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One event of a job's stream. Its number (the `id:` line, from 1) belongs to the stream, not to the event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// What is said.
    #[serde(flatten)]
    pub body: EventBody,
    /// Who says it.
    pub source: Source,
    /// When, in UTC with milliseconds.
    #[serde(with = "timestamp")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub timestamp: OffsetDateTime,
    /// Of which job.
    pub job_id: JobId,
    /// With a worker's terminal event: what the job used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Box<Usage>>,
}

/// What a worker used for a job, whatever came of it; what is 0 is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// Bytes of content read from the object storage.
    #[serde(skip_serializing_if = "is_zero")]
    pub storage_read_bytes: u64,
    /// Bytes of content written to the object storage.
    #[serde(skip_serializing_if = "is_zero")]
    pub storage_written_bytes: u64,
    /// Bytes of bodies that git hosts sent.
    #[serde(skip_serializing_if = "is_zero")]
    pub git_received_bytes: u64,
    /// Bytes of bodies that went to git hosts.
    #[serde(skip_serializing_if = "is_zero")]
    pub git_sent_bytes: u64,
    /// Questions that an LLM answered.
    #[serde(skip_serializing_if = "is_zero")]
    pub llm_requests: u64,
    /// Tokens of the questions, as the LLM's server counts them.
    #[serde(skip_serializing_if = "is_zero")]
    pub llm_input_tokens: u64,
    /// Tokens of the answers, as the LLM's server counts them.
    #[serde(skip_serializing_if = "is_zero")]
    pub llm_output_tokens: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Event {
    /// Whether the stream ends with this event.
    pub fn is_terminal(&self) -> bool {
        !matches!(self.body, EventBody::Progress { .. })
    }
}

/// The three kinds of event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum EventBody {
    /// The job is at this stage.
    Progress {
        /// The stage, for programs.
        stage: Stage,
        /// The same for people.
        message: String,
        /// How far the stage is, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        progress: Option<Progress>,
        /// Further fields of the stage, such as the `position` of a queued job.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<serde_json::Value>,
    },
    /// The job is done.
    Completed {
        /// The result, as the contract lists it for the kind of job.
        data: serde_json::Value,
    },
    /// The job failed.
    Error(Failure),
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// What went wrong, with which input, and what to do next.
    pub error: String,
    /// The reason, for programs.
    pub code: ErrorCode,
    /// Whether the same request may be sent again.
    pub retryable: bool,
    /// Seconds after which a retry makes sense, where the other side said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

impl Failure {
    /// A failure with the retry meaning of its code.
    pub fn new(code: ErrorCode, error: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            code,
            retryable: code.is_retryable(),
            retry_after: None,
        }
    }
}

/// How far a stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// Units done so far.
    pub done: u64,
    /// Units in all, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// What is counted.
    pub unit: Unit,
}

/// What progress counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Git objects.
    Objects,
    /// Bytes.
    Bytes,
    /// Files.
    Files,
}

/// RFC 3339 in UTC with exactly three digits of a second, as in `2026-01-02T03:04:05.678Z`.
pub mod timestamp {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use time::format_description::well_known::Rfc3339;
    use time::macros::format_description;
    use time::{OffsetDateTime, UtcOffset};

    /// Formats the time.
    pub fn format(time: OffsetDateTime) -> String {
        let layout =
            format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
        time.to_offset(UtcOffset::UTC).format(layout).unwrap_or_default()
    }

    /// Reads any RFC 3339 time, in UTC and in whole milliseconds, as it is formatted; none where UTC has no four digits for its year.
    pub fn parse(text: &str) -> Option<OffsetDateTime> {
        let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        let utc = time.checked_to_offset(UtcOffset::UTC)?.truncate_to_millisecond();
        (0..=9999).contains(&utc.year()).then_some(utc)
    }

    /// For `#[serde(with = …)]`.
    pub fn serialize<S: Serializer>(time: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
        format(*time).serialize(serializer)
    }

    /// For `#[serde(with = …)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OffsetDateTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| D::Error::custom("is not an RFC 3339 time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn event(body: EventBody) -> Event {
        Event {
            body,
            source: Source::GitWorker,
            timestamp: datetime!(2026-01-02 03:04:05.678 UTC),
            job_id: "01890000-0000-7000-8000-000000000000".parse().unwrap(),
            usage: None,
        }
    }

    #[test]
    fn events_on_the_wire() {
        let progress = event(EventBody::Progress {
            stage: Stage::Cloning,
            message: "Cloning repository...".into(),
            progress: Some(Progress {
                done: 1200,
                total: Some(5000),
                unit: Unit::Objects,
            }),
            detail: None,
        });
        insta::assert_snapshot!(serde_json::to_string(&progress).unwrap(), @r#"{"type":"progress","stage":"cloning","message":"Cloning repository...","progress":{"done":1200,"total":5000,"unit":"objects"},"source":"git-worker","timestamp":"2026-01-02T03:04:05.678Z","jobId":"01890000-0000-7000-8000-000000000000"}"#);
        let failed = event(EventBody::Error(Failure::new(ErrorCode::PushRejected, "no")));
        insta::assert_snapshot!(serde_json::to_string(&failed).unwrap(), @r#"{"type":"error","error":"no","code":"push_rejected","retryable":false,"source":"git-worker","timestamp":"2026-01-02T03:04:05.678Z","jobId":"01890000-0000-7000-8000-000000000000"}"#);
        let mut used = event(EventBody::Completed {
            data: serde_json::json!({}),
        });
        used.usage = Some(Box::new(Usage {
            storage_read_bytes: 7,
            ..Usage::default()
        }));
        insta::assert_snapshot!(serde_json::to_string(&used).unwrap(), @r#"{"type":"completed","data":{},"source":"git-worker","timestamp":"2026-01-02T03:04:05.678Z","jobId":"01890000-0000-7000-8000-000000000000","usage":{"storageReadBytes":7}}"#);
        for event in [
            used,
            progress,
            failed,
            event(EventBody::Completed {
                data: serde_json::json!({"a": 1}),
            }),
        ] {
            let text = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
        }
    }

    #[test]
    fn times_at_the_ends_of_the_calendar_are_read_or_refused() {
        for bad in [
            "9999-12-31T23:59:59-23:59",
            "0000-01-01T00:00:00+23:59",
            "2026-13-01T00:00:00Z",
            "",
        ] {
            assert_eq!(timestamp::parse(bad), None, "{bad}");
        }
        let fine = timestamp::parse("2026-01-02T03:04:05.6789Z").unwrap();
        assert_eq!(fine, datetime!(2026-01-02 03:04:05.678 UTC));
        let east = timestamp::parse("2026-01-02T03:04:05.678+01:00").unwrap();
        assert_eq!(timestamp::format(east), "2026-01-02T02:04:05.678Z");
        let last = timestamp::parse("9999-12-31T23:59:59.999Z").unwrap();
        assert_eq!(timestamp::format(last), "9999-12-31T23:59:59.999Z");
    }
}
