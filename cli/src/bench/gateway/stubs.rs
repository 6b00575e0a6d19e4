//! The stub workers of one measurement: a process of its own that hosts them, and the addresses that sides are given.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout};

use super::stub::{Counts, address};
use super::stub_host::Order;
use crate::bench::measure::own_program;
use crate::bench::process::{self, Group};

/// Which stub workers are wanted. They are numbered from 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// The first one's number.
    pub(super) first: u32,
    /// How many addresses.
    pub(super) count: u32,
    /// How many of them, from the first, listen at the start.
    pub(super) up: u32,
    /// How long a job takes; `None` for one that is held until it is told to end.
    pub(super) job: Option<Duration>,
    pub(super) restart: Duration,
}

/// A process of stub workers; dropping this kills it (`SIGKILL`), and returns when it is gone.
pub(super) struct Stubs {
    port: u16,
    wanted: Wanted,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    process: Option<Group>,
    child: std::process::Child,
}

impl Stubs {
    /// Starts them on this port, and returns when all that are up listen.
    pub(super) async fn start(port: u16, wanted: Wanted) -> anyhow::Result<Self> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the other end of all sides is a process of its own"
        )]
        let mut command = std::process::Command::new(own_program()?);
        command.args(["bench", "stubs"]);
        let numbers = [
            ("--first", u64::from(wanted.first)),
            ("--count", wanted.count.into()),
            ("--up", wanted.up.into()),
            ("--port", port.into()),
            ("--restart-millis", millis(wanted.restart)),
        ];
        for (name, value) in numbers
            .into_iter()
            .chain(wanted.job.map(|job| ("--job-millis", millis(job))))
        {
            command.args([name, &value.to_string()]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let (mut child, process) = process::start(&mut command)?;
        let (orders, answers) = child
            .stdin
            .take()
            .zip(child.stdout.take())
            .context("the stub workers have no standard streams")?;
        let mut stubs = Self {
            port,
            wanted,
            orders: ChildStdin::from_std(orders)?,
            answers: BufReader::new(ChildStdout::from_std(answers)?).lines(),
            process: Some(process),
            child,
        };
        stubs.answer().await?;
        Ok(stubs)
    }

    /// Gives an order, and what was counted when it was obeyed.
    pub(super) async fn tell(&mut self, order: Order) -> anyhow::Result<Counts> {
        let line = serde_json::to_string(&order)? + "\n";
        self.orders.write_all(line.as_bytes()).await?;
        self.answer().await
    }

    pub(super) async fn counts(&mut self) -> anyhow::Result<Counts> {
        self.tell(Order::Count).await
    }

    async fn answer(&mut self) -> anyhow::Result<Counts> {
        let line = self.answers.next_line().await?;
        let line = line.context("the process of the stub workers is gone")?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Where they listen, or will.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let wanted = self.wanted;
        let numbers = wanted.first..wanted.first + wanted.count;
        numbers.map(|number| address(number, self.port)).collect()
    }
}

impl Drop for Stubs {
    fn drop(&mut self) {
        drop(self.process.take());
        let _its_status = self.child.wait();
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A port that is free on loopback.
pub(super) fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?.port())
}
