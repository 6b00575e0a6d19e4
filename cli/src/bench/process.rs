//! Runs processes of either side and accounts for them.

use std::future::Future;
use std::path::Path;
use std::process::Command;

use anyhow::bail;
use mayfly_telemetry::task;

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
        ..Sample::default()
    })
}

/// Waits for a command, which must succeed.
pub(crate) async fn finish(mut command: Command) -> anyhow::Result<()> {
    let (status, command) = task::blocking(move || (command.status(), command)).await;
    let status = status?;
    if status.success() {
        Ok(())
    } else {
        bail!("{:?} ended with {status}", command.get_args())
    }
}
