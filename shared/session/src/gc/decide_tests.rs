//! The rules of removal, held against every combination of a few packs, ages and states.

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);
const HOUR: u64 = 3600;

fn hours_ago(hours: u64) -> OffsetDateTime {
    NOW - Duration::from_secs(hours * HOUR)
}

fn object(folder: &str, name: &str, hours: u64) -> Found {
    Found {
        key: format!("tenants/t/{folder}/{name}").parse().unwrap(),
        bytes: 1,
        modified: hours_ago(hours),
    }
}

fn name() -> impl Strategy<Value = String> {
    (0..6_u8).prop_map(|number| format!("p{number}"))
}

/// Hours on both sides of every bound of the default policy.
fn hours() -> impl Strategy<Value = u64> {
    prop_oneof![0..14_u64, 160..176_u64]
}

fn packs(folder: &'static str) -> impl Strategy<Value = Vec<Found>> {
    let file = (name(), prop_oneof![Just("pack"), Just("idx")], hours());
    vec(
        file.prop_map(move |(name, kind, hours)| object(folder, &format!("packs/{name}.{kind}"), hours)),
        0..8,
    )
}

fn known() -> impl Strategy<Value = Option<KnownFacts>> {
    let facts = (btree_set(name(), 0..4), vec((name(), hours()), 0..4), hours());
    proptest::option::of(facts.prop_map(|(listed, retired, written)| {
        KnownFacts {
            listed,
            retired: retired
                .into_iter()
                .map(|(name, hours)| (name, hours_ago(hours)))
                .collect(),
            written: hours_ago(written),
            bytes: 1,
        }
    }))
}

proptest! {
    #[test]
    fn a_shared_pack_goes_only_when_nobody_can_list_it(
        objects in packs("repositories/r"),
        in_use in btree_set(name(), 0..3),
        has_sessions in any::<bool>(),
        known in known(),
    ) {
        let has_sessions = has_sessions || !in_use.is_empty();
        let facts = RepositoryFacts { objects, in_use, has_sessions, known };
        let policy = GcPolicy::default();
        let plan = repository(&facts, &policy, NOW);
        let listed = |name: &str| facts.known.as_ref().is_some_and(|known| known.listed.contains(name));
        for (found, _) in &plan.remove {
            let name = found.pack_name().unwrap();
            prop_assert!(!facts.in_use.contains(name));
            prop_assert!(!listed(name) || plan.forget.is_some());
            let retired = facts.known.iter().flat_map(|known| &known.retired);
            prop_assert!(retired.clone().any(|(other, at)| other == name && age(*at, NOW) >= policy.grace));
        }
        for name in &plan.retire {
            prop_assert!(!facts.in_use.contains(name));
            prop_assert!(!listed(name) || plan.forget.is_some());
            let mut own = facts.objects.iter().filter(|it| it.pack_name() == Some(name));
            prop_assert!(own.all(|object| object.age(NOW) >= policy.grace));
            prop_assert!(!plan.strike.contains(name));
        }
        if plan.forget.is_some() {
            prop_assert!(!facts.has_sessions);
        }
        if plan.drop_known.is_some() {
            prop_assert!(facts.objects.is_empty() && !facts.has_sessions);
        }
    }

    #[test]
    fn what_a_session_lists_goes_only_with_it(
        objects in packs("sessions/s"),
        packs in btree_set(name(), 0..4),
        saved in hours(),
        pinned in any::<bool>(),
    ) {
        let pin = object("sessions/s", "pins/1.json", 900);
        let objects = objects.into_iter().chain(pinned.then(|| pin.clone())).collect();
        let standing = Standing::Live { saved: hours_ago(saved), pin: pin.key.clone(), packs: packs.clone() };
        let policy = GcPolicy::default();
        for step in session(&SessionFacts { standing, objects }, &policy, NOW) {
            match step {
                SessionStep::Expire(_) => prop_assert!(!pinned && saved >= 7 * 24),
                SessionStep::FinishDeletion(_) => prop_assert!(false, "no deletion is under way"),
                SessionStep::Remove(found, _) => {
                    prop_assert!(found.age(NOW) >= policy.grace && found.key != pin.key);
                    prop_assert!(!found.pack_name().is_some_and(|name| packs.contains(name)));
                }
            }
        }
    }
}

/// 2026-06-01 lies in this week, which ends on the 4th; the one before ended on May 28 at midnight, 108 hours before.
const THIS_WEEK: u64 = 2943;
const HOURS_SINCE_LAST_WEEK: u64 = 108;

#[test]
fn the_weeks_of_these_tests_are_where_they_say() {
    assert_eq!(LfsWeek::of(NOW).to_string(), THIS_WEEK.to_string());
    assert_eq!(LfsWeek::of(NOW).before().end(), hours_ago(HOURS_SINCE_LAST_WEEK));
}

fn lfs_objects() -> impl Strategy<Value = Vec<Found>> {
    let name = prop_oneof![
        (0..4_u8).prop_map(|number| format!("contents/c{number}")),
        (0..3_u8).prop_map(|number| format!("lists/l{number}.json")),
        Just("others/x".to_owned())
    ];
    let file = (THIS_WEEK - 3..THIS_WEEK + 2, name, hours());
    let object =
        file.prop_map(|(week, name, hours)| object("repositories/r", &format!("lfs/{week}/{name}"), hours));
    vec(object, 0..12)
}

proptest! {
    #[test]
    fn what_lies_in_a_week_of_lfs_goes_when_it_is_over_and_no_session_names_it(
        objects in lfs_objects(),
        chosen in vec(any::<bool>(), 12),
        hours_past_the_end in 0..14_u64,
    ) {
        let policy = GcPolicy::default();
        let now = LfsWeek::of(NOW).before().end() + Duration::from_secs(hours_past_the_end * HOUR);
        let named: BTreeSet<Key> = objects.iter().zip(chosen).filter(|(_, it)| *it).map(|(it, _)| it.key.clone()).collect();
        let gone = lfs(objects.clone(), &named, &policy, now);
        for object in &objects {
            let goes = gone.iter().any(|(found, _)| found == object);
            let Some(week) = object.lfs_week() else {
                prop_assert!(!goes);
                continue;
            };
            let is_closed = now >= week.end() + policy.grace && now >= object.modified + policy.grace;
            prop_assert_eq!(goes, is_closed && !named.contains(&object.key));
        }
        if !gone.is_empty() {
            prop_assert!(has_closed_lfs(&objects, &policy, now));
        }
    }
}

#[test]
fn what_is_not_known_is_left_alone() {
    let strange = vec![
        object("sessions/s", "other/x", 900),
        object("sessions/s", "x", 900),
    ];
    let absent = SessionFacts {
        standing: Standing::Absent,
        objects: strange,
    };
    assert_eq!(session(&absent, &GcPolicy::default(), NOW), vec![]);
}
