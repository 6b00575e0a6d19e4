//! Starts built programs as children, keeps what they say, and sees that nothing of them is left.
//!
//! The path of the program comes from the caller: `env!("CARGO_BIN_EXE_mayfly")` in the binary's own tests.

mod table;

pub use table::{children_of, descendants_of, is_alive, members_of_group};

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use mayfly_telemetry::task;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::wait::within;

/// What is kept of each of standard output and standard error; the rest is read and forgotten.
const MAX_KEPT_BYTES: usize = 8 * 1024 * 1024;

/// A program that is to be started with nothing of the test's environment but the PATH.
#[derive(Debug)]
pub struct Launch {
    command: Command,
}

impl Launch {
    /// This program.
    #[expect(
        clippy::disallowed_methods,
        reason = "tests start the programs that they test"
    )]
    pub fn new(program: impl AsRef<Path>) -> Self {
        let mut command = Command::new(program.as_ref());
        command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        Self { command }
    }

    /// With these arguments besides.
    #[must_use]
    pub fn args<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, arguments: I) -> Self {
        self.command.args(arguments);
        self
    }

    /// With this variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// With the content of this file as its standard input.
    #[must_use]
    pub fn stdin(mut self, file: &Path) -> Self {
        let file = std::fs::File::open(file).expect("the file can be opened");
        self.command.stdin(file);
        self
    }

    /// In this folder.
    #[must_use]
    pub fn folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Starts it; needs a tokio runtime.
    #[track_caller]
    pub fn start(mut self) -> Running {
        let mut child = self.command.spawn().expect("the program can be started");
        let id = child.id().expect("a child that was not waited for has an id");
        let tasks = TaskTracker::new();
        let stdout = capture(&tasks, child.stdout.take().expect("stdout is a pipe"));
        let stderr = capture(&tasks, child.stderr.take().expect("stderr is a pipe"));
        Running {
            id,
            child,
            stdout,
            stderr,
        }
    }
}

/// A running program; dropping it kills it with all its descendants.
#[derive(Debug)]
pub struct Running {
    id: u32,
    child: Child,
    stdout: watch::Receiver<Captured>,
    stderr: watch::Receiver<Captured>,
}

#[derive(Debug, Default)]
struct Captured {
    bytes: Vec<u8>,
    ended: bool,
}

impl Running {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Waits for a line on standard output that contains the text, and gives it without its end; panics if the program ends before.
    pub async fn line_on_stdout(&mut self, text: &str) -> String {
        let line = line_with(&mut self.stdout, text).await;
        line.unwrap_or_else(|| panic!("no line with `{text}` on stdout; stderr:\n{}", self.stderr()))
    }

    /// The same for standard error.
    pub async fn line_on_stderr(&mut self, text: &str) -> String {
        let line = line_with(&mut self.stderr, text).await;
        line.unwrap_or_else(|| panic!("no line with `{text}` on stderr:\n{}", self.stderr()))
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout.borrow().bytes).into_owned()
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.borrow().bytes).into_owned()
    }

    /// Sends a signal, such as SIGTERM, if it still runs.
    pub fn signal(&self, signal: Signal) {
        if self.child.id().is_some() {
            // It may end at this moment; that is for the test to see.
            let _gone = kill(pid(self.id), signal);
        }
    }

    /// Waits until it has ended and all its output has been read.
    pub async fn ended(&mut self) -> ExitStatus {
        let status = within("the end of the program", self.child.wait()).await;
        for output in [&mut self.stdout, &mut self.stderr] {
            within("the end of its output", output.wait_for(|it| it.ended))
                .await
                .expect("the reader says when it is done");
        }
        status.expect("a child can be waited for")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.id().is_none() {
            return;
        }
        for id in stopped_family(self.id) {
            // Whoever is gone already needs no signal.
            let _gone = kill(pid(id), Signal::SIGKILL);
        }
        // A child that was made while the family was listed is in the leader's group, unless it has left it since.
        let _gone = killpg(pid(self.id), Signal::SIGKILL);
    }
}

/// The process and all its descendants, each stopped, so that none starts another while they are killed one by one.
fn stopped_family(id: u32) -> BTreeSet<u32> {
    let mut family = BTreeSet::new();
    loop {
        let now: BTreeSet<u32> = descendants_of(id).into_iter().chain([id]).collect();
        let new: Vec<u32> = now.difference(&family).copied().collect();
        if new.is_empty() {
            return family;
        }
        for id in new {
            // Whoever is gone already needs no signal.
            let _gone = kill(pid(id), Signal::SIGSTOP);
            family.insert(id);
        }
    }
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(id.cast_signed())
}

fn capture(
    tasks: &TaskTracker,
    mut output: impl AsyncRead + Unpin + Send + 'static,
) -> watch::Receiver<Captured> {
    let (sender, receiver) = watch::channel(Captured::default());
    task::spawn(tasks, async move {
        let mut chunk = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = output.read(&mut chunk).await {
            sender.send_modify(|kept| {
                let room = MAX_KEPT_BYTES.saturating_sub(kept.bytes.len());
                kept.bytes.extend_from_slice(&chunk[..read.min(room)]);
            });
        }
        sender.send_modify(|kept| kept.ended = true);
    });
    receiver
}

/// The first whole line with the text; none if the output ends without it.
async fn line_with(output: &mut watch::Receiver<Captured>, text: &str) -> Option<String> {
    let mut line = None;
    let found = output.wait_for(|kept| {
        line = whole_line_with(&kept.bytes, text);
        line.is_some() || kept.ended
    });
    // The sender goes only after it has said that the output ended.
    let _ended = within(&format!("a line with `{text}`"), found).await;
    line
}

fn whole_line_with(bytes: &[u8], text: &str) -> Option<String> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let mut whole = lines.filter_map(|line| line.strip_suffix(b"\n").map(String::from_utf8_lossy));
    whole
        .find(|line| line.contains(text))
        .map(std::borrow::Cow::into_owned)
}
