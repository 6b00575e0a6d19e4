//! The event stream of one job: many may report progress, one writes the end, one reads, and some read along.
//!
//! This module must not know HTTP or how events look as bytes.

mod queue;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mayfly_protocol::outcome::NumberedEvent;
use mayfly_protocol::{ErrorCode, Event, EventBody, Failure, JobId, JobKind, Progress, Source, Stage, Usage};
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::stages::StageSpans;
use queue::{Admission, EventQueue, Popped, Weight};

/// Bytes of a message for people; a longer one is cut.
const MAX_MESSAGE_BYTES: usize = 4096;

/// What a stream needs to know at its start.
pub(crate) struct StreamSettings {
    pub(crate) kind: JobKind,
    pub(crate) job_id: JobId,
    pub(crate) source: Source,
    pub(crate) buffer: usize,
    pub(crate) progress_interval: Duration,
    pub(crate) stages: StageSpans,
}

/// Opens the stream of a job.
pub(crate) fn open(settings: StreamSettings) -> (EventWriter, ProgressSink, EventReader) {
    let queue = EventQueue::new(settings.kind, settings.buffer, settings.progress_interval);
    let shared = Arc::new(Shared {
        queue: Mutex::new(queue),
        changed: Notify::new(),
        grown: watch::Sender::new(()),
        source: settings.source,
        job_id: settings.job_id,
        stages: settings.stages,
    });
    let writer = EventWriter {
        shared: Arc::clone(&shared),
    };
    let sink = ProgressSink {
        shared: Arc::clone(&shared),
    };
    (writer, sink, EventReader { shared })
}

struct Shared {
    queue: Mutex<EventQueue>,
    changed: Notify,
    /// For those who read along.
    grown: watch::Sender<()>,
    source: Source,
    job_id: JobId,
    stages: StageSpans,
}

impl Shared {
    /// A panic while the lock is held leaves the queue as it was or as it becomes: every change of it is whole.
    fn queue(&self) -> MutexGuard<'_, EventQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(&self, body: EventBody) -> Event {
        Event {
            body,
            source: self.source,
            timestamp: OffsetDateTime::now_utc(),
            job_id: self.job_id.clone(),
            usage: None,
        }
    }

    fn offer(&self, weight: Weight, update: Update) {
        let stage = update.stage;
        let event = self.event(EventBody::Progress {
            stage,
            message: cut(update.message),
            progress: update.progress,
            detail: update.detail,
        });
        let admission = self.queue().offer(stage, weight, event, Instant::now());
        self.grown.send_replace(());
        match admission {
            Admission::Taken => {
                self.stages.enter(stage);
                self.changed.notify_one();
            }
            Admission::Dropped => {}
            Admission::OutOfOrder => {
                tracing::error!(job.id = %self.job_id, ?stage, "a stage out of its order was reported, and is left out");
                debug_assert!(false, "stage {stage:?} is out of the order of this kind of job");
            }
        }
    }

    fn finish(&self, event: Event) {
        if self.queue().finish(event) {
            self.changed.notify_one();
            self.grown.send_replace(());
        }
    }
}

struct Update {
    stage: Stage,
    message: String,
    progress: Option<Progress>,
    detail: Option<serde_json::Value>,
}

/// Where a job says how far it is; clones of it speak into the same stream.
///
/// Nothing here waits or fails. The first event of a stage is never dropped. Later progress of the same stage is let through a few times a second,
/// and is dropped where the reader is slow. Stages follow [`Stage::order`] of the job's kind: one that goes back panics in debug builds, and
/// is logged and left out in release builds. After the terminal event nothing is taken any more.
#[derive(Clone)]
pub struct ProgressSink {
    shared: Arc<Shared>,
}

impl ProgressSink {
    /// Says that the job is at this stage.
    pub fn stage(&self, stage: Stage, message: impl Into<String>) {
        self.shared
            .offer(Weight::Note, Update::new(stage, message.into()));
    }

    /// Says how far the stage is.
    pub fn progress(&self, stage: Stage, message: impl Into<String>, progress: Progress) {
        let complete = progress.total == Some(progress.done);
        let update = Update {
            progress: Some(progress),
            ..Update::new(stage, message.into())
        };
        self.shared.offer(Weight::Figure { complete }, update);
    }

    /// Says that the job is at this stage, with further fields for programs.
    pub fn detail(&self, stage: Stage, message: impl Into<String>, detail: serde_json::Value) {
        let update = Update {
            detail: Some(detail),
            ..Update::new(stage, message.into())
        };
        self.shared.offer(Weight::Note, update);
    }

    /// Says something at the stage that was reported last, or at the first one: it is never dropped, and is for what a client must hear.
    pub fn note(&self, message: impl Into<String>, detail: serde_json::Value) {
        let update = Update {
            detail: Some(detail),
            ..Update::new(self.stage_or_first(), message.into())
        };
        self.shared.offer(Weight::Word, update);
    }

    /// The job begins anew: stages that it has passed are not reported again.
    pub fn begin_anew(&self) {
        self.shared.queue().begin_anew();
    }

    /// The stage that was reported last; before there is one, the first of the job's kind.
    pub fn stage_or_first(&self) -> Stage {
        self.shared.queue().stage_or_first()
    }

    /// A reader of the events after this number, beside the one reader.
    pub(crate) fn follow(&self, after: u64) -> EventFollower {
        EventFollower {
            shared: Arc::clone(&self.shared),
            grown: self.shared.grown.subscribe(),
            after,
        }
    }

