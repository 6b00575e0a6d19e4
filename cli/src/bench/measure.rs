//! What a command used, by the operating system's own account of its finished processes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

/// Between two looks at the memory of a command.
const MEMORY_INTERVAL: Duration = Duration::from_millis(5);

/// A command to run and to account for.
#[derive(Debug, Args)]
pub(crate) struct MeasureArgs {
    /// File that the figures are written to.
    #[arg(long)]
    into: PathBuf,
    /// Look at the command's own memory every 5 ms, to tell its anonymous from its file-backed pages.
    #[arg(long)]
    memory: bool,
    /// The command with its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// What a command and its children used.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Seconds from start to end.
    pub(crate) wall: f64,
    /// Seconds of processor time, user and system.
    pub(crate) cpu: f64,
    /// The largest resident size of any one process, in KiB.
    pub(crate) peak_kib: u64,
    /// The largest anonymous and the largest file-backed part that were seen of the command's own process, where it was looked at.
    #[serde(flatten)]
    pub(crate) parts: Option<Parts>,
}

/// The parts of a resident size, in KiB. Their peaks need not fall together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parts {
    pub(crate) anon_kib: u64,
    pub(crate) file_kib: u64,
    #[serde(skip)]
    pub(crate) shared_kib: u64,
}

impl Parts {
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
    }

    /// Reads the format of proc_pid_status(5); a process that has ended has no memory left to tell of.
    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix("kB")?.trim().parse().ok()
        };
        Some(Self {
            anon_kib: field("RssAnon:")?,
            file_kib: field("RssFile:")?,
            shared_kib: field("RssShmem:")?,
        })
    }

    fn max(self, other: Self) -> Self {
        Self {
            anon_kib: self.anon_kib.max(other.anon_kib),
            file_kib: self.file_kib.max(other.file_kib),
            shared_kib: self.shared_kib.max(other.shared_kib),
        }
    }
}

/// Looks at a process until the other end of the channel is dropped.
fn watch(pid: u32, until: &Receiver<()>) -> Parts {
    let mut peak = Parts::default();
    while until.recv_timeout(MEMORY_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        peak = peak.max(Parts::of(pid).unwrap_or_default());
    }
    peak
}

/// Runs the command with this process's standard streams, and writes what it used.
pub(crate) fn command(args: &MeasureArgs) -> anyhow::Result<()> {
    let (program, rest) = args.command.split_first().context("no command is given")?;
    let started = Instant::now();
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark runs the commands that it is given"
    )]
    let mut child = Command::new(program)
        .args(rest)
        .spawn()
        .with_context(|| format!("`{program}` could not be started"))?;
    let pid = child.id();
    let (status, wall, parts) = std::thread::scope(|scope| {
        let (ended, until) = channel();
        let watching = args.memory.then(|| scope.spawn(move || watch(pid, &until)));
        let status = child.wait();
        let wall = started.elapsed();
        drop(ended);
        (status, wall, watching.and_then(|it| it.join().ok()))
    });
    let status = status?;
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = [usage.user_time(), usage.system_time()].map(|time| seconds(time.tv_sec(), time.tv_usec()));
    let usage = Usage {
        wall: wall.as_secs_f64(),
        cpu: cpu.iter().sum(),
        peak_kib: u64::try_from(usage.max_rss()).unwrap_or_default(),
        parts,
    };
    serde_json::to_writer(File::create(&args.into)?, &usage)?;
    if status.success() {
        Ok(())
    } else {
        bail!("`{program}` ended with {status}")
    }
}

fn seconds(whole: i64, micros: i64) -> f64 {
    Duration::from_micros(u64::try_from(whole * 1_000_000 + micros).unwrap_or_default()).as_secs_f64()
}

impl Usage {
    /// This command, and then that one.
    pub(crate) fn then(self, next: Self) -> Self {
        Self {
            wall: self.wall + next.wall,
            cpu: self.cpu + next.cpu,
            peak_kib: self.peak_kib.max(next.peak_kib),
            parts: None,
        }
    }
}

/// A command that runs another under [`command`]; with `memory` the parts of its memory are told apart.
pub(crate) fn measured(into: &Path, memory: bool) -> anyhow::Result<Command> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark starts processes to measure them"
    )]
    let mut command = Command::new(own_program()?);
    command.args(["bench", "measure", "--into"]).arg(into);
    if memory {
        command.arg("--memory");
    }
    command.arg("--");
    Ok(command)
}

/// The program that runs.
pub(crate) fn own_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("the running program cannot be found")
}

/// Reads what [`command`] wrote.
pub(crate) fn read(file: &Path) -> anyhow::Result<Usage> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("{} was not written", file.display()))?;
    Ok(serde_json::from_str(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_memory_are_read() {
        let status =
            "Name:\tx\nVmRSS:\t    9 kB\nRssAnon:\t    1234 kB\nRssFile:\t   56 kB\nRssShmem:\t 0 kB\n";
        let parts = Parts {
            anon_kib: 1234,
            file_kib: 56,
            shared_kib: 0,
        };
        assert_eq!(Parts::parse(status), Some(parts));
        assert_eq!(Parts::parse("Name:\tended\n"), None);
        assert!(Parts::of(std::process::id()).unwrap().anon_kib > 0);
    }
}
