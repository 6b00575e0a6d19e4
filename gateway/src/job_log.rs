//! The events of one job, in order, for any number of readers.
//!
//! A reader keeps a place in the log and no copy, so that a slow one costs nothing. The log is bounded: progress beyond its limits is dropped
//! before it gets a number, so that the numbers count up from 1 without a gap; the terminal event always fits, and nothing follows it.
//!
//! The seam for durable and shared logs: whoever fills a log ([`JobLog::append`], [`JobLog::end_at`]) may be the relay of a job that runs here, a
//! stored outcome, or the log of another gateway; readers see no difference. This module must not know any of them.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use mayfly_sse::encode_data;
use tokio::sync::Notify;

/// The last that readers get where the log is left before its job is over: a comment, so that nothing is taken for an event.
const LEFT: &[u8] = b": the job goes on without this gateway; read on at /jobs/{id}/events with Last-Event-ID, here or at the next gateway\n\n";

/// The events and bytes of one [`Batch`]; an event that is larger goes alone.
const BATCH_EVENTS: usize = 256;
const BATCH_BYTES: usize = 256 * 1024;

/// The bounds of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogLimits {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

#[derive(Debug, Default)]
struct Events {
    /// With their numbers, which rise.
    frames: Vec<(u64, Bytes)>,
    bytes: usize,
    dropped: u64,
    ended: bool,
    left: bool,
    /// Numbers up to this one are not given: they may be known elsewhere.
    skipped: u64,
}

impl Events {
    fn last_id(&self) -> u64 {
        self.frames.last().map_or(0, |(id, _)| *id)
    }

    fn next_id(&self) -> u64 {
        self.last_id().max(self.skipped) + 1
    }
}

/// The events of one job.
#[derive(Debug)]
pub(crate) struct JobLog {
    limits: LogLimits,
    /// Earlier events may be missing, and clients may know later ones: another gateway began it.
    is_partial: bool,
    events: Mutex<Events>,
    grown: Notify,
}

/// How long a log is, for figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogSize {
    /// Events; also the number of the last one.
    pub(crate) events: u64,
    pub(crate) bytes: usize,
    pub(crate) dropped: u64,
    pub(crate) ended: bool,
    /// Its job goes on elsewhere.
    pub(crate) left: bool,
}

/// Events that follow one another, as frames.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The number of the event before them; 0 where there is none.
    pub(crate) before: u64,
    pub(crate) events: Vec<(u64, Bytes)>,
}

impl JobLog {
    pub(crate) fn new(limits: LogLimits) -> Self {
        Self {
            limits,
            is_partial: false,
            events: Mutex::default(),
            grown: Notify::new(),
        }
    }

    /// The log of a job that is over, of events with their numbers; the last one is terminal.
    pub(crate) fn stored(limits: LogLimits, stored: impl Iterator<Item = (u64, Vec<u8>)>) -> Self {
        let log = Self::new(limits);
        {
            let mut events = log.events();
            events.ended = true;
            for (id, data) in stored {
                log.push(&mut events, id, &data);
            }
        }
        log
    }

    /// The log of a job that another gateway began to follow.
    pub(crate) fn continued(limits: LogLimits) -> Self {
        Self {
            is_partial: true,
            ..Self::new(limits)
        }
    }

    /// Whether clients may know later events than the log has.
    pub(crate) fn may_lag(&self) -> bool {
        self.is_partial && !self.size().ended
    }

    /// Adds a progress event under the number that it has elsewhere; one that is here already, or has no room, is left out.
    pub(crate) fn append_at(&self, id: u64, data: &[u8]) {
        let mut events = self.events();
        if id <= events.last_id() || events.ended {
            return;
        }
        if events.frames.len() >= self.limits.events || events.bytes + data.len() > self.limits.bytes {
            events.dropped += 1;
            return;
        }
        self.push(&mut events, id, data);
    }

    /// Adds the terminal event under this number, or the next where that is not later; false where there is one already.
    pub(crate) fn end_at(&self, id: u64, data: &[u8]) -> bool {
        let mut events = self.events();
        if events.ended {
            return false;
        }
        events.ended = true;
        let id = id.max(events.next_id());
        self.push(&mut events, id, data);
        true
    }

