//! Webhooks: when a job with a `callbackUrl` has ended, its receiver is told, in the form of Standard Webhooks.
//!
//! A webhook is tried until the receiver takes it, says that it is gone (410), or may not be reached, and at most so many times. It holds up
//! neither the job nor, beyond a short grace, the end of the gateway: what is still owed then is in the storage, and the next gateway delivers it.
//! What was tried is shown by `GET /jobs/{id}/deliveries`, and kept beside the outcome where there is a storage. The tries are made by [`delivery`],
//! what one means is decided by [`verdict`]; signatures are made by [`sign`], and addresses sealed by [`seal`].

mod delivery;
mod log;
mod seal;
mod sign;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use mayfly_http::GuardedClient;
use mayfly_protocol::event::timestamp;
use mayfly_protocol::{CallbackUrl, ErrorCode, JobId, Refusal, TenantId};
use mayfly_session::{OutcomeArchive, OwedWebhook};
use mayfly_telemetry::task;
use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::jobs::{Job, JobState};
use crate::metrics::Metrics;
use crate::open_record::OwnJobs;
use crate::routes::job_list::{Unknown, Wanted, look_for};
use crate::state::Gateway;

use delivery::Delivery;
pub(crate) use delivery::Owed;
pub(crate) use log::Deliveries;
use log::{Log, Progress};
pub use sign::{InvalidWebhookSecret, WebhookSecrets};
pub use verdict::WebhookPauses;

/// How receivers are told.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// The client, whose policy says what may be reached.
    pub client: GuardedClient,
    /// Whether plain `http` is allowed, as the client's policy has it.
    pub allow_http: bool,
    /// What deliveries are signed with.
    pub secrets: WebhookSecrets,
    /// How often a delivery is tried at most, and how long the pauses are.
    pub pauses: WebhookPauses,
    /// How long one try may take.
    pub timeout: Duration,
    /// Tries at the same time.
    pub parallel: usize,
    /// Deliveries that are not over; jobs beyond them are told of in the log alone.
    pub pending: usize,
    /// How long tries that are under way may hold up the end of the gateway.
    pub close_grace: Duration,
}

impl WebhookConfig {
    /// The usual bounds.
    pub fn new(client: GuardedClient, allow_http: bool, secrets: WebhookSecrets) -> Self {
        Self {
            client,
            allow_http,
            secrets,
            pauses: WebhookPauses::default(),
            timeout: Duration::from_secs(15),
            parallel: 64,
            pending: 10_000,
            close_grace: Duration::from_secs(3),
        }
    }
}

/// The deliveries of a gateway.
#[derive(Debug)]
pub(crate) struct Webhooks {
    config: Option<WebhookConfig>,
    storage: Option<OutcomeArchive>,
    /// Where the storage is told what is owed.
    own: Option<OwnJobs>,
    metrics: Arc<Metrics>,
    log: Log,
    tries: Semaphore,
    tasks: TaskTracker,
    /// Fires when jobs that have not ended are waited for no longer.
    leaving: CancellationToken,
    /// Fires when deliveries are given up.
    closing: CancellationToken,
}

