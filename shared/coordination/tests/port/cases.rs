//! The promises of the port.

use std::time::Duration;

use bytes::Bytes;
use mayfly_coordination::{Change, InLine, JobRef, Lined, News, Numbered, RECORDS_KEPT};
use mayfly_testkit::wait::within;

use crate::{Pair, job, job_of, owner, place, until};

fn stands(lined: Lined) -> (bool, bool) {
    (lined.is_first, lined.is_new)
}

pub(crate) async fn a_session_has_one_line_over_all_gateways(pair: Pair) {
    let (first, second, third) = (job(), job(), job());
    let mut heard = pair.other.changes();
    let lined = pair.one.line_up(&owner("one"), &place(&first)).await.unwrap();
    assert_eq!(stands(lined), (true, true));
    let behind = pair
        .other
        .line_up(&owner("other"), &place(&second))
        .await
        .unwrap();
    assert_eq!(stands(behind), (false, true));
    assert!(behind.since > lined.since);
    let last = pair.one.line_up(&owner("one"), &place(&third)).await.unwrap();
    assert_eq!(stands(last), (false, true));
    pair.one.leave(&owner("one"), &place(&first)).await.unwrap();
    until(&mut heard, &Change::Turn(second.clone())).await;
    let turn = pair
        .other
        .line_up(&owner("other"), &place(&second))
        .await
        .unwrap();
    assert_eq!((stands(turn), turn.since), ((true, false), behind.since));
    assert_eq!(
        stands(pair.one.line_up(&owner("one"), &place(&third)).await.unwrap()),
        (false, false)
    );
}

pub(crate) async fn a_place_is_kept_and_changes_hands(pair: Pair) {
    let (first, second) = (job(), job());
    let lined = pair.one.line_up(&owner("one"), &place(&first)).await.unwrap();
    pair.one.line_up(&owner("one"), &place(&second)).await.unwrap();
    // The other gateway takes over, and thinks that the job came before everything.
    let taken = InLine {
        since: Some(0),
        ..place(&first)
    };
    let heir = pair.other.line_up(&owner("other"), &taken).await.unwrap();
    assert_eq!((stands(heir), heir.since), ((true, false), lined.since));
    // What was lost comes back where it was.
    pair.other.leave(&owner("other"), &place(&first)).await.unwrap();
    let back = InLine {
        since: Some(lined.since),
        ..place(&first)
    };
    let back = pair.other.line_up(&owner("other"), &back).await.unwrap();
    assert_eq!((stands(back), back.since), ((true, true), lined.since));
}

