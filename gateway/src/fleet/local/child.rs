//! One worker process: started, heard, waited for, and ended by its own id only.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use mayfly_protocol::ExposeSecret;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::SupervisorConfig;

/// Bytes that the line with the address may have.
const MAX_LINE_BYTES: u64 = 256;
const GREETING: &str = "listening on ";

/// A worker did not say where it listens.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnnounceError {
    #[error("it did not say where it listens within {} s", .0.as_secs_f32())]
    Late(Duration),
    #[error("its first line is not `listening on <address>:<port>`")]
    Unreadable,
    #[error("its output cannot be read")]
    Output(#[from] io::Error),
}

/// A process that runs, or has run.
pub(super) struct WorkerProcess {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    /// Held open: its end tells the worker that the supervisor is gone.
    _stdin: Option<ChildStdin>,
}

impl WorkerProcess {
    pub(super) fn start(config: &SupervisorConfig, scratch: &Path) -> io::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "the supervisor starts the workers")]
        let mut command = Command::new(&config.program);
        command
            .args(&config.args)
            .args(["--port", "0", "--announce", "--exit-with-parent"])
            .envs(config.env.iter().map(|(name, value)| (name, value)))
            .env("TMP_DIR", scratch)
            .env("WORKER_TOKEN", config.worker_token.expose_secret())
            // What the operator means for another role.
            .env_remove("WORKER_TOKEN_FILE")
            .env_remove("TLS_CERT_FILE")
            .env_remove("TLS_KEY_FILE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        Ok(Self {
            // Taken out, since waiting for a child closes the one it has.
            _stdin: child.stdin.take(),
            stdout: child.stdout.take().map(BufReader::new),
            child,
        })
    }

    /// The id; 0 once the process was waited for.
    pub(super) fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Reads where the worker listens.
    pub(super) async fn announced(&mut self, patience: Duration) -> Result<SocketAddr, AnnounceError> {
        let Some(stdout) = &mut self.stdout else {
            return Err(AnnounceError::Unreadable);
        };
        let mut line = Vec::new();
        let mut limited = stdout.take(MAX_LINE_BYTES);
        let read = timeout(patience, limited.read_until(b'\n', &mut line)).await;
        read.map_err(|_| AnnounceError::Late(patience))??;
        parse(&line).ok_or(AnnounceError::Unreadable)
    }

    /// Waits for the process to exit, and throws away what it still prints.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(stdout) = &mut self.stdout {
            let mut nowhere = tokio::io::sink();
            tokio::select! {
                biased;
                status = self.child.wait() => return status,
                _ = tokio::io::copy(stdout, &mut nowhere) => {}
            }
        }
        self.child.wait().await
    }

    /// Ends the process if it still runs: it is asked, and after the grace it is killed with all that it started.
    pub(super) async fn end(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        self.signal(|pid| kill(pid, Signal::SIGTERM));
        if let Ok(status) = timeout(grace, self.wait()).await {
            return status;
        }
        self.signal(|pid| killpg(pid, Signal::SIGKILL));
        self.child.wait().await
    }

    /// Signals the process while its id is surely its own: it has not been waited for.
    fn signal(&self, send: impl FnOnce(Pid) -> nix::Result<()>) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid
            && let Err(error) = send(Pid::from_raw(pid))
        {
            tracing::debug!(pid, %error, "a worker could not be signalled");
        }
    }
}

fn parse(line: &[u8]) -> Option<SocketAddr> {
    let line = std::str::from_utf8(line).ok()?;
    let address: SocketAddr = line
        .strip_suffix('\n')?
        .trim_end()
        .strip_prefix(GREETING)?
        .parse()
        .ok()?;
    (address.port() != 0).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_line_with_an_address_is_taken() {
        for (line, expected) in [
            ("listening on 127.0.0.1:5002\n", Some("127.0.0.1:5002")),
            ("listening on [::1]:5002\r\n", Some("[::1]:5002")),
            ("listening on 127.0.0.1:5002", None),
            ("listening on 127.0.0.1:0\n", None),
            ("listening on localhost:5002\n", None),
            ("hello\n", None),
            ("", None),
        ] {
            let parsed = parse(line.as_bytes()).map(|address| address.to_string());
            assert_eq!(parsed.as_deref(), expected, "{line:?}");
        }
    }
}
