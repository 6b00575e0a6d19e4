//! The git worker: clone, create a branch, apply changes, commit and push; a file each under `job`.
//!
//! Every job goes the same way: load the session, work on objects in a scratch folder, upload new packs, swap the manifest.
//! This crate must not know the gateway, nor another worker.

mod config;
mod failure;
mod gate;
mod job;
mod message;
mod outcomes;
mod publish;
mod receive;
mod workspace;

use std::sync::Arc;

use mayfly_git::remote::Credential;
use mayfly_http::GuardedClient;
use mayfly_naming::Namer;
use mayfly_protocol::{Failure, Job, JobKind, SecretString, Source};
use mayfly_session::SessionStore;
use mayfly_storage::ObjectStore;
use mayfly_worker::{JobContext, JobRunner, OutcomeStore};

use failure::JobError;
use gate::Gate;
use outcomes::Outcomes;

pub use config::{GitLimits, GitWorkerConfig, Identity};

/// Does the four git jobs.
#[derive(Debug, Clone)]
pub struct GitWorker {
    config: GitWorkerConfig,
    storage: Arc<dyn ObjectStore>,
    client: GuardedClient,
    namer: Namer,
    outcomes: Outcomes,
    /// Of the one job that is carried out.
    gate: Arc<Gate>,
}

impl GitWorker {
    /// A worker that keeps sessions in `storage`, reaches git hosts through `client` and asks `namer` for names.
    pub fn new(
        config: GitWorkerConfig,
        storage: Arc<dyn ObjectStore>,
        client: GuardedClient,
        namer: Namer,
    ) -> Self {
        Self {
            config,
            outcomes: Outcomes::new(Arc::clone(&storage)),
            storage,
            client,
            namer,
            gate: Arc::default(),
        }
    }

    async fn carry_out(&self, job: Job, context: &JobContext) -> Result<serde_json::Value, JobError> {
        match job {
            Job::CloneRepository(job) => Box::pin(job::clone_repository::run(self, job, context)).await,
            Job::CreateBranch(job) => Box::pin(job::create_branch::run(self, job, context)).await,
            Job::CommitAndPush(job) => Box::pin(job::commit_and_push::run(self, job, context)).await,
            Job::ApplyChanges(job) => Box::pin(job::apply_changes::run(self, job, context)).await,
            Job::CodeOperation(_) => Err(failure::not_a_git_job()),
        }
    }

    fn sessions(&self, context: &JobContext) -> SessionStore {
        SessionStore::new(Arc::clone(&self.storage), context.tenant.clone())
    }
}

#[async_trait::async_trait]
impl JobRunner for GitWorker {
    fn source(&self) -> Source {
        Source::GitWorker
    }

    fn kinds(&self) -> &'static [JobKind] {
        &[
            JobKind::CloneRepository,
            JobKind::CreateBranch,
            JobKind::CommitAndPush,
            JobKind::ApplyChanges,
        ]
    }

    fn outcomes(&self) -> Option<&dyn OutcomeStore> {
        Some(&self.outcomes)
    }

    async fn run(&self, job: Job, context: JobContext) -> Result<serde_json::Value, Failure> {
        let credential = access_token(&job).map(Credential::from_token);
        let worker = Self {
            gate: Arc::default(),
            ..self.clone()
        };
        let work = worker.carry_out(job, &context);
        let outcome = worker.gate.unless_cancelled(&context.cancel, work).await;
        outcome.map_err(|error| {
            let mut failure = error.into_failure();
            if let Some(credential) = credential {
                failure.error = credential.hide_in(&failure.error);
            }
            failure
        })
    }
}

/// The credential for the git host, whose words an error may hold.
fn access_token(job: &Job) -> Option<&SecretString> {
    match job {
        Job::CloneRepository(job) => job.access_token.as_ref(),
        Job::CreateBranch(job) => job.access_token.as_ref(),
        Job::CommitAndPush(job) => job.access_token.as_ref(),
        Job::ApplyChanges(_) | Job::CodeOperation(_) => None,
    }
}
