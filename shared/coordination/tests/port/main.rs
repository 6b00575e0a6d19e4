//! One suite over both sides of the port: what gateways of one process tell one another, and what they tell one another through a real Redis; and what is
//! particular to Redis.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod cases;
mod redis_only;

use std::sync::Arc;
use std::time::Duration;

use mayfly_coordination::{
    Change, Coordination, InLine, JobRef, Lifetimes, MemoryBoard, MemoryCoordination, Owner,
    RedisCoordination, RedisSettings,
};
use mayfly_protocol::{JobId, TenantId};
use mayfly_telemetry::task;
use mayfly_testkit::https::TestCa;
use mayfly_testkit::redis::Redis;
use mayfly_testkit::wait::within;
use tokio::sync::broadcast::Receiver;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

pub(crate) const LIFETIMES: Lifetimes = Lifetimes {
    job: Duration::from_secs(60),
    owner: Duration::from_millis(200),
};

/// Two gateways, and what has to live as long as they.
pub(crate) struct Pair {
    pub(crate) one: Arc<dyn Coordination>,
    pub(crate) other: Arc<dyn Coordination>,
    _ground: Box<dyn Send>,
}

async fn memory() -> Pair {
    let board = MemoryBoard::new(LIFETIMES);
    let end = || -> Arc<dyn Coordination> { Arc::new(MemoryCoordination::of(&board)) };
    Pair {
        one: end(),
        other: end(),
        _ground: Box::new(()),
    }
}

async fn redis() -> Pair {
    let redis = tokio::task::block_in_place(Redis::start);
    let (one, other) = (connected(&redis).await, connected(&redis).await);
    Pair {
        one: one.coordination.clone(),
        other: other.coordination.clone(),
        _ground: Box::new((one, other, redis)),
    }
}

/// A gateway's end of a Redis, for as long as it is kept.
pub(crate) struct Connected {
    pub(crate) coordination: Arc<RedisCoordination>,
    pub(crate) changes: Receiver<Change>,
    running: JoinHandle<()>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.running.abort();
    }
}

pub(crate) fn settings(url: &str) -> RedisSettings {
    let tls = mayfly_testkit::https::TestCa::new().client_config();
    RedisSettings {
        url: url.parse().unwrap(),
        tls,
        prefix: "suite".to_owned(),
        timeout: Duration::from_millis(500),
        interval: Duration::from_millis(20),
        lifetimes: LIFETIMES,
    }
}

async fn connected(redis: &Redis) -> Connected {
    let connected = start(settings(&redis.url())).await;
    within("a connection", async {
        let mut changes = connected.changes.resubscribe();
        while !connected.coordination.is_available() {
            let _change = changes.recv().await;
        }
    })
    .await;
    connected
}

pub(crate) async fn start(settings: RedisSettings) -> Connected {
    let coordination = Arc::new(RedisCoordination::open(settings).await.unwrap());
    let changes = coordination.changes();
    let kept = Arc::clone(&coordination);
    let running = task::spawn(&TaskTracker::new(), async move { kept.run().await });
    Connected {
        coordination,
        changes,
        running,
    }
}

/// Trusts what this authority signed, and nothing else.
pub(crate) fn trusting(ca: &TestCa, url: &str) -> RedisSettings {
    RedisSettings {
        tls: ca.client_config(),
        ..settings(url)
    }
}

pub(crate) fn job_of(tenant: &str) -> JobRef {
    JobRef {
        tenant: tenant.parse().unwrap(),
        job: JobId::new_now(),
    }
}

pub(crate) fn job() -> JobRef {
    job_of(TenantId::default().as_str())
}

pub(crate) fn place(job: &JobRef) -> InLine {
    InLine {
        job: job.clone(),
        session: "s".parse().unwrap(),
        since: None,
    }
}

pub(crate) fn owner(name: &str) -> Owner {
    Owner::new(name)
}

pub(crate) async fn until(changes: &mut Receiver<Change>, wanted: &Change) {
    within("a change", async {
        while changes.recv().await.unwrap() != *wanted {}
    })
    .await;
}

macro_rules! suite {
    ($($backend:ident)*) => {
        $(mod $backend {
            suite! { @ $backend
                a_session_has_one_line_over_all_gateways
                a_place_is_kept_and_changes_hands
                places_of_a_gateway_that_is_gone_go
                who_does_not_have_a_job_cannot_take_it_out
                tenants_and_sessions_have_lines_of_their_own
                events_are_read_by_their_numbers
                what_was_told_is_not_told_twice_and_what_was_lost_is_told_again
                records_are_the_tenants_own_and_the_newest_come_first
                a_wish_to_cancel_is_heard_everywhere
                what_is_kept_for_an_heir_is_taken_once
            }
        })*
    };
    (@ $backend:ident $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::cases::$case(crate::$backend().await).await;
            }
        )*
    };
}

suite! { memory redis }
