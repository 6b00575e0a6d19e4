//! The connection on which a worker has said that it is idle is the next job's, if it is still good for it.

use crate::client::{Got, job};
use crate::gateway::{TestGateway, config};
use crate::stub_worker::{Afterwards, Seen, StubWorker};
use crate::until::until;

/// A worker has a job, is asked, and has another one once the condition holds; gives on which connections, of which the second is the question's.
async fn connections(afterwards: Afterwards, mut holds: impl FnMut(&StubWorker) -> bool) -> Vec<usize> {
    let worker = StubWorker::completing().await;
    worker.afterwards(afterwards);
    let gateway = TestGateway::start(config(&[&worker])).await;
    assert!(
        gateway
            .names_of("first")
            .await
            .ends_with(&["completed".to_owned()])
    );
    until(|| holds(&worker)).await;
    let second = gateway.post(job("second")).await.rest().await;
    let names: Vec<String> = second.iter().map(Got::name).collect();
    assert_eq!(
        names,
        ["queued", "dispatched", "preparing", "completed"],
        "{afterwards:?}"
    );
    let seen = worker.seen();
    assert!(seen.iter().all(|it| it.header("x-job-attempt") == Some("1")));
    seen.iter().map(|it: &Seen| it.connection).collect()
}

#[tokio::test]
async fn a_job_comes_on_the_connection_on_which_the_worker_was_asked() {
    assert_eq!(connections(Afterwards::Listens, |_| true).await, [1, 2]);
}

#[tokio::test]
async fn a_connection_that_is_to_be_closed_gets_no_job() {
    assert_eq!(
        connections(Afterwards::Closes, |worker| worker.left() == 1).await,
        [1, 3]
    );
}

#[tokio::test]
async fn a_connection_on_which_anything_came_is_closed_and_gets_no_job() {
    for afterwards in [Afterwards::HangsUp, Afterwards::Babbles] {
        let seen = connections(afterwards, |worker| worker.left() == 1).await;
        assert_eq!(seen, [1, 3], "{afterwards:?}");
    }
}
