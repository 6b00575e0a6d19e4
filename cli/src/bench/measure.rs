//! What a command used, by the operating system's own account of its finished processes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

/// A command to run and to account for.
#[derive(Debug, Args)]
pub(crate) struct MeasureArgs {
    /// File that the figures are written to.
    #[arg(long)]
    into: PathBuf,
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
}

/// Runs the command with this process's standard streams, and writes what it used.
pub(crate) fn command(args: &MeasureArgs) -> anyhow::Result<()> {
    let (program, rest) = args.command.split_first().context("no command is given")?;
    let started = Instant::now();
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark runs the commands that it is given"
    )]
    let status = Command::new(program)
        .args(rest)
        .status()
        .with_context(|| format!("`{program}` could not be started"))?;
    let wall = started.elapsed();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = [usage.user_time(), usage.system_time()].map(|time| seconds(time.tv_sec(), time.tv_usec()));
    let usage = Usage {
        wall: wall.as_secs_f64(),
        cpu: cpu.iter().sum(),
        peak_kib: u64::try_from(usage.max_rss()).unwrap_or_default(),
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

/// A command that runs another under [`command`].
pub(crate) fn measured(into: &Path) -> anyhow::Result<Command> {
    let own = std::env::current_exe().context("the running program cannot be found")?;
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark starts processes to measure them"
    )]
    let mut command = Command::new(own);
    command.args(["bench", "measure", "--into"]).arg(into).arg("--");
    Ok(command)
}

/// Reads what [`command`] wrote.
pub(crate) fn read(file: &Path) -> anyhow::Result<Usage> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("{} was not written", file.display()))?;
    Ok(serde_json::from_str(&text)?)
}
