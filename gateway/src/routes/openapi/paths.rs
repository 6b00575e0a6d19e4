//! Every path of the gateway, as the document has it.

use mayfly_protocol::JobKind;
use mayfly_session::view::SessionDiff;
use serde_json::{Map, Value, json};

use super::Schemas;
use super::operation::Operation;
use crate::access::Scope;
use crate::jobs::JobView;
use crate::routes::sessions::shown::{Pinned, Removed, SessionDetail, SessionList};
use crate::routes::{docs, fleet, job_list, post_job};
use crate::webhook::Deliveries;

const READ: &[Scope] = &[Scope::Read];
const JOBS: &[Scope] = &[Scope::Jobs];
const FOLLOW: &[Scope] = &[Scope::Read, Scope::Jobs];
const OPERATE: &[Scope] = &[Scope::Operate];

/// The operations of all paths, by path and method.
pub(super) fn all(schemas: &mut Schemas) -> Map<String, Value> {
    let mut paths = Paths::default();
    for kind in JobKind::ALL {
        paths.add(schemas, "post", kind.path(), |schemas| post_of(schemas, *kind));
    }
    jobs(&mut paths, schemas);
    sessions(&mut paths, schemas);
    session_contents(&mut paths, schemas);
    operators(&mut paths, schemas);
    about(&mut paths, schemas);
    paths.0
}

#[derive(Default)]
struct Paths(Map<String, Value>);

impl Paths {
    fn add(
        &mut self,
        schemas: &mut Schemas,
        method: &str,
        path: &str,
        make: impl FnOnce(&mut Schemas) -> Operation,
    ) {
        let operation = make(schemas).into_json(schemas);
        let entry = self.0.entry(path).or_insert_with(|| json!({}));
        entry[method] = operation;
    }
}

fn post_of(schemas: &mut Schemas, kind: JobKind) -> Operation {
    let (id, summary) = match kind {
        JobKind::CloneRepository => (
            "cloneRepository",
            "Clone a repository into a session, or pull into one that exists",
        ),
        JobKind::CreateBranch => ("createBranch", "Make a branch, and push it"),
        JobKind::CommitAndPush => ("commitAndPush", "Commit the worktree, and push it"),
        JobKind::ApplyChanges => ("applyChanges", "Change files in the worktree"),
        JobKind::CodeOperation => ("codeOperation", "Let an LLM change the code"),
    };
    let body = kind.request_schema(&mut schemas.requests);
    Operation::new(id, "jobs", summary)
        .scopes(JOBS)
        .header(
            "Prefer",
            "`respond-async`: the answer is the job's address instead of its stream.",
        )
        .header(
            "traceparent",
            "The trace that the job belongs to (W3C Trace Context).",
        )
        .body(body)
        .events(
            schemas,
            "The job's stream: one event in each `data:` line, the last one `completed` or `error`.",
            Some(kind),
        )
        .json::<post_job::Accepted>(
            schemas,
            "202",
            "Accepted, with `Prefer: respond-async`; `Location` is the job.",
        )
}

fn jobs(paths: &mut Paths, schemas: &mut Schemas) {
    paths.add(schemas, "get", "/jobs", |schemas| {
        let states = json!({"type": "string", "enum": ["queued", "running", "completed", "failed"]});
        Operation::new(
            "listJobs",
            "jobs",
            "The jobs that the gateway remembers, newest first",
        )
        .scopes(FOLLOW)
        .query("sessionId", "Of this session alone.", json!({"type": "string"}))
        .query("state", "In this state alone.", states)
        .query("limit", "100 when absent.", number(1, 1000))
        .json::<job_list::JobList>(schemas, "200", "The jobs.")
    });
    paths.add(schemas, "get", "/jobs/{id}", |schemas| {
        Operation::new("getJob", "jobs", "One job")
            .scopes(FOLLOW)
            .path("id", "The job's id.")
            .json::<JobView>(schemas, "200", "The job.")
    });
    paths.add(schemas, "get", "/jobs/{id}/events", |schemas| {
        Operation::new("followJob", "jobs", "A job's stream, live or long finished")
            .scopes(FOLLOW)
            .path("id", "The job's id.")
            .header(
                "Last-Event-ID",
                "The events after this one; from the start when absent.",
            )
            .events(schemas, "The stream.", None)
            .empty(
                "204",
                "The job has ended, and there is no event after the one that was named.",
            )
    });
    paths.add(schemas, "get", "/jobs/{id}/deliveries", |schemas| {
        Operation::new(
            "listDeliveries",
            "jobs",
            "What was tried to tell a job's `callbackUrl`",
        )
        .scopes(Scope::ALL)
        .path("id", "The job's id.")
        .json::<Deliveries>(schemas, "200", "The deliveries.")
    });
    paths.add(schemas, "post", "/jobs/{id}/cancel", |schemas| {
        Operation::new("cancelJob", "jobs", "Stop a job")
            .scopes(JOBS)
            .path("id", "The job's id.")
            .json::<JobView>(schemas, "200", "The job is over, now or already.")
            .json::<JobView>(schemas, "202", "Its worker still has to end it.")
    });
}

