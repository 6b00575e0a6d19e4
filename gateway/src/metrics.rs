//! What Prometheus is told: counters and histograms that grow as jobs go by, and gauges that are read when it asks.
//!
//! Labels are bounded: kinds, outcomes, states and routes are closed sets, and tenants beyond a number are counted as `other`. Names and
//! units follow Prometheus' naming practices (base units, `_total` for counters). This module must not know HTTP.

mod now;
mod tenants;

use std::time::Duration;

use mayfly_protocol::{ErrorCode, JobKind, Usage};
use prometheus::core::Collector;
use prometheus::{
    CounterVec, Encoder as _, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder,
};
use serde::Deserialize;

use crate::fleet::WorkerKind;
use crate::jobs::End;
use crate::state::Gateway;
use tenants::Tenants;

pub(crate) use prometheus::TEXT_FORMAT;

/// Seconds; jobs wait and run for milliseconds to hours.
const SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0,
];
/// The outcome of a job whose worker named a code that this build does not know.
const UNKNOWN: &str = "unknown";

/// What the gateway counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    accepted: IntCounterVec,
    ended: IntCounterVec,
    waited: HistogramVec,
    ran: HistogramVec,
    retries: IntCounterVec,
    lost: IntCounterVec,
    usage: UsageCounters,
    requests: IntCounterVec,
    request_seconds: CounterVec,
    webhook_tries: IntCounterVec,
    webhooks: IntCounterVec,
    tenants: Tenants,
}

/// The part of a terminal event that is counted.
#[derive(Debug, Default, Deserialize)]
struct Terminal {
    code: Option<String>,
    #[serde(default)]
    usage: Usage,
}

/// What jobs used, as their workers told it.
#[derive(Debug)]
struct UsageCounters {
    storage_bytes: IntCounterVec,
    git_bytes: IntCounterVec,
    llm_requests: IntCounterVec,
    llm_tokens: IntCounterVec,
}

/// Where series are made; each name is registered once.
struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn counter(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.registered(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn seconds_counter(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        self.registered(CounterVec::new(Opts::new(name, help), labels))
    }

    fn seconds(&self, name: &str, help: &str) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        self.registered(HistogramVec::new(options, &["kind"]))
    }

    fn registered<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let made = made.expect("a fixed, valid name");
        let registered = self.0.register(Box::new(made.clone()));
        registered.expect("each name is registered once");
        made
    }
}

impl UsageCounters {
    fn new(make: &Maker<'_>) -> Self {
        Self {
            storage_bytes: make.counter(
                "mayfly_job_storage_bytes_total",
                "Bytes that jobs moved between workers and the object storage.",
                &["kind", "direction"],
            ),
            git_bytes: make.counter(
                "mayfly_job_git_bytes_total",
                "Bytes of bodies that jobs moved between workers and git hosts.",
                &["kind", "direction"],
            ),
            llm_requests: make.counter(
                "mayfly_job_llm_requests_total",
                "Questions of jobs that an LLM answered.",
                &["kind"],
            ),
            llm_tokens: make.counter(
                "mayfly_job_llm_tokens_total",
                "Tokens of questions and answers, as the LLM's server counts them.",
                &["kind", "direction"],
            ),
        }
    }

    fn add(&self, kind: JobKind, usage: &Usage) {
        let kind = kind.as_str();
        for (counters, direction, amount) in [
            (&self.storage_bytes, "read", usage.storage_read_bytes),
            (&self.storage_bytes, "written", usage.storage_written_bytes),
            (&self.git_bytes, "received", usage.git_received_bytes),
            (&self.git_bytes, "sent", usage.git_sent_bytes),
            (&self.llm_tokens, "input", usage.llm_input_tokens),
            (&self.llm_tokens, "output", usage.llm_output_tokens),
        ] {
            if amount > 0 {
                counters.with_label_values(&[kind, direction]).inc_by(amount);
            }
        }
        if usage.llm_requests > 0 {
            let counter = self.llm_requests.with_label_values(&[kind]);
            counter.inc_by(usage.llm_requests);
        }
    }
}

impl Metrics {
    /// Counts nothing yet; so many tenants have labels of their own.
    pub(crate) fn new(tenants: usize) -> Self {
        let registry = Registry::new();
        let make = Maker(&registry);
        Self {
            accepted: make.counter("mayfly_jobs_accepted_total", "Jobs that were let in.", &["kind"]),
            ended: make.counter(
                "mayfly_jobs_ended_total",
                "Jobs that ended, by outcome: `completed`, or the code of the error.",
                &["kind", "outcome"],
            ),
            waited: make.seconds(
                "mayfly_job_wait_seconds",
                "How long jobs waited for a worker, each attempt for itself.",
            ),
            ran: make.seconds(
                "mayfly_job_run_seconds",
                "How long jobs ran at a worker, each attempt for itself.",
            ),
            retries: make.counter(
                "mayfly_job_retries_total",
                "Jobs that were offered again: the worker `refused`, or was `lost` and a new attempt followed.",
                &["kind", "reason"],
            ),
            lost: make.counter(
                "mayfly_workers_lost_total",
                "Workers that were lost with a job.",
                &["worker"],
            ),
            usage: UsageCounters::new(&make),
            requests: make.counter(
                "mayfly_http_requests_total",
                "Requests that were answered, by route, method and status.",
                &["route", "method", "status"],
            ),
            request_seconds: make.seconds_counter(
                "mayfly_http_request_seconds_total",
                "Time until the heads of answers, by route and method.",
                &["route", "method"],
            ),
            webhook_tries: make.counter(
                "mayfly_webhook_tries_total",
                "Tries to deliver webhooks, by how the receiver answered.",
                &["answer"],
            ),
            webhooks: make.counter(
                "mayfly_webhooks_total",
                "Webhooks that were delivered or given up.",
                &["state"],
            ),
            tenants: Tenants::new(tenants),
            registry,
        }
    }

