//! What the others are told of one job that this gateway has: its place in the line of its session, how it stands, and its events.
//!
//! The job's log is what is told from: events that cannot be told now are told later, and all of them again where what was told is lost.

use std::sync::Arc;
use std::time::Duration;

use mayfly_coordination::{InLine, News};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Exchange, Interest, Shelter, Topic, job_ref};
use crate::dispatch::Permit;
use crate::jobs::{Job, JobState};

/// Messages for one look at the log, beyond which a store that forgets as fast as it is told is left alone until the next one.
const MOST_BATCHES: usize = 512;

/// Tells the others of one job.
pub(crate) struct Keeper {
    exchange: Arc<Exchange>,
    job: Arc<Job>,
    place: InLine,
    /// Lets the job run; there while it waits for its turn.
    permit: Option<Permit>,
    shelter: Option<Shelter>,
    /// Until when nothing is made of a turn: others may have to line up again, too.
    settles_until: Option<Instant>,
    /// The number of the last event that was told.
    told: u64,
    turn: Interest,
    cancel: Interest,
}

impl Keeper {
    /// For a job that waits, and is not begun before its turn.
    pub(crate) fn new(exchange: &Arc<Exchange>, job: &Arc<Job>, permit: Permit, shelter: Shelter) -> Self {
        Self {
            permit: Some(permit),
            shelter: Some(shelter),
            ..Self::with(exchange, job, None)
        }
    }

    /// For a job that runs already: it comes before whatever waits.
    pub(crate) fn of_running(exchange: &Arc<Exchange>, job: &Arc<Job>) -> Self {
        Self::with(exchange, job, Some(0))
    }

    fn with(exchange: &Arc<Exchange>, job: &Arc<Job>, since: Option<u64>) -> Self {
        let job_ref = job_ref(job);
        Self {
            turn: exchange.interest(&job_ref, Topic::Turn),
            cancel: exchange.interest(&job_ref, Topic::Cancel),
            place: InLine {
                job: job_ref,
                session: job.lane.session.clone(),
                since,
            },
            exchange: Arc::clone(exchange),
            job: Arc::clone(job),
            permit: None,
            shelter: None,
            settles_until: None,
            told: 0,
        }
    }

    /// Takes or keeps the job's place in the line, and lets it run if nothing is before it, or if nobody can say what is.
    pub(crate) async fn line_up(&mut self) {
        if self.place.since.is_none() && self.job.state() == JobState::Running {
            self.place.since = Some(0);
        }
        let lined = self
            .exchange
            .coordination
            .line_up(&self.exchange.owner, &self.place);
        match lined.await {
            Ok(lined) => {
                if lined.is_new && self.place.since.is_some() {
                    self.settles_until = Some(Instant::now() + self.settling());
                    if let Some(shelter) = &mut self.shelter {
                        shelter.was_lost();
                    }
                }
                self.place.since = Some(lined.since);
                let is_settled = self.settles_until.is_none_or(|until| until <= Instant::now());
                if lined.is_first && is_settled {
                    self.let_run();
                }
            }
            Err(_) if self.place.since.is_none() => self.let_run(),
            // Its turn is told when somebody can say it.
            Err(_) => {}
        }
    }

    /// Tells that there is the job, before anybody can ask another gateway for it, and keeps what that needs to begin it, before a worker is asked.
    pub(crate) async fn introduce(&mut self) {
        let mut shelter = self.shelter.take();
        let (exchange, job) = (Arc::clone(&self.exchange), self.place.job.clone());
        let keeping = async {
            if let Some(shelter) = &mut shelter {
                shelter.keep(&exchange, &job).await;
            }
        };
        tokio::join!(self.tell(true), keeping);
        self.shelter = shelter;
    }

    /// By then every gateway that lives has lined up again what it has.
    fn settling(&self) -> Duration {
        self.exchange.interval * 2
    }

    fn let_run(&mut self) {
        if let Some(permit) = self.permit.take() {
            permit.release();
        }
    }

    /// Tells of the job until it has ended, or is left to the next gateway.
    pub(crate) async fn run(mut self) {
        let job = Arc::clone(&self.job);
        let mut due = interval(self.exchange.interval);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        due.reset();
        let mut is_due = false;
        loop {
            let size = job.log.size();
            self.tell(is_due).await;
            if is_due && let Some(shelter) = &mut self.shelter {
                shelter.keep(&self.exchange, &self.place.job).await;
            }
            if size.ended {
                return self.leave().await;
            }
            if size.left {
                return;
            }
            is_due = false;
            tokio::select! {
                () = job.log.once(|log| (log.size() != size).then_some(())) => {}
                () = self.turn.changed() => {
                    self.line_up().await;
                    is_due = true;
                }
                () = self.cancel.changed() => self.job.cancelled.cancel(),
                _ = due.tick() => {
                    self.line_up().await;
                    is_due = true;
                }
            }
        }
    }

    /// Tells what is new; where it is due, also where nothing is, so that what was told stays, or is told again.
    async fn tell(&mut self, mut is_due: bool) {
        for _ in 0..MOST_BATCHES {
            let batch = self.job.log.batch(self.told);
            if batch.events.is_empty() && !is_due {
                return;
            }
            is_due = false;
            let record = serde_json::to_vec(&self.job.view(false)).unwrap_or_default();
            let accepted_ms = self.job.accepted_at.unix_timestamp_nanos() / 1_000_000;
            let news = News {
                record: &record,
                accepted_ms: i64::try_from(accepted_ms).unwrap_or_default(),
                after: batch.before,
                events: &batch.events,
            };
            match self.exchange.coordination.publish(&self.place.job, &news).await {
                Ok(told) => self.told = told,
                Err(_) => return,
            }
        }
    }

    async fn leave(self) {
        self.exchange.forget(&self.place.job).await;
        if self.place.since.is_some() {
            self.exchange.leave(self.place.clone()).await;
        }
    }
}
