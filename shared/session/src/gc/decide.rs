//! The rules of removal, as functions of what was found: no clock, no I/O.
//!
//! They rest on three facts about everything else in this crate:
//! - a pack's name is fresh with each upload, and only the job that uploaded it, or a job that saw it listed, ever lists it;
//! - a job takes less than the grace;
//! - a job saves by swapping the manifest that it loaded, so what it saw in a manifest that has been replaced since it cannot list again;
//! - what lies in a week of Git LFS is named by jobs that began in that week, and by those to which their manifest names it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use mayfly_storage::Key;
use time::OffsetDateTime;

use super::{ABANDONED_AFTER, GcPolicy};
use crate::lfs::LfsWeek;

/// Packs that one collection retires in one repository; the others wait for the next.
const MAX_RETIRED: usize = 1000;

/// How long a repository without sessions is known where sessions do not expire.
const KNOWN_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

/// An object that was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) key: Key,
    pub(super) bytes: u64,
    pub(super) modified: OffsetDateTime,
}

impl Found {
    fn age(&self, now: OffsetDateTime) -> Duration {
        age(self.modified, now)
    }

    /// The name of the pack that this is an object of.
    pub(super) fn pack_name(&self) -> Option<&str> {
        let file = self.key.as_str().rsplit_once("/packs/")?.1;
        file.rsplit_once('.').map(|(name, _)| name)
    }

    /// The week of Git LFS that this lies in.
    pub(super) fn lfs_week(&self) -> Option<LfsWeek> {
        let (_, below) = self.key.as_str().split_once("/lfs/")?;
        let mut parts = below.split('/');
        let week = parts.next()?.parse().ok()?;
        matches!(parts.next()?, "contents" | "lists").then_some(week)
    }

    fn is_below(&self, folder: &str) -> bool {
        let mut parts = self.key.as_str().rsplit('/');
        parts.next();
        parts.next() == Some(folder)
    }
}

fn age(since: OffsetDateTime, now: OffsetDateTime) -> Duration {
    Duration::try_from(now - since).unwrap_or(Duration::ZERO)
}

/// Why something goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reason {
    Unused { age: Duration },
    BrokenOff { age: Duration },
    Unlisted { age: Duration },
    PinOfFormer,
    NoSession { age: Duration },
    RepositoryUnused { age: Duration },
    Retired { age: Duration },
    Outlived { age: Duration },
    Unfinished { age: Duration },
    WeekOver { age: Duration },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |age: &Duration| humantime::format_duration(Duration::from_secs(age.as_secs()));
        match self {
            Self::Unused { age } => write!(f, "not used for {} and not pinned", whole(age)),
            Self::BrokenOff { age } => write!(f, "its deletion broke off {} ago", whole(age)),
            Self::Unlisted { age } => write!(f, "{} old, and its session does not list it", whole(age)),
            Self::PinOfFormer => write!(f, "the pin of a session that is gone"),
            Self::NoSession { age } => write!(f, "{} old, and its session does not exist", whole(age)),
            Self::RepositoryUnused { age } => {
                write!(
                    f,
                    "no session of the repository is left, and none was for {}",
                    whole(age)
                )
            }
            Self::Retired { age } => {
                write!(f, "no session lists it, and no clone could for {}", whole(age))
            }
            Self::Outlived { age } => write!(f, "kept for {}", whole(age)),
            Self::WeekOver { age } => {
                write!(f, "no session names it, and its week is over for {}", whole(age))
            }
            Self::Unfinished { age } => write!(f, "last alive {} ago, and never finished", whole(age)),
        }
    }
}

/// What stands under a session's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing.
    Absent,
    /// A manifest.
    Live {
        /// When it was last saved.
        saved: OffsetDateTime,
        /// The key that its pin would have.
        pin: Key,
        /// The names of the packs that are its own.
        packs: BTreeSet<String>,
    },
    /// The mark of a deletion.
    Marked { since: OffsetDateTime },
    /// What cannot be read, or is of a newer build.
    Unreadable,
}

/// A session, as it was found.
#[derive(Debug, Clone)]
pub(super) struct SessionFacts {
    pub(super) standing: Standing,
    /// Everything below its folder but the manifest.
    pub(super) objects: Vec<Found>,
}

