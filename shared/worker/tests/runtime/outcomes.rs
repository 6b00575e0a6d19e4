//! Exactly one terminal event, whatever the runner does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mayfly_protocol::{ErrorCode, EventBody, Failure, Progress, Stage, Unit};
use mayfly_worker::{Ended, JobContext, WorkerConfig};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::harness::{Fixture, Scripted, read_to_end, transcript};

const SHORT: Duration = Duration::from_millis(50);
const CANARY: &str = "canary-7f3a";

fn cancelled() -> Result<Value, Failure> {
    Err(Failure::new(ErrorCode::Cancelled, "stopped"))
}

async fn litter(context: &JobContext) {
    assert_eq!(std::fs::read_dir(&context.scratch).unwrap().count(), 0);
    std::fs::create_dir_all(context.scratch.join("a/b")).unwrap();
    std::fs::write(context.scratch.join("a/b/file"), CANARY).unwrap();
}

/// What a runner does once it has made files and reported a stage.
#[derive(Debug, Clone, Copy)]
enum Behaviour {
    Succeed,
    Fail,
    Panic,
    ObeyCancellation,
    IgnoreCancellation,
    SucceedWhenCancelled,
    PanicWhenCancelled,
}

async fn behave(behaviour: Behaviour, context: JobContext) -> Result<Value, Failure> {
    litter(&context).await;
    context.events.stage(Stage::Cloning, "Cloning repository...");
    match behaviour {
        Behaviour::Succeed => Ok(json!({"sessionId": "s1"})),
        Behaviour::Fail => Err(Failure::new(ErrorCode::BranchNotFound, "no branch `x`")),
        Behaviour::Panic => panic!("{CANARY}"),
        Behaviour::ObeyCancellation => {
            context.cancel.cancelled().await;
            cancelled()
        }
        Behaviour::IgnoreCancellation => std::future::pending().await,
        Behaviour::SucceedWhenCancelled => {
            context.cancel.cancelled().await;
            Ok(json!({"sessionId": "s1"}))
        }
        Behaviour::PanicWhenCancelled => {
            context.cancel.cancelled().await;
            panic!("{CANARY}")
        }
    }
}

/// What ends the job, if its runner does not.
#[derive(Debug, Clone, Copy)]
enum Pressure {
    None,
    Deadline,
    Shutdown,
}

async fn end_of(behaviour: Behaviour, pressure: Pressure) -> Option<ErrorCode> {
    let shutdown = CancellationToken::new();
    let at_start = shutdown.clone();
    let runner = Scripted::new(move |_, context| {
        at_start.cancel();
        behave(behaviour, context)
    });
    let fixture = Fixture::start_with(runner, |config| {
        press(config, pressure);
        if matches!(behaviour, Behaviour::IgnoreCancellation) {
            config.cancel_grace = SHORT;
        }
    })
    .await;
    let response = fixture.post_clone();
    let response = if matches!(pressure, Pressure::Shutdown) {
        let (response, ()) = tokio::join!(response, async {
            shutdown.cancelled().await;
            fixture.shutdown.cancel();
        });
        response
    } else {
        response.await
    };
    let events = transcript(response).await;
    assert_eq!(fixture.ended().await, Ended::JobDone);
    assert!(!serde_json::to_string(&events).unwrap().contains(CANARY));
    match &events.last().unwrap().body {
        EventBody::Completed { .. } => None,
        EventBody::Error(failure) => Some(failure.code),
        EventBody::Progress { .. } => panic!("{events:?}"),
    }
}

