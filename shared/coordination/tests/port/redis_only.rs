//! A Redis that is not there, is held up, loses what it had, takes another password, or speaks TLS.

use bytes::Bytes;
use mayfly_coordination::{Change, Coordination as _, News, RedisCoordination, RedisOpenError, Unavailable};
use mayfly_testkit::canary::Canary;
use mayfly_testkit::https::TestCa;
use mayfly_testkit::port;
use mayfly_testkit::redis::Redis;
use mayfly_testkit::wait::eventually;
use tokio::task::block_in_place;

use crate::{connected, job, owner, place, settings, start, trusting, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_started_late_or_again_is_found() {
    let mut redis = block_in_place(Redis::start);
    block_in_place(|| redis.kill());
    let mut gateway = start(settings(&redis.url())).await;
    assert!(!gateway.coordination.is_available());
    assert_eq!(
        gateway.coordination.beat(&owner("one")).await,
        Err(Unavailable::Away)
    );
    for _ in 0..2 {
        block_in_place(|| redis.start_again());
        until(&mut gateway.changes, &Change::Everything).await;
        let lined = gateway.coordination.line_up(&owner("one"), &place(&job())).await;
        assert!(lined.unwrap().is_new);
        block_in_place(|| redis.kill());
        eventually("the loss is seen", || !gateway.coordination.is_available()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_held_up_is_waited_for_once_and_found_again() {
    let redis = block_in_place(Redis::start);
    let mut gateway = connected(&redis).await;
    redis.hold();
    let late = gateway.coordination.beat(&owner("one")).await;
    assert!(
        matches!(late, Err(Unavailable::Late | Unavailable::Away)),
        "{late:?}"
    );
    assert_eq!(
        gateway.coordination.beat(&owner("one")).await,
        Err(Unavailable::Away)
    );
    while gateway.changes.try_recv().is_ok() {}
    redis.go_on();
    until(&mut gateway.changes, &Change::Everything).await;
    assert_eq!(gateway.coordination.beat(&owner("one")).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_emptied_redis_had_is_told_again_by_who_has_it() {
    let redis = block_in_place(Redis::start);
    let gateway = connected(&redis).await;
    let (first, second) = (job(), job());
    let mut places = [place(&first), place(&second)];
    for place in &mut places {
        let lined = gateway.coordination.line_up(&owner("one"), place).await.unwrap();
        place.since = Some(lined.since);
    }
    redis.empty();
    places.reverse();
    for place in &places {
        let lined = gateway.coordination.line_up(&owner("one"), place).await.unwrap();
        assert!(lined.is_new);
    }
    let lined = gateway
        .coordination
        .line_up(&owner("one"), &places[1])
        .await
        .unwrap();
    assert!(lined.is_first && !lined.is_new, "the order is that of before");
    let news = News {
        record: b"{}",
        accepted_ms: 1,
        after: 4,
        events: &[(5, Bytes::from_static(b"e"))],
    };
    assert_eq!(gateway.coordination.publish(&first, &news).await, Ok(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_an_error_and_shown_nowhere() {
    let redis = block_in_place(Redis::start);
    let wrong = Canary::of(job().job.as_str());
    let error = RedisCoordination::open(settings(&redis.url_with(wrong.as_str()))).await;
    let error = error.unwrap_err();
    assert!(matches!(error, RedisOpenError::Refused { .. }), "{error:?}");
    let shown = format!(
        "{error} {error:?} {:?}",
        settings(&redis.url_with(wrong.as_str()))
    );
    wrong.assert_not_in("the error and the settings", shown);
}

/// What `docs/deploy.md` says that a user needs is enough, and without channels a gateway does not start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_few_rights_is_enough_and_one_with_fewer_is_refused() {
    const RIGHTS: &str = "~suite:* +@read +@write +@scripting +@pubsub +@connection +time";
    let redis = block_in_place(Redis::start);
    let fewer = redis.url_of_user(RIGHTS);
    let error = RedisCoordination::open(settings(&fewer)).await;
    assert!(matches!(error, Err(RedisOpenError::Refused { .. })), "{error:?}");
    let enough = redis.url_of_user(&format!("{RIGHTS} &suite:changes"));
    let mut gateway = start(settings(&enough)).await;
    until(&mut gateway.changes, &Change::Everything).await;
    let job = job();
    let lined = gateway.coordination.line_up(&owner("one"), &place(&job)).await;
    assert!(lined.unwrap().is_first);
    let news = News {
        record: b"{}",
        accepted_ms: 1,
        after: 0,
        events: &[(1, Bytes::from_static(b"e"))],
    };
    assert_eq!(gateway.coordination.publish(&job, &news).await, Ok(1));
    assert_eq!(gateway.coordination.records(&job.tenant).await.unwrap().len(), 1);
    assert_eq!(
        gateway.coordination.leave(&owner("one"), &place(&job)).await,
        Ok(())
    );
    assert_eq!(gateway.coordination.ask_to_cancel(&job).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_over_tls_is_used_where_its_authority_is_trusted() {
    let (ca, stranger) = (TestCa::new(), TestCa::new());
    let redis = block_in_place(|| Redis::start_tls(&ca));
    let error = RedisCoordination::open(trusting(&stranger, &redis.url())).await;
    assert!(matches!(error, Err(RedisOpenError::Tls { .. })), "{error:?}");
    let mut gateway = start(trusting(&ca, &redis.url())).await;
    until(&mut gateway.changes, &Change::Everything).await;
    assert_eq!(gateway.coordination.beat(&owner("one")).await, Ok(()));
}

/// Whoever listens there says nothing: no operation waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_says_nothing_holds_nothing_up() {
    let silent = port::silent();
    let gateway = start(settings(&format!("redis://:x@{}", silent.addr()))).await;
    assert_eq!(
        gateway.coordination.beat(&owner("one")).await,
        Err(Unavailable::Away)
    );
}

/// Fleets that share a Redis hear nothing of one another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefixes_keep_fleets_apart() {
    let redis = block_in_place(Redis::start);
    let one = connected(&redis).await;
    let mut settings = settings(&redis.url());
    settings.prefix = "another".to_owned();
    let mut other = start(settings).await;
    until(&mut other.changes, &Change::Everything).await;
    let first = job();
    one.coordination
        .line_up(&owner("one"), &place(&first))
        .await
        .unwrap();
    let lined = other
        .coordination
        .line_up(&owner("other"), &place(&job()))
        .await
        .unwrap();
    assert!(lined.is_first);
    one.coordination.ask_to_cancel(&first).await.unwrap();
    let marker = job();
    other.coordination.ask_to_cancel(&marker).await.unwrap();
    let heard = other.changes.recv().await.unwrap();
    assert_eq!(heard, Change::Cancel(marker));
}