fn sessions(paths: &mut Paths, schemas: &mut Schemas) {
    paths.add(schemas, "get", "/sessions", |schemas| {
        Operation::new("listSessions", "sessions", "The sessions of the tenant")
            .scopes(READ)
            .query("limit", "50 when absent.", number(1, 500))
            .query("after", "`next` of the page before.", json!({"type": "string"}))
            .json::<SessionList>(schemas, "200", "One page.")
    });
    paths.add(schemas, "get", "/sessions/{id}", |schemas| {
        session_operation("getSession", "One session")
            .scopes(READ)
            .json::<SessionDetail<'_>>(schemas, "200", "The session.")
    });
    paths.add(schemas, "delete", "/sessions/{id}", |schemas| {
        session_operation("deleteSession", "Delete a session")
            .scopes(JOBS)
            .json::<Removed>(schemas, "200", "It is gone.")
    });
    paths.add(schemas, "put", "/sessions/{id}/pin", |schemas| {
        session_operation("pinSession", "Keep a session however long it is not used")
            .scopes(JOBS)
            .json::<Pinned>(schemas, "200", "It is pinned.")
    });
    paths.add(schemas, "delete", "/sessions/{id}/pin", |schemas| {
        session_operation("unpinSession", "Let a session go when it is not used")
            .scopes(JOBS)
            .json::<Pinned>(schemas, "200", "It is not pinned.")
    });
}

fn session_contents(paths: &mut Paths, schemas: &mut Schemas) {
    paths.add(schemas, "get", "/sessions/{id}/diff", |schemas| {
        let formats = json!({"type": "string", "enum": ["json", "patch"]});
        let mut operation = session_operation("diffSession", "The worktree against the head")
            .scopes(READ)
            .query(
                "format",
                "`patch`: one unified diff, as with `Accept: text/x-diff`.",
                formats,
            )
            .json::<SessionDiff>(schemas, "200", "The differences.");
        operation.also("200", "text/x-diff");
        operation
    });
    paths.add(schemas, "get", "/sessions/{id}/files/{path}", |_| {
        session_operation("readFile", "One file of the worktree")
            .scopes(READ)
            .path(
                "path",
                "The file; slashes stand as they are, other bytes as `%xx`.",
            )
            .raw(
                "200",
                "The file as it is.",
                &["text/plain", "application/octet-stream"],
            )
    });
    paths.add(schemas, "get", "/sessions/{id}/archive", |_| {
        session_operation("archiveSession", "The whole worktree")
            .scopes(READ)
            .raw("200", "A `tar.zst`.", &["application/zstd"])
    });
}

fn operators(paths: &mut Paths, schemas: &mut Schemas) {
    paths.add(schemas, "get", "/workers", |schemas| {
        Operation::new("listWorkers", "operators", "Each worker: kind, state, job, age")
            .scopes(OPERATE)
            .json::<fleet::WorkerList>(schemas, "200", "The workers.")
    });
    paths.add(schemas, "get", "/status", |schemas| {
        Operation::new("status", "operators", "Figures of this gateway")
            .scopes(OPERATE)
            .json::<fleet::Status>(schemas, "200", "The figures.")
    });
    paths.add(schemas, "get", "/metrics", |_| {
        Operation::new("metrics", "operators", "Figures for Prometheus")
            .scopes(OPERATE)
            .raw("200", "Prometheus' text format.", &["text/plain"])
    });
    paths.add(schemas, "get", "/health", |schemas| {
        Operation::new("health", "operators", "Liveness").json::<fleet::Health>(schemas, "200", "It lives.")
    });
    paths.add(schemas, "get", "/ready", |schemas| {
        Operation::new("ready", "operators", "Readiness, with each dependency")
            .json::<fleet::Ready>(schemas, "200", "It takes jobs.")
            .json::<fleet::Ready>(schemas, "503", "It takes none now.")
    });
}

fn about(paths: &mut Paths, schemas: &mut Schemas) {
    paths.add(schemas, "get", super::PATH, |schemas| {
        Operation::new("openapi", "operators", "This document").json::<Map<String, Value>>(
            schemas,
            "200",
            "OpenAPI 3.1.",
        )
    });
    paths.add(schemas, "get", docs::PATH, |_| {
        Operation::new("docs", "operators", "This document in a browser").raw(
            "200",
            "Swagger UI.",
            &["text/html"],
        )
    });
}

/// What a `callbackUrl` is told.
pub(super) fn job_ended(schemas: &mut Schemas) -> Value {
    let job = schemas.answers.subschema_for::<JobView>();
    let text = json!({"type": "string"});
    let header = |name: &str, about: &str| json!({"in": "header", "name": name, "description": about, "required": true, "schema": text});
    json!({
        "operationId": "jobEnded",
        "tags": ["jobs"],
        "summary": "A job with a `callbackUrl` has ended",
        "description": "Signed as Standard Webhooks says. Anything but a 2xx is tried again; 410 ends it.",
        "security": [],
        "parameters": [
            header("webhook-id", "The same in every try."),
            header("webhook-timestamp", "When this try was made, in Unix seconds."),
            header("webhook-signature", "`v1,` and the HMAC-SHA256 over `id.timestamp.body` in Base64; two of them while the secret is changed."),
        ],
        "requestBody": {"required": true, "content": {"application/json": {"schema": {
            "type": "object",
            "required": ["type", "timestamp", "data"],
            "properties": {
                "type": {"enum": ["job.completed", "job.failed"]},
                "timestamp": {"type": "string", "format": "date-time"},
                "data": job,
            },
        }}}},
        "responses": {"2XX": {"description": "Taken."}, "410": {"description": "Never again."}},
    })
}

fn session_operation(id: &'static str, summary: &'static str) -> Operation {
    Operation::new(id, "sessions", summary).path("id", "The session's id.")
}

fn number(least: u32, most: u32) -> Value {
    json!({"type": "integer", "minimum": least, "maximum": most})
}
