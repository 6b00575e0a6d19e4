//! `mayfly jobs`, `watch`, `cancel`, `sessions` and `workers`: what a gateway tells.

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use mayfly_protocol::{JobId, SessionId};
use reqwest::{Method, header};
use serde_json::Value;

use super::ask::{WatchOptions, cancel as ask_to_cancel, watch as watch_job};
use super::exit::ClientError;
use super::gateway::{Gateway, GatewayAddress};
use super::{table, text, view};

/// How an answer is printed.
#[derive(Debug, Clone, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    gateway: GatewayAddress,
    /// Print the gateway's answer as one line of JSON.
    #[arg(long)]
    json: bool,
}

impl Show {
    fn gateway(&self) -> anyhow::Result<Gateway> {
        Gateway::from_settings(&self.gateway)
    }

    /// Prints one thing: its fields, or JSON.
    fn one(&self, value: &Value) -> Result<(), ClientError> {
        match self.json {
            true => print_line(&text::json(value))?,
            false => view::fields(value)?,
        }
        Ok(())
    }

    /// Prints a list that stands in a field of the answer.
    fn list(&self, answer: &Value, field: &str, columns: &[table::Column]) -> Result<(), ClientError> {
        if self.json {
            return Ok(print_line(&text::json(answer))?);
        }
        let rows = answer[field].as_array().map_or(&[][..], Vec::as_slice);
        Ok(table::print(columns, rows)?)
    }
}

fn print_line(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush())
}

/// List the jobs that a gateway remembers, newest first; or show one.
#[derive(Debug, Args)]
pub(crate) struct JobsArgs {
    /// Show this job.
    job: Option<JobId>,
    /// Only jobs of this session.
    #[arg(long, conflicts_with = "job")]
    session: Option<SessionId>,
    /// Only jobs in this state: `queued`, `running`, `completed`, `failed`.
    #[arg(long, conflicts_with = "job")]
    state: Option<String>,
    /// As many as this at most.
    #[arg(long, default_value = "20", conflicts_with = "job")]
    limit: u16,
    #[command(flatten)]
    show: Show,
}

const JOB_COLUMNS: &[table::Column] = &[
    ("JOB", "id"),
    ("KIND", "kind"),
    ("SESSION", "sessionId"),
    ("STATE", "state"),
    ("STAGE", "lastStage"),
    ("CODE", "code"),
    ("CREATED", "createdAt"),
];

pub(crate) async fn jobs(args: JobsArgs) -> Result<(), ClientError> {
    let gateway = args.show.gateway()?;
    if let Some(job) = args.job {
        return args
            .show
            .one(&gateway.json(Method::GET, &format!("/jobs/{job}")).await?);
    }
    let session = args
        .session
        .as_ref()
        .map(|session| ("sessionId", session.to_string()));
    let query: Vec<_> = [
        Some(("limit", args.limit.to_string())),
        session,
        args.state.map(|state| ("state", state)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let answer = gateway.json(Method::GET, &with_query("/jobs", &query)).await?;
    args.show.list(&answer, "jobs", JOB_COLUMNS)
}

fn with_query(path: &str, pairs: &[(&str, String)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs);
    format!("{path}?{}", query.finish())
}

/// Watch a job to its end, from its first event; it exits as the job ended.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// The job.
    job: JobId,
    /// Begin behind the event of this number.
    #[arg(long)]
    after: Option<u64>,
    #[command(flatten)]
    options: WatchOptions,
}

pub(crate) async fn watch(args: WatchArgs) -> Result<(), ClientError> {
    let gateway = Gateway::from_settings(&args.options.gateway)?;
    let after = args.after.map(|number| number.to_string());
    watch_job(
        &gateway,
        &args.options,
        "watch",
        args.job,
        Instant::now(),
        after,
        None,
    )
    .await
}

/// Stop a job.
#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// The job.
    job: JobId,
    #[command(flatten)]
    show: Show,
}

pub(crate) async fn cancel(args: CancelArgs) -> Result<(), ClientError> {
    let gateway = args.show.gateway()?;
    args.show.one(&ask_to_cancel(&gateway, &args.job).await?)
}

/// List the workers of a gateway.
#[derive(Debug, Args)]
pub(crate) struct WorkersArgs {
    #[command(flatten)]
    show: Show,
}

const WORKER_COLUMNS: &[table::Column] = &[
    ("KIND", "kind"),
    ("ADDRESS", "address"),
    ("STATE", "state"),
    ("JOB", "jobId"),
    ("FAILURES", "failures"),
    ("AGE", "ageSeconds"),
];

pub(crate) async fn workers(args: WorkersArgs) -> Result<(), ClientError> {
    let answer = args.show.gateway()?.json(Method::GET, "/workers").await?;
    args.show.list(&answer, "workers", WORKER_COLUMNS)
}

/// List sessions, or do something with one.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct SessionsArgs {
    #[command(subcommand)]
    command: Option<SessionCommand>,
    /// As many as this at most.
    #[arg(long, default_value = "50")]
    limit: u16,
    /// Begin behind this session.
    #[arg(long)]
    after: Option<SessionId>,
    #[command(flatten)]
    show: Show,
}