impl Webhooks {
    pub(crate) fn new(
        config: Option<WebhookConfig>,
        storage: Option<OutcomeArchive>,
        own: Option<OwnJobs>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            tries: Semaphore::new(config.as_ref().map_or(0, |config| config.parallel)),
            config,
            storage,
            own,
            metrics,
            log: Log::default(),
            tasks: TaskTracker::new(),
            leaving: CancellationToken::new(),
            closing: CancellationToken::new(),
        }
    }

    /// Refuses, before anything is claimed, an address that could never be called.
    pub(crate) fn check(&self, url: Option<&CallbackUrl>) -> Result<(), Refusal> {
        let Some(url) = url else { return Ok(()) };
        let refuse =
            |text: &str| Err(Refusal::new(ErrorCode::InvalidRequest, text).with_field("callbackUrl"));
        match &self.config {
            None => refuse(
                "`callbackUrl` cannot be called: this gateway has no WEBHOOK_SECRET to sign with; set one, or leave the field out",
            ),
            Some(config) if !url.is_https() && !config.allow_http => {
                refuse("`callbackUrl` is plain http, which is for private networks only; use https")
            }
            Some(config) if self.tasks.len() >= config.pending => {
                let text = "as many webhooks wait to be delivered as may; come back later, or leave `callbackUrl` out";
                Err(Refusal::new(ErrorCode::QueueFull, text).with_retry_after(60))
            }
            Some(_) => Ok(()),
        }
    }

    /// Notes what is owed to the job's receiver, before the job is begun: from then on it is told, by this gateway or by the next one. Where the
    /// storage does not answer in time, the job is begun all the same, and the webhook ends with this gateway.
    pub(crate) async fn promise(&self, job: &Job, url: Option<CallbackUrl>) -> Option<Owed> {
        let (config, url) = (self.config.as_ref()?, url?);
        let tenant = &job.lane.tenant;
        self.log.begin(Deliveries::pending(&job.id, url.origin()));
        let sealed = config.secrets.seal(tenant, &job.id, &url);
        let receiver = sealed.unwrap_or_default();
        let mut owed = Owed {
            url,
            record: OwedWebhook::new(job.id.clone(), tenant.clone(), receiver),
            is_noted: false,
        };
        self.note(&mut owed).await;
        Some(owed)
    }

    /// Takes a promise back: the job was refused after all.
    pub(crate) async fn withdraw(&self, owed: Owed) {
        self.log.forget(&owed.record.job_id);
        self.strike(&owed.record).await;
    }

    /// Waits for the end of the job, and tells its receiver; nobody waits for this.
    pub(crate) fn follow(self: &Arc<Self>, job: &Arc<Job>, owed: Owed) {
        let (webhooks, job) = (Arc::clone(self), Arc::clone(job));
        task::spawn(&self.tasks, async move { webhooks.see_to(owed, Some(job)).await });
    }

    /// Takes over what a gateway that is gone has owed; the record is this gateway's by now.
    pub(crate) fn inherit(self: &Arc<Self>, gateway: &Arc<Gateway>, record: OwedWebhook) {
        let (webhooks, gateway) = (Arc::clone(self), Arc::clone(gateway));
        task::spawn(&self.tasks, async move {
            let (tenant, job) = (&record.tenant, &record.job_id);
            let secrets = webhooks.config.as_ref().map(|config| &config.secrets);
            let Some(url) = secrets.and_then(|secrets| secrets.open(tenant, job, &record.receiver)) else {
                return webhooks
                    .abandon(
                        &record,
                        "its address was sealed with a WEBHOOK_SECRET that this gateway does not have",
                    )
                    .await;
            };
            let stored = webhooks.stored(tenant, job).await;
            webhooks
                .log
                .begin(stored.unwrap_or_else(|| Deliveries::pending(job, url.origin())));
            tracing::info!(job.id = %job, webhook.receiver = %url, "took a webhook over from a gateway that is gone");
            let found = match record.message {
                Some(_) => None,
                None => match webhooks
                    .leaving
                    .run_until_cancelled(whose(&gateway, &record))
                    .await
                {
                    Some(Some(found)) => Some(found),
                    Some(None) => return webhooks.abandon(&record, "nobody knows how its job ended").await,
                    None => return,
                },
            };
            let owed = Owed {
                url,
                record,
                is_noted: true,
            };
            webhooks.see_to(owed, found).await;
        });
    }

    /// Delivers what is owed once its job is over; what this gateway does not come to is left to the next one, where the storage knows of it.
    async fn see_to(&self, mut owed: Owed, job: Option<Arc<Job>>) {
        let Some(config) = &self.config else { return };
        if let Some(job) = &job {
            tokio::select! {
                biased;
                () = job.log.ended() => {}
                // The job goes on, and ends at another gateway, or at none.
                () = self.leaving.cancelled() => {}
            }
        }
        if let Some(job) = job.filter(|job| job.terminal().is_some()) {
            owed.record.message = Some(message(&job));
            self.note(&mut owed).await;
        }
        let state = match owed.record.message.clone() {
            Some(message) => {
                let owed = &mut owed;
                let mut delivery = Delivery {
                    webhooks: self,
                    config,
                    owed,
                };
                self.closing
                    .run_until_cancelled(delivery.carry_out(&message))
                    .await
            }
            None => None,
        };
        match state {
            None if owed.is_noted => {
                tracing::info!(job.id = %owed.record.job_id, webhook.receiver = %owed.url, "a webhook is left to the next gateway");
                self.keep_log(&owed.record).await;
            }
            Some(Progress::Delivered) => self.end(&owed.record, Progress::Delivered).await,
            state => {
                let state = state.unwrap_or(Progress::Abandoned);
                tracing::warn!(job.id = %owed.record.job_id, webhook.receiver = %owed.url, webhook.state = state.as_str(), "a webhook was not delivered");
                self.end(&owed.record, state).await;
            }
        }
    }

    async fn abandon(&self, record: &OwedWebhook, why: &str) {
        tracing::warn!(job.id = %record.job_id, "a webhook of a gateway that is gone was not delivered: {why}");
        if let Some(stored) = self.stored(&record.tenant, &record.job_id).await {
            self.log.begin(stored);
        }
        self.end(record, Progress::Abandoned).await;
    }

    /// Nothing is owed any more.
    async fn end(&self, record: &OwedWebhook, state: Progress) {
        self.metrics.webhook_ended(state.as_str());
        self.log.end(&record.job_id, state);
        self.keep_log(record).await;
        self.strike(record).await;
    }

    /// Tells the storage what is owed.
    async fn note(&self, owed: &mut Owed) {
        let Some(own) = &self.own else { return };
        if owed.record.receiver.is_empty() {
            return;
        }
        let writing = own.archive.write_webhook(&own.gateway, &owed.record);
        match timeout(own.patience, writing).await {
            Ok(Ok(())) => owed.is_noted = true,
            Ok(Err(error)) => warn(
                &owed.record.job_id,
                &error,
                "what is owed to a receiver could not be noted",
            ),
            Err(late) => warn(
                &owed.record.job_id,
                &late,
                "what is owed to a receiver was not noted in time",
            ),
        }
    }

    /// Tells the storage that it is owed no more.
    async fn strike(&self, record: &OwedWebhook) {
        let Some(own) = &self.own else { return };
        let removing = own
            .archive
            .remove_webhook(&own.gateway, &record.tenant, &record.job_id);
        match timeout(own.patience, removing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn(
                &record.job_id,
                &error,
                "the next gateway may send a webhook once more",
            ),
            Err(late) => warn(
                &record.job_id,
                &late,
                "the next gateway may send a webhook once more",
            ),
        }
    }

    /// What was tried for a job; `None` where it has no `callbackUrl`, or is too old.
    pub(crate) async fn deliveries(&self, tenant: &TenantId, job: &JobId) -> Option<Deliveries> {
        if let Some(known) = self.log.get(job) {
            return Some(known);
        }
        self.stored(tenant, job).await
    }

    async fn stored(&self, tenant: &TenantId, job: &JobId) -> Option<Deliveries> {
        let stored = self.storage.as_ref()?.find_deliveries(tenant, job).await;
        match stored {
            Ok(stored) => serde_json::from_slice(&stored?).ok(),
            Err(error) => {
                warn(job, &error, "the storage did not say which webhooks were sent");
                None
            }
        }
    }

    /// Lets what is under way end, within the grace, and leaves the rest to the next gateway, or gives it up where there is no storage.
    pub(crate) async fn close(&self) {
        self.tasks.close();
        self.leaving.cancel();
        let grace = self.config.as_ref().map_or(Duration::ZERO, |it| it.close_grace);
        if timeout(grace, self.tasks.wait()).await.is_err() {
            self.closing.cancel();
            // What is left writes its log, which is bounded by the storage's own bounds.
            let _late = timeout(grace, self.tasks.wait()).await;
        }
    }

    async fn keep_log(&self, record: &OwedWebhook) {
        let (Some(storage), Some(deliveries)) = (&self.storage, self.log.get(&record.job_id)) else {
            return;
        };
        let bytes = serde_json::to_vec(&deliveries).expect("a log has text keys only");
        let keeping = storage.keep_deliveries(&record.tenant, &record.job_id, bytes.into());
        if let Err(error) = keeping.await {
            warn(&record.job_id, &error, "the log of a webhook could not be kept");
        }
    }
}

/// The job that a webhook tells of, wherever it is by now; `None` where nobody knows it.
async fn whose(gateway: &Arc<Gateway>, record: &OwedWebhook) -> Option<Arc<Job>> {
    loop {
        match look_for(gateway, &record.tenant, &record.job_id, Wanted::Followed).await {
            Ok(job) => return Some(job),
            Err(Unknown::NotFound) => return None,
            Err(Unknown::Unsaid) => sleep(gateway.config.watch_interval).await,
        }
    }
}

/// What the receiver of an ended job is told.
fn message(job: &Job) -> String {
    let kind = match job.state() {
        JobState::Completed => "job.completed",
        _ => "job.failed",
    };
    let now = timestamp::format(OffsetDateTime::now_utc());
    json!({"type": kind, "timestamp": now, "data": job.view(true)}).to_string()
}

/// The same in every try: a job ends once, and tells it once.
fn message_id(job: &JobId) -> String {
    format!("msg_{job}")
}

fn warn(job: &JobId, error: &(dyn std::error::Error + 'static), what: &str) {
    tracing::warn!(job.id = %job, error, "{what}");
}
