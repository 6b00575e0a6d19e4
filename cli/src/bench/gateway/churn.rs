//! Jobs while workers are killed with what they have, and others come at addresses where nobody was.

use std::time::Duration;

use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use super::client::End;
use super::jobs::Coming;
use super::side::{Setup, Side};
use super::stub_host::Order;
use super::stubs::{Stubs, Wanted, free_port};
use super::table::{Figures, percentile};
use super::{Bench, GatewayBenchArgs};

/// Long enough that many a worker is killed in the middle of one.
const JOB: Duration = Duration::from_millis(300);
const RESTART: Duration = Duration::from_millis(100);
/// Between two kills; with each, another worker comes.
const KILLS: Duration = Duration::from_millis(100);
/// Of what the workers can do.
const LOAD: f64 = 0.5;

pub(super) fn about(args: &GatewayBenchArgs) -> String {
    let (workers, seconds) = (args.workers, args.seconds);
    format!(
        "{workers} workers at twice as many addresses, jobs of {} ms at {LOAD} of what that allows for {seconds} s; every {} ms a worker is killed, and another comes",
        JOB.as_millis(),
        KILLS.as_millis()
    )
}

pub(super) async fn measure(bench: &Bench<'_>, side: Side) -> anyhow::Result<Figures> {
    let count = bench.args.workers.get();
    let wanted = Wanted {
        first: 1,
        count: count * 2,
        up: count,
        job: Some(JOB),
        restart: RESTART,
    };
    let mut stubs = Stubs::start(free_port()?, wanted).await?;
    let workers = stubs.addresses();
    let running = bench.start(side, Setup::of(&workers)).await?;
    let coming = Coming {
        rate: LOAD * f64::from(count) / (JOB + RESTART).as_secs_f64(),
        at_once: 1,
    };
    let over = CancellationToken::new();
    let (load, kills) = tokio::join!(
        async {
            let load = coming.send(running.address, bench.seconds()).await;
            over.cancel();
            load
        },
        replace(&mut stubs, count, &over),
    );
    let kills = kills?;
    load.log_failures(side);
    running.stop().await?;
    let completed = load.completed();
    let times = load.times();
    let broken = load
        .answers
        .iter()
        .filter(|answer| matches!(answer.end, End::Broken(_)))
        .count();
    let retried = load
        .answers
        .iter()
        .filter(|answer| answer.is_completed() && answer.was_retried)
        .count();
    Ok(Figures::default()
        .with("jobs sent", load.sent as f64)
        .with("completed", completed as f64)
        .with("failed", (load.answers.len() - completed) as f64)
        .with("of those without a terminal event", broken as f64)
        .with("completed at another worker", retried as f64)
        .with("workers killed", f64::from(kills))
        .with("job p50, ms", percentile(&times, 0.5))
        .with("job p99, ms", percentile(&times, 0.99)))
}

/// Kills workers, the same ones for every side, and starts others, until it is over.
async fn replace(stubs: &mut Stubs, count: u32, over: &CancellationToken) -> anyhow::Result<u32> {
    let (mut up, mut down): (Vec<u32>, Vec<u32>) = ((1..=count).collect(), (count + 1..=count * 2).collect());
    let mut chance = fastrand::Rng::with_seed(2);
    let mut ticks = interval(KILLS);
    ticks.tick().await;
    let mut kills = 0;
    while over.run_until_cancelled(ticks.tick()).await.is_some() {
        let killed = up.swap_remove(chance.usize(..up.len()));
        stubs.tell(Order::Kill { worker: killed }).await?;
        let started = down.swap_remove(chance.usize(..down.len()));
        stubs.tell(Order::Start { worker: started }).await?;
        up.push(started);
        down.push(killed);
        kills += 1;
    }
    Ok(kills)
}
