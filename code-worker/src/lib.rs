//! The code worker: takes one `/code-operation` on the one-job runtime.
//!
//! No executor exists yet, and none is pretended: a request is checked like any other, and its stream ends with the error `no_executor`.
//! This crate must not know HTTP, nor how workers are found or restarted.

use mayfly_protocol::{ErrorCode, Failure, Job, JobKind, Source};
use mayfly_worker::{Ended, JobContext, JobRunner, RunError, WorkerConfig};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Carries out code operations, for which it needs an executor.
#[derive(Debug, Clone, Copy, Default)]
pub struct CodeWorker;

#[async_trait::async_trait]
impl JobRunner for CodeWorker {
    fn source(&self) -> Source {
        Source::CodeWorker
    }

    fn kinds(&self) -> &'static [JobKind] {
        &[JobKind::CodeOperation]
    }

    /// Ends as `no_executor`, before anything is touched: neither the session nor the repository is asked for.
    async fn run(&self, _job: Job, _context: JobContext) -> Result<Value, Failure> {
        Err(Failure::new(
            ErrorCode::NoExecutor,
            "no executor for code operations is configured on this worker; the request was valid, and nothing was changed: \
             change files with `/apply-changes` and push them with `/commit-and-push`, or ask a fleet that has an executor",
        ))
    }
}

/// Serves one code operation; see [`mayfly_worker::run`].
pub async fn run(
    config: WorkerConfig,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<Ended, RunError> {
    mayfly_worker::run(config, listener, CodeWorker, shutdown).await
}
