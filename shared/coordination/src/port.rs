//! The port itself: what gateways can tell one another, and with which promises.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use mayfly_protocol::{JobId, SessionId, TenantId};
use tokio::sync::broadcast;

/// How long things stay that nobody tells again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// What is told of a job, after the last word about it.
    pub job: Duration,
    /// The places of a gateway in lines, after its last sign of life: longer than it takes another one to take over from it.
    pub owner: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            job: Duration::from_secs(600),
            owner: Duration::from_secs(40),
        }
    }
}

/// Records that are kept for each tenant; the oldest go first.
pub const RECORDS_KEPT: usize = 1000;

/// One life of a gateway's process, as it names itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner(Arc<str>);

impl Owner {
    /// The gateway of this name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A job of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobRef {
    /// Whose it is.
    pub tenant: TenantId,
    /// The job.
    pub job: JobId,
}

impl fmt::Display for JobRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.tenant, self.job)
    }
}

/// A job's place in the line of its session.
#[derive(Debug, Clone)]
pub struct InLine {
    /// The job.
    pub job: JobRef,
    /// The session that it works on.
    pub session: SessionId,
    /// When it came, as [`Lined::since`] said before; `None` for a job that comes now.
    pub since: Option<u64>,
}

/// How a job stands in the line of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lined {
    /// When it came, in microseconds of the clock that all gateways share.
    pub since: u64,
    /// Nothing is before it: it may run.
    pub is_first: bool,
    /// It was not in the line, and is now.
    pub is_new: bool,
}

/// An event of a job, with its number.
pub type Numbered = (u64, Bytes);

/// What there is to be told of a job.
#[derive(Debug)]
pub struct News<'a> {
    /// What it is, and how it stands.
    pub record: &'a [u8],
    /// When it was accepted, in milliseconds since 1970: the order of records.
    pub accepted_ms: i64,
    /// The number of the event before the first of `events`; 0 where there is none.
    pub after: u64,
    /// Events, in order.
    pub events: &'a [Numbered],
}

/// Something that a gateway may have waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The job is the first in the line of its session.
    Turn(JobRef),
    /// The job has more events.
    Events(JobRef),
    /// The job is to be cancelled by whoever has it.
    Cancel(JobRef),
    /// What was told before may be lost, and changes may have gone by unheard.
    Everything,
}

/// What was asked was not done, or nobody knows whether it was. It may be asked again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// There is no connection.
    #[error("there is no connection to Redis")]
    Away,
    /// There was no answer in time.
    #[error("Redis did not answer in time")]
    Late,
    /// It was refused, or the answer makes no sense.
    #[error("Redis failed: {0}")]
    Failed(String),
}

/// What gateways of one fleet tell one another.
///
/// Numbers of events rise within a job; an event under a number that is told already, or lower, is left out.
#[async_trait]
pub trait Coordination: Debug + Send + Sync {
    /// Says that the gateway lives. Its places in lines count for [`Lifetimes::owner`] after the last time.
    async fn beat(&self, owner: &Owner) -> Result<(), Unavailable>;

    /// Puts a job at its place in the line of its session, or keeps it there, and says how it stands. Places of gateways that are gone go.
    ///
    /// A job that is taken over from another gateway keeps its place and changes its owner. This is a sign of life, too.
    async fn line_up(&self, owner: &Owner, place: &InLine) -> Result<Lined, Unavailable>;

    /// Takes a job of this gateway out of the line of its session; the next one hears of its turn.
    async fn leave(&self, owner: &Owner, place: &InLine) -> Result<(), Unavailable>;

    /// Whether any job of the session runs or waits.
    async fn is_busy(&self, tenant: &TenantId, session: &SessionId) -> Result<bool, Unavailable>;

    /// Tells how a job stands and what its stream has, and gives the number of the last event that is told now.
    ///
    /// Where that is below [`News::after`], earlier events were lost, and none was added: they have to be told again from there.
    async fn publish(&self, job: &JobRef, news: &News<'_>) -> Result<u64, Unavailable>;

    /// The next events of a job after this number; none where there is nothing yet. What is left out comes with the next question.
    async fn events(&self, job: &JobRef, after: u64) -> Result<Vec<Numbered>, Unavailable>;

    /// What is told of a job.
    async fn record(&self, job: &JobRef) -> Result<Option<Bytes>, Unavailable>;

    /// What is told of the newest jobs of a tenant, the newest first.
    async fn records(&self, tenant: &TenantId) -> Result<Vec<Bytes>, Unavailable>;

    /// Keeps something for whoever takes the job over, in the place of what was kept of it before; it goes after this time.
    async fn shelter(&self, job: &JobRef, what: &[u8], keep_for: Duration) -> Result<(), Unavailable>;

    /// Takes what was kept for whoever takes the job over: it is there for one of them.
    async fn take_shelter(&self, job: &JobRef) -> Result<Option<Bytes>, Unavailable>;

    /// Asks whoever has the job to cancel it. Nobody knows whether that was heard.
    async fn ask_to_cancel(&self, job: &JobRef) -> Result<(), Unavailable>;

    /// Changes from now on. A receiver that lags has missed some: that is [`Change::Everything`].
    fn changes(&self) -> broadcast::Receiver<Change>;

    /// Whether the last that was heard of it was good.
    fn is_available(&self) -> bool;

    /// Does what has to be done all the time, for as long as the future is polled.
    async fn run(&self);
}
