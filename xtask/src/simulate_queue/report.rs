//! Waits by tenant and by group, as lines of a table.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::load::{Load, Tenants};

/// Tenants of one sort, or jobs of one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    Flood,
    Heavy,
    Light,
    HeavyInFlood,
    LightInFlood,
    Newcomers,
}

pub(super) const GROUPS: &[Group] = &[
    Group::Flood,
    Group::Heavy,
    Group::Light,
    Group::HeavyInFlood,
    Group::LightInFlood,
    Group::Newcomers,
];

impl Group {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Flood => "the one that floods (weight 1)",
            Self::Heavy => "10 of weight 4",
            Self::Light => "39 of weight 1",
            Self::HeavyInFlood => "10 of weight 4, during the flood",
            Self::LightInFlood => "39 of weight 1, during the flood",
            Self::Newcomers => "50 newcomers during the flood, one job each",
        }
    }
}

/// Waits in seconds, shortest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Sorted(Vec<f64>);

impl Sorted {
    fn at(&self, part: f64) -> f64 {
        let index = (self.0.len().saturating_sub(1)) as f64 * part;
        self.0.get(index as usize).copied().unwrap_or_default()
    }

    pub(super) fn worst(&self) -> f64 {
        self.at(1.0)
    }

    pub(super) fn part_at_once(&self) -> f64 {
        let at_once = self.0.iter().filter(|wait| **wait == 0.0).count();
        at_once as f64 / self.0.len().max(1) as f64
    }
}

impl fmt::Display for Sorted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2}, {:.2}, {:.1}",
            self.at(0.5),
            self.at(0.99),
            self.worst()
        )
    }
}

/// The waits of a simulation.
#[derive(Debug)]
pub(super) struct Waits {
    groups: BTreeMap<Group, Sorted>,
    tenants: BTreeMap<u32, Sorted>,
    all: Sorted,
}

impl Waits {
    /// `waits` has one for each job, in the order of the jobs.
    pub(super) fn of(load: &Load, waits: &[Duration]) -> Self {
        let mut found = Self {
            groups: GROUPS.iter().map(|group| (*group, Sorted::default())).collect(),
            tenants: BTreeMap::new(),
            all: Sorted::default(),
        };
        for (job, wait) in load.jobs.iter().zip(waits) {
            let wait = wait.as_secs_f64();
            let (whole, in_flood) = match job.tenant {
                Tenants::FLOOD => (Group::Flood, Group::Flood),
                tenant if load.tenants.is_newcomer(tenant) => (Group::Newcomers, Group::Newcomers),
                tenant if load.tenants.is_heavy(tenant) => (Group::Heavy, Group::HeavyInFlood),
                _ => (Group::Light, Group::LightInFlood),
            };
            found.groups.entry(whole).or_default().0.push(wait);
            if job.in_flood && whole != in_flood {
                found.groups.entry(in_flood).or_default().0.push(wait);
            }
            found.tenants.entry(job.tenant).or_default().0.push(wait);
            found.all.0.push(wait);
        }
        let sorts = found.groups.values_mut().chain(found.tenants.values_mut());
        for sorted in sorts.chain([&mut found.all]) {
            sorted.0.sort_by(f64::total_cmp);
        }
        found
    }

    pub(super) fn all(&self) -> &Sorted {
        &self.all
    }

    pub(super) fn group(&self, group: Group) -> &Sorted {
        &self.groups[&group]
    }

    /// The waits of the tenant that fares worst, the one that floods and the newcomers left out.
    pub(super) fn worst_tenant(&self) -> Sorted {
        let others = self
            .tenants
            .iter()
            .filter(|(tenant, waits)| **tenant != Tenants::FLOOD && waits.0.len() > 1);
        let worst = others.max_by(|(_, a), (_, b)| a.at(0.99).total_cmp(&b.at(0.99)));
        worst.map(|(_, sorted)| sorted.clone()).unwrap_or_default()
    }
}

/// A line of the table of tenants.
pub(super) fn line(name: &str, fair: &Sorted, plain: &Sorted) -> String {
    format!("| {name} | {} | {fair} | {plain} |", fair.0.len())
}
