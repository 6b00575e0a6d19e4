//! Reads a job's stream as a client does, and writes it down for snapshots.

mod transcript;

pub use transcript::transcript;

use std::collections::VecDeque;

use mayfly_protocol::{Event, EventBody};
use mayfly_sse::{Decoded, Decoder};

use crate::wait::within;

/// An event and its number, the `id:` line.
pub type Numbered = (u64, Event);

/// A client for loopback and for servers with certificates that the system trusts.
pub fn http_client() -> reqwest::Client {
    // The error is that a provider is there already, which is what is needed.
    let _already = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// A stream that is read event by event.
#[derive(Debug)]
pub struct Stream {
    response: reqwest::Response,
    decoder: Decoder,
    ready: VecDeque<Decoded>,
    comments: usize,
}

impl Stream {
    /// Begins to read; panics if the answer is no event stream.
    #[track_caller]
    pub fn of(response: reqwest::Response) -> Self {
        let kind = response.headers().get("content-type").cloned();
        let is_stream = kind
            .as_ref()
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        assert!(
            response.status() == 200 && is_stream,
            "not an event stream: {} {kind:?}",
            response.status()
        );
        Self {
            response,
            decoder: Decoder::default(),
            ready: VecDeque::new(),
            comments: 0,
        }
    }

    /// The next event; none at the end. An end in the middle of the transfer is an end as well: the caller looks for the terminal event.
    pub async fn next(&mut self) -> Option<Numbered> {
        loop {
            match self.ready.pop_front() {
                Some(Decoded::Comment) => self.comments += 1,
                Some(Decoded::Message { id, data, .. }) => return Some(parse(id.as_deref(), &data)),
                None => {
                    let chunk = within("the next event", self.response.chunk()).await.ok()??;
                    let items = self.decoder.push(&chunk).expect("a stream that can be decoded");
                    self.ready.extend(items);
                }
            }
        }
    }

    /// Reads on until there is an event that fits, and gives it; panics at the end.
    pub async fn until(&mut self, fits: impl Fn(&Event) -> bool) -> Numbered {
        loop {
            let next = self.next().await.expect("the stream ended without the event");
            if fits(&next.1) {
                return next;
            }
        }
    }

    /// Reads to the end.
    pub async fn rest(&mut self) -> Vec<Numbered> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    /// How many comments (heartbeats) have passed so far.
    pub fn comments(&self) -> usize {
        self.comments
    }
}

/// Reads a whole stream and checks that it is one (see [`assert_whole`]).
pub async fn read_whole(response: reqwest::Response) -> Vec<Numbered> {
    let events = Stream::of(response).rest().await;
    assert_whole(&events, 1);
    events
}

#[track_caller]
fn parse(id: Option<&str>, data: &[u8]) -> Numbered {
    let text = String::from_utf8_lossy(data);
    let event = serde_json::from_slice(data).unwrap_or_else(|error| panic!("no event ({error}): {text}"));
    let number = id.and_then(|id| id.parse().ok());
    (
        number.unwrap_or_else(|| panic!("no number ({id:?}): {text}")),
        event,
    )
}

/// Panics unless the numbers count up from `first`, all events are of one job, and exactly the last one is terminal.
#[track_caller]
pub fn assert_whole(events: &[Numbered], first: u64) {
    let numbers: Vec<u64> = events.iter().map(|(number, _)| *number).collect();
    let expected: Vec<u64> = (first..).take(events.len()).collect();
    assert_eq!(numbers, expected, "the numbers of the events");
    let ends: Vec<bool> = events.iter().map(|(_, event)| event.is_terminal()).collect();
    let only_last = ends.iter().rposition(|end| !end).map_or(0, |at| at + 1);
    assert!(
        only_last + 1 == ends.len(),
        "terminal events of the stream: {ends:?}"
    );
    let jobs: std::collections::BTreeSet<_> = events.iter().map(|(_, event)| &event.job_id).collect();
    assert!(jobs.len() == 1, "one stream tells of {jobs:?}");
}

/// The stages in their order, each once however often it is told.
pub fn stages(events: &[Numbered]) -> Vec<String> {
    let mut stages: Vec<String> = events.iter().filter_map(|(_, event)| stage(event)).collect();
    stages.dedup();
    stages
}

fn stage(event: &Event) -> Option<String> {
    let EventBody::Progress { stage, .. } = &event.body else {
        return None;
    };
    let name = serde_json::to_value(stage).expect("a stage is JSON");
    name.as_str().map(str::to_owned)
}

/// The `data` of the `completed` event; panics with the error of a stream that failed.
#[track_caller]
pub fn completed(events: &[Numbered]) -> &serde_json::Value {
    match events.last().map(|(_, event)| &event.body) {
        Some(EventBody::Completed { data }) => data,
        other => panic!("the stream did not complete: {other:?}"),
    }
}

/// The failure that the stream ends with; panics with the result of one that completed.
#[track_caller]
pub fn failed(events: &[Numbered]) -> &mayfly_protocol::Failure {
    match events.last().map(|(_, event)| &event.body) {
        Some(EventBody::Error(failure)) => failure,
        other => panic!("the stream did not fail: {other:?}"),
    }
}
