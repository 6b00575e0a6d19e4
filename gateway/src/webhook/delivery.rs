//! One webhook: the tries, until one is taken or there may be no more.

use std::time::Duration;

use mayfly_http::{HeaderName, HeaderValue, HttpError, Request, header};
use mayfly_protocol::{CallbackUrl, JobId};
use mayfly_session::OwedWebhook;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::log::{self, Progress};
use super::verdict::{self, Answer, Verdict};
use super::{WebhookConfig, Webhooks, message_id};
use crate::chance::jitter;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// Of a receiver's answer nothing but the status counts.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// A webhook that this gateway owes.
#[derive(Debug)]
pub(crate) struct Owed {
    pub(super) url: CallbackUrl,
    /// As the storage holds it, too.
    pub(super) record: OwedWebhook,
    /// Whether the storage holds it: then the next gateway knows of it.
    pub(super) is_noted: bool,
}

/// One job's webhook.
pub(super) struct Delivery<'a> {
    pub(super) webhooks: &'a Webhooks,
    pub(super) config: &'a WebhookConfig,
    pub(super) owed: &'a mut Owed,
}

impl Delivery<'_> {
    /// Sends the message, the same bytes in every try, since receivers tell repetitions by the id.
    pub(super) async fn carry_out(&mut self, message: &str) -> Progress {
        let pauses = &self.config.pauses;
        let due = self.owed.record.next_at - OffsetDateTime::now_utc();
        let due = Duration::try_from(due).unwrap_or_default();
        sleep(due.min(pauses.longest)).await;
        loop {
            let number = self.owed.record.tries.saturating_add(1);
            let begun = (OffsetDateTime::now_utc(), Instant::now());
            let answer = self.send_once(message).await;
            let verdict = verdict::judge(&answer, number, pauses, jitter());
            self.webhooks.metrics.webhook_tried(answer.name());
            let next = match verdict {
                Verdict::After(pause) => Some(OffsetDateTime::now_utc() + pause),
                Verdict::Over(_) => None,
            };
            self.show(number, begun, &answer, next);
            match verdict {
                Verdict::Over(state) => return state,
                Verdict::After(pause) => {
                    self.owed.record.tries = number;
                    self.owed.record.next_at = next.unwrap_or(begun.0);
                    self.webhooks.note(self.owed).await;
                    self.webhooks.keep_log(&self.owed.record).await;
                    sleep(pause).await;
                }
            }
        }
    }

    async fn send_once(&self, message: &str) -> Answer {
        let _place = self.webhooks.tries.acquire().await;
        let sending = async {
            // Dropped with the try, which may take no longer.
            let cancel = CancellationToken::new();
            let response = self.config.client.send(self.request(message), &cancel).await?;
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

    fn request(&self, message: &str) -> Request {
        let (id, now) = (message_id(self.job()), OffsetDateTime::now_utc().unix_timestamp());
        let signature = self.config.secrets.sign(&id, now, message.as_bytes());
        let text =
            |text: String| HeaderValue::try_from(text).expect("ids, digits and Base64 are a header's value");
        let mut signature = text(signature);
        signature.set_sensitive(true);
        Request::post(self.owed.url.as_url().clone())
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(ID, text(id))
            .header(TIMESTAMP, text(now.to_string()))
            .header(SIGNATURE, signature)
            .body(message.as_bytes().to_vec())
    }

    fn show(
        &self,
        number: u32,
        begun: (OffsetDateTime, Instant),
        answer: &Answer,
        next: Option<OffsetDateTime>,
    ) {
        let attempt = log::Attempt::new(number, begun.0, begun.1.elapsed(), answer, next);
        tracing::info!(
            job.id = %self.job(),
            webhook.id = message_id(self.job()),
            webhook.receiver = %self.owed.url,
            webhook.attempt = number,
            "a webhook was tried: {answer}"
        );
        self.webhooks.log.add(self.job(), attempt);
    }

    fn job(&self) -> &JobId {
        &self.owed.record.job_id
    }
}

fn retry_after(value: Option<&HeaderValue>) -> Option<Duration> {
    value?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
