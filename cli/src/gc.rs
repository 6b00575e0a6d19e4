//! `mayfly gc`: removes what is needed no more from the storage, once; and the settings of that for those who do it now and then.

use std::io::Write;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use mayfly_gateway::CollectConfig;
use mayfly_session::gc::{Gc, GcLine, GcPolicy, GcSubject, GcSummary};
use mayfly_storage::{ObjectStore, StorageUrl};

use crate::args::{StorageArgs, seconds};

/// How long a collection of a gateway may take before it is broken off, for the next one to go on.
const COLLECTION_TIMEOUT: Duration = Duration::from_secs(3600);

/// What is removed from the storage, and when.
#[derive(Debug, Clone, Args)]
pub(crate) struct GcArgs {
    /// Time after its last job at which a session that is not pinned is deleted, such as `7d` or `12h`; `never`.
    #[arg(long, env = "SESSION_TTL", default_value = "7d")]
    session_ttl: Span,
    /// Time for which outcomes of jobs are kept; `never`: they are never removed.
    #[arg(long, env = "OUTCOME_RETENTION", default_value = "7d")]
    outcome_retention: Span,
    /// Time for which packs and uploads that nothing lists are kept; more than the longest job takes.
    #[arg(long, env = "GC_GRACE", default_value = "6h", value_parser = humantime::parse_duration)]
    gc_grace: Duration,
    /// Seconds that a job may take, as workers are told.
    #[arg(long, env = "JOB_TIMEOUT_SECS", default_value = "1800", value_parser = seconds)]
    job_timeout: Duration,
    /// Seconds that a running job gets to end after SIGTERM, as workers are told.
    #[arg(long, env = "DRAIN_GRACE_SECS", default_value = "30", value_parser = seconds)]
    drain_grace: Duration,
}

/// How often it is done.
#[derive(Debug, Clone, Args)]
pub(crate) struct CollectArgs {
    /// Time from one collection of garbage in the storage to the next; `never`.
    #[arg(long, env = "GC_INTERVAL", default_value = "1h")]
    gc_interval: Span,
    #[command(flatten)]
    gc: GcArgs,
}

/// Once, by hand.
#[derive(Debug, Clone, Args)]
pub(crate) struct GcCommand {
    /// Where sessions are kept: `file:///folder` or `s3://bucket/prefix`.
    #[arg(long, env = "STORAGE_URL")]
    storage_url: StorageUrl,
    #[command(flatten)]
    storage: StorageArgs,
    /// Say what would be removed, and why, and remove nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON: an object a line, and the sums as the last one.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gc: GcArgs,
}

/// A time, or `never`; 0 is never, too.
#[derive(Debug, Clone, Copy)]
struct Span(Option<Duration>);

impl FromStr for Span {
    type Err = humantime::DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "never" | "0" => Ok(Self(None)),
            other => humantime::parse_duration(other).map(|time| Self((!time.is_zero()).then_some(time))),
        }
    }
}

impl GcArgs {
    fn policy(&self) -> GcPolicy {
        GcPolicy {
            session_ttl: self.session_ttl.0,
            grace: self.gc_grace,
            outcome_retention: self.outcome_retention.0,
            longest_job: self.job_timeout.saturating_add(self.drain_grace),
        }
    }
}

impl CollectArgs {
    /// What a gateway with this storage does.
    pub(crate) fn config(&self, storage: &Arc<dyn ObjectStore>) -> anyhow::Result<Option<CollectConfig>> {
        let Some(interval) = self.gc_interval.0 else {
            return Ok(None);
        };
        let gc = Gc::new(Arc::clone(storage), self.gc.policy()).context("the storage cannot be collected")?;
        Ok(Some(CollectConfig {
            gc,
            interval,
            timeout: COLLECTION_TIMEOUT,
        }))
    }
}

/// `mayfly gc`
pub(crate) async fn command(args: GcCommand) -> anyhow::Result<()> {
    let storage = mayfly_storage::open(&args.storage_url, &args.storage.options()).await?;
    let gc = Gc::new(storage, args.gc.policy())?;
    let (is_json, is_dry) = (args.json, args.dry_run);
    let mut broken = None;
    let mut tell = |line: &GcLine| {
        let printed = match is_json {
            true => print_json(line),
            false => print_line(line, is_dry),
        };
        broken = broken.take().or(printed.err());
    };
    let sums = match is_dry {
        true => gc.dry_run(&mut tell).await,
        false => gc.run(&mut tell).await,
    }
    .with_context(|| format!("{} was not collected to its end", args.storage_url))?;
    if let Some(error) = broken {
        return Err(error).context("standard output is closed");
    }
    match is_json {
        true => print_json(&sums)?,
        false => print_sums(&sums, is_dry)?,
    }
    if sums.failed > 0 {
        bail!("{} things could not be removed; run it again", sums.failed);
    }
    Ok(())
}

fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

fn print_line(line: &GcLine, is_dry: bool) -> anyhow::Result<()> {
    let verb = match (&line.error, line.subject, is_dry) {
        (Some(_), ..) => "failed",
        (None, GcSubject::Kept, _) => "kept",
        (None, GcSubject::KnownRepository, true) => "would forget",
        (None, GcSubject::KnownRepository, false) => "forgot",
        (None, GcSubject::RetiredPack, true) => "would retire",
        (None, GcSubject::RetiredPack, false) => "retired",
        (None, _, true) => "would remove",
        (None, _, false) => "removed",
    };
    let mut out = std::io::stdout().lock();
    let GcLine {
        key, bytes, reason, ..
    } = line;
    match &line.error {
        None => writeln!(out, "{verb} {key} ({bytes} bytes): {reason}")?,
        Some(error) => writeln!(out, "{verb} {key} ({bytes} bytes): {reason}; {error}")?,
    }
    Ok(())
}

fn print_sums(sums: &GcSummary, is_dry: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let verb = if is_dry { "would remove" } else { "removed" };
    writeln!(
        out,
        "{verb} {} of {} sessions and {} other objects, {} bytes in all; {} packs retired, {} kept, {} failed",
        sums.sessions, sums.sessions_seen, sums.objects, sums.bytes, sums.retired, sums.kept, sums.failed
    )?;
    Ok(())
}
