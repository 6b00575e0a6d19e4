//! What the queue knows of one tenant: its terms, what it has running and waiting, and what it has paid.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::departures::Departures;
use crate::kind::PerKind;
use crate::queue::Ticket;

/// A tenant's share of the workers beside the others': 1 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Weight(u32);

/// A number is no weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a weight is a number from 1 to 1000")]
pub struct InvalidWeight;

impl Default for Weight {
    fn default() -> Self {
        Self(1)
    }
}

impl TryFrom<u32> for Weight {
    type Error = InvalidWeight;
    fn try_from(number: u32) -> Result<Self, InvalidWeight> {
        match (1..=1000).contains(&number) {
            true => Ok(Self(number)),
            false => Err(InvalidWeight),
        }
    }
}

impl From<Weight> for u32 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}

impl FromStr for Weight {
    type Err = InvalidWeight;
    fn from_str(text: &str) -> Result<Self, InvalidWeight> {
        text.parse::<u32>().map_err(|_| InvalidWeight)?.try_into()
    }
}

/// On what terms a tenant's jobs are let in and run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// Its share beside the others.
    pub weight: Weight,
    /// Jobs that may run at the same time, over all kinds of worker.
    pub running: Option<NonZeroU32>,
    /// Jobs that may wait at the same time, over all kinds of worker.
    pub waiting: Option<NonZeroU32>,
}

/// What worker time costs, divided by the tenant's weight: microseconds times this, so that the division loses little.
const SCALE: u64 = 1000;
/// No job costs less, so that a tenant with jobs of no length pays, too.
const CHEAPEST: Duration = Duration::from_millis(1);

impl Weight {
    /// What this much of a worker's time costs, in virtual time.
    pub(crate) fn price(self, time: Duration) -> u64 {
        let micros = u64::try_from(time.max(CHEAPEST).as_micros()).unwrap_or(u64::MAX);
        micros.saturating_mul(SCALE) / u64::from(self.0)
    }
}

/// Where a tenant stands among those that have a job to run: least paid, then longest unserved, then first come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Standing {
    pub(crate) paid: u64,
    pub(crate) last_served: u64,
    pub(crate) head: Ticket,
}

/// When a tenant was given a worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Served {
    /// Which choice of the queue it was; 0 for none.
    pub(crate) number: u64,
    pub(crate) at: Duration,
}

/// What a tenant has of one kind of worker.
#[derive(Debug, Default)]
pub(crate) struct Share {
    pub(crate) waiting: BTreeSet<Ticket>,
    /// Those of the waiting that no earlier job of their session holds back.
    pub(crate) runnable: BTreeSet<Ticket>,
    /// In virtual time.
    pub(crate) paid: u64,
    pub(crate) served: Served,
    /// How it is listed among those that have a job to run.
    pub(crate) listed: Option<Standing>,
    /// The weight with which it is counted among those that have jobs waiting.
    pub(crate) counted_weight: u64,
    pub(crate) departures: Departures,
}

/// What the queue knows of one tenant.
#[derive(Debug, Default)]
pub(crate) struct Tenant {
    pub(crate) terms: Terms,
    pub(crate) running: usize,
    pub(crate) shares: PerKind<Share>,
}

impl Tenant {
    pub(crate) fn may_run(&self) -> bool {
        is_below(self.running, self.terms.running)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.shares.values().map(|share| share.waiting.len()).sum()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.running == 0 && self.waiting() == 0
    }
}

pub(crate) fn is_below(number: usize, limit: Option<NonZeroU32>) -> bool {
    limit.is_none_or(|limit| number < limit.get() as usize)
}
