//! Follows jobs that another gateway sent to their workers: as a reader beside that gateway, or in its place once it is gone.
//!
//! It comes to the end that its worker gives it, or that the storage tells. Only the heir of the gateway that had it may end it otherwise, or do it once
//! more, where its body was kept for that. This module must not know when a gateway counts as gone.

use std::sync::Arc;

use mayfly_protocol::{ErrorCode, Failure};
use mayfly_session::{OpenJob, Sent};
use mayfly_telemetry::task;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::begin_again::begin_again;
use crate::cancel;
use crate::exchange::{Keeper, KeptJob, Tail};
use crate::fleet::WorkerKind;
use crate::fleet::address::WorkerUrl;
use crate::fleet::roster::Release;
use crate::jobs::{End, Job, JobWriter};
use crate::outcome;
use crate::relay::{self, Numbers, RelayLimits};
use crate::retry::Repeat;
use crate::state::Gateway;

/// The number of the terminal event where this gateway ends a job of which it does not know how many events clients have had: beyond all of them.
const BEYOND_ALL: u64 = 1_000_000;

/// How a job that is watched ends.
struct Told {
    end: End,
    number: u64,
}

/// What becomes of a job that is watched.
enum Fate {
    Told(Told),
    /// It had waited, or its worker is lost, and is begun here.
    Begun(KeptJob),
}

/// A job that another gateway began.
struct Watch {
    gateway: Arc<Gateway>,
    writer: JobWriter,
    open: OpenJob,
    /// What is known of the job is what this gateway inherited.
    is_own: bool,
    /// Since when the job can be followed nowhere.
    lost_since: Option<Instant>,
}

/// Reads a job of another gateway along, for a client of this one.
pub(crate) fn join(gateway: &Arc<Gateway>, open: OpenJob) -> Arc<Job> {
    match gateway.jobs.resume(&open) {
        Ok(writer) => start(gateway, writer, open),
        Err(known) => known,
    }
}

/// Takes a job over from a gateway that is gone.
pub(crate) fn inherit(gateway: &Arc<Gateway>, open: OpenJob) {
    let kind = WorkerKind::from(open.kind);
    let was_sent = open.sent.is_some();
    let url: Option<WorkerUrl> = open.sent.as_ref().and_then(|sent| sent.worker.parse().ok());
    let job = join(gateway, open);
    tracing::info!(job.id = %job.id, was_sent, "took a job over from a gateway that is gone");
    if job.inherited.is_cancelled() {
        return;
    }
    job.inherited.cancel();
    let held = was_sent.then(|| {
        tell_others(gateway, &job);
        let place = gateway.dispatcher.resume(kind, &job.lane);
        let lease = url.and_then(|url| gateway.dispatcher.occupy(kind, &url, &job.id));
        (place, lease)
    });
    let heir = Arc::clone(gateway);
    task::spawn(&gateway.running, async move {
        let (release, is_over) = tokio::select! {
            () = job.repeated.cancelled() => (Release::Failed, false),
            () = job.log.ended() => (Release::Done, true),
            () = heir.stopping.cancelled() => (Release::Done, false),
        };
        // The worker is about to exit. Only then may the session's next job run, or that worker would be asked.
        if let Some((place, lease)) = held {
            if let Some(lease) = lease {
                lease.release(release);
            }
            drop(place);
        }
        // Whether it ended here, or had ended for a reader before this gateway was the heir.
        if is_over {
            forget(&heir, &job).await;
        }
    });
}

