//! Many streams at an event a second: whether they are held, whether an event is lost, and what a stream and an event cost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use mayfly_telemetry::task;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use super::Bench;
use super::client::{Answer, post};
use super::names::Names;
use super::side::{Setup, Side};
use super::stub_host::Order;
use super::stubs::{Stubs, Wanted, free_port};
use super::table::Figures;

/// Streams that are opened at the same time.
const OPENING: u32 = 128;
/// How long all streams stand before they are watched.
const SETTLE: Duration = Duration::from_secs(1);
/// From so many addresses on, our gateway finds the workers by name.
const BY_NAME: u32 = 2000;

pub(super) async fn measure(bench: &Bench<'_>, side: Side, streams: u32) -> anyhow::Result<Figures> {
    let wanted = Wanted {
        first: 1,
        count: streams,
        up: streams,
        job: None,
        restart: Duration::from_secs(1),
    };
    let mut stubs = Stubs::start(free_port()?, wanted).await?;
    let workers = stubs.addresses();
    let names = match streams > BY_NAME {
        true => Names::make(bench.folder, &workers)?,
        false => None,
    };
    let setup = Setup {
        names: names.as_ref(),
        ..Setup::of(&workers)
    };
    let running = bench.start(side, setup).await?;
    let clients = Clients::new(running.address);
    // What the side has when it knows its workers is no stream's.
    clients.open(1).await?;
    let before = running.account();
    clients.open(streams - 1).await?;
    sleep(SETTLE).await;
    let (from, used) = (stubs.counts().await?, running.account());
    sleep(Duration::from_secs(bench.args.hold_seconds.get().into())).await;
    let (to, held) = (stubs.counts().await?, running.account());
    let open = clients.open_now();
    stubs.tell(Order::Finish).await?;
    let answers = clients.answers().await;
    let sent = stubs.counts().await?;
    running.stop().await?;
    let relayed: u64 = answers.iter().map(|answer| answer.events).sum();
    let completed = answers.iter().filter(|answer| answer.is_completed()).count();
    ensure!(answers.len() == streams as usize, "a client is missing");
    let each =
        |kib: u64, before: u64| (kib.saturating_sub(before) * 1024) as f64 / 1000.0 / f64::from(streams);
    let events = (to.events - from.events) as f64;
    Ok(Figures::default()
        .with("streams", f64::from(streams))
        .with("held", open as f64)
        .with("completed", completed as f64)
        .with("events", sent.events as f64)
        .with("lost", sent.events.saturating_sub(relayed) as f64)
        .with(
            "events a second",
            events / f64::from(bench.args.hold_seconds.get()),
        )
        .with(
            "resident kB a stream",
            each(held.resident_kib, before.resident_kib),
        )
        .with("anonymous kB a stream", each(held.anon_kib, before.anon_kib))
        .with("CPU an event, us", (held.cpu - used.cpu) * 1e6 / events))
}

/// Clients with a stream each.
struct Clients {
    address: SocketAddr,
    opening: Arc<Semaphore>,
    open: Arc<AtomicU64>,
    tell: mpsc::UnboundedSender<Answer>,
    told: mpsc::UnboundedReceiver<Answer>,
    tasks: TaskTracker,
}

impl Clients {
    fn new(address: SocketAddr) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        Self {
            address,
            opening: Arc::new(Semaphore::new(OPENING as usize)),
            open: Arc::default(),
            tell,
            told,
            tasks: TaskTracker::new(),
        }
    }

    /// Opens streams, and returns when each has had its worker's first event, or has failed.
    async fn open(&self, streams: u32) -> anyhow::Result<()> {
        for _ in 0..streams {
            let opening = Arc::clone(&self.opening).acquire_owned().await?;
            let (address, open, tell) = (self.address, Arc::clone(&self.open), self.tell.clone());
            task::spawn(&self.tasks, async move {
                let mut opening = Some(opening);
                let answer = post(address, |said| {
                    if said.is_workers() && opening.take().is_some() {
                        open.fetch_add(1, Ordering::Relaxed);
                    }
                });
                let answer = answer.await;
                if opening.is_none() {
                    open.fetch_sub(1, Ordering::Relaxed);
                }
                // The receiver outlives all clients.
                let _received = tell.send(answer);
            });
        }
        let _all = self.opening.acquire_many(OPENING).await?;
        Ok(())
    }

    fn open_now(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// How all of them ended.
    async fn answers(self) -> Vec<Answer> {
        let Self { tell, mut told, .. } = self;
        drop(tell);
        let mut answers = Vec::new();
        while let Some(answer) = told.recv().await {
            answers.push(answer);
        }
        answers
    }
}
