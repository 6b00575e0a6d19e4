//! Which of a session's packs a job writes anew as one: functions of their sizes, with no clock and no I/O.
//!
//! Each job adds a small pack, and each later one reads the small packs whole. So from time to time a job *folds*: what the next job reads goes into
//! one small pack, the rest into one that is read object by object, and both are listed in place of several. The sizes of what is left form a
//! geometric progression, as `git repack --geometric=2` makes it: an object is written again only into a pack that is at least half as large again
//! as the one that it was in, so however many jobs there are, it is written a number of times that grows with the logarithm of the session's size.
//!
//! Each pull adds a pack of what the remote had new, which is read object by object; the more of them there are, the more indexes are asked for one.
//! They are folded by the same progression, into one. What came first is far larger than what follows, and stays where it is.

use crate::manifest::{PackEntry, PackKind, PackScope};

/// The small packs of jobs at which they are folded, that of the folding job among them.
const FOLD_AT: usize = 8;
/// The packs of the remote that have to go together before they are folded.
const FOLD_RECEIVED_AT: usize = 8;
/// How many of the largest packs that are folded go together at most.
const FOLD_RECEIVED_WHOLES: u64 = 2;
/// How many times as large as all smaller ones together a pack must be to stay.
const FACTOR: u64 = 2;

/// The packs that a job which adds one of `made_bytes` folds with it; none where that does not pay yet.
///
/// A pack of more than `whole_bytes` is never written again. No job reads it as a whole, and there is at most one for so many bytes.
pub fn packs_to_fold(packs: &[PackEntry], made_bytes: u64, whole_bytes: u64) -> Vec<&PackEntry> {
    let of_kind = |kind| {
        let own = packs.iter().filter(|entry| entry.scope == PackScope::Session);
        own.filter(move |entry| entry.kind == kind && entry.pack_bytes <= whole_bytes)
    };
    let mut folded: Vec<&PackEntry> = of_kind(PackKind::Job).collect();
    if folded.len() + 1 < FOLD_AT || made_bytes > whole_bytes {
        return Vec::new();
    }
    let mut past: Vec<&PackEntry> = of_kind(PackKind::Past).collect();
    past.sort_by_key(|entry| entry.pack_bytes);
    let sizes: Vec<u64> = past.iter().map(|entry| entry.pack_bytes).collect();
    let below = folded.iter().map(|entry| entry.pack_bytes).sum::<u64>() + made_bytes;
    past.truncate(before_progression(below, &sizes));
    folded.extend(past);
    folded
}

/// The packs of the remote that a job folds, the smallest first; none where that does not pay yet.
///
/// A pack of more than `whole_bytes` is never written again, and those that go together have twice as many bytes at most: to write
/// so much anew takes some seconds.
pub fn received_to_fold(packs: &[PackEntry], whole_bytes: u64) -> Vec<&PackEntry> {
    let is_received = |entry: &&PackEntry| entry.kind == PackKind::Base && entry.pack_bytes <= whole_bytes;
    let mut received: Vec<&PackEntry> = packs.iter().filter(is_received).collect();
    received.sort_by_key(|entry| entry.pack_bytes);
    let sizes: Vec<u64> = received.iter().map(|entry| entry.pack_bytes).collect();
    received.truncate(before_progression(0, &sizes));
    if received.len() < FOLD_RECEIVED_AT {
        return Vec::new();
    }
    let mut bytes = 0;
    received
        .into_iter()
        .take_while(|entry| {
            bytes += entry.pack_bytes;
            bytes <= FOLD_RECEIVED_WHOLES.saturating_mul(whole_bytes)
        })
        .collect()
}

