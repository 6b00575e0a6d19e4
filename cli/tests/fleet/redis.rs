//! Gateways as processes that share a Redis: one is killed under load; and settings with which none starts.

use std::ops::Range;

use bstr::ByteSlice as _;
use futures::future::join_all;
use mayfly_testkit::canary::Canary;
use mayfly_testkit::process::{Launch, Running};
use mayfly_testkit::redis::Redis;
use mayfly_testkit::wait::eventually;
use nix::sys::signal::Signal;
use tokio::task::block_in_place;

use super::restart::{Client, Gates, JOBS, Workers, launch, start_all, start_gateway, workers};
use super::rig::Rig;

/// Jobs at the gateway that is killed, and at the other one; and behind some of the first, at the other one, too.
const KILLED: Range<usize> = 0..JOBS / 2;
const OTHERS: Range<usize> = JOBS / 2..JOBS * 3 / 4;
const BEHIND: Range<usize> = 0..JOBS / 8;
/// Jobs that run at a gateway that ends in order, and as many behind them.
const ENDING: usize = 12;
/// Behind others of the first, at the one that is killed.
const WAITING: Range<usize> = JOBS / 8..JOBS / 4;

/// Two gateways that share a Redis, and keep there what waits.
struct Pair {
    redis: Redis,
    key: Canary,
    gates: Gates,
    first: Running,
    one: String,
    other: String,
    _second: Running,
    _workers: Workers,
    _rig: Rig,
}

impl Pair {
    async fn start(count: usize) -> Self {
        let redis = block_in_place(Redis::start);
        let (rig, gates) = (Rig::new(), Gates::new());
        let workers = workers(&rig, &gates, count).await;
        let key = Canary::of(&mayfly_protocol::JobId::new_now().to_string());
        let start = async || {
            let launch = launch(&rig, &[&workers])
                .env("REDIS_URL", redis.url())
                .env("WAITING_JOBS_KEY", key.as_str());
            start_gateway(launch).await
        };
        let ((first, one), (second, other)) = tokio::join!(start(), start());
        Self {
            redis,
            key,
            gates,
            first,
            one,
            other,
            _second: second,
            _workers: workers,
            _rig: rig,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_killed_under_load_takes_no_job_with_it_and_lets_none_overtake() {
    let mut pair = Pair::start(JOBS).await;
    let (redis, gates, one, other) = (&pair.redis, &pair.gates, &pair.one, &pair.other);
    let (mut clients, mut others) = tokio::join!(start_all(one, KILLED), start_all(other, OTHERS));
    let mut behind = join_all(BEHIND.map(|number| Client::send(other, number, "behind"))).await;
    let mut waiting = join_all(WAITING.map(|number| Client::send(one, number, "waiting"))).await;
    let kept = |client: &Client| format!(":shelter:{}", client.job);
    eventually("what waits is kept for others", || {
        let content = block_in_place(|| redis.content());
        waiting.iter().all(|client| content.find(kept(client)).is_some())
    })
    .await;
    pair.key
        .assert_not_in("Redis", block_in_place(|| redis.content()));
    gates.open(0);
    pair.first.signal(Signal::SIGKILL);
    pair.first.ended().await;
    gates.open(1);
    // What a killed process had sent; then its connections are cut.
    join_all(clients.iter_mut().chain(&mut waiting).map(Client::read_on)).await;
    tokio::join!(
        join_all(
            clients
                .iter_mut()
                .chain(&mut waiting)
                .map(|client| client.resume(other))
        ),
        join_all(others.iter_mut().map(Client::read_on)),
        join_all(behind.iter_mut().map(Client::read_on)),
        async { gates.open(2) }
    );
    for client in clients.iter().chain(&others).chain(&behind) {
        client.check(gates);
    }
    for client in &waiting {
        // The gateway that began it left out numbers that clients may have known.
        client.check_end(gates);
    }
    gates.check_attempts();
    for (before, after) in clients.iter().zip(behind.iter().chain(&waiting)) {
        let begun = after
            .read
            .iter()
            .find(|(_, event)| event.source == mayfly_protocol::Source::GitWorker);
        let ended = before.read.last().unwrap();
        assert!(
            ended.1.timestamp <= begun.unwrap().1.timestamp,
            "one after the other"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_ends_in_order_hands_over_what_still_waits() {
    // Each has a job, and as many wait behind these.
    let mut pair = Pair::start(ENDING).await;
    let (gates, one, other) = (&pair.gates, &pair.one, &pair.other);
    let mut clients = start_all(one, 0..ENDING).await;
    let mut waiting = join_all((0..ENDING).map(|number| Client::send(one, number, "waiting"))).await;
    pair.first.signal(Signal::SIGTERM);
    // Up to the end of its grace, and no job ends for that.
    join_all(clients.iter_mut().chain(&mut waiting).map(Client::read_on)).await;
    assert!(pair.first.ended().await.success());
    (0..3).for_each(|wave| gates.open(wave));
    join_all(
        clients
            .iter_mut()
            .chain(&mut waiting)
            .map(|client| client.resume(other)),
    )
    .await;
    for client in &clients {
        client.check(gates);
    }
    for client in &waiting {
        client.check_end(gates);
    }
    gates.check_attempts();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_redis_refuses_ends_the_gateway_and_is_not_repeated() {
    let redis = block_in_place(Redis::start);
    let rig = Rig::new();
    let wrong = Canary::of(&mayfly_protocol::JobId::new_now().to_string());
    let mut gateway = rig
        .launch(&["gateway", "--port", "0"])
        .env("GIT_WORKERS", "http://127.0.0.1:1")
        .env("REDIS_URL", redis.url_with(wrong.as_str()))
        .start();
    assert!(!gateway.ended().await.success());
    let said = gateway.stderr();
    assert!(said.contains("refuses the user or the password"), "{said}");
    wrong.assert_not_in("what the gateway said", said);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_redis_without_a_storage_or_sense_ends_the_gateway() {
    let redis = block_in_place(Redis::start);
    let rig = Rig::new();
    let bare = Launch::new(env!("CARGO_BIN_EXE_mayfly")).env("TMP_DIR", rig.tmp());
    for (launch, url, expected) in [
        (bare, redis.url(), "STORAGE_URL beside REDIS_URL"),
        (
            rig.launch(&[]),
            "http://:s3cret@127.0.0.1".to_owned(),
            "REDIS_URL cannot be used",
        ),
    ] {
        let mut gateway = launch
            .args(["gateway", "--port", "0"])
            .env("GIT_WORKERS", "http://127.0.0.1:1")
            .env("REDIS_URL", &url)
            .start();
        assert!(!gateway.ended().await.success());
        let said = gateway.stderr();
        assert!(said.contains(expected), "{said}");
        assert!(
            !said.contains("s3cret") && !said.contains(redis.password()),
            "{said}"
        );
    }
}