/// Removes what the storage knows of an inherited job that is over.
async fn forget(heir: &Gateway, job: &Job) {
    let Some(own) = &heir.own_jobs else { return };
    let removed = own.archive.remove(&own.gateway, &job.lane.tenant, &job.id);
    if let Err(error) = removed.await {
        let error = &error as &(dyn std::error::Error + 'static);
        tracing::warn!(job.id = %job.id, error, "the storage could not be told that the job is over");
    }
}

/// Tells other gateways of a job that this one has now, and waits for nothing.
fn tell_others(gateway: &Gateway, job: &Arc<Job>) {
    let Some(exchange) = &gateway.exchange else {
        return;
    };
    let mut keeper = Keeper::of_running(exchange, job);
    let repeated = job.repeated.clone();
    task::spawn(&gateway.running, async move {
        let telling = async {
            keeper.line_up().await;
            keeper.run().await;
        };
        // From then on its run has one of its own.
        let _repeated = repeated.run_until_cancelled(telling).await;
    });
}

fn start(gateway: &Arc<Gateway>, writer: JobWriter, open: OpenJob) -> Arc<Job> {
    let job = Arc::clone(writer.job());
    let watch = Watch {
        gateway: Arc::clone(gateway),
        writer,
        is_own: job.inherited.is_cancelled(),
        open,
        lost_since: None,
    };
    task::spawn(&gateway.running, watch.carry_on());
    job
}

impl Watch {
    async fn carry_on(mut self) {
        let stopping = self.gateway.stopping.clone();
        let limit = self.gateway.config.job_timeout;
        let told = stopping.run_until_cancelled(timeout(limit, self.fate())).await;
        let is_heir = self.writer.job().inherited.is_cancelled();
        let job = Arc::clone(self.writer.job());
        let told = match told {
            Some(Ok(Some(Fate::Told(told)))) => told,
            Some(Ok(Some(Fate::Begun(kept)))) => {
                match begin_again(&self.gateway, self.writer, &self.open, kept) {
                    Ok(()) => return,
                    Err(writer) => self.writer = writer,
                }
                self.own_end(self.no_room()).await
            }
            // The one who has the job ends it, or whoever takes over from this gateway.
            Some(_) | None => return self.writer.leave(),
        };
        if is_heir && self.open.sent.is_none() {
            tell_others(&self.gateway, &job);
        }
        self.writer.finish_at(told.end, told.number);
    }

    /// What becomes of the job; `None` where nobody here wants to hear it any more.
    async fn fate(&mut self) -> Option<Fate> {
        loop {
            let asked = outcome::find(&self.gateway, &self.open.tenant, &self.open.job_id).await;
            let is_known_open = asked.is_ok();
            match asked {
                Ok(Some(outcome)) => return self.told(outcome).map(Fate::Told),
                Ok(None) => {}
                Err(error) => {
                    let error = &error as &(dyn std::error::Error + 'static);
                    tracing::warn!(job.id = %self.open.job_id, error, "whether the job is over is not known");
                }
            }
            if let Some(told) = self.hear().await {
                return Some(Fate::Told(told));
            }
            let is_known_open = self.is_own_record().await && is_known_open;
            if !self.is_told()
                && let Some(sent) = self.open.sent.clone()
                && let Some(told) = self.follow(&sent).await
            {
                return Some(Fate::Told(told));
            }
            if self.writer.job().inherited.is_cancelled() {
                if is_known_open && let Some(failure) = self.given_up() {
                    if self.gateway.exchange.is_some() && self.gateway.draining.is_cancelled() {
                        // The next heir has room for it.
                        return None;
                    }
                    return Some(match self.take_over().await {
                        Some(kept) => Fate::Begun(kept),
                        None => Fate::Told(self.own_end(failure).await),
                    });
                }
            } else if self.is_unread() || !self.look_again().await {
                return None;
            }
            sleep(self.gateway.config.watch_interval).await;
        }
    }

    /// Whether an heir knows what it inherited: the job may have been sent since it began to read along.
    async fn is_own_record(&mut self) -> bool {
        if self.writer.job().inherited.is_cancelled() && !self.is_own {
            let Some(own) = &self.gateway.own_jobs else {
                return false;
            };
            match own.archive.find(&self.open.tenant, &self.open.job_id).await {
                Ok(Some((_, open))) => self.open = open,
                Ok(None) => {}
                Err(_) => return false,
            }
            self.is_own = true;
        }
        true
    }

    /// Whether the gateway that has the job can tell of it.
    fn is_told(&self) -> bool {
        let exchange = self.gateway.exchange.as_ref();
        exchange.is_some_and(|exchange| exchange.is_available())
            && !self.writer.job().inherited.is_cancelled()
    }

    /// Takes what the gateway that has the job tells of it, up to the end, a long silence, or the time when this one is its heir.
    async fn hear(&mut self) -> Option<Told> {
        let exchange = self.gateway.exchange.clone()?;
        let job = Arc::clone(self.writer.job());
        let config = &self.gateway.config;
        let mut tail = Tail::new(&exchange, &job, config.max_event_bytes);
        let mut ask_at = Instant::now();
        loop {
            let before = job.log.size().events;
            if let Some((end, number)) = tail.read(&self.writer).await.ok()? {
                return Some(Told { end, number });
            }
            if job.log.size().events > before {
                self.lost_since = None;
            }
            if job.inherited.is_cancelled() {
                return None;
            }
            let to_be_cancelled = async {
                job.cancelled.cancelled().await;
                sleep_until(ask_at).await;
            };
            tokio::select! {
                grown = timeout(config.silence_timeout, tail.grown()) => grown.ok()?,
                () = job.inherited.cancelled() => {}
                () = to_be_cancelled => {
                    tail.ask_to_cancel().await;
                    ask_at = Instant::now() + config.watch_interval;
                }
            }
        }
    }

    /// What is needed to begin the job here; `None` where that is not kept, or the job is not to be begun.
    async fn take_over(&self) -> Option<KeptJob> {
        let job = self.writer.job();
        let config = &self.gateway.config;
        let may_begin = match &self.open.sent {
            None => !job.cancelled.is_cancelled(),
            Some(lost) => {
                let repeat = Repeat {
                    attempt: lost.attempt,
                    attempts: config.job_attempts,
                    is_cancelled: job.cancelled.is_cancelled(),
                    is_stopping: self.gateway.stopping.is_cancelled(),
                };
                repeat.next().is_some()
            }
        };
        let kept = match &self.gateway.exchange {
            Some(exchange) if may_begin => exchange.take_over(job).await,
            Some(_) | None => None,
        };
        if self.open.sent.is_some() {
            self.gateway.metrics.lost(job.kind, kept.is_some());
        }
        kept
    }

    /// Why a job is not begun here that could be.
    fn no_room(&self) -> Failure {
        match &self.open.sent {
            None => {
                let text = "the gateway that had accepted the job is gone, and the one that took it over has no room for it; send it again";
                Failure::new(ErrorCode::GatewayLost, text)
            }
            Some(_) => {
                let text = "the gateway and the worker that had the job are lost, and the gateway that took it over has no room for it; the job may have run, so look at the session before sending it again";
                Failure::new(ErrorCode::WorkerLost, text)
            }
        }
    }

    fn is_unread(&self) -> bool {
        let limit = self.gateway.config.streams_per_job;
        self.writer.job().readers(limit) == 0
            && self
                .lost_since
                .is_some_and(|since| since.elapsed() > self.gateway.config.silence_timeout)
    }

    /// Asks again who has the job, and where it was sent; false where nobody has it any more.
    async fn look_again(&mut self) -> bool {
        let Some(own) = &self.gateway.own_jobs else {
            return false;
        };
        let since = *self.lost_since.get_or_insert_with(Instant::now);
        match own.archive.find(&self.open.tenant, &self.open.job_id).await {
            Ok(Some((_, open))) => {
                if open.sent != self.open.sent {
                    self.lost_since = None;
                }
                self.open = open;
                true
            }
            // Its record goes when its outcome is kept, which is seen at the next look.
            Ok(None) => since.elapsed() < self.gateway.config.orphan_timeout,
            Err(_) => true,
        }
    }

    /// What the outcome says; the events that the stream lacks come first.
    fn told(&self, outcome: mayfly_protocol::JobOutcome) -> Option<Told> {
        let before = outcome.events_before;
        let number = before.saturating_add(outcome.terminal()?.id);
        let end = outcome::told_behind(&self.writer, outcome)?;
        Some(Told { end, number })
    }

    /// Follows the worker's stream, as long as there is one.
    async fn follow(&mut self, sent: &Sent) -> Option<Told> {
        let url: WorkerUrl = sent.worker.parse().ok()?;
        let kind = WorkerKind::from(self.open.kind);
        // The fleet's token goes to workers that the settings name, and nowhere else.
        if !self.gateway.dispatcher.lists(kind, &url) {
            return None;
        }
        let job = Arc::clone(self.writer.job());
        let after = job.log.size().events.saturating_sub(sent.events_before);
        let client = &self.gateway.client;
        let mut stream = client.follow(&url, &job.id, after).await.ok()?;
        self.lost_since = None;
        self.writer.begin_again(sent);
        tracing::info!(job.id = %job.id, worker = %url, after, "follows the job at its worker");
        let limits = RelayLimits {
            silence: self.gateway.config.silence_timeout,
            max_event_bytes: self.gateway.config.max_event_bytes,
        };
        let numbers = Numbers::Behind(sent.events_before);
        let relayed = tokio::select! {
            biased;
            relayed = relay::relay(&mut stream, limits, &self.writer, numbers) => relayed,
            () = cancel::without_end(&self.gateway, &url, &job) => {
                return Some(self.own_end(cancel::unsettled(&self.gateway.config)).await);
            }
        };
        match relayed {
            Ok((end, number)) => Some(Told {
                end,
                number: number.unwrap_or_default(),
            }),
            Err(error) => {
                tracing::info!(job.id = %job.id, worker = %url, "lost the job at its worker: {error}");
                None
            }
        }
    }

    /// Why the heir ends a job itself, once there is no hope for another end.
    fn given_up(&mut self) -> Option<Failure> {
        if self.writer.job().cancelled.is_cancelled() && self.open.sent.is_none() {
            return Some(cancel::waiting(1));
        }
        let Some(sent) = &self.open.sent else {
            let text =
                "the gateway that had accepted the job is gone, and no worker had begun it; send it again";
            return Some(Failure::new(ErrorCode::GatewayLost, text));
        };
        let config = &self.gateway.config;
        let kind = WorkerKind::from(self.open.kind);
        let url: Option<WorkerUrl> = sent.worker.parse().ok();
        let is_listed = url.is_some_and(|url| self.gateway.dispatcher.lists(kind, &url));
        let patience = match is_listed {
            true => config.silence_timeout,
            // It may be on its way out with the job, which its outcome tells.
            false => config.orphan_timeout,
        };
        let since = *self.lost_since.get_or_insert_with(Instant::now);
        (since.elapsed() >= patience).then(|| {
            let text = "the gateway that had sent the job is gone, and its worker does not answer; the job may have run, so look at the session before sending it again";
            Failure::new(ErrorCode::WorkerLost, text)
        })
    }

    /// The job ends as this gateway says, unless it had ended otherwise at the last moment.
    async fn own_end(&self, failure: Failure) -> Told {
        let attempt = self.open.sent.as_ref().map_or(0, |sent| sent.attempt);
        let before = self.open.sent.as_ref().map_or(0, |sent| sent.events_before);
        let number = before.saturating_add(BEYOND_ALL);
        let end = outcome::keep_at(&self.gateway, &self.writer, attempt, failure, number - 1).await;
        Told { end, number }
    }
}