pub(crate) async fn places_of_a_gateway_that_is_gone_go(pair: Pair) {
    let (lost, waits) = (job(), job());
    pair.one.line_up(&owner("gone"), &place(&lost)).await.unwrap();
    let before = pair.other.line_up(&owner("other"), &place(&waits)).await.unwrap();
    assert!(!before.is_first);
    within("the end of the gateway's time", async {
        while !pair
            .other
            .line_up(&owner("other"), &place(&waits))
            .await
            .unwrap()
            .is_first
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

pub(crate) async fn who_does_not_have_a_job_cannot_take_it_out(pair: Pair) {
    let (first, second) = (job(), job());
    pair.one.line_up(&owner("one"), &place(&first)).await.unwrap();
    pair.one.line_up(&owner("one"), &place(&second)).await.unwrap();
    pair.other.leave(&owner("other"), &place(&first)).await.unwrap();
    let still = pair.one.line_up(&owner("one"), &place(&second)).await.unwrap();
    assert!(!still.is_first);
}

pub(crate) async fn tenants_and_sessions_have_lines_of_their_own(pair: Pair) {
    let jobs = [job_of("a"), job_of("b")];
    for job in &jobs {
        let lined = pair.one.line_up(&owner("one"), &place(job)).await.unwrap();
        assert!(lined.is_first);
    }
    let third = job_of("a");
    let elsewhere = InLine {
        session: "t".parse().unwrap(),
        ..place(&third)
    };
    let lined = pair.one.line_up(&owner("one"), &elsewhere).await.unwrap();
    assert!(lined.is_first);
    let busy = async |tenant: &str, session: &str| {
        let (tenant, session) = (tenant.parse().unwrap(), session.parse().unwrap());
        pair.other.is_busy(&tenant, &session).await.unwrap()
    };
    assert!(busy("a", "s").await && busy("a", "t").await && !busy("b", "t").await);
    pair.one.leave(&owner("one"), &elsewhere).await.unwrap();
    assert!(!busy("a", "t").await);
}

fn numbered(events: &[(u64, &'static str)]) -> Vec<Numbered> {
    events
        .iter()
        .map(|(id, text)| (*id, Bytes::from_static(text.as_bytes())))
        .collect()
}

async fn tell(pair: &Pair, job: &JobRef, after: u64, events: &[(u64, &'static str)]) -> u64 {
    let news = News {
        record: b"{}",
        accepted_ms: 1,
        after,
        events: &numbered(events),
    };
    pair.one.publish(job, &news).await.unwrap()
}

pub(crate) async fn events_are_read_by_their_numbers(pair: Pair) {
    let (job, unknown) = (job(), job());
    let mut heard = pair.other.changes();
    assert_eq!(tell(&pair, &job, 0, &[(1, "a"), (2, "b\r\n\0ä")]).await, 2);
    until(&mut heard, &Change::Events(job.clone())).await;
    assert_eq!(tell(&pair, &job, 2, &[(1_000_007, "z")]).await, 1_000_007);
    let all = numbered(&[(1, "a"), (2, "b\r\n\0ä"), (1_000_007, "z")]);
    assert_eq!(pair.other.events(&job, 0).await.unwrap(), all);
    assert_eq!(pair.other.events(&job, 2).await.unwrap(), all[2..]);
    assert_eq!(pair.other.events(&job, 1_000_007).await.unwrap(), []);
    assert_eq!(pair.other.events(&unknown, 0).await.unwrap(), []);
}

pub(crate) async fn what_was_told_is_not_told_twice_and_what_was_lost_is_told_again(pair: Pair) {
    let job = job();
    assert_eq!(tell(&pair, &job, 0, &[(1, "a"), (2, "b")]).await, 2);
    assert_eq!(
        tell(&pair, &job, 0, &[(1, "again"), (2, "again"), (3, "c")]).await,
        3
    );
    assert_eq!(tell(&pair, &job, 5, &[(6, "f")]).await, 3);
    assert_eq!(tell(&pair, &job, 3, &[]).await, 3);
    let expected = numbered(&[(1, "a"), (2, "b"), (3, "c")]);
    assert_eq!(pair.other.events(&job, 0).await.unwrap(), expected);
}

pub(crate) async fn records_are_the_tenants_own_and_the_newest_come_first(pair: Pair) {
    let tell = async |job: &JobRef, record: String, accepted_ms| {
        let news = News {
            record: record.as_bytes(),
            accepted_ms,
            after: 0,
            events: &[],
        };
        pair.one.publish(job, &news).await.unwrap();
    };
    let jobs: Vec<JobRef> = (0..RECORDS_KEPT + 2).map(|_| job_of("a")).collect();
    for (number, job) in jobs.iter().enumerate() {
        tell(job, number.to_string(), 1_700_000_000_000 + number as i64).await;
    }
    let of_another = job_of("b");
    tell(&of_another, "b".to_owned(), 1).await;
    tell(&jobs[2], "changed".to_owned(), 1_700_000_000_002).await;
    let records = pair.other.records(&"a".parse().unwrap()).await.unwrap();
    assert_eq!(records.len(), RECORDS_KEPT);
    assert_eq!(records[0], (RECORDS_KEPT + 1).to_string());
    assert_eq!(records[RECORDS_KEPT - 1], "changed");
    assert_eq!(pair.other.record(&of_another).await.unwrap().unwrap(), "b");
    assert_eq!(pair.other.record(&job()).await.unwrap(), None);
    let mixed = JobRef {
        tenant: "a".parse().unwrap(),
        ..of_another
    };
    assert_eq!(pair.other.record(&mixed).await.unwrap(), None);
}

pub(crate) async fn a_wish_to_cancel_is_heard_everywhere(pair: Pair) {
    let job = job();
    let (mut here, mut there) = (pair.one.changes(), pair.other.changes());
    pair.other.ask_to_cancel(&job).await.unwrap();
    until(&mut here, &Change::Cancel(job.clone())).await;
    until(&mut there, &Change::Cancel(job)).await;
}

pub(crate) async fn what_is_kept_for_an_heir_is_taken_once(pair: Pair) {
    let (job, short) = (job(), job());
    let keep_for = Duration::from_secs(60);
    pair.one.shelter(&job, b"first", keep_for).await.unwrap();
    pair.one.shelter(&job, b"\0\xff\r\n", keep_for).await.unwrap();
    assert_eq!(
        pair.other.take_shelter(&job).await.unwrap().unwrap(),
        b"\0\xff\r\n"[..]
    );
    assert_eq!(pair.one.take_shelter(&job).await.unwrap(), None);
    pair.one
        .shelter(&short, b"x", Duration::from_millis(1))
        .await
        .unwrap();
    within("the end of its time", async {
        while pair.other.take_shelter(&short).await.unwrap().is_some() {
            pair.one
                .shelter(&short, b"x", Duration::from_millis(1))
                .await
                .unwrap();
        }
    })
    .await;
}
