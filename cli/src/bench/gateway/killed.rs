//! What a client hears, and when, after the process of its worker was killed (SIGKILL): that another attempt follows, a terminal event, or the end of its connection.

use std::time::Duration;

use anyhow::Context as _;
use mayfly_telemetry::task;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use super::Bench;
use super::client::{End, post};
use super::side::{Setup, Side};
use super::stubs::{Stubs, Wanted, free_port};
use super::table::{Figures, percentile, sorted_millis};

/// How long a client waits for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a client hears of its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// A worker's event.
    Worker,
    /// That the job is tried again.
    Retrying,
    /// The terminal event.
    Terminal,
    /// The end of the stream without one.
    Nothing,
}

pub(super) async fn measure(bench: &Bench<'_>, side: Side) -> anyhow::Result<Figures> {
    let (mut times, mut told) = (Vec::new(), 0);
    let kills = bench.args.kills.get();
    for _ in 0..kills {
        let (heard, time) = kill_one(bench, side).await?;
        times.push(time);
        told += u32::from(heard != Heard::Nothing);
    }
    let times = sorted_millis(times);
    Ok(Figures::default()
        .with("kills", f64::from(kills))
        .with("told by an event, %", f64::from(told) / f64::from(kills) * 100.0)
        .with("heard p50, ms", percentile(&times, 0.5))
        .with("heard p99, ms", percentile(&times, 0.99)))
}

/// Two workers, each a process; the one with the job is killed.
async fn kill_one(bench: &Bench<'_>, side: Side) -> anyhow::Result<(Heard, Duration)> {
    let port = free_port()?;
    let (mut one, other) = (start(port, 1).await?, start(port, 2).await?);
    let workers = [one.addresses(), other.addresses()].concat();
    let running = bench.start(side, Setup::of(&workers)).await?;
    let mut heard = listen(running.address);
    while next(&mut heard).await?.0 != Heard::Worker {}
    let (with_job, _spare) = match one.counts().await?.taken {
        0 => (other, one),
        _ => (one, other),
    };
    let killed = Instant::now();
    drop(with_job);
    loop {
        let (what, at) = next(&mut heard).await?;
        if what != Heard::Worker {
            return Ok((what, at - killed));
        }
    }
}

async fn start(port: u16, number: u32) -> anyhow::Result<Stubs> {
    let wanted = Wanted {
        first: number,
        count: 1,
        up: 1,
        job: None,
        restart: Duration::from_secs(1),
    };
    Stubs::start(port, wanted).await
}

type Hearing = mpsc::UnboundedReceiver<(Heard, Instant)>;

async fn next(hearing: &mut Hearing) -> anyhow::Result<(Heard, Instant)> {
    let heard = timeout(PATIENCE, hearing.recv()).await;
    heard
        .context("the client heard nothing for too long")?
        .context("the stream is over")
}

/// Posts a job, and tells what its client hears.
fn listen(address: std::net::SocketAddr) -> Hearing {
    let (tell, hearing) = mpsc::unbounded_channel();
    task::spawn(&TaskTracker::new(), async move {
        let say = |heard| {
            // Nobody may be interested any more.
            let _heard = tell.send((heard, Instant::now()));
        };
        let answer = post(address, |said| {
            if said.is_workers() {
                say(Heard::Worker);
            } else if said.stage.as_deref() == Some("retrying") {
                say(Heard::Retrying);
            }
        });
        say(match answer.await.end {
            End::Completed { .. } | End::Error(_) => Heard::Terminal,
            End::Refused(_) | End::Broken(_) => Heard::Nothing,
        });
    });
    hearing
}
