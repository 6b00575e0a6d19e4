//! Webhooks: when a job with a `callbackUrl` has ended, its receiver is told, in the form of Standard Webhooks.
//!
//! A delivery is tried until the receiver takes it, says that it is gone (410), or may not be reached, and at most so many times. It holds up
//! neither the job nor, beyond a short grace, the end of the gateway. What was tried is shown by `GET /jobs/{id}/deliveries`, and kept beside
//! the outcome where there is a storage. What a try means is decided by [`verdict`]; signatures are made by [`sign`].

mod log;
mod sign;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use mayfly_http::{GuardedClient, HeaderName, HeaderValue, HttpError, Request, header};
use mayfly_protocol::event::timestamp;
use mayfly_protocol::{CallbackUrl, ErrorCode, JobId, Refusal, TenantId};
use mayfly_session::OutcomeArchive;
use mayfly_telemetry::task;
use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::chance::jitter;
use crate::jobs::{Job, JobState};
use crate::metrics::Metrics;

pub(crate) use log::Deliveries;
use log::{Log, Progress};
pub use sign::{InvalidWebhookSecret, WebhookSecrets};
pub use verdict::WebhookPauses;
use verdict::{Answer, Verdict};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// Of a receiver's answer nothing but the status counts.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

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
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            tries: Semaphore::new(config.as_ref().map_or(0, |config| config.parallel)),
            config,
            storage,
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

    /// Waits for the end of the job, and tells its receiver; nobody waits for this.
    pub(crate) fn follow(self: &Arc<Self>, job: &Arc<Job>, url: CallbackUrl) {
        let Some(config) = self.config.clone() else {
            return;
        };
        self.log.begin(&job.id, &url);
        let (webhooks, job) = (Arc::clone(self), Arc::clone(job));
        task::spawn(&self.tasks, async move {
            tokio::select! {
                biased;
                () = job.log.ended() => {}
                // The job goes on, and ends at another gateway, or at none.
                () = webhooks.leaving.cancelled() => {}
            }
            let delivery = Delivery {
                webhooks: &webhooks,
                config: &config,
                job: &job,
                url: &url,
            };
            let state = match job.terminal().is_some() {
                true => webhooks.closing.run_until_cancelled(delivery.carry_out()).await,
                false => None,
            };
            let state = state.unwrap_or(Progress::Abandoned);
            webhooks.metrics.webhook_ended(state.as_str());
            if state != Progress::Delivered {
                tracing::warn!(job.id = %job.id, webhook.receiver = %url, webhook.state = state.as_str(), "a webhook was not delivered");
            }
            webhooks.log.end(&job.id, state);
            webhooks.keep(&job.lane.tenant, &job.id).await;
        });
    }

    /// What was tried for a job; `None` where it has no `callbackUrl`, or is too old.
    pub(crate) async fn deliveries(&self, tenant: &TenantId, job: &JobId) -> Option<Deliveries> {
        if let Some(known) = self.log.get(job) {
            return Some(known);
        }
        let stored = self.storage.as_ref()?.find_deliveries(tenant, job).await;
        match stored {
            Ok(stored) => serde_json::from_slice(&stored?).ok(),
            Err(error) => {
                let error = &error as &(dyn std::error::Error + 'static);
                tracing::warn!(job.id = %job, error, "the storage did not say which webhooks were sent");
                None
            }
        }
    }

    /// Lets what is under way end, within the grace, and gives up the rest.
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

    async fn keep(&self, tenant: &TenantId, job: &JobId) {
        let (Some(storage), Some(deliveries)) = (&self.storage, self.log.get(job)) else {
            return;
        };
        let bytes = serde_json::to_vec(&deliveries).expect("a log has text keys only");
        if let Err(error) = storage.keep_deliveries(tenant, job, bytes.into()).await {
            let error = &error as &(dyn std::error::Error + 'static);
            tracing::warn!(job.id = %job, error, "the log of a webhook could not be kept");
        }
    }
}

/// One job's webhook.
struct Delivery<'a> {
    webhooks: &'a Webhooks,
    config: &'a WebhookConfig,
    job: &'a Job,
    url: &'a CallbackUrl,
}

