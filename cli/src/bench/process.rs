//! Runs processes of either side and accounts for them.

use std::future::Future;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command};

use anyhow::{Context as _, bail};
use mayfly_telemetry::task;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::figures::Sample;
use super::measure;
use super::place::Place;

/// Does one measured piece of work, whose process writes its figures into the file, and tells what it used.
///
/// What was written before is brought to the disk first, so that nobody waits for what the other side left behind.
pub(crate) async fn account(
    place: &Place,
    figures: &Path,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Sample> {
    task::blocking(nix::unistd::sync).await;
    let before = place.traffic();
    work.await?;
    let after = place.traffic();
    Ok(Sample {
        usage: measure::read(figures)?,
        host_sent: after.received - before.received,
        host_received: after.sent - before.sent,
        host_seconds: (after.answering - before.answering).as_secs_f64(),
        ..Sample::default()
    })
}

/// A process with all that it starts; they are killed when this is dropped before they were waited for.
pub(crate) struct Group(Option<Pid>);

impl Group {
    /// Says that the process was waited for: its number may be another's by now.
    pub(crate) fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It fails where they have just ended, which is as good.
            let _already_ended = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Starts a command in a group of its own.
pub(crate) fn start(command: &mut Command) -> anyhow::Result<(Child, Group)> {
    let child = command
        .process_group(0)
        .spawn()
        .with_context(|| format!("{:?} could not be started", command.get_program()))?;
    let group = i32::try_from(child.id()).ok().map(Pid::from_raw);
    Ok((child, Group(group)))
}

/// Runs a command to its end; it must succeed.
pub(crate) async fn finish(mut command: Command) -> anyhow::Result<()> {
    let (mut child, group) = start(&mut command)?;
    let status = task::blocking(move || child.wait()).await?;
    group.ended();
    if status.success() {
        Ok(())
    } else {
        bail!("{:?} ended with {status}", command.get_args())
    }
}