/// How many of the sizes, which ascend, are to go together with `below`, so that each of the others is large enough beside all that is smaller.
fn before_progression(below: u64, sizes: &[u64]) -> usize {
    let mut smaller = below.saturating_add(sizes.iter().sum());
    for (at, size) in sizes.iter().enumerate().rev() {
        smaller -= size;
        if *size < smaller.saturating_mul(FACTOR) {
            return at + 1;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use mayfly_protocol::ObjectId;
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::MAX_WHOLE_BYTES;
    use crate::pack_name::PackName;

    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;

    fn pack(kind: PackKind, bytes: u64) -> PackEntry {
        PackEntry {
            hash: ObjectId::from_bytes([7; 20]),
            name: PackName::fresh(),
            kind,
            scope: match kind {
                PackKind::Base | PackKind::Trees => PackScope::Repository,
                PackKind::Job | PackKind::Past => PackScope::Session,
            },
            objects: 1,
            pack_bytes: bytes,
            index_bytes: 1100,
        }
    }

    /// The sizes of what is folded, by kind.
    fn folded(jobs: &[u64], past: &[u64], made: u64) -> (Vec<u64>, Vec<u64>) {
        let mut packs = vec![pack(PackKind::Base, 5), pack(PackKind::Trees, 5)];
        packs.extend(jobs.iter().map(|bytes| pack(PackKind::Job, *bytes)));
        packs.extend(past.iter().map(|bytes| pack(PackKind::Past, *bytes)));
        let folded = packs_to_fold(&packs, made, MAX_WHOLE_BYTES);
        let sizes = |kind| {
            let of_kind = folded.iter().filter(|entry| entry.kind == kind);
            of_kind.map(|entry| entry.pack_bytes).collect()
        };
        assert!(folded.iter().all(|entry| entry.scope == PackScope::Session));
        (sizes(PackKind::Job), sizes(PackKind::Past))
    }

    #[test]
    fn packs_are_folded_when_there_are_so_many_and_the_past_stays_a_progression() {
        let small = [KIB; 7];
        let whole = MAX_WHOLE_BYTES;
        type Case<'a> = (&'a [u64], &'a [u64], u64, (&'a [u64], &'a [u64]));
        let cases: [Case<'_>; 12] = [
            (&[], &[], KIB, (&[], &[])),
            (&small[..6], &[], KIB, (&[], &[])),
            (&small, &[], KIB, (&small, &[])),
            (&[whole; 7], &[], whole, (&[whole; 7], &[])),
            // What is made is too large itself.
            (&small, &[], whole + 1, (&[], &[])),
            // Past packs alone are no reason.
            (&[], &[KIB; 20], KIB, (&[], &[])),
            // A past pack that is large enough stays, one that is not goes along.
            (&small, &[16 * KIB], KIB, (&small, &[])),
            (&small, &[16 * KIB - 1], KIB, (&small, &[16 * KIB - 1])),
            // One that is large enough by itself is not so beside others that go along.
            (&small, &[9 * KIB, 16 * KIB], KIB, (&small, &[9 * KIB, 16 * KIB])),
            (&small, &[200 * KIB, 9 * KIB, 40 * KIB], KIB, (&small, &[9 * KIB])),
            (&small, &[whole, whole + 1], KIB, (&small, &[])),
            // Large packs of jobs are neither counted nor folded.
            (
                &[KIB, KIB, KIB, KIB, KIB, KIB, whole + 1, whole + 1],
                &[],
                KIB,
                (&[], &[]),
            ),
        ];
        for (jobs, past, made, expected) in cases {
            let (of_jobs, of_past) = folded(jobs, past, made);
            assert_eq!((&of_jobs[..], &of_past[..]), expected, "{jobs:?} {past:?} {made}");
        }
    }

    /// What became of a session after many jobs.
    struct Outcome {
        most_of_jobs: usize,
        most_past: usize,
        made: u64,
        written: u64,
    }

    /// Jobs that make packs of these sizes, of which a part is what the next job reads.
    fn run(sizes: &[u64], kept: u64) -> Outcome {
        let mut packs: Vec<PackEntry> = Vec::new();
        let mut outcome = Outcome {
            most_of_jobs: 0,
            most_past: 0,
            made: 0,
            written: 0,
        };
        for made in sizes {
            let folded = packs_to_fold(&packs, *made, MAX_WHOLE_BYTES);
            let names: Vec<PackName> = folded.iter().map(|entry| entry.name.clone()).collect();
            let together = folded.iter().map(|entry| entry.pack_bytes).sum::<u64>() + made;
            let was_past = folded.iter().filter(|entry| entry.kind == PackKind::Past);
            let fresh = together - was_past.map(|entry| entry.pack_bytes).sum::<u64>();
            if names.is_empty() {
                packs.push(pack(PackKind::Job, *made));
            } else {
                packs.retain(|entry| !names.contains(&entry.name));
                let next = kept.min(fresh);
                packs.push(pack(PackKind::Job, next));
                packs.push(pack(PackKind::Past, together - next));
            }
            outcome.made += made;
            outcome.written += together;
            let count = |kind| packs.iter().filter(|entry| entry.kind == kind).count();
            outcome.most_of_jobs = outcome.most_of_jobs.max(count(PackKind::Job));
            outcome.most_past = outcome.most_past.max(count(PackKind::Past));
        }
        outcome
    }

    #[test]
    fn a_thousand_jobs_of_one_size_leave_few_packs_and_write_each_object_a_few_times() {
        for size in [500, 20 * KIB, 300 * KIB] {
            let outcome = run(&[size; 1000], size);
            assert!(outcome.most_of_jobs < FOLD_AT, "{size}");
            let too_large = outcome.made / MAX_WHOLE_BYTES;
            assert!(
                outcome.most_past as u64 <= 8 + too_large,
                "{size}: {}",
                outcome.most_past
            );
            assert!(
                outcome.written <= 10 * outcome.made,
                "{size}: {}",
                outcome.written
            );
        }
    }

    /// The sizes of the packs of the remote that are folded, and of those that are not.
    fn received(base: &[u64]) -> (Vec<u64>, Vec<u64>) {
        let mut packs = vec![
            pack(PackKind::Trees, 5),
            pack(PackKind::Job, 5),
            pack(PackKind::Past, 5),
        ];
        packs.extend(base.iter().map(|bytes| pack(PackKind::Base, *bytes)));
        let folded = received_to_fold(&packs, MAX_WHOLE_BYTES);
        assert!(folded.iter().all(|entry| entry.kind == PackKind::Base));
        let is_left = |entry: &&PackEntry| entry.kind == PackKind::Base && !folded.contains(entry);
        let left = packs.iter().filter(is_left).map(|entry| entry.pack_bytes);
        (
            folded.iter().map(|entry| entry.pack_bytes).collect(),
            left.collect(),
        )
    }

    #[test]
    fn packs_of_pulls_are_folded_when_many_go_together_and_what_is_large_stays() {
        let (small, whole) = ([KIB; 8], MAX_WHOLE_BYTES);
        type Case<'a> = (&'a [u64], &'a [u64]);
        let cases: [Case<'_>; 9] = [
            (&[], &[]),
            (&small[1..], &[]),
            (&small, &small),
            // What came first is no part of it, neither where it is large nor where it is only larger than the rest.
            (&[[whole + 1].as_slice(), &small].concat(), &small),
            (&[[16 * KIB].as_slice(), &small].concat(), &small),
            (
                &[[16 * KIB - 1].as_slice(), &small].concat(),
                &[small.as_slice(), &[16 * KIB - 1]].concat(),
            ),
            // A progression has as many as it has.
            (&[1, 2, 6, 18, 54, 162, 486, 1458, 4374, 13122], &[]),
            // No more are taken at once than fit.
            (&[whole; 9], &[whole; 2]),
            (&[whole + 1; 30], &[]),
        ];
        for (base, expected) in cases {
            let (folded, left) = received(base);
            assert_eq!(folded, expected, "{base:?}");
            assert_eq!(folded.len() + left.len(), base.len());
        }
    }

    /// Pulls that bring packs of these sizes onto a first one; gives the most small packs that there were, and the bytes that were written again.
    fn pulled(first: u64, sizes: &[u64]) -> (usize, u64) {
        let (mut base, mut most, mut written) = (vec![first], 0, 0);
        for size in sizes {
            base.push(*size);
            let (folded, left) = received(&base);
            if !folded.is_empty() {
                base = left;
                base.push(folded.iter().sum());
            }
            written += folded.iter().sum::<u64>();
            most = most.max(base.iter().filter(|bytes| **bytes <= MAX_WHOLE_BYTES).count());
        }
        (most, written)
    }

    #[test]
    fn a_thousand_pulls_leave_few_packs_and_write_each_object_a_few_times() {
        for size in [500, 20 * KIB, 300 * KIB] {
            let (most, written) = pulled(100 * MIB, &[size; 1000]);
            assert!(most <= 12, "{size}: {most}");
            assert!(written <= 6 * 1000 * size, "{size}: {written}");
        }
    }

    proptest! {
        #[test]
        fn the_small_packs_of_the_remote_are_few_whatever_pulls_bring(
            first in prop_oneof![1..MIB, 1..100 * MIB],
            sizes in prop::collection::vec(prop_oneof![1..10 * KIB, 1..MIB, 1..40 * MIB], 1..150),
        ) {
            let (most, _) = pulled(first, &sizes);
            prop_assert!(most <= FOLD_RECEIVED_AT + 24, "{most}");
        }

        #[test]
        fn the_packs_that_the_next_job_reads_are_few_whatever_jobs_make(
            sizes in prop::collection::vec(prop_oneof![1..10 * KIB, 1..MIB, 1..40 * MIB], 1..200),
            kept in 1..MIB,
        ) {
            let too_large = sizes.iter().filter(|size| **size > MAX_WHOLE_BYTES).count();
            let outcome = run(&sizes, kept);
            prop_assert!(outcome.most_of_jobs < FOLD_AT + too_large);
            let full = usize::try_from(outcome.made / MAX_WHOLE_BYTES).unwrap();
            prop_assert!(outcome.most_past <= 24 + full, "{}", outcome.most_past);
        }
    }
}