/// What can be done with a session.
#[derive(Debug, Subcommand)]
enum SessionCommand {
    /// Show it.
    Show(OneSession),
    /// Print its changes against its head, as `git diff` does; with --json, by file.
    Diff(OneSession),
    /// Print a file of its worktree.
    File {
        #[command(flatten)]
        session: OneSession,
        /// Path of the file in the worktree.
        path: String,
    },
    /// Write its worktree as tar.zst to standard output.
    Archive(OneSession),
    /// Delete it.
    Delete(OneSession),
    /// Keep it, however long it is not used.
    Pin(OneSession),
    /// Let it expire again.
    Unpin(OneSession),
}

/// A session.
#[derive(Debug, Args)]
struct OneSession {
    /// The session.
    session: SessionId,
    #[command(flatten)]
    show: Show,
}

const SESSION_COLUMNS: &[table::Column] = &[
    ("SESSION", "sessionId"),
    ("BRANCH", "branch"),
    ("HEAD", "headSha"),
    ("REPOSITORY", "repoUrl"),
    ("PINNED", "pinned"),
    ("UPDATED", "updatedAt"),
    ("CODE", "code"),
];

pub(crate) async fn sessions(args: SessionsArgs) -> Result<(), ClientError> {
    let Some(command) = args.command else {
        let after = args.after.as_ref().map(|after| ("after", after.to_string()));
        let query: Vec<_> = [Some(("limit", args.limit.to_string())), after]
            .into_iter()
            .flatten()
            .collect();
        let answer = args
            .show
            .gateway()?
            .json(Method::GET, &with_query("/sessions", &query))
            .await?;
        return args.show.list(&answer, "sessions", SESSION_COLUMNS);
    };
    match command {
        SessionCommand::Show(of) => of.answer(Method::GET, "").await,
        SessionCommand::Diff(of) if of.show.json => of.answer(Method::GET, "/diff").await,
        SessionCommand::Diff(of) => of.content("/diff", "text/x-diff").await,
        SessionCommand::File { session, path } => session.content(&file_path(&path)?, "*/*").await,
        SessionCommand::Archive(of) => of.content("/archive", "*/*").await,
        SessionCommand::Delete(of) => of.answer(Method::DELETE, "").await,
        SessionCommand::Pin(of) => of.answer(Method::PUT, "/pin").await,
        SessionCommand::Unpin(of) => of.answer(Method::DELETE, "/pin").await,
    }
}

/// The path of a file as the end of an address: `.` and `..` would be taken out of it, and so are refused.
fn file_path(path: &str) -> anyhow::Result<String> {
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        bail!("`{}` is no path of a file in a worktree", text::line(path));
    }
    let mut address: url::Url = "http://session/files".parse()?;
    let parts = address.path_segments_mut();
    parts
        .map_err(|()| anyhow!("the path cannot be asked for"))?
        .extend(path.split('/'));
    Ok(address.path().to_owned())
}

impl OneSession {
    fn path(&self, rest: &str) -> String {
        format!("/sessions/{}{rest}", self.session)
    }

    async fn answer(&self, method: Method, rest: &str) -> Result<(), ClientError> {
        let answer = self.show.gateway()?.json(method, &self.path(rest)).await?;
        self.show.one(&answer)
    }

    /// Copies what is asked for to standard output: as it is into a pipe, and as harmless text onto a terminal.
    async fn content(&self, rest: &str, accept: &str) -> Result<(), ClientError> {
        let gateway = self.show.gateway()?;
        let request = gateway
            .request(Method::GET, &self.path(rest))?
            .header(header::ACCEPT, accept);
        let mut answer = gateway.send(request).await?;
        let is_terminal = std::io::stdout().is_terminal();
        let is_text = answer
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/"));
        if is_terminal && !is_text {
            return Err(anyhow!("this is not text; send it into a file or a pipe").into());
        }
        let mut whole = Vec::new();
        loop {
            let chunk = answer.chunk().await.map_err(|error| {
                ClientError::Unreachable(
                    anyhow!(error.without_url())
                        .context("the answer broke off: what was printed is not whole"),
                )
            })?;
            let Some(chunk) = chunk else { break };
            match is_terminal {
                true => whole.extend_from_slice(&chunk),
                false => std::io::stdout().lock().write_all(&chunk)?,
            }
        }
        let mut out = std::io::stdout().lock();
        out.write_all(text::lines(&String::from_utf8_lossy(&whole)).as_bytes())?;
        out.flush().context("standard output is closed")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_files_stay_below_the_session() {
        assert_eq!(file_path("src/a b?.rs").unwrap(), "/files/src/a%20b%3F.rs");
        assert_eq!(file_path("100%/ü").unwrap(), "/files/100%25/%C3%BC");
        for wrong in ["", "/etc/passwd", "a/../b", "a//b", ".", "a/."] {
            assert!(file_path(wrong).is_err(), "{wrong}");
        }
    }
}