fn press(config: &mut WorkerConfig, pressure: Pressure) {
    match pressure {
        Pressure::None => {}
        Pressure::Deadline => config.job_timeout = SHORT,
        Pressure::Shutdown => config.drain_grace = SHORT,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_stream_ends_in_exactly_one_terminal_event() {
    use Behaviour::*;
    let table = [
        (Succeed, Pressure::None, None),
        (Fail, Pressure::None, Some(ErrorCode::BranchNotFound)),
        (Panic, Pressure::None, Some(ErrorCode::Internal)),
        (
            ObeyCancellation,
            Pressure::Deadline,
            Some(ErrorCode::DeadlineExceeded),
        ),
        (
            IgnoreCancellation,
            Pressure::Deadline,
            Some(ErrorCode::DeadlineExceeded),
        ),
        (SucceedWhenCancelled, Pressure::Deadline, None),
        (PanicWhenCancelled, Pressure::Deadline, Some(ErrorCode::Internal)),
        (
            ObeyCancellation,
            Pressure::Shutdown,
            Some(ErrorCode::ShuttingDown),
        ),
        (
            IgnoreCancellation,
            Pressure::Shutdown,
            Some(ErrorCode::ShuttingDown),
        ),
        (SucceedWhenCancelled, Pressure::Shutdown, None),
        (Succeed, Pressure::Shutdown, None),
    ];
    for (behaviour, pressure, expected) in table {
        assert_eq!(
            end_of(behaviour, pressure).await,
            expected,
            "{behaviour:?} under {pressure:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_blocks_its_thread_is_left_behind() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let runner = Scripted::new(move |_, _| {
        let released = Arc::clone(&released);
        async move {
            let _never_sent = released.lock().unwrap().recv();
            cancelled()
        }
    });
    let fixture = Fixture::start_with(runner, |config| {
        (config.job_timeout, config.cancel_grace) = (SHORT, SHORT);
    })
    .await;
    let events = transcript(fixture.post_clone().await).await;
    assert!(
        matches!(&events[0].body, EventBody::Error(failure) if failure.code == ErrorCode::DeadlineExceeded && failure.retryable)
    );
    assert_eq!(fixture.ended().await, Ended::JobDone);
    drop(release);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_a_runner_makes_after_it_was_left_behind_go_as_well() {
    let littered = CancellationToken::new();
    let signal = littered.clone();
    let runner = Scripted::new(move |_, context| {
        let signal = signal.clone();
        async move {
            while context.scratch.exists() {
                tokio::task::yield_now().await;
            }
            std::fs::create_dir(&context.scratch).unwrap();
            litter(&context).await;
            signal.cancel();
            std::future::pending().await
        }
    });
    let long = Duration::from_secs(3600);
    let fixture = Fixture::start_with(runner, |config| {
        (config.job_timeout, config.cancel_grace) = (SHORT, SHORT);
        (config.flush_grace, config.linger) = (long, long);
    })
    .await;
    let mut client = fixture.raw_clone().await;
    assert!(read_to_end(&mut client).await.contains("deadline_exceeded"));
    littered.cancelled().await;
    // The client closes its side: only now may the process end.
    drop(client);
    assert_eq!(fixture.ended().await, Ended::JobDone);
}

#[tokio::test]
async fn a_panic_before_the_first_await_is_an_internal_error() {
    let runner = Scripted::new(|_, _| -> std::future::Ready<Result<Value, Failure>> { panic!("{CANARY}") });
    let fixture = Fixture::start(runner).await;
    let events = transcript(fixture.post_clone().await).await;
    let EventBody::Error(failure) = &events[0].body else {
        panic!("{events:?}")
    };
    assert!(failure.code == ErrorCode::Internal && !failure.error.contains(CANARY));
    assert_eq!(fixture.ended().await, Ended::JobDone);
}

#[tokio::test]
async fn without_a_place_for_scratch_files_the_job_fails() {
    let fixture = Fixture::start(Scripted::quick()).await;
    fixture.get_json("/health").await;
    std::fs::remove_dir(fixture.tmp_dir.path()).unwrap();
    let events = transcript(fixture.post_clone().await).await;
    assert!(matches!(&events[0].body, EventBody::Error(failure) if failure.code == ErrorCode::Internal));
    std::fs::create_dir(fixture.tmp_dir.path()).unwrap();
    assert_eq!(fixture.ended().await, Ended::JobDone);
}

#[tokio::test]
async fn stages_come_in_order_and_figures_are_thinned_out() {
    let runner = Scripted::new(|_, context| async move {
        let events = context.events;
        for stage in [Stage::DownloadingSession, Stage::NewSession, Stage::Cloning] {
            events.stage(stage, "...");
        }
        for done in 0..=10_000 {
            let progress = Progress {
                done,
                total: Some(10_000),
                unit: Unit::Objects,
            };
            events.progress(Stage::Cloning, "...", progress);
        }
        events.detail(Stage::Cloned, "...", json!({"objects": 10_000}));
        events.stage(Stage::Uploading, "...");
        Ok(json!({}))
    });
    let fixture = Fixture::start(runner).await;
    let events = transcript(fixture.post_clone().await).await;
    assert_eq!(fixture.ended().await, Ended::JobDone);
    let mut stages = Vec::new();
    let mut last_figure = None;
    for event in &events {
        if let EventBody::Progress { stage, progress, .. } = &event.body {
            stages.push(*stage);
            last_figure = progress.map(|progress| progress.done).or(last_figure);
        }
    }
    assert!(stages.len() < 20, "{}", stages.len());
    assert_eq!(last_figure, Some(10_000));
    stages.dedup();
    let expected = [
        Stage::DownloadingSession,
        Stage::NewSession,
        Stage::Cloning,
        Stage::Cloned,
        Stage::Uploading,
    ];
    assert_eq!(stages, expected);
}