impl Delivery<'_> {
    async fn carry_out(&self) -> Progress {
        let body = self.body();
        let mut number = 1;
        loop {
            let begun = (OffsetDateTime::now_utc(), Instant::now());
            let answer = self.send_once(&body).await;
            let verdict = verdict::judge(&answer, number, &self.config.pauses, jitter());
            self.webhooks.metrics.webhook_tried(answer.name());
            self.note(number, begun, &answer, &verdict);
            match verdict {
                Verdict::Over(state) => return state,
                Verdict::After(pause) => {
                    self.webhooks.keep(&self.job.lane.tenant, &self.job.id).await;
                    sleep(pause).await;
                }
            }
            number += 1;
        }
    }

    /// The same bytes in every try, since receivers tell repetitions by the id.
    fn body(&self) -> Vec<u8> {
        let kind = match self.job.state() {
            JobState::Completed => "job.completed",
            _ => "job.failed",
        };
        let now = timestamp::format(OffsetDateTime::now_utc());
        let body = json!({"type": kind, "timestamp": now, "data": self.job.view(true)});
        serde_json::to_vec(&body).expect("a job has text keys only")
    }

    async fn send_once(&self, body: &[u8]) -> Answer {
        let _place = self.webhooks.tries.acquire().await;
        let sending = async {
            // Dropped with the try, which may take no longer.
            let cancel = CancellationToken::new();
            let response = self.config.client.send(self.request(body), &cancel).await?;
            let (status, headers) = (response.status, response.headers.clone());
            let _read = response.bytes(MAX_ANSWER_BYTES).await;
            Ok::<_, HttpError>((status, headers))
        };
        match timeout(self.config.timeout, sending).await {
            Ok(Ok((status, headers))) => Answer::Status {
                status: status.as_u16(),
                retry_after: retry_after(headers.get(header::RETRY_AFTER)),
            },
            Ok(Err(HttpError::RedirectRefused { .. })) => Answer::Redirect,
            Ok(Err(error @ HttpError::HostRefused { .. })) => Answer::Refused(error.to_string()),
            Ok(Err(error)) => Answer::Failed(error.to_string()),
            Err(_) => Answer::Failed(format!(
                "no answer within {} s",
                self.config.timeout.as_secs_f32()
            )),
        }
    }

    fn request(&self, body: &[u8]) -> Request {
        let (id, now) = (
            message_id(&self.job.id),
            OffsetDateTime::now_utc().unix_timestamp(),
        );
        let signature = self.config.secrets.sign(&id, now, body);
        let text =
            |text: String| HeaderValue::try_from(text).expect("ids, digits and Base64 are a header's value");
        let mut signature = text(signature);
        signature.set_sensitive(true);
        Request::post(self.url.as_url().clone())
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(ID, text(id))
            .header(TIMESTAMP, text(now.to_string()))
            .header(SIGNATURE, signature)
            .body(body.to_vec())
    }

    fn note(&self, number: u32, begun: (OffsetDateTime, Instant), answer: &Answer, verdict: &Verdict) {
        let next = match verdict {
            Verdict::After(pause) => Some(OffsetDateTime::now_utc() + *pause),
            Verdict::Over(_) => None,
        };
        let attempt = log::Attempt::new(number, begun.0, begun.1.elapsed(), answer, next);
        tracing::info!(
            job.id = %self.job.id,
            webhook.id = message_id(&self.job.id),
            webhook.receiver = %self.url,
            webhook.attempt = number,
            "a webhook was tried: {answer}"
        );
        self.webhooks.log.add(&self.job.id, attempt);
    }
}

/// The same in every try: a job ends once, and tells it once.
fn message_id(job: &JobId) -> String {
    format!("msg_{job}")
}

fn retry_after(value: Option<&HeaderValue>) -> Option<Duration> {
    value?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
