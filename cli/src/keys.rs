//! `mayfly keys`: makes the keys that clients of a gateway need.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::num::NonZeroU32;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use mayfly_gateway::{CallerLimits, KeyLine, NewKey, Scope, Weight};
use mayfly_protocol::{ExposeSecret as _, TenantId};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

/// The commands about keys.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key: it is printed, this once, and its line is put into the file, or printed behind it where no file is named.
    New(NewArgs),
}

/// A key that is wanted.
#[derive(Debug, Clone, Args)]
pub(crate) struct NewArgs {
    /// Tenant whose jobs and sessions the key is for.
    #[arg(long)]
    tenant: TenantId,
    /// What the key is for: `jobs`, `read`, `operate`; may be given several times.
    #[arg(long = "scope", required = true, value_delimiter = ',')]
    scopes: Vec<Scope>,
    /// When it ends: a time such as `2027-01-31T00:00:00Z`, or a number of days such as `90d`; never when absent.
    #[arg(long, value_parser = expiry)]
    expires: Option<OffsetDateTime>,
    /// Requests that it may send in a minute.
    #[arg(long)]
    requests_per_minute: Option<NonZeroU32>,
    /// Event streams that it may have open at the same time.
    #[arg(long)]
    streams: Option<NonZeroU32>,
    /// Jobs of the tenant that may run at the same time.
    #[arg(long)]
    running_jobs: Option<NonZeroU32>,
    /// Jobs of the tenant that may wait at the same time.
    #[arg(long)]
    waiting_jobs: Option<NonZeroU32>,
    /// Share of the workers that the tenant has beside the others, 1 to 1000; 1 when absent.
    #[arg(long)]
    weight: Option<Weight>,
    /// File that the gateway reads its keys from.
    #[arg(long, env = "GATEWAY_API_KEYS_FILE")]
    file: Option<PathBuf>,
}

/// `mayfly keys`
pub(crate) fn command(command: KeysCommand) -> anyhow::Result<()> {
    let KeysCommand::New(args) = command;
    if args.expires.is_some_and(|time| time <= OffsetDateTime::now_utc()) {
        bail!("--expires names a time that is over; name a later one");
    }
    let key = NewKey::random().map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    let limits = CallerLimits {
        requests_per_minute: args.requests_per_minute,
        streams: args.streams,
        running_jobs: args.running_jobs,
        waiting_jobs: args.waiting_jobs,
        weight: args.weight,
    };
    let line = KeyLine::of(&key, args.tenant, args.scopes, args.expires, limits).to_json();
    let mut out = io::stdout().lock();
    // The key first: a line without its key would be of no use to anybody.
    writeln!(out, "{}", key.text.expose_secret())?;
    match &args.file {
        None => writeln!(out, "{line}")?,
        Some(file) => {
            append(file, &line).with_context(|| format!("{} cannot be written", file.display()))?;
            tracing::info!(key.id = %key.id, "put the key's line into {}; the key itself is shown this once", file.display());
        }
    }
    out.flush()?;
    Ok(())
}

/// Puts a line at the end of a file, which only its owner may read when it is new.
fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    let before = match ends_within_a_line(&mut file)? {
        true => "\n",
        false => "",
    };
    // In one write, so that a gateway that reads meanwhile sees the whole line or nothing of it.
    file.write_all(format!("{before}{line}\n").as_bytes())?;
    file.sync_all()
}

fn ends_within_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn expiry(text: &str) -> Result<OffsetDateTime, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u16>().ok());
    match days {
        Some(days) => Ok(OffsetDateTime::now_utc() + Duration::days(i64::from(days))),
        None => OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
            "is neither a time such as `2027-01-31T00:00:00Z` nor days such as `90d`".to_owned()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_behind_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        append(&file, "a").unwrap();
        append(&file, "b").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "a\nb\n");
        std::fs::write(&file, "# a\nb").unwrap();
        append(&file, "c").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "# a\nb\nc\n");
    }

    #[test]
    fn a_key_ends_at_a_time_or_after_days() {
        assert_eq!(
            expiry("2027-01-31T00:00:00Z").unwrap().unix_timestamp(),
            1_801_353_600
        );
        let in_days = expiry("2d").unwrap() - OffsetDateTime::now_utc();
        assert!((Duration::hours(47)..=Duration::days(2)).contains(&in_days));
        for bad in ["", "d", "-1d", "soon", "2027-01-31"] {
            assert!(expiry(bad).is_err(), "{bad}");
        }
    }
}
