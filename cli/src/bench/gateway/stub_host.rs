//! `mayfly bench stubs`: a process of stub workers, which is told on standard input what to do, and ends when that ends.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use mayfly_telemetry::task;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::stub::{Counters, Plan, Stub, address};

/// Between two looks at whether all listen.
const LOOK: Duration = Duration::from_millis(5);

/// Which stub workers there are, and what they do.
#[derive(Debug, Args)]
pub(crate) struct StubsArgs {
    /// The number of the first.
    #[arg(long)]
    first: u32,
    /// How many.
    #[arg(long)]
    count: u32,
    /// How many of them listen from the start; all by default.
    #[arg(long)]
    up: Option<u32>,
    /// Port that they listen on, each at an address of its own.
    #[arg(long)]
    port: u16,
    /// Milliseconds that a job takes; without it there is an event a second until all jobs are told to end.
    #[arg(long)]
    job_millis: Option<u64>,
    /// Milliseconds for which a worker is away after its job.
    #[arg(long)]
    restart_millis: u64,
}

/// What a process of stub workers is told, a line of JSON each; it answers with its counts.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(super) enum Order {
    /// The worker is killed, and listens no more.
    Kill { worker: u32 },
    /// A worker begins to listen.
    Start { worker: u32 },
    /// Jobs that are held end.
    Finish,
    /// Nothing but the answer.
    Count,
}

struct Host {
    args: StubsArgs,
    counters: Arc<Counters>,
    finish: CancellationToken,
    started: u64,
    bound: Arc<AtomicU64>,
    lives: BTreeMap<u32, DropGuard>,
    tasks: TaskTracker,
}

pub(crate) async fn command(args: StubsArgs) -> anyhow::Result<()> {
    let first = args.first;
    let up = args.up.unwrap_or(args.count).min(args.count);
    let mut host = Host {
        args,
        counters: Arc::default(),
        finish: CancellationToken::new(),
        started: 0,
        bound: Arc::default(),
        lives: BTreeMap::new(),
        tasks: TaskTracker::new(),
    };
    for number in first..first + up {
        host.start(number);
    }
    host.all_listen().await;
    host.answer()?;
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = orders.next_line().await? {
        let order = serde_json::from_str(&line).with_context(|| format!("`{line}` is no order"))?;
        match order {
            Order::Kill { worker } => drop(host.lives.remove(&worker)),
            Order::Start { worker } => {
                host.start(worker);
                host.all_listen().await;
            }
            Order::Finish => host.finish.cancel(),
            Order::Count => {}
        }
        host.answer()?;
    }
    Ok(())
}

impl Host {
    fn start(&mut self, number: u32) {
        let args = &self.args;
        let stub = Stub {
            number,
            address: address(number, args.port),
            plan: Plan {
                job: args.job_millis.map(Duration::from_millis),
                restart: Duration::from_millis(args.restart_millis),
            },
            counters: Arc::clone(&self.counters),
            finish: self.finish.clone(),
        };
        let killed = CancellationToken::new();
        self.lives.insert(number, killed.clone().drop_guard());
        self.started += 1;
        let bound = Arc::clone(&self.bound);
        task::spawn(&self.tasks, async move {
            // It lives until it is killed.
            let _killed = killed.run_until_cancelled(stub.live(bound)).await;
        });
    }

    async fn all_listen(&self) {
        while self.bound.load(Ordering::Relaxed) < self.started {
            sleep(LOOK).await;
        }
    }

    fn answer(&self) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        serde_json::to_writer(&mut out, &self.counters.now())?;
        writeln!(out)?;
        Ok(out.flush()?)
    }
}