    /// Leaves out so many numbers.
    pub(crate) fn skip(&self, numbers: u64) {
        let mut events = self.events();
        events.skipped = events.last_id().saturating_add(numbers);
    }

    /// Ends the readers' streams without a terminal event: the job goes on, and is followed elsewhere.
    pub(crate) fn leave(&self) {
        self.events().left = true;
        self.grown.notify_waiters();
    }

    /// Adds a progress event, one line of JSON; false where there is no room for it, or the log has ended.
    pub(crate) fn append(&self, data: &[u8]) -> bool {
        let mut events = self.events();
        let is_full =
            events.frames.len() >= self.limits.events || events.bytes + data.len() > self.limits.bytes;
        if is_full || events.ended {
            events.dropped += 1;
            return false;
        }
        let id = events.next_id();
        self.push(&mut events, id, data);
        true
    }

    /// Waits for the terminal event.
    pub(crate) async fn ended(&self) {
        self.once(|log| log.size().ended.then_some(())).await;
    }

    /// A reader of all events after this number; 0 stands for all of them.
    pub(crate) fn follow(self: &Arc<Self>, after: u64) -> Follower {
        Follower {
            after,
            was_left: false,
            log: Arc::clone(self),
        }
    }

    pub(crate) fn size(&self) -> LogSize {
        let events = self.events();
        LogSize {
            events: events.last_id(),
            bytes: events.bytes,
            dropped: events.dropped,
            ended: events.ended,
            left: events.left,
        }
    }

    /// Waits for the first event.
    pub(crate) async fn begun(&self) {
        self.once(|log| (log.size().events > 0).then_some(())).await;
    }

    /// Waits until the log has this; it is looked for at once, and whenever the log has changed.
    pub(crate) async fn once<T>(&self, mut find: impl FnMut(&Self) -> Option<T>) -> T {
        loop {
            let mut grown = pin!(self.grown.notified());
            // From here on no change is missed.
            grown.as_mut().enable();
            if let Some(found) = find(self) {
                return found;
            }
            grown.await;
        }
    }

    /// Some of the events after this number.
    pub(crate) fn batch(&self, after: u64) -> Batch {
        let events = self.events();
        let index = events.frames.partition_point(|(id, _)| *id <= after);
        let mut bytes = 0;
        let fits = |(_, frame): &&(u64, Bytes)| {
            let is_first = bytes == 0;
            bytes += frame.len();
            is_first || bytes <= BATCH_BYTES
        };
        Batch {
            before: events.frames[..index].last().map_or(0, |(id, _)| *id),
            events: events.frames[index..]
                .iter()
                .take(BATCH_EVENTS)
                .take_while(fits)
                .cloned()
                .collect(),
        }
    }

    fn push(&self, events: &mut Events, id: u64, data: &[u8]) {
        let frame = encode_data(id, data);
        events.bytes += frame.len();
        events.frames.push((id, frame));
        self.grown.notify_waiters();
    }

    /// What a reader of the events up to this one gets next; `None` as long as there is nothing.
    fn read(&self, after: u64) -> Option<Read> {
        let events = self.events();
        let index = events.frames.partition_point(|(id, _)| *id <= after);
        match events.frames.get(index) {
            Some((id, frame)) => Some(Read::Frame(*id, frame.clone())),
            None if events.ended => Some(Read::Ended),
            None if events.left => Some(Read::Left),
            None => None,
        }
    }