/// What becomes of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SessionStep {
    /// All of it goes, unless it turns out to be pinned or used.
    Expire(Reason),
    /// A deletion that broke off is taken up.
    FinishDeletion(Reason),
    /// One object goes.
    Remove(Found, Reason),
}

/// Decides on a session.
pub(super) fn session(facts: &SessionFacts, policy: &GcPolicy, now: OffsetDateTime) -> Vec<SessionStep> {
    let youngest = youngest_by_pack(&facts.objects, now);
    // A pack is as old as the youngest of its objects: a mark beside it tells when it was replaced.
    let old = |object: &&Found| {
        let of_pack = object.pack_name().and_then(|name| youngest.get(name));
        *of_pack.unwrap_or(&object.age(now)) >= policy.grace
    };
    let known = |object: &&Found| object.is_below("packs") || object.is_below("pins");
    let candidates = facts.objects.iter().filter(known).filter(old);
    match &facts.standing {
        Standing::Unreadable => Vec::new(),
        Standing::Marked { since } => {
            let age = age(*since, now);
            let is_abandoned = age >= ABANDONED_AFTER;
            let step = is_abandoned.then_some(SessionStep::FinishDeletion(Reason::BrokenOff { age }));
            step.into_iter().collect()
        }
        Standing::Absent => candidates
            .map(|object| {
                let age = object.age(now);
                SessionStep::Remove(object.clone(), Reason::NoSession { age })
            })
            .collect(),
        Standing::Live { saved, pin, packs } => {
            let idle = age(*saved, now);
            let is_pinned = facts.objects.iter().any(|object| object.key == *pin);
            if !is_pinned && policy.session_ttl.is_some_and(|ttl| idle >= ttl) {
                return vec![SessionStep::Expire(Reason::Unused { age: idle })];
            }
            candidates
                .filter_map(|object| {
                    let age = object.age(now);
                    let reason = match object.pack_name() {
                        Some(name) if packs.contains(name) => return None,
                        Some(_) => Reason::Unlisted { age },
                        None if object.key == *pin => return None,
                        None => Reason::PinOfFormer,
                    };
                    Some(SessionStep::Remove(object.clone(), reason))
                })
                .collect()
        }
    }
}

fn youngest_by_pack(objects: &[Found], now: OffsetDateTime) -> BTreeMap<&str, Duration> {
    let mut youngest = BTreeMap::new();
    for object in objects {
        if let Some(name) = object.pack_name() {
            let age = object.age(now);
            let least = youngest.entry(name).or_insert(age);
            *least = age.min(*least);
        }
    }
    youngest
}

/// The packs of one repository, as they were found, and who lists them.
#[derive(Debug, Clone, Default)]
pub(super) struct RepositoryFacts {
    /// The objects of its packs.
    pub(super) objects: Vec<Found>,
    /// The names of packs that sessions list.
    pub(super) in_use: BTreeSet<String>,
    /// Whether any session of the repository is there.
    pub(super) has_sessions: bool,
    /// What new clones are told of.
    pub(super) known: Option<KnownFacts>,
}

/// The document of what is known of a repository, as it was found.
#[derive(Debug, Clone)]
pub(super) struct KnownFacts {
    /// The names of packs that clones are told of.
    pub(super) listed: BTreeSet<String>,
    /// Retired packs, with the time from which no clone could learn of them.
    pub(super) retired: Vec<(String, OffsetDateTime)>,
    /// No earlier than the document was written.
    pub(super) written: OffsetDateTime,
    pub(super) bytes: u64,
}

/// What becomes of a repository's packs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RepositoryPlan {
    /// Clones are told of no pack any more.
    pub(super) forget: Option<Reason>,
    /// Packs that no clone is to take up from now on.
    pub(super) retire: BTreeSet<String>,
    /// Names that leave the list of retired packs: they are gone, or a session lists them after all.
    pub(super) strike: BTreeSet<String>,
    /// Objects that go.
    pub(super) remove: Vec<(Found, Reason)>,
    /// The document goes, as the last thing of the repository.
    pub(super) drop_known: Option<Reason>,
}

impl RepositoryPlan {
    /// Whether the document has to be written anew.
    pub(super) fn changes_known(&self) -> bool {
        self.forget.is_some() || !self.retire.is_empty() || !self.strike.is_empty()
    }
}

