//! A name with many addresses behind it: what it costs our gateway to follow it, and how soon a worker that comes has a job.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::{Instant, sleep, timeout};

use super::Bench;
use super::client::{End, post};
use super::names::Names;
use super::side::{Setup, Side};
use super::stub::address;
use super::stub_host::Order;
use super::stubs::{Stubs, Wanted, free_port};
use super::table::{Figures, percentile, sorted_millis};

/// How long a change may take to be seen.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn measure(bench: &Bench<'_>) -> anyhow::Result<Figures> {
    let count = bench.args.addresses.get();
    let wanted = Wanted {
        first: 1,
        count,
        up: count,
        job: Some(Duration::from_millis(1)),
        restart: Duration::ZERO,
    };
    let port = free_port()?;
    let mut stubs = Stubs::start(port, wanted).await?;
    let workers = stubs.addresses();
    let names = Names::make(bench.folder, &workers)?.context(
        "a name of our own wants a mount namespace (`unshare --mount`), which is refused here: run this measure as root",
    )?;
    let setup = Setup {
        names: Some(&names),
        ..Setup::of(&workers)
    };
    let running = bench.start(Side::Mayfly, setup).await?;
    let first = post(running.address, |_| {}).await;
    ensure!(first.is_completed(), "the first job ended with {:?}", first.end);
    let before = running.account().cpu;
    let watched = Duration::from_secs(bench.args.hold_seconds.get().into());
    sleep(watched).await;
    let idle = (running.account().cpu - before) / watched.as_secs_f64();
    // Each worker has its first job, so that one that was never used is next.
    for _ in 1..count {
        post(running.address, |_| {}).await;
    }
    let mut times = Vec::new();
    let mut chance = fastrand::Rng::with_seed(3);
    for number in count + 1..=count + bench.args.changes.get() {
        stubs.tell(Order::Start { worker: number }).await?;
        // Anywhere between two looks of the gateway.
        sleep(Duration::from_millis(chance.u64(..1000))).await;
        let changed = Instant::now();
        names.add(address(number, port))?;
        timeout(PATIENCE, until_used(running.address, number))
            .await
            .context("a new worker got no job")?;
        times.push(changed.elapsed());
    }
    let memory = running.account().anon_kib as f64 / 1024.0;
    running.stop().await?;
    let times = sorted_millis(times);
    Ok(Figures::default()
        .with("addresses", f64::from(count))
        .with("idle CPU, % of a core", idle * 100.0)
        .with("anonymous MiB", memory)
        .with("change to first job p50, ms", percentile(&times, 0.5))
        .with("greatest, ms", percentile(&times, 1.0)))
}

/// Sends one job after the other until this worker has one.
async fn until_used(gateway: std::net::SocketAddr, number: u32) {
    while post(gateway, |_| {}).await.end != (End::Completed { worker: number }) {}
}
