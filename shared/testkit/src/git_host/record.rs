//! What was asked of the host: each request with its headers, and the bytes of both directions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use futures::StreamExt;

/// A request and what came of it so far.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The method.
    pub method: Method,
    /// The path of the URL.
    pub path: String,
    /// The query of the URL, empty without one.
    pub query: String,
    /// All headers as they came.
    pub headers: HeaderMap,
    /// The status of the answer; none while there is no answer, or if the connection was cut in its place.
    pub status: Option<StatusCode>,
    /// Bytes of the request's body that were read.
    pub bytes_received: u64,
    /// Bytes of the answer's body that were sent.
    pub bytes_sent: u64,
}

#[derive(Debug, Default)]
pub(super) struct Record(Mutex<Vec<Entry>>);

#[derive(Debug)]
struct Entry {
    request: Recorded,
    counters: Counters,
}

/// The counters of one request.
#[derive(Debug, Clone, Default)]
pub(super) struct Counters {
    received: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
}

impl Counters {
    pub(super) fn received(&self, body: Body) -> Body {
        counted(body, self.received.clone())
    }

    pub(super) fn sent(&self, body: Body) -> Body {
        counted(body, self.sent.clone())
    }
}

fn counted(body: Body, counter: Arc<AtomicU64>) -> Body {
    Body::from_stream(body.into_data_stream().inspect(move |chunk| {
        let bytes = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        counter.fetch_add(bytes, Ordering::Relaxed);
    }))
}

impl Record {
    /// Writes a request down; the number is for [`Record::answered`].
    pub(super) fn begin(&self, parts: &Parts) -> (usize, Counters) {
        let counters = Counters::default();
        let request = Recorded {
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: parts.headers.clone(),
            status: None,
            bytes_received: 0,
            bytes_sent: 0,
        };
        let mut entries = self.entries();
        entries.push(Entry {
            request,
            counters: counters.clone(),
        });
        (entries.len() - 1, counters)
    }

    pub(super) fn answered(&self, number: usize, status: StatusCode) {
        if let Some(entry) = self.entries().get_mut(number) {
            entry.request.status = Some(status);
        }
    }

    pub(super) fn snapshot(&self) -> Vec<Recorded> {
        let entries = self.entries();
        let now = entries.iter().map(|entry| Recorded {
            bytes_received: entry.counters.received.load(Ordering::Relaxed),
            bytes_sent: entry.counters.sent.load(Ordering::Relaxed),
            ..entry.request.clone()
        });
        now.collect()
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