/// Decides on the packs of a repository.
pub(super) fn repository(facts: &RepositoryFacts, policy: &GcPolicy, now: OffsetDateTime) -> RepositoryPlan {
    let none = BTreeSet::new();
    let known = facts.known.as_ref();
    let listed = known.map_or(&none, |known| &known.listed);
    let retired = known.map_or(&[][..], |known| &known.retired);
    let there: BTreeSet<&str> = facts.objects.iter().filter_map(Found::pack_name).collect();
    let unknown_for = known.map_or(Duration::ZERO, |known| age(known.written, now));
    let outlived = |bound: Duration| !facts.has_sessions && unknown_for >= bound;
    let mut plan = RepositoryPlan::default();
    let forgets = !listed.is_empty() && outlived(policy.session_ttl.unwrap_or(KNOWN_TTL));
    plan.forget = forgets.then_some(Reason::RepositoryUnused { age: unknown_for });
    let is_listed = |name: &str| facts.in_use.contains(name) || (!forgets && listed.contains(name));
    for (name, at) in retired {
        let age = age(*at, now);
        if is_listed(name) || (!there.contains(name.as_str()) && age >= policy.grace) {
            plan.strike.insert(name.clone());
        } else if age >= policy.grace {
            let objects = facts.objects.iter().filter(|it| it.pack_name() == Some(name));
            plan.remove
                .extend(objects.map(|it| (it.clone(), Reason::Retired { age })));
        }
    }
    let is_young = |name: &str| {
        let mut objects = facts.objects.iter().filter(|it| it.pack_name() == Some(name));
        objects.any(|object| object.age(now) < policy.grace)
    };
    let is_retired = |name: &str| retired.iter().any(|(retired, _)| retired == name);
    let places = MAX_RETIRED.saturating_sub(retired.len());
    let fresh = there
        .iter()
        .filter(|name| !is_listed(name) && !is_retired(name) && !is_young(name));
    plan.retire = fresh.take(places).map(|name| (*name).to_owned()).collect();
    let is_empty = listed.is_empty() && retired.is_empty() && facts.objects.is_empty();
    if known.is_some() && is_empty && outlived(policy.grace) {
        plan.drop_known = Some(Reason::RepositoryUnused { age: unknown_for });
    }
    plan
}

/// Since when no job can come to name what lies in this week of Git LFS, unless a manifest names it to that job; `None` where one still can.
///
/// A job names by itself only what lies in the week in which it began, and it takes less than the grace.
fn lfs_closed(object: &Found, policy: &GcPolicy, now: OffsetDateTime) -> Option<Duration> {
    let over = age(object.lfs_week()?.end(), now);
    // What was written later than its week allows is of somebody whose clock is wrong, and may be needed for as long as a job takes.
    (over >= policy.grace && object.age(now) >= policy.grace).then_some(over)
}

/// Whether it depends on manifests alone if any of these objects of Git LFS is needed: only then the lists that they name have to be read.
pub(super) fn has_closed_lfs(objects: &[Found], policy: &GcPolicy, now: OffsetDateTime) -> bool {
    objects
        .iter()
        .any(|object| lfs_closed(object, policy, now).is_some())
}

/// Decides on the lists and contents of Git LFS of a repository, of which these are named by manifests, or by lists that manifests name.
pub(super) fn lfs(
    objects: Vec<Found>,
    named: &BTreeSet<Key>,
    policy: &GcPolicy,
    now: OffsetDateTime,
) -> Vec<(Found, Reason)> {
    let unnamed = objects.into_iter().filter(|object| !named.contains(&object.key));
    unnamed
        .filter_map(|object| {
            let age = lfs_closed(&object, policy, now)?;
            Some((object, Reason::WeekOver { age }))
        })
        .collect()
}

/// Decides on the outcome of a job.
pub(super) fn outcome(found: &Found, policy: &GcPolicy, now: OffsetDateTime) -> Option<Reason> {
    let age = found.age(now);
    let is_old = policy.outcome_retention.is_some_and(|retention| age >= retention);
    is_old.then_some(Reason::Outlived { age })
}

/// Decides on an upload that is not finished.
pub(super) fn upload(alive: OffsetDateTime, policy: &GcPolicy, now: OffsetDateTime) -> Option<Reason> {
    let age = age(alive, now);
    (age >= policy.grace).then_some(Reason::Unfinished { age })
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