    fn events(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Read {
    Frame(u64, Bytes),
    Ended,
    Left,
}

/// A place in a log.
#[derive(Debug)]
pub(crate) struct Follower {
    after: u64,
    was_left: bool,
    log: Arc<JobLog>,
}

impl Follower {
    /// Waits for the next frame; `None` after the terminal event, or after the word that the log was left. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        match self.log.once(|log| log.read(self.after)).await {
            Read::Frame(id, frame) => {
                self.after = id;
                Some(frame)
            }
            Read::Ended => None,
            Read::Left if self.was_left => None,
            Read::Left => {
                self.was_left = true;
                Some(Bytes::from_static(LEFT))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: LogLimits = LogLimits {
        events: 2,
        bytes: 100,
    };

    async fn rest(mut follower: Follower) -> Vec<String> {
        let mut frames = Vec::new();
        while let Some(frame) = follower.next().await {
            frames.push(String::from_utf8_lossy(&frame).replace("retry: 1000\n", ""));
        }
        frames
    }

    #[tokio::test]
    async fn readers_get_what_they_lack_and_then_what_comes() {
        let log = Arc::new(JobLog::new(LIMITS));
        assert!(log.append(b"a"));
        let mut live = log.follow(0);
        assert!(live.next().await.is_some());
        let (rest_of_live, _) = tokio::join!(rest(live), async {
            assert!(log.append(b"b"));
            assert!(log.end_at(0, b"z"));
        });
        assert_eq!(rest_of_live, ["id: 2\ndata: b\n\n", "id: 3\ndata: z\n\n"]);
        assert_eq!(rest(log.follow(2)).await, ["id: 3\ndata: z\n\n"]);
        assert_eq!(rest(log.follow(u64::MAX)).await, [""; 0]);
    }

    #[tokio::test]
    async fn a_stored_log_keeps_its_numbers() {
        let events = [(3, b"a".to_vec()), (7, b"z".to_vec())];
        let log = Arc::new(JobLog::stored(LIMITS, events.into_iter()));
        assert_eq!(
            rest(log.follow(0)).await,
            ["id: 3\ndata: a\n\n", "id: 7\ndata: z\n\n"]
        );
        assert_eq!(rest(log.follow(5)).await, ["id: 7\ndata: z\n\n"]);
        assert_eq!((log.size().events, log.size().ended), (7, true));
    }

    #[tokio::test]
    async fn a_continued_log_keeps_the_numbers_of_elsewhere() {
        let log = Arc::new(JobLog::continued(LIMITS));
        log.append_at(4, b"a");
        log.append_at(4, b"again");
        assert!(log.may_lag());
        log.skip(10);
        assert!(log.append(b"b"));
        assert!(log.end_at(3, b"z") && !log.may_lag());
        assert_eq!(
            rest(log.follow(0)).await,
            ["id: 4\ndata: a\n\n", "id: 15\ndata: b\n\n", "id: 16\ndata: z\n\n"]
        );
    }

    #[test]
    fn batches_follow_one_another() {
        let log = JobLog::new(LogLimits {
            events: 1000,
            bytes: 1 << 20,
        });
        for _ in 0..300 {
            log.append(b"a");
        }
        log.append(&vec![b'x'; BATCH_BYTES]);
        assert!(log.end_at(1000, b"z"));
        let numbers = |after| {
            let batch = log.batch(after);
            let ends = batch.events.first().zip(batch.events.last());
            (batch.before, ends.map(|((first, _), (last, _))| (*first, *last)))
        };
        assert_eq!(numbers(0), (0, Some((1, 256))));
        assert_eq!(numbers(256), (256, Some((257, 300))));
        assert_eq!(numbers(300), (300, Some((301, 301))));
        assert_eq!(numbers(500), (301, Some((1000, 1000))));
        assert_eq!(numbers(2000), (1000, None));
    }

    #[tokio::test]
    async fn a_log_that_is_left_ends_its_readers_without_an_event() {
        let log = Arc::new(JobLog::new(LIMITS));
        log.append(b"a");
        log.leave();
        let frames = rest(log.follow(0)).await;
        assert_eq!(frames[0], "id: 1\ndata: a\n\n");
        assert!(frames.len() == 2 && frames[1].starts_with(": ") && frames[1].ends_with("\n\n"));
        assert!(!log.size().ended);
    }

    #[tokio::test]
    async fn what_is_too_much_leaves_no_gap_and_the_end_always_fits() {
        let log = Arc::new(JobLog::new(LIMITS));
        assert!(!log.append(&[b'x'; 101]));
        assert!(log.append(b"a") && log.append(b"b") && !log.append(b"c"));
        assert!(log.end_at(0, &[b'z'; 1000]));
        assert!(!log.end_at(0, b"again") && !log.append(b"late"));
        let frames = rest(log.follow(0)).await;
        assert_eq!((frames.len(), &frames[1][..5]), (3, "id: 2"));
        assert!(frames[2].starts_with("id: 3\ndata: zzz"));
        assert_eq!((log.size().events, log.size().dropped), (3, 3));
    }
}
