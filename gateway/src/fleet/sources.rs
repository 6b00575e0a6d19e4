//! Keeps the rosters in step with what settings and supervisors say about workers.
//!
//! This module must not know jobs or the queue's order.

use std::sync::Arc;

use mayfly_telemetry::task;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dispatch::Dispatcher;
use crate::fleet::WorkerKind;
use crate::fleet::address::{WorkerSource, WorkerUrl};
use crate::fleet::dns::{self, DnsSettings};
use crate::fleet::local::LocalFleet;
use crate::fleet::roster::{Member, WorkerKey};

/// Starts what keeps the rosters fresh.
pub(crate) struct Sources {
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) dns: DnsSettings,
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
}

impl Sources {
    /// Follows a source of workers of this kind until the token fires.
    pub(crate) fn follow(&self, kind: WorkerKind, source: &WorkerSource) {
        match source {
            WorkerSource::Static(urls) if urls.is_empty() => {}
            WorkerSource::Static(urls) => {
                let list = self.list(kind, None);
                list.set(urls.iter().cloned().map(listed).collect(), false);
            }
            WorkerSource::Dns(name) => {
                let refresh = dns::refresh(name.clone(), self.dns, self.list(kind, None));
                self.spawn(refresh);
            }
            WorkerSource::Local(fleet) => {
                let list = self.list(kind, Some(fleet.max_jobs()));
                self.spawn(follow_local(fleet.clone(), list));
            }
            WorkerSource::Several(sources) => {
                for source in sources {
                    self.follow(kind, source);
                }
            }
        }
    }

    fn list(&self, kind: WorkerKind, limit: Option<usize>) -> List {
        List {
            kind,
            source: self.dispatcher.add_source(kind, limit),
            dispatcher: Arc::clone(&self.dispatcher),
        }
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stopping.clone();
        task::spawn(&self.tasks, async move {
            // Whether it was stopped or ended by itself: there is nothing to do about it.
            let _done = stopping.run_until_cancelled(work).await;
        });
    }
}

/// What one source lists.
pub(crate) struct List {
    kind: WorkerKind,
    source: usize,
    dispatcher: Arc<Dispatcher>,
}

impl List {
    /// Sets the list; `may_grow` says whether jobs may wait for it while it is empty.
    pub(crate) fn set(&self, members: Vec<Member>, may_grow: bool) {
        self.dispatcher.list(self.kind, self.source, members, may_grow);
    }
}

/// A worker of which nothing is known but its address.
pub(crate) fn listed(url: WorkerUrl) -> Member {
    Member {
        key: WorkerKey { url, incarnation: 0 },
        process: None,
    }
}

async fn follow_local(mut fleet: LocalFleet, list: List) {
    loop {
        let members = fleet.ready();
        list.set(members, true);
        if fleet.changed().await.is_err() {
            // The supervisor is gone, and its workers with it.
            list.set(Vec::new(), false);
            return;
        }
    }
}
