//! Runs `git http-backend` for one request and streams both ways (RFC 3875, git-http-backend(1)).
//!
//! Dropping the exchange ends git with all its children. It must not know who asks or which names are allowed.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderName, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::future::{BoxFuture, Fuse, FutureExt};
use futures::{Stream, StreamExt};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use crate::cgi_head::{self, InvalidHead};
use crate::config::Limits;

const CHUNK_BYTES: usize = 64 * 1024;
const MAX_LOGGED_STDERR_BYTES: usize = 4096;

/// Why git gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgiError {
    #[error("`git http-backend` could not be started; is git installed?")]
    Start(#[source] io::Error),
    #[error("the request could not be read to its end")]
    Request(#[source] io::Error),
    #[error("the answer of `git http-backend` could not be read")]
    Answer(#[source] io::Error),
    #[error("`git http-backend` ended before the head of its answer was whole")]
    NoHead,
    #[error("the head of git's answer is longer than {0} bytes")]
    LongHead(usize),
    #[error("the head of git's answer cannot be read")]
    InvalidHead(#[source] InvalidHead),
    #[error("the request took longer than {} s", .0.as_secs())]
    TimedOut(Duration),
}

/// Has git answer the request. `path_info` is the path below `root`, checked by the caller.
pub(crate) async fn answer(
    root: &Path,
    user: Option<&str>,
    parts: &Parts,
    body: Body,
    limits: &Limits,
) -> Result<Response, CgiError> {
    let mut exchange = Exchange::start(root, user, parts, body, limits.request_timeout)?;
    let mut buffer = BytesMut::new();
    let offset = loop {
        if let Some(offset) = cgi_head::body_offset(&buffer) {
            break offset;
        }
        if buffer.len() > limits.answer_head_bytes {
            return Err(CgiError::LongHead(limits.answer_head_bytes));
        }
        if exchange.read(&mut buffer).await? == 0 {
            return Err(CgiError::NoHead);
        }
    };
    let head = cgi_head::parse(&buffer.split_to(offset)).map_err(CgiError::InvalidHead)?;
    let mut response = Response::new(Body::from_stream(exchange.into_stream(buffer.freeze())));
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    Ok(response)
}

/// One run of git. The two inner directions (request to stdin, stderr to the log) go on while the answer is read.
struct Exchange {
    git: ProcessGroup,
    stdout: ChildStdout,
    inward: Fuse<BoxFuture<'static, Result<(), CgiError>>>,
    deadline: Instant,
    request_timeout: Duration,
}

impl Exchange {
    fn start(
        root: &Path,
        user: Option<&str>,
        parts: &Parts,
        body: Body,
        request_timeout: Duration,
    ) -> Result<Self, CgiError> {
        let mut child = command(root, user, parts).spawn().map_err(CgiError::Start)?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(CgiError::Start(io::Error::other("a pipe is missing")));
        };
        let inward = async move { futures::try_join!(feed(body, stdin), log_stderr(stderr)).map(|_| ()) };
        Ok(Self {
            git: ProcessGroup(child),
            stdout,
            inward: inward.boxed().fuse(),
            deadline: Instant::now() + request_timeout,
            request_timeout,
        })
    }

    /// Reads what git says next into the buffer; 0 at the end.
    async fn read(&mut self, buffer: &mut BytesMut) -> Result<usize, CgiError> {
        buffer.reserve(CHUNK_BYTES);
        let next = async {
            loop {
                tokio::select! {
                    read = self.stdout.read_buf(buffer) => break read.map_err(CgiError::Answer),
                    fed = &mut self.inward => fed?,
                }
            }
        };
        let timed_out = |_| CgiError::TimedOut(self.request_timeout);
        timeout_at(self.deadline, next).await.map_err(timed_out)?
    }

    fn into_stream(self, begun: Bytes) -> impl Stream<Item = Result<Bytes, CgiError>> {
        let begun = (!begun.is_empty()).then_some(Ok(begun));
        let rest = futures::stream::try_unfold(self, |mut exchange| async move {
            let mut buffer = BytesMut::new();
            if exchange.read(&mut buffer).await? == 0 {
                exchange.finish().await;
                return Ok(None);
            }
            Ok(Some((buffer.freeze(), exchange)))
        });
        futures::stream::iter(begun).chain(rest)
    }

    /// Waits for git's own end, so that a ref is locked no more when the client has its answer.
    async fn finish(mut self) {
        match timeout_at(self.deadline, self.git.0.wait()).await {
            Ok(Ok(status)) if status.success() => {}
            Ok(Ok(status)) => debug!("`git http-backend` ended with {status}"),
            Ok(Err(error)) => warn!(error = %error, "`git http-backend` could not be waited for"),
            Err(_) => warn!("`git http-backend` closed its output and did not end"),
        }
    }
}

/// A child that leads a process group; both end when it is dropped.
struct ProcessGroup(Child);

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // The id is there only until the child has been waited for, so it cannot be anyone else's.
        let Some(leader) = self.0.id().and_then(|id| i32::try_from(id).ok()) else {
            return;
        };
        if let Err(error) = killpg(Pid::from_raw(leader), Signal::SIGKILL) {
            debug!(error = %error, "the processes of `git http-backend` were gone already");
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the git server is one of the two places that start processes"
)]
fn command(root: &Path, user: Option<&str>, parts: &Parts) -> Command {
    let mut command = Command::new("git");
    command
        .arg("http-backend")
        .current_dir(root)
        .env_clear()
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_PROJECT_ROOT", root)
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C")
        .env("PATH_INFO", parts.uri.path())
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("REQUEST_METHOD", parts.method.as_str())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    if let Some(user) = user {
        command.env("REMOTE_USER", user);
    }
    pass_headers(&mut command, parts);
    command
}

fn pass_headers(command: &mut Command, parts: &Parts) {
    let passed = [
        ("CONTENT_TYPE", header::CONTENT_TYPE),
        ("CONTENT_LENGTH", header::CONTENT_LENGTH),
        ("HTTP_CONTENT_ENCODING", header::CONTENT_ENCODING),
        ("HTTP_ACCEPT", header::ACCEPT),
        ("GIT_PROTOCOL", HeaderName::from_static("git-protocol")),
    ];
    for (variable, name) in passed {
        if let Some(value) = parts.headers.get(name) {
            command.env(variable, OsStr::from_bytes(value.as_bytes()));
        }
    }
}

/// Writes the request's body to git, which may end without having read all of it.
async fn feed(body: Body, mut stdin: ChildStdin) -> Result<(), CgiError> {
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| CgiError::Request(io::Error::other(error)))?;
        if let Err(error) = stdin.write_all(&chunk).await {
            debug!(error = %error, "git did not read the request to its end");
            return Ok(());
        }
    }
    Ok(())
}

/// Logs the beginning of what git complains about, and reads the rest so that git does not wait.
async fn log_stderr(mut stderr: ChildStderr) -> Result<(), CgiError> {
    let mut said = Vec::new();
    let mut chunk = [0; 1024];
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        let room = MAX_LOGGED_STDERR_BYTES.saturating_sub(said.len());
        said.extend_from_slice(&chunk[..read.min(room)]);
    }
    if !said.is_empty() {
        let said = String::from_utf8_lossy(&said);
        warn!(stderr = said.trim_end(), "`git http-backend` complained");
    }
    Ok(())
}
