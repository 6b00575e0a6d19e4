//! The git worker: clone, create a branch, apply changes, commit and push; a file each under `job`.
//!
//! Every job goes the same way: load the session, work on objects in a scratch folder, upload new packs, swap the manifest.
//! This crate must not know the gateway, nor another worker.

mod config;
mod failure;
mod gate;
mod ignored;
mod job;
mod lfs;
mod message;
mod outcomes;
mod publish;
mod receive;
mod repair;
mod repeat;
mod workspace;

use std::sync::Arc;
use std::time::Duration;

use mayfly_git::remote::Credential;
use mayfly_http::GuardedClient;
use mayfly_naming::Namer;
use mayfly_protocol::{ErrorCode, Failure, Job, JobKind, SecretString, Source, Usage};
use mayfly_session::SessionStore;
use mayfly_storage::{Metered, ObjectStore};
use mayfly_worker::{JobContext, JobRunner, OutcomeStore};
use tokio::time::timeout;

use failure::JobError;
use gate::Gate;
use outcomes::Outcomes;
use repair::Asked;

pub use config::{FullCloneLimits, GitLimits, GitWorkerConfig, Identity};

/// How long a failed job waits for the removal of what it uploaded in vain; what is not removed then is left to the sweep.
const CLEAN_UP_GRACE: Duration = Duration::from_secs(1);

/// Does the four git jobs.
#[derive(Debug, Clone)]
pub struct GitWorker {
    config: GitWorkerConfig,
    storage: Arc<dyn ObjectStore>,
    /// The same store, which counts.
    metered: Arc<Metered>,
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
        let metered = Arc::new(Metered::new(storage));
        let storage: Arc<dyn ObjectStore> = metered.clone();
        Self {
            config,
            metered,
            outcomes: Outcomes::new(Arc::clone(&storage)),
            storage,
            client,
            namer,
            gate: Arc::default(),
        }
    }

    /// The storage with its counters, which count for all clones of this worker.
    pub fn storage(&self) -> &Metered {
        &self.metered
    }

    /// Carries out a job; a repeated attempt that loses its swap to an earlier one answers as that one did.
    async fn carry_out(&self, job: Job, context: &JobContext) -> Result<serde_json::Value, JobError> {
        let (session, kind) = (job.session_id().clone(), job.kind());
        match self.mend_and_do(job, context).await {
            Ok(data) => Ok(data),
            Err(error) => repeat::lost_swap(&self.sessions(context), (&session, kind), context, error).await,
        }
    }

    /// Does a job. One that finds its session damaged mends that, if it can be mended, and begins anew.
    async fn mend_and_do(&self, job: Job, context: &JobContext) -> Result<serde_json::Value, JobError> {
        let error = match self.attempt(job.clone(), context).await {
            Err(error) if error.code() == ErrorCode::SessionDamaged => error,
            outcome => return outcome,
        };
        let Some(asked) = asked(&job) else {
            return Err(error);
        };
        Box::pin(repair::repair(self, asked, error, context)).await?;
        context.events.begin_anew();
        // What was brought before may be damaged.
        let anew = JobContext {
            scratch: context.scratch.join("anew"),
            ..context.clone()
        };
        self.attempt(job, &anew).await
    }

    async fn attempt(&self, job: Job, context: &JobContext) -> Result<serde_json::Value, JobError> {
        match job {
            Job::CloneRepository(job) => Box::pin(job::clone_repository::run(self, job, context)).await,
            Job::CreateBranch(job) => Box::pin(job::create_branch::run(self, job, context)).await,
            Job::CommitAndPush(job) => Box::pin(job::commit_and_push::run(self, job, context)).await,
            Job::ApplyChanges(job) => Box::pin(job::apply_changes::run(self, job, context)).await,
            Job::CodeOperation(_) => Err(failure::not_a_git_job()),
        }
    }

    fn sessions(&self, context: &JobContext) -> SessionStore {
        let sessions = SessionStore::new(Arc::clone(&self.storage), context.tenant.clone());
        sessions.with_pack_limits((&self.config.limits.transfer).into())
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

    fn usage(&self) -> Usage {
        let (http, llm) = (self.client.traffic(), self.namer.usage());
        Usage {
            storage_read_bytes: self.metered.read_bytes(),
            storage_written_bytes: self.metered.written_bytes(),
            git_received_bytes: http.received_bytes(),
            git_sent_bytes: http.sent_bytes(),
            llm_requests: llm.requests(),
            llm_input_tokens: llm.input_tokens(),
            llm_output_tokens: llm.output_tokens(),
        }
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
        if outcome.is_err() && timeout(CLEAN_UP_GRACE, self.storage.settle()).await.is_err() {
            tracing::warn!("an upload that was given up is not yet removed; the sweep will find it");
        }
        outcome.map_err(|error| {
            let mut failure = error.into_failure();
            if let Some(credential) = credential {
                failure.error = credential.hide_in(&failure.error);
            }
            failure
        })
    }
}

/// What the job says of its session; nothing where it is not about one.
fn asked(job: &Job) -> Option<Asked<'_>> {
    let (session, url) = match job {
        Job::CloneRepository(job) => (&job.session_id, Some(&job.repo_url)),
        Job::CreateBranch(job) => (&job.session_id, job.repo_url.as_ref()),
        Job::CommitAndPush(job) => (&job.session_id, None),
        Job::ApplyChanges(job) => (&job.session_id, None),
        Job::CodeOperation(_) => return None,
    };
    let token = access_token(job);
    Some(Asked { session, url, token })
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
