//! Jobs and workers brought together, with the clock paused.

use super::*;
use crate::config::GatewayConfig;
use mayfly_protocol::TenantId;

use crate::retry::Aside;

fn dispatcher(workers: &[&str]) -> Arc<Dispatcher> {
    let dispatcher = Arc::new(Dispatcher::new(
        GatewayConfig::default().queue(),
        Pauses::default(),
    ));
    let source = dispatcher.add_source(WorkerKind::Git, None);
    let member = |name: &&str| Member {
        key: WorkerKey {
            url: format!("http://{name}:1").parse().unwrap(),
            incarnation: 0,
        },
        process: None,
    };
    dispatcher.list(
        WorkerKind::Git,
        source,
        workers.iter().map(member).collect(),
        false,
    );
    dispatcher
}

fn admit(dispatcher: &Arc<Dispatcher>, session: &str) -> Place {
    let lane = Lane {
        tenant: TenantId::default(),
        session: session.parse().unwrap(),
    };
    dispatcher
        .admit(WorkerKind::Git, lane, Terms::default(), &JobId::new_now(), false)
        .unwrap()
        .0
}

/// Every worker that is asked says that it is idle.
async fn while_asking<T>(dispatcher: &Dispatcher, future: impl Future<Output = T>) -> T {
    let asking = async {
        loop {
            let (kind, worker) = dispatcher.next_to_ask().await;
            dispatcher.told(kind, &worker, Told::Idle);
        }
    };
    tokio::select! {
        value = future => value,
        never = asking => never,
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_job_is_offered_to_the_next_worker_and_keeps_its_place() {
    let dispatcher = dispatcher(&["a", "b"]);
    let mut job = admit(&dispatcher, "s");
    let first = job.worker().await;
    let url = first.url().clone();
    job.wait_again(first, Release::Refused(Aside::Busy));
    let second = job.worker().await;
    assert_ne!(*second.url(), url);
    let mut later = admit(&dispatcher, "t");
    job.wait_again(second, Release::Refused(Aside::Busy));
    assert_eq!(
        (job.position().unwrap().number, later.position().unwrap().number),
        (1, 2)
    );
    let (one, two) = while_asking(&dispatcher, async { tokio::join!(job.worker(), later.worker()) }).await;
    assert_ne!(one.url(), two.url());
}

#[tokio::test(start_paused = true)]
async fn a_job_that_goes_away_gives_its_worker_and_its_session_to_the_next() {
    let dispatcher = dispatcher(&["a"]);
    let first = admit(&dispatcher, "s");
    let mut second = admit(&dispatcher, "s");
    assert_eq!(
        second.position().unwrap().number,
        1,
        "the first has its worker already"
    );
    drop(first);
    assert_eq!(second.worker().await.url().to_string(), "http://a:1");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_finished_is_asked_again_after_its_pause() {
    let dispatcher = dispatcher(&["a"]);
    let mut first = admit(&dispatcher, "s");
    let lease = first.worker().await;
    let mut second = admit(&dispatcher, "t");
    drop(first);
    lease.release(Release::Done);
    assert_eq!(dispatcher.counts(WorkerKind::Git).set_aside, 1);
    let lease = while_asking(&dispatcher, second.worker()).await;
    assert_eq!(dispatcher.counts(WorkerKind::Git).busy, 1);
    drop(lease);
    assert_eq!(dispatcher.counts(WorkerKind::Git).faulty, 1);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_admitted_is_told() {
    let dispatcher = dispatcher(&[]);
    let lane = Lane {
        tenant: TenantId::default(),
        session: "s".parse().unwrap(),
    };
    let admit = |kind| {
        dispatcher
            .admit(kind, lane.clone(), Terms::default(), &JobId::new_now(), false)
            .err()
    };
    assert_eq!(admit(WorkerKind::Git), Some(AdmitError::NoWorkers));
    assert_eq!(admit(WorkerKind::Code), Some(AdmitError::NoWorkers));
    dispatcher.close();
    assert_eq!(admit(WorkerKind::Git), Some(AdmitError::Closed));
}