    /// The stage that was reported last.
    pub(crate) fn current_stage(&self) -> Option<Stage> {
        self.shared.queue().stage()
    }
}

impl std::fmt::Debug for ProgressSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProgressSink")
            .field("job_id", &self.shared.job_id)
            .finish_non_exhaustive()
    }
}

impl Update {
    fn new(stage: Stage, message: String) -> Self {
        Self {
            stage,
            message,
            progress: None,
            detail: None,
        }
    }
}

fn cut(mut message: String) -> String {
    if message.len() > MAX_MESSAGE_BYTES {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
        message.push('…');
    }
    message
}

/// Writes the terminal event: there is one writer for a stream, and [`EventWriter::finish`] consumes it.
pub(crate) struct EventWriter {
    shared: Arc<Shared>,
}

impl EventWriter {
    /// Takes no more progress, and gives the terminal event, with all events of the stream, which it ends.
    pub(crate) fn seal(
        &self,
        outcome: Result<serde_json::Value, Failure>,
        usage: Usage,
    ) -> (Event, Vec<NumberedEvent>) {
        let mut terminal = self.shared.event(match outcome {
            Ok(data) => EventBody::Completed { data },
            Err(failure) => EventBody::Error(failure),
        });
        terminal.usage = (usage != Usage::default()).then(|| Box::new(usage));
        self.shared.stages.leave();
        let (mut events, id) = self.shared.queue().seal();
        events.push(NumberedEvent {
            id,
            event: terminal.clone(),
        });
        (terminal, events)
    }

    /// Ends the stream with its terminal event.
    pub(crate) fn finish(self, terminal: Event) {
        self.shared.finish(terminal);
    }
}

impl Drop for EventWriter {
    /// A writer that is lost ends the stream all the same; after `finish` this does nothing.
    fn drop(&mut self) {
        let lost = Failure::new(
            ErrorCode::Internal,
            "the worker lost track of the job; its log has the details",
        );
        self.shared.finish(self.shared.event(EventBody::Error(lost)));
    }
}

/// Reads the stream, once; when it is dropped, events are kept for the outcome only.
pub(crate) struct EventReader {
    shared: Arc<Shared>,
}

impl EventReader {
    /// Waits for the next event and its number; `None` comes after the terminal event. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Option<(u64, Event)> {
        loop {
            let popped = self.shared.queue().pop();
            match popped {
                Popped::Event(id, event) => {
                    self.shared.grown.send_replace(());
                    return Some((id, event));
                }
                Popped::Ended => return None,
                Popped::Empty => {}
            }
            self.shared.changed.notified().await;
        }
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        self.shared.queue().abandon();
        self.shared.grown.send_replace(());
    }
}

/// Reads along, from any number on, beside the one reader or when that is gone.
pub(crate) struct EventFollower {
    shared: Arc<Shared>,
    grown: watch::Receiver<()>,
    after: u64,
}

impl EventFollower {
    /// Waits for the next event and its number; `None` comes after the terminal event. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Option<(u64, Event)> {
        loop {
            self.grown.mark_unchanged();
            let next = self.shared.queue().after(self.after);
            match next {
                Popped::Event(id, event) => {
                    self.after = id;
                    return Some((id, event));
                }
                Popped::Ended => return None,
                // The sender lives in what is shared, which is held here.
                Popped::Empty => self.grown.changed().await.ok()?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mayfly_telemetry::trace::{TraceContext, Tracer};

    use super::*;

    fn stream() -> (EventWriter, ProgressSink, EventReader) {
        open(StreamSettings {
            kind: JobKind::CloneRepository,
            job_id: JobId::new_now(),
            source: Source::GitWorker,
            buffer: 4,
            progress_interval: Duration::from_millis(250),
            stages: StageSpans::below(Tracer::default(), TraceContext::new_root()),
        })
    }

    #[tokio::test]
    async fn a_lost_writer_still_ends_the_stream_once() {
        let (writer, sink, mut reader) = stream();
        drop(writer);
        sink.stage(Stage::Cloning, "too late");
        let (id, event) = reader.next().await.unwrap();
        assert!(
            id == 1 && matches!(event.body, EventBody::Error(failure) if failure.code == ErrorCode::Internal)
        );
        assert_eq!(reader.next().await, None);
    }

    #[tokio::test]
    async fn finishing_is_the_only_end() {
        let (writer, _sink, mut reader) = stream();
        let (terminal, events) = writer.seal(Ok(serde_json::json!({"a": 1})), Usage::default());
        assert_eq!((events.len(), &events[0].event), (1, &terminal));
        writer.finish(terminal);
        let (_, event) = reader.next().await.unwrap();
        assert!(matches!(event.body, EventBody::Completed { .. }));
        assert_eq!(reader.next().await, None);
    }

    #[tokio::test]
    async fn a_long_message_is_cut_between_characters() {
        let (_writer, sink, mut reader) = stream();
        sink.stage(Stage::Cloning, "ä".repeat(MAX_MESSAGE_BYTES));
        let (_, event) = reader.next().await.unwrap();
        let EventBody::Progress { message, .. } = event.body else {
            panic!("{event:?}")
        };
        assert_eq!(message.chars().count(), MAX_MESSAGE_BYTES / 2 + 1);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "out of the order")]
    fn going_back_is_found_in_debug_builds() {
        let (_writer, sink, _reader) = stream();
        sink.stage(Stage::Uploading, "a");
        sink.stage(Stage::Cloning, "b");
    }
}
