//! `GET /health`, `/ready`, `/status` and `/workers`: what operators see.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use mayfly_protocol::JobId;
use mayfly_server::refuse::json;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

use crate::access::KeysReport;
use crate::fleet::roster::{Counts, Standing, WorkerReport};
use crate::fleet::{PerKind, WorkerKind};
use crate::jobs::JobCounts;
use crate::retry::Aside;
use crate::state::Gateway;

#[derive(Serialize, JsonSchema)]
pub(super) struct Health {
    status: &'static str,
}

pub(super) async fn health() -> Response {
    json(StatusCode::OK, &Health { status: "ok" })
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ready {
    ready: bool,
    shutting_down: bool,
    /// The file of keys cannot be taken as it is now; the keys of before are in force.
    keys_broken: bool,
    /// Whether other gateways can be told of jobs, and asked; without it, jobs go on here. `null` on a gateway without REDIS_URL.
    coordination: Option<Coordinated>,
    workers: Kinds<Option<Dependency>>,
}

#[derive(Serialize, JsonSchema)]
struct Coordinated {
    ready: bool,
}

/// One value for each kind of worker, as JSON has it; a kind without a setting is `null`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Kinds<T> {
    git_worker: T,
    code_worker: T,
}

impl<T: Clone> From<PerKind<T>> for Kinds<T> {
    fn from(values: PerKind<T>) -> Self {
        Self {
            git_worker: values[WorkerKind::Git].clone(),
            code_worker: values[WorkerKind::Code].clone(),
        }
    }
}

#[derive(Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    ready: bool,
    #[serde(flatten)]
    counts: Counts,
}

/// Ready: not ending, some workers are configured, and of each configured kind one is known that is not faulty.
pub(super) async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    let workers = PerKind::new(|kind| dependency(&gateway, kind));
    let configured = || WorkerKind::ALL.iter().filter_map(|kind| workers[*kind].as_ref());
    let shutting_down = gateway.draining.is_cancelled();
    let ready = !shutting_down && configured().count() > 0 && configured().all(|dependency| dependency.ready);
    let status = match ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let keys = gateway.access.report();
    let body = Ready {
        ready,
        keys_broken: keys.is_some_and(|keys| keys.broken.is_some()),
        shutting_down,
        coordination: gateway.exchange.as_ref().map(|exchange| Coordinated {
            ready: exchange.is_available(),
        }),
        workers: workers.into(),
    };
    json(status, &body)
}

fn dependency(gateway: &Gateway, kind: WorkerKind) -> Option<Dependency> {
    gateway.dispatcher.is_configured(kind).then(|| {
        let counts = gateway.dispatcher.counts(kind);
        Dependency {
            ready: counts.known > counts.faulty,
            counts,
        }
    })
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    version: &'static str,
    uptime_seconds: u64,
    shutting_down: bool,
    jobs: JobCounts,
    waiting: Kinds<usize>,
    queue_capacity: usize,
    held_body_bytes: usize,
    /// `null` on a gateway without keys.
    keys: Option<KeysReport>,
    workers: Kinds<Counts>,
}

pub(super) async fn status(State(gateway): State<Arc<Gateway>>) -> Response {
    let config = &gateway.config;
    let body = Status {
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: gateway.started.elapsed().as_secs(),
        shutting_down: gateway.draining.is_cancelled(),
        jobs: gateway.jobs.counts(),
        waiting: PerKind::new(|kind| gateway.dispatcher.waiting(kind)).into(),
        queue_capacity: config.queue_capacity,
        held_body_bytes: gateway.held_bytes.held(),
        keys: gateway.access.report(),
        workers: PerKind::new(|kind| gateway.dispatcher.counts(kind)).into(),
    };
    json(StatusCode::OK, &body)
}

#[derive(Serialize, JsonSchema)]
pub(super) struct WorkerList {
    workers: Vec<WorkerView>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct WorkerView {
    kind: WorkerKind,
    address: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<JobId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    failures: u32,
    age_seconds: u64,
}

pub(super) async fn workers(State(gateway): State<Arc<Gateway>>) -> Response {
    let now = Instant::now();
    let views = |kind: &WorkerKind| {
        let kind = *kind;
        let reports = gateway.dispatcher.report(kind).into_iter();
        reports
            .map(move |report| view(kind, report, now))
            .collect::<Vec<_>>()
    };
    let list = WorkerList {
        workers: WorkerKind::ALL.iter().flat_map(views).collect(),
    };
    json(StatusCode::OK, &list)
}

fn view(kind: WorkerKind, report: WorkerReport, now: Instant) -> WorkerView {
    let (state, job_id) = match report.standing {
        Standing::Idle => ("idle", None),
        Standing::Busy(job) => ("busy", Some(job)),
        Standing::SetAside { aside, .. } | Standing::Asked(aside) => (aside_name(aside), None),
        Standing::Spent => ("ending", None),
    };
    WorkerView {
        kind,
        address: report.url.to_string(),
        state,
        job_id,
        pid: report.pid,
        failures: report.failures,
        age_seconds: now.duration_since(report.known_since).as_secs(),
    }
}

fn aside_name(aside: Aside) -> &'static str {
    match aside {
        Aside::Restarting => "restarting",
        Aside::Busy => "busy_elsewhere",
        Aside::Away => "unreachable",
        Aside::Faulty => "faulty",
    }
}