    /// A job was let in.
    pub(crate) fn accepted(&self, kind: JobKind) {
        self.accepted.with_label_values(&[kind.as_str()]).inc();
    }

    /// A worker took a job that had waited for so long.
    pub(crate) fn waited(&self, kind: JobKind, time: Duration) {
        let histogram = self.waited.with_label_values(&[kind.as_str()]);
        histogram.observe(time.as_secs_f64());
    }

    /// A worker has a job no longer, for whatever reason.
    pub(crate) fn ran(&self, kind: JobKind, time: Duration) {
        let histogram = self.ran.with_label_values(&[kind.as_str()]);
        histogram.observe(time.as_secs_f64());
    }

    /// A worker did not take a job, which is offered to another.
    pub(crate) fn refused(&self, kind: JobKind) {
        self.retries.with_label_values(&[kind.as_str(), "refused"]).inc();
    }

    /// A worker was lost with a job, which a new attempt may follow.
    pub(crate) fn lost(&self, kind: JobKind, is_repeated: bool) {
        self.lost
            .with_label_values(&[WorkerKind::from(kind).as_str()])
            .inc();
        if is_repeated {
            self.retries.with_label_values(&[kind.as_str(), "lost"]).inc();
        }
    }

    /// A job ended.
    pub(crate) fn ended(&self, kind: JobKind, end: &End) {
        let terminal = |data: &[u8]| serde_json::from_slice::<Terminal>(data).unwrap_or_default();
        let (outcome, usage) = match end {
            End::Completed(data) => ("completed", terminal(data).usage),
            End::Failed(data) => {
                let terminal = terminal(data);
                let code = terminal.code.as_deref().and_then(known_code);
                (code.unwrap_or(UNKNOWN), terminal.usage)
            }
            End::Ours(failure) => (failure.code.as_str(), Usage::default()),
        };
        self.ended.with_label_values(&[kind.as_str(), outcome]).inc();
        self.usage.add(kind, &usage);
    }

    /// A webhook was tried.
    pub(crate) fn webhook_tried(&self, answer: &str) {
        self.webhook_tries.with_label_values(&[answer]).inc();
    }

    /// A webhook was delivered or given up.
    pub(crate) fn webhook_ended(&self, state: &str) {
        self.webhooks.with_label_values(&[state]).inc();
    }

    /// A request was answered; `route` is the route's pattern, and not the path.
    pub(crate) fn answered(&self, route: &str, method: &str, status: u16, time: Duration) {
        let status = status.to_string();
        self.requests.with_label_values(&[route, method, &status]).inc();
        self.request_seconds
            .with_label_values(&[route, method])
            .inc_by(time.as_secs_f64());
    }

    /// Everything, in Prometheus' text format.
    pub(crate) fn render(&self, gateway: &Gateway) -> Vec<u8> {
        let mut families = self.registry.gather();
        families.extend(now::gather(gateway, &self.tenants));
        // A family without series, as of tenants before there are any, cannot be written.
        families.retain(|family| !family.get_metric().is_empty());
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&families, &mut text) {
            tracing::error!(%error, "the metrics cannot be written; this is a defect of Mayfly");
        }
        text
    }
}

/// The name of a code that is in the contract; a worker may say anything.
fn known_code(code: &str) -> Option<&'static str> {
    let code: ErrorCode = serde_json::from_value(code.into()).ok()?;
    Some(code.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_a_closed_set() {
        let metrics = Metrics::new(1);
        let kind = JobKind::CommitAndPush;
        for data in [
            r#"{"code":"push_rejected"}"#,
            r#"{"code":"made_up_7"}"#,
            r#"{"code":7}"#,
            "rubbish",
        ] {
            metrics.ended(kind, &End::Failed(data.as_bytes().to_vec().into()));
        }
        let count = |outcome| metrics.ended.with_label_values(&[kind.as_str(), outcome]).get();
        assert_eq!((count("push_rejected"), count(UNKNOWN)), (1, 3));
    }

    #[test]
    fn what_a_job_used_is_counted() {
        let metrics = Metrics::new(1);
        let data = r#"{"data":{},"usage":{"storageReadBytes":5,"llmInputTokens":7,"ofTheFuture":1}}"#;
        metrics.ended(JobKind::CreateBranch, &End::Completed(data.into()));
        let read = metrics
            .usage
            .storage_bytes
            .with_label_values(&["create_branch", "read"]);
        let tokens = metrics
            .usage
            .llm_tokens
            .with_label_values(&["create_branch", "input"]);
        assert_eq!((read.get(), tokens.get()), (5, 7));
    }
}
