//! The registry and the writer, without any worker.

use mayfly_protocol::{ErrorCode, Failure, Stage};
use serde_json::json;

use super::*;

fn jobs(finished_kept: usize, finished_bytes: usize) -> Arc<Jobs> {
    let limits = JobLimits {
        log: LogLimits {
            events: 10,
            bytes: 10_000,
        },
        readers: 2,
        finished_kept,
        finished_bytes,
    };
    Arc::new(Jobs::new(limits, Arc::new(Metrics::new(1))))
}

fn add(jobs: &Arc<Jobs>, session: &str) -> JobWriter {
    let lane = Lane {
        tenant: mayfly_protocol::TenantId::default(),
        session: session.parse().unwrap(),
    };
    jobs.add(JobKind::CreateBranch, lane)
}

fn completed() -> End {
    End::Completed(Bytes::from_static(
        br#"{"type":"completed","data":{"x":1},"source":"git-worker"}"#,
    ))
}

#[tokio::test]
async fn a_writer_that_is_dropped_still_ends_the_stream_once() {
    let jobs = jobs(10, 10_000);
    let writer = add(&jobs, "a");
    let job = Arc::clone(writer.job());
    writer.progress(Stage::Queued, "waiting".into(), Some(json!({"position": 1})));
    drop(writer);
    let mut reader = job.read(1).unwrap();
    let last = reader.follower.next().await.unwrap();
    assert!(String::from_utf8_lossy(&last).contains(r#""code":"internal""#));
    assert_eq!(reader.follower.next().await, None);
    assert_eq!(job.state(), JobState::Failed);
}

#[test]
fn a_job_is_shown_with_its_outcome() {
    let jobs = jobs(10, 10_000);
    let (done, failed) = (add(&jobs, "a"), add(&jobs, "b"));
    let ids = [done.job().id.clone(), failed.job().id.clone()];
    done.begin("http://w:1".into());
    done.relay("pushing".into(), b"{}");
    done.finish(completed());
    failed.finish(End::Ours(Failure::new(ErrorCode::WorkerLost, "gone")));
    let views = ids.map(|id| serde_json::to_value(jobs.get(&id).unwrap().view(true)).unwrap());
    assert_eq!(views[0]["data"], json!({"x": 1}));
    assert_eq!(
        (&views[0]["worker"], &views[0]["lastStage"]),
        (&json!("http://w:1"), &json!("pushing"))
    );
    assert_eq!(views[0]["events"], 2);
    assert_eq!(
        (&views[1]["state"], &views[1]["code"]),
        (&json!("failed"), &json!("worker_lost"))
    );
    assert_eq!(views[1].get("data"), None);
}

#[test]
fn the_oldest_finished_jobs_go_by_number_and_by_bytes() {
    for jobs in [jobs(2, 10_000), jobs(10, 200)] {
        let ids = [(); 4].map(|()| {
            let writer = add(&jobs, "a");
            let id = writer.job().id.clone();
            writer.finish(completed());
            id
        });
        let kept: Vec<bool> = ids.iter().map(|id| jobs.get(id).is_some()).collect();
        assert_eq!(kept, [false, false, true, true]);
        assert_eq!(jobs.counts().completed, 4);
    }
}

#[test]
fn lists_are_filtered_and_newest_first() {
    let jobs = jobs(10, 10_000);
    let writers = ["a", "b", "a"].map(|session| add(&jobs, session));
    let list = |filter: JobFilter, limit| -> Vec<JobId> {
        jobs.list(&filter, Vec::new(), limit)
            .into_iter()
            .map(|view| view.id)
            .collect()
    };
    let id = |index: usize| writers[index].job().id.clone();
    let of_a = JobFilter {
        session: Some("a".parse().unwrap()),
        ..JobFilter::default()
    };
    assert_eq!(list(of_a, 10), [id(2), id(0)]);
    assert_eq!(list(JobFilter::default(), 1), [id(2)]);
    writers[1].begin("w".into());
    let running = JobFilter {
        state: Some(JobState::Running),
        ..JobFilter::default()
    };
    assert_eq!(list(running, 10), [id(1)]);
    let of_another_tenant = JobFilter {
        tenant: "acme".parse().unwrap(),
        ..JobFilter::default()
    };
    assert_eq!(list(of_another_tenant, 10), []);
}

#[test]
fn a_job_has_no_more_readers_than_it_may() {
    let jobs = jobs(10, 10_000);
    let writer = add(&jobs, "a");
    let readers = [writer.job().read(0).unwrap(), writer.job().read(0).unwrap()];
    assert!(writer.job().read(0).is_none());
    assert_eq!(jobs.counts().open_streams, 2);
    drop(readers);
    assert!(writer.job().read(0).is_some());
}
